"""Checks of what is published: names, file contents, access tokens; the Hub's errors in one line.

A name or file that must not be published raises a UsageError; an exception of huggingface_hub
becomes a UsageError or a PushError. huggingface_hub keeps the tokens: none is written to a file,
and none is shown in a message.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from safetensors import SafetensorError

from hf_synpre.data.connection import REASONS, answer_of_hub
from hf_synpre.errors import PushError, UsageError
from hf_synpre.files import open_safetensors

TOKEN_PATTERN = re.compile(r"hf_[A-Za-z0-9]{30,}")
TEXT_SUFFIXES = (".json", ".md", ".txt", ".yaml")
# The one hidden folder that is published: the Hub reads a model's scores there.
EVAL_RESULTS = ".eval_results/"
# HTTP status -> its meaning on the Hub, and what the user must change.
REFUSALS = {
    401: REASONS[401],
    403: "your token does not allow this; give one with write access to the repository",
    404: REASONS[404],
    413: "a file or the commit is larger than the Hub takes; save the model in smaller files "
    "(max_shard_size), or build the dataset with more shards",
}
# HTTP status -> what may be over when the same command is run again.
PASSING = {
    408: "the Hub waited too long for the transfer",
    409: "somebody else changed the repository at the same time",
    412: "somebody else changed the repository at the same time",
    425: "the Hub is not ready for this yet",
    429: "the Hub takes no more requests or commits of this account for now",
}
# How huggingface_hub begins its message where the Hub refuses the YAML of a card.
BAD_CARD = "Invalid metadata in README.md"
# Characters of the Hub's own words that a message quotes.
LONGEST_QUOTE = 300
# What huggingface_hub takes for true in an environment variable.
TRUE_WORDS = ("1", "ON", "YES", "TRUE")


# --- names ----------------------------------------------------------------------------------------


def check_repo_id(repo_id: str) -> str:
    """Return a repo id of the form namespace/name. Raises UsageError on anything else."""
    try:
        validate_repo_id(repo_id)
        is_valid = repo_id.count("/") == 1
    except HFValidationError:
        is_valid = False
    if not is_valid:
        raise UsageError(
            f"The repo id {redact(repr(repo_id))} is no namespace/name of letters, digits, -, _ "
            "and .; give me/t5-set."
        )
    return repo_id


def check_file_name(name: str) -> str:
    """Return a file's name in a repository: a relative path inside of it, no part of it hidden.

    Raises:
        UsageError: the name leads out of the repository, or is hidden.
    """
    is_plain = name.isprintable() and "\\" not in name and ":" not in name
    parts = name.removeprefix(EVAL_RESULTS).split("/")
    is_visible = all(part and not part.startswith(".") for part in parts)
    if not is_plain or not is_visible:
        raise UsageError(
            f"The file name {name!r} leads outside of the repository or is hidden; rename the file."
        )
    return name


# --- contents -------------------------------------------------------------------------------------


def check_inside_folder(folder: Path, name: str, content: Path | bytes) -> None:
    """Raise UsageError where a file is a link that leads out of the folder.

    Args:
        folder: the folder that is published.
        name: the file's name in the repository.
        content: the file, or the bytes of a file that hf_synpre made, such as a card.
    """
    if isinstance(content, Path) and not content.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{folder / name} is a link to a file outside of the folder; copy the file itself "
            "there."
        )


def check_file_content(name: str, content: Path | bytes, token: str | None) -> None:
    """Raise UsageError on weights that are no safetensors, and on a text that holds a token.

    Args:
        name: the file's name in the repository; its ending decides what is checked.
        content: the file, or the bytes of a file that hf_synpre made.
        token: the caller's access token. It is searched for, and whatever looks like a token.
    """
    if name.endswith(".safetensors"):
        assert isinstance(content, Path)  # hf_synpre makes no weights of its own for a push
        try:
            with open_safetensors(content, "np"):
                return
        except SafetensorError as error:
            raise UsageError(
                f"{content} is not a complete safetensors file ({error}); save the model again."
            ) from None

    if name.endswith(TEXT_SUFFIXES):
        text_bytes = content.read_bytes() if isinstance(content, Path) else content
        if find_tokens(text_bytes.decode("utf-8", "replace"), token):
            raise UsageError(
                f"{name} holds an access token; take it out, and revoke it if it was ever "
                "published."
            )


def find_tokens(text: str, token: str | None = None) -> set[str]:
    """Return the access tokens in a text.

    Args:
        text: the text that is to be published or shown.
        token: the caller's token; that of huggingface_hub, and what looks like one, are found too.
    """
    found = set(TOKEN_PATTERN.findall(text))
    for known in (token, get_token()):
        if known and known in text:
            found.add(known)
    return found


def redact(text: str, token: str | None = None) -> str:
    """Return a text in one line, with <token> in place of access tokens."""
    for secret in find_tokens(text, token):
        text = text.replace(secret, "<token>")
    return " ".join(text.split())


# --- errors ---------------------------------------------------------------------------------------


@contextmanager
def hub_errors(repo_id: str, token: str | None = None) -> Iterator[None]:
    """Turn what huggingface_hub raises inside the block into one line.

    Args:
        repo_id: the repository, which the message names.
        token: the caller's access token, which no message may hold.

    Raises:
        UsageError: the Hub refuses, and something must be changed first.
        PushError: it may pass later, and the same command then does the whole: the Hub is busy or
            cannot be reached, or the connection broke.
    """
    try:
        yield
    except (UsageError, PushError):
        raise
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        answer = answer_of_hub(error)
        if answer is not None:
            raise http_error(repo_id, answer, token) from error
        raise unreachable(repo_id) from error
    except HfHubHTTPError as error:
        raise http_error(repo_id, error, token) from error
    except Exception as error:  # a broken connection, as whatever class the HTTP library raises
        if str(error).startswith(BAD_CARD):
            raise refused_card(repo_id, str(error), token) from error
        cause = redact(f"{error} {error.__cause__ or ''}", token)
        raise PushError(
            f"{repo_id}: the transfer broke off ({cause}); the Hub has all of it or nothing, run "
            "again."
        ) from error


def unreachable(repo_id: str) -> UsageError:
    """Return the error of a repository that is not in the cache, where the Hub is not reached."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in TRUE_WORDS:
        do = "HF_HUB_OFFLINE is set; unset it"
    else:
        do = "go online, or set HF_ENDPOINT to a mirror"
    return UsageError(
        f"{repo_id}: the Hub cannot be reached, and the cache does not have the repository; {do}."
    )


def http_error(repo_id: str, error: HfHubHTTPError, token: str | None) -> UsageError | PushError:
    """Return the error that says in one line what an HTTP status of the Hub means.

    Args:
        repo_id: the repository.
        error: what huggingface_hub raised.
        token: the caller's access token, which the message may not hold.
    """
    status = error.response.status_code

    # What may pass later.
    if status in PASSING:
        seconds = error.response.headers.get("Retry-After", "")
        wait = f"wait {seconds} seconds" if seconds.isdigit() else "wait a while"
        return PushError(
            f"{repo_id}: {PASSING[status]} (HTTP {status}); the Hub has all of it or nothing, "
            f"{wait} and run the same command again, which goes on."
        )
    if status >= 500:
        return PushError(
            f"{repo_id}: the Hub answers {status}, a fault of its own; it has all of it or "
            "nothing, run the same command again later."
        )

    # What the user must change.
    if isinstance(error, GatedRepoError):
        reason = "the repository is gated; ask for access on its page on the Hub"
    elif status in REFUSALS:
        reason = REFUSALS[status]
    else:
        said = redact(error.server_message or str(error), token)[:LONGEST_QUOTE]
        reason = f"the Hub refuses this and says: {said}"
    return UsageError(f"{repo_id}: {reason} (HTTP {status}).")


def refused_card(repo_id: str, message: str, token: str | None) -> UsageError:
    """Return the error of a card whose YAML the Hub refuses; its words name the key."""
    said = redact(message.removeprefix(BAD_CARD), token).strip(" .-")[:LONGEST_QUOTE]
    return UsageError(
        f"{repo_id}: the Hub refuses the card and says: {said}. Change that key in the YAML at the "
        "top of the folder's README.md (HTTP 400)."
    )
