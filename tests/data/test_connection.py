"""Without a network the first request ends at once, and the next ones too; a path is said first.

Run: pytest tests/data/test_connection.py
"""

import json
import os
import socket
import time
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from processes import run_python
from transformers import AutoTokenizer

from hf_synpre import UsageError
from hf_synpre.cli import main
from hf_synpre.cli.tokenizer_flags import tokenizer_of_flag
from hf_synpre.cli.verbs import INPUT_FLAGS, VERBS
from hf_synpre.data import connection, corpora, splits
from hf_synpre.data.tokenizers import read_tokenizer
from hf_synpre.errors import TemporaryError
from hf_synpre.initialization import checkpoints

ASK = """
import json, time
from huggingface_hub import constants, hf_hub_download
from hf_synpre.data.connection import bound_waiting_for_hub

bound_waiting_for_hub()
said = []
for name in ("config.json", "vocab.txt"):
    try:
        hf_hub_download("me/nothing", name)
    except Exception as error:
        said.append(type(error).__name__)
print(json.dumps([said, constants.is_offline_mode()]))
"""


@pytest.fixture
def closed_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


def ask(home, **environment):
    variables = {"HF_HUB_OFFLINE": "0", "HF_HOME": str(home)} | environment
    done = run_python("-c", ASK, env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_without_a_network_nothing_is_tried_again(closed_port, tmp_path):
    """huggingface_hub alone tries five times, which takes 23 seconds."""
    answer, said = ask(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{closed_port}")
    assert answer == [["LocalEntryNotFoundError"] * 2, True]
    assert "Retrying" not in said


def test_a_proxy_is_tried_instead_of_the_hub(monkeypatch):
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    url = "https://huggingface.co/api/models/x"
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    assert connection.first_address(url) == ("huggingface.co", 443)
    assert connection.first_address("http://mirror:8080/x") == ("mirror", 8080)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert connection.first_address(url) == ("proxy.example", 3128)
    monkeypatch.setenv("no_proxy", "huggingface.co")
    assert connection.first_address(url) == ("huggingface.co", 443)


def test_looking_up_a_name_is_bounded_too(monkeypatch):
    def slow(*given):
        time.sleep(0.5)
        raise OSError("no such name")

    monkeypatch.setattr(connection, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(socket, "create_connection", slow)
    began = time.monotonic()
    assert not connection.is_reachable("name.example", 443)
    assert time.monotonic() - began < 0.4


@pytest.mark.parametrize(
    "words",
    [
        ["statistics", "./my-model"],
        ["push", "../my-model", "--repo_id", "me/x"],
        ["pretrain", "set", "--tokenizer_name", "/no/tokenizer"],
        ["pretrain", "set", "--config-name=./my-model"],
        ["self-pretrain", "./texts.csv"],
        ["finetune", "cola", "--checkpoint", "./my-model"],
    ],
)
def test_a_path_that_does_not_exist_is_said_first(words, capsys, monkeypatch):
    monkeypatch.setattr("hf_synpre.cli.verbs.parse", None)  # it would import the libraries
    assert main(words) == 2
    path = next(part for word in words for part in word.split("=") if part[0] in "./")
    kind = "file" if path.endswith(".csv") else "folder"
    assert capsys.readouterr().err == f"synpre: There is no {kind} {path}; check its name.\n"


def refusing(status):
    """Return a function that raises as huggingface_hub does where the Hub answers so."""
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    answer = HfHubHTTPError("said by the Hub", response=response)

    def refuse(*_, **__):
        raise LocalEntryNotFoundError("not in the cache") from answer

    return refuse


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (401, UsageError, "you are not logged in"),
        (403, UsageError, "your token does not allow this"),
        (404, UsageError, "no such repository"),
        (429, TemporaryError, "takes no more requests of this account"),
        (503, TemporaryError, r"answers with an error \(HTTP 503\)"),
    ],
)
def test_answers_of_the_hub_are_told_apart_whatever_is_read(status, kind, reason, monkeypatch):
    refuse = refusing(status)
    monkeypatch.setattr(checkpoints, "snapshot_download", refuse)
    monkeypatch.setattr(splits, "snapshot_download", refuse)
    monkeypatch.setattr(splits, "load_dataset", refuse)
    monkeypatch.setattr(corpora, "load_dataset_builder", refuse)
    monkeypatch.setattr(splits.HfApi, "dataset_info", refuse)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    for read in (
        lambda: checkpoints.find_weights("me/model"),
        lambda: splits.open_splits("me/data"),
        lambda: corpora.open_corpus("me/data"),
        lambda: read_tokenizer("me/model"),
        lambda: tokenizer_of_flag("me/model", "tokenizer_name"),
    ):
        with pytest.raises(kind, match=reason) as error:
            read()
        assert isinstance(error.value, TemporaryError) == (kind is TemporaryError)


def test_the_flags_that_are_checked_for_paths_exist():
    known = {
        flags.names.get(name, name)
        for verb in VERBS.values()
        for flags in verb.flag_sets()
        for name in flags.spec.__dataclass_fields__
    }
    assert set(INPUT_FLAGS) <= known


def test_the_cause_is_said_in_place_of_a_librarys_advice(capsys):
    from transformers import AutoConfig

    with pytest.raises(OSError, match="connect") as raised:
        AutoConfig.from_pretrained("me/nothing")
    short = "the Hub cannot be reached, and the cache does not have it"
    assert connection.one_line_cause(raised.value) == short
    assert connection.one_line_cause(ValueError("two\nlines")) == "two lines"
    for words in (["--tokenizer_name", "me/nothing"], ["--config_name", "me/nothing"]):
        assert main(["pretrain", "set", "--preset", "fast", *words]) == 2
        error = capsys.readouterr().err
        assert short in error
        assert error.count("\n") == 1
