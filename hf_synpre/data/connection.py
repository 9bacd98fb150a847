"""No network: the first request to the Hub -> an answer within seconds, from the cache or an error.

huggingface_hub tries a request that fails again and again, for half a minute. Here the first
request of a process waits for a connection, but a few seconds at the most; without one the process
is offline, as under HF_HUB_OFFLINE=1: cached files are used, and what is not cached is an error.
"""

import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants, get_session
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from hf_synpre.errors import TemporaryError, UsageError

# So long the first request waits for a connection. Working connections, satellites included, take
# less than two.
LONGEST_WAIT = 3.5
USUAL_PORTS = {"http": 80, "https": 443}
SOCKS_PORT = 1080

# HTTP status -> what the Hub says with it where something is read.
REASONS = {
    401: "you are not logged in, or the repository is private or does not exist; log in with "
    "`hf auth login` or set HF_TOKEN",
    403: "your token does not allow this",
    404: "the Hub has no such repository, revision or file",
    429: "the Hub takes no more requests of this account for now",
}
TOO_MANY_REQUESTS, FAULTS_OF_THE_HUB = 429, 500
# What libraries raise where the Hub was not reached.
NOT_REACHED = (LocalEntryNotFoundError, OfflineModeIsEnabled)

_checked = False


def bound_waiting_for_hub() -> None:
    """Let this process find out within seconds that the Hub cannot be reached.

    It concerns all requests of huggingface_hub, and of transformers and datasets through it. The
    connection is tried once, at the first request. A mirror (HF_ENDPOINT) and proxies (HTTPS_PROXY
    and the like) are tried instead of the Hub where the environment names them.
    """
    hooks = get_session().event_hooks["request"]
    if check_connection not in hooks:
        hooks.append(check_connection)


def check_connection(request: Any) -> None:
    """Go offline where the Hub cannot be reached. It is called before every request.

    Args:
        request: the request, whose host is tried where it is the Hub's.

    Raises:
        OfflineModeIsEnabled: there is no connection to the Hub.
    """
    global _checked
    if _checked or request.url.host != urlsplit(constants.ENDPOINT).hostname:
        return
    _checked = True

    address = first_address(str(request.url))
    if address is not None and not is_reachable(*address):
        go_offline()
        raise OfflineModeIsEnabled(
            f"{address[0]} does not answer within {LONGEST_WAIT} seconds, so that the Hub cannot "
            "be reached; only cached files can be used."
        )


def first_address(url: str) -> tuple[str, int] | None:
    """Return the host and port that a request connects to: a proxy's, or those of its URL.

    None where that is not known, because a proxy's address is no URL.
    """
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")

    try:
        port = parts.port or USUAL_PORTS.get(parts.scheme, SOCKS_PORT)
    except ValueError:  # no number
        return None
    return (parts.hostname, port) if parts.hostname else None


def is_reachable(host: str, port: int) -> bool:
    """Say whether a host takes a connection within LONGEST_WAIT seconds.

    A thread tries it, because looking up a name may take longer than the connection's own limit.
    """
    connected = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), LONGEST_WAIT).close()
            connected.set()
        except OSError:
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(LONGEST_WAIT)
    return connected.is_set()


def go_offline() -> None:
    """Let huggingface_hub, transformers and datasets use cached files alone from now on."""
    constants.HF_HUB_OFFLINE = True
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, the one that caused it, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def answer_of_hub(error: BaseException) -> HfHubHTTPError | None:
    """Return the answer of the Hub that is behind an error; None where it answered none.

    That a single file is not there is no answer here: libraries ask for files that may be missing.
    """
    for cause in causes(error):
        if isinstance(cause, HfHubHTTPError) and not isinstance(cause, EntryNotFoundError):
            return cause
    return None


def read_error(message: str, error: BaseException) -> UsageError:
    """Return the error of something on the Hub that could not be read.

    Args:
        message: what was not read and why, in one line.
        error: what a library raised: a fault of the Hub may pass, a refusal does not.
    """
    answer = answer_of_hub(error)
    status = answer.response.status_code if answer is not None else 0
    if status == TOO_MANY_REQUESTS or status >= FAULTS_OF_THE_HUB:
        return TemporaryError(f"{message.rstrip('.')}; the same command goes on later.")
    return UsageError(message)


def one_line_cause(error: BaseException) -> str:
    """Return why a library could not read something, in one line.

    Where the Hub was not reached, or a repository has Python code that would have to run, that is
    said in few words, in place of the library's advice.
    """
    answer = answer_of_hub(error)
    if answer is not None:
        status = answer.response.status_code
        reason = REASONS.get(status, "the Hub answers with an error")
        if isinstance(answer, GatedRepoError):
            reason = "the repository is gated; ask for access on its page on the Hub"
        return f"{reason} (HTTP {status})"
    if any(isinstance(part, NOT_REACHED) for part in causes(error)):
        return "the Hub cannot be reached, and the cache does not have it"
    if "trust_remote_code" in str(error):
        return (
            "it needs Python code of its own (auto_map), which is never run here; give one of an "
            "architecture that transformers has"
        )
    return " ".join(str(error).split())
