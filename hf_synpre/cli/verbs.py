"""`synpre VERB ...`: a command line in, an exit code out.

Each verb stands with its options in a module of this room. Libraries are imported where a verb
runs, so that `synpre --help` needs none of them.
"""

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_synpre.cli.audit import AUDIT
from hf_synpre.cli.build import BUILD
from hf_synpre.cli.experiment import REPORT, RUN
from hf_synpre.cli.finetune import FINETUNE
from hf_synpre.cli.init import INIT
from hf_synpre.cli.options import ImportOptions, Verb, parse
from hf_synpre.cli.pretrain import PRETRAIN
from hf_synpre.cli.processes import check_compiled_code, collect_seldom, hide_bars, share_cores
from hf_synpre.cli.push import PUSH
from hf_synpre.cli.reproduce import REPRODUCE
from hf_synpre.cli.self_pretrain import SELF_PRETRAIN
from hf_synpre.cli.statistics import STATISTICS
from hf_synpre.cli.tasks import GENERATE, TASKS
from hf_synpre.cli.warmup import WARMUP
from hf_synpre.errors import (
    WHAT_TO_DO,
    PushError,
    TemporaryError,
    UsageError,
    choose,
    one_line,
    similar_path,
    system_error,
    write_error,
)
from hf_synpre.versions import versions

# Name -> verb, in the order of the help.
VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        *(TASKS, GENERATE, AUDIT, BUILD, PRETRAIN, SELF_PRETRAIN, STATISTICS, INIT, WARMUP),
        *(FINETUNE, RUN, REPORT, PUSH, REPRODUCE),
    )
}
# Exit codes.
DONE = 0
FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130  # as shells say it of Ctrl-C

# How a name begins that can only be a path, and no Hub id.
PATH_STARTS = ("./", "../", "/", "~")
# The flags that name a file or folder to read, where they do not name something of the Hub.
INPUT_FLAGS = (
    *("checkpoint", "model", "start", "tokenizer_name", "tokenizer", "config_name", "vocabulary"),
    *("corpus", "dataset", "data_dir", "from"),
)


def main(argv: list[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the words after `synpre`; those of the process without it.

    Returns:
        The exit code: 0 done; 1 a run or a transfer failed, or what stopped it may pass, as a full
        disk; 2 bad input. What happened is said in one line on standard error. With
        SYNPRE_TRACEBACK=1 in the environment the traceback stands before it.
    """
    if argv is None:  # the process is ours
        argv = sys.argv[1:]
        collect_seldom()
    if not argv or argv[0] in ("-h", "--help"):
        print_overview()
        return DONE if argv else BAD_INPUT
    if argv[0] == "--version":
        print_versions()
        return DONE

    # A scheduler's signal is taken as Ctrl-C: the workers end too, and no half file stays.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    try:
        verb = VERBS[choose("verb", argv[0], VERBS, do="See `synpre --help`.")]
    except UsageError as error:
        return stop(BAD_INPUT, str(error))
    try:
        check_paths(argv[1:])
        share_cores()
        hide_bars()
        check_compiled_code()
        arguments = parse(verb, argv[1:])
        if arguments.of(ImportOptions):
            from hf_synpre.tasks.imports import import_tasks

            import_tasks(*arguments.build(ImportOptions).imports)
        from hf_synpre.data.connection import bound_waiting_for_hub

        bound_waiting_for_hub()
        with each_warning_once():
            exit_code = verb.run(arguments)
        sys.stdout.flush()
        return exit_code
    except TemporaryError as error:
        return stop(FAILED, str(error))
    except UsageError as error:
        return stop(BAD_INPUT, str(error))
    except (NotADirectoryError, PermissionError, FileNotFoundError) as error:
        return stop(BAD_INPUT, unusable(error))
    except (PushError, FloatingPointError) as error:  # the latter: a loss that is not finite
        return stop(FAILED, str(error))
    except KeyboardInterrupt:
        print(f"synpre: stopped; {verb.when_stopped}.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as in `synpre generate ... | head`. What Python still
        # writes when it ends goes nowhere.
        discard_output()
        return DONE
    except Exception as error:
        failure = refusal_of_the_system(error)
        if failure is None:
            raise
        return stop(FAILED if isinstance(failure, TemporaryError) else BAD_INPUT, str(failure))


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Print each line that is logged in the block once: data may be opened several times."""
    printed: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        line = record.getMessage()
        if line in printed:
            return False
        printed.add(line)
        return True

    handler = logging.StreamHandler()
    handler.addFilter(is_new)
    package = logging.getLogger("hf_synpre")
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)


def refusal_of_the_system(error: Exception) -> UsageError | None:
    """Return what to say where the system refuses something: a full disk, too many open files, a
    name that is too long. None for other errors, which are faults of this package.

    Args:
        error: what the system or a library has raised.
    """
    if "cannot cache function" in str(error):  # numba
        return UsageError(
            "Compiled code cannot be kept: no file can be made beside hf_synpre, nor in your cache "
            "folder. Set NUMBA_CACHE_DIR to a folder where you may write."
        )
    number = system_error(error)
    if isinstance(error, OSError) and number is not None:
        if error.filename is None:
            discard_output()
        failure = write_error(error.filename or "the output", error)
        return failure if number in WHAT_TO_DO else UsageError(unusable(error))
    return write_error("a file", error) if number in WHAT_TO_DO else None


def unusable(error: OSError) -> str:
    """Return what to say where the system refuses a file or folder for good."""
    target = error.filename or "The output"
    return f"{target} cannot be used ({error.strerror}); give another place."


def discard_output() -> None:
    """Let what Python still writes on standard output go nowhere: nobody can read it any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_overview() -> None:
    """Print all verbs with what they do."""
    print("usage: synpre VERB [options]; see synpre VERB --help, or synpre --version\n")
    for verb in VERBS.values():
        print(f"  {verb.name:14s} {verb.summary}")


def print_versions() -> None:
    """Print the versions of hf_synpre, of Python and of the libraries, one a line."""
    found = versions()
    print(f"hf_synpre {found.pop('hf_synpre')} (commit {found.pop('commit')})")
    for name, version in found.items():
        print(f"{name} {version}")


def check_paths(words: list[str]) -> None:
    """Check that the files and folders exist that a command line names as its input.

    A name that only a path can have is checked before a library is imported or the Hub is asked.

    Args:
        words: the words after the verb.

    Raises:
        UsageError: a file or folder does not exist.
    """
    for position, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if position == 0 and not word.startswith("-"):
            value = word
        elif not equals and position + 1 < len(words):
            value = words[position + 1]

        is_input = position == 0 and not word.startswith("-")
        is_input = is_input or flag.removeprefix("--").replace("-", "_") in INPUT_FLAGS
        if is_input and value.startswith(PATH_STARTS) and not os.path.exists(value):
            kind = "file" if os.path.splitext(value)[1] else "folder"
            hint = similar_path(Path(value))
            raise UsageError(f"There is no {kind} {value}; check its name.{hint}")


def stop(exit_code: int, message: str) -> int:
    """Print in one line why a verb stops; return the exit code."""
    if os.environ.get("SYNPRE_TRACEBACK") == "1":
        traceback.print_exc()
    print(f"synpre: {one_line(message)}", file=sys.stderr)
    return exit_code
