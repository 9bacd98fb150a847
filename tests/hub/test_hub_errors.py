"""Errors of the Hub are told apart: what the user must change is 2, what may pass later is 1.

Run: pytest tests/hub/test_hub_errors.py
"""

import pytest
from hub_clients import push

BAD_LICENSE = {"errors": [{"message": '"license" must be one of [mit, ...]'}], "warnings": []}
# What the stand-in answers: path, status, its JSON -> exit code and words of the one line.
ANSWERS = {
    "the card is refused": (
        ("/validate-yaml", 400, BAD_LICENSE),
        (2, 'the Hub refuses the card and says: "license" must be one of', "README.md"),
    ),
    "the request is refused": (
        ("/commit/", 400, {"error": "Your files are odd."}),
        (2, "the Hub refuses this and says:", "Your files are odd."),
    ),
    "the commit is too large": (
        ("/commit/", 413, {}),
        (2, "larger than the Hub takes", "max_shard_size"),
    ),
    "too many commits": (
        ("/commit/", 429, {}),
        (1, "wait 7 seconds and run the same command again, which goes on", "(HTTP 429)"),
    ),
    "a conflict": (
        ("/commit/", 409, {}),
        (1, "somebody else changed the repository", "run the same command again"),
    ),
    "the Hub has a fault": (
        ("/commit/", 500, {}),
        (1, "the Hub answers 500, a fault of its own", "run the same command again later"),
    ),
}


@pytest.fixture
def refuse(server):
    """Return the function that lets the stand-in refuse; it takes the path, status and answer."""

    def steer(path, status=0, answer=None):
        given = {"what": "refuse", "path": path, "status": status, "answer": answer or {}}
        server.ask("/stand-in/break", given)

    yield steer
    steer("")


@pytest.mark.parametrize("what", ANSWERS)
def test_each_answer_of_the_hub_is_one_line_of_its_own(what, server, model, refuse):
    (path, status, answer), (exit_code, *words) = ANSWERS[what]
    refuse(path, status, answer)
    refused = push(server, model, "synpre/refused")
    assert refused.returncode == exit_code, refused.stderr
    lines = [line for line in refused.stderr.splitlines() if line.startswith("synpre: ")]
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines
    assert "Traceback" not in refused.stderr


def test_the_same_command_goes_on_after_the_hub_was_busy(server, model, refuse):
    refuse("/commit/", 429)
    assert push(server, model, "synpre/busy").returncode == 1
    refuse("")
    assert push(server, model, "synpre/busy").returncode == 0
    assert "model.safetensors" in server.files("models/synpre/busy")
