"""Checks of what is published: names, file contents, access tokens; the Hub's errors in one line.

A name or file that must not be published raises a UsageError; an exception of huggingface_hub
becomes a UsageError or a PushError. huggingface_hub keeps the tokens: none is written to a file,
and none is shown in a message.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from safetensors import SafetensorError, safe_open

from hf_synpre.errors import PushError, UsageError

TOKEN_PATTERN = re.compile(r"hf_[A-Za-z0-9]{30,}")
TEXT_SUFFIXES = (".json", ".md", ".txt")
# HTTP status -> its meaning on the Hub, and what to do.
REFUSALS = {
    401: "you are not logged in, or the repository is private or does not exist; log in with "
    "`hf auth login` or set HF_TOKEN",
    403: "your token does not allow this; give one with write access to the repository",
    404: "the Hub has no such repository, revision or file",
    409: "somebody else changed the repository at the same time; run again",
    412: "somebody else changed the repository at the same time; run again",
}


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
    is_visible = all(part and not part.startswith(".") for part in name.split("/"))
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
        try:
            with safe_open(content, framework="np"):
                return
        except (SafetensorError, OSError) as error:
            path = content if isinstance(content, Path) else name
            raise UsageError(
                f"{path} is not a complete safetensors file ({error}); save the model again."
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
        UsageError: the Hub refuses, or cannot be reached at all.
        PushError: the connection broke, or the Hub failed.
    """
    try:
        yield
    except UsageError:
        raise
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise UsageError(
            f"{repo_id}: the Hub cannot be reached, and the cache does not have the repository; go "
            "online."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status >= 500:
            raise PushError(
                f"{repo_id}: the Hub answers {status}; nothing was published, run again later."
            ) from error
        reason = REFUSALS.get(status) or redact(str(error), token)
        raise UsageError(f"{repo_id}: {reason} (HTTP {status}).") from error
    except Exception as error:  # a broken connection, as whatever class the HTTP library raises
        cause = redact(f"{error} {error.__cause__ or ''}", token)
        raise PushError(
            f"{repo_id}: the transfer broke off ({cause}); the Hub has all of it or nothing, run "
            "again."
        ) from error
