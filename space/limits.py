"""Files from elsewhere are read in a process of their own, which has little time and memory.

A function of the package goes in, with its arguments; what it returns comes out, or UsageError with
one line. The package's readers refuse what is broken; here ends what is merely too much.
"""

import logging
import multiprocessing
import resource
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hf_synpre.errors import UsageError

logger = logging.getLogger(__name__)

# Of the processor, and by the clock where others use it too.
MOST_SECONDS = 60
MOST_WAITING = 240
MOST_MEMORY = 2 * 2**30  # bytes, beyond what the libraries take
MOST_WRITTEN = 512 * 2**20  # bytes of one file

# A server that has imported the libraries once forks a process for each request.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "hf_synpre.initialization.matching",
        "hf_synpre.report.plots",
        "matplotlib.backends.backend_svg",
        "transformers.models.gpt2.modeling_gpt2",
        "transformers.models.llama.modeling_llama",
        "transformers.models.t5.modeling_t5",
    ]
)

REMEDY = "which is all that this page gives it; use the command line of hf_synpre."
TOO_MUCH_MEMORY = f"This takes more than {MOST_MEMORY >> 30} GB of memory, {REMEDY}"
TOO_MUCH_TIME = f"This takes longer than {MOST_SECONDS} s, {REMEDY}"


def start_server() -> None:
    """Start the server that forks, so that the first request does not wait for its imports."""
    forkserver.ensure_running()


def bounded(function: Callable, *arguments: Any) -> Any:
    """Call a function in another process, in bounded time and memory.

    Args:
        function: a function at the top of a module. Its first argument is a new empty folder, which
            is deleted afterwards; errors do not name that folder.
        arguments: the other arguments, such as paths and texts.

    Returns:
        What the function returns.

    Raises:
        UsageError: the function has raised it, or wanted more than it may have.
    """
    with tempfile.TemporaryDirectory(prefix="synpre-space-") as folder:
        receiver, sender = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=answer, args=(sender, function, folder, *arguments))
        process.start()
        sender.close()
        try:
            if not receiver.poll(MOST_WAITING):
                raise UsageError(TOO_MUCH_TIME)
            problem, result = receiver.recv()
        except EOFError:  # the system has ended it
            process.join()
            is_late = process.exitcode == -signal.SIGXCPU
            raise UsageError(TOO_MUCH_TIME if is_late else TOO_MUCH_MEMORY) from None
        finally:
            process.kill()
            process.join()
            receiver.close()
    if problem:
        raise UsageError(without_folder(problem, folder))
    return result


def without_folder(text: str, folder: str) -> str:
    """Return a text that does not name the temporary folder, whose name tells a reader nothing."""
    return text.replace(f"{folder}/", "").replace(folder, "the upload")


def answer(sender: Connection, function: Callable, folder: str, *arguments: Any) -> None:
    """Send (problem, result) of a call; one of them is None."""
    limit_this_process()
    outcome: tuple[str | None, Any]
    try:
        outcome = (None, function(Path(folder), *arguments))
    except UsageError as error:
        outcome = (str(error), None)
    except Exception as error:
        outcome = (unexpected(error), None)
    sender.send(outcome)


def unexpected(error: Exception) -> str:
    """Return the line for an error that is no UsageError; the server's log has its traceback."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch says so
        return TOO_MUCH_MEMORY
    logger.exception("A request failed")
    return (
        f"This page could not read that ({type(error).__name__}), which is a fault of ours; "
        "please report it, with the file."
    )


def limit_this_process() -> None:
    """Bound the memory and time of this process, and the size of the files that it writes."""
    limits = {
        resource.RLIMIT_CPU: MOST_SECONDS,
        resource.RLIMIT_FSIZE: MOST_WRITTEN,
        resource.RLIMIT_CORE: 0,
    }
    with suppress(OSError):  # what is used now, Linux alone says
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + MOST_MEMORY
    for kind, most in limits.items():
        hard = most + 5 if kind == resource.RLIMIT_CPU else most  # a signal comes first
        with suppress(ValueError, OSError):  # the system has a lower limit, or none of this kind
            resource.setrlimit(kind, (most, hard))
