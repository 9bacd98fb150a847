"""One input meets one reader: it is read or refused in one clear line, and nothing else happens."""

import contextlib
import hashlib
import io
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from surface import StartedError, Surface

from hf_synpre.errors import UsageError

# What an input may take at the most.
MOST_SECONDS = 20
MOST_BYTES = 4 * 2**30
# More than that, so that what fails for want of memory has taken too much of it.
MOST_ADDRESSES = 6 * 2**30
LONGEST_MESSAGE = 2000

READ, REFUSED = "read", "refused"
PROCESS = psutil.Process()
# Folders in memory are made and deleted sooner.
FOLDERS = "/dev/shm" if os.path.isdir("/dev/shm") else None


class TooLongError(BaseException):  # no handler of ours takes it
    """An input took more than MOST_SECONDS."""


def outcome(surface: Surface, value: Any) -> str:
    """Give an input to its reader. Return READ or REFUSED.

    Raises:
        AssertionError: the message is no clear line, an input has changed, a file was written
            outside of the folder that is written to, or memory was taken.
        TooLongError: it took too long.
        Exception: what the reader raised that is no UsageError.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=FOLDERS) as name:
        place = Path(name).resolve()
        folder = place / "input"
        folder.mkdir()
        surface.write(folder, value)
        before = digests(place)

        result = READ
        with bounded(), contextlib.chdir(folder):
            try:
                surface.read(folder, value)
            except StartedError:
                pass  # nothing was refused before the work would begin
            except UsageError as error:
                result = REFUSED
                check_message(str(error))

        after = digests(place)
        before.pop(surface.own_file, None)
        changed = [file for file in before if after.get(file) != before[file]]
        assert not changed, f"inputs were changed: {changed}"
        outside = [
            file for file in after.keys() - before.keys() if not file.startswith(surface.target)
        ]
        assert not outside, f"files were written outside of the target: {outside}"
    return result


def check_message(message: str) -> None:
    """Raise AssertionError where a message is no printable line of a sentence or two."""
    assert message.isprintable(), f"not printable: {message!r}"
    assert 10 < len(message) <= LONGEST_MESSAGE, f"{len(message)} letters: {message[:300]}"


def digests(place: Path) -> dict[str, str]:
    """Return the name of each file below a folder -> a digest of its content."""
    found = {}
    for file in sorted(place.rglob("*")):
        if file.is_file():
            name = file.relative_to(place).as_posix()
            found[name] = hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
    return found


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Bound the time and the memory of a block, and take what it prints."""

    def stop(signum: int, frame: Any) -> None:
        raise TooLongError(f"it took more than {MOST_SECONDS} s")

    # Address space stops a reader before it takes the machine's memory.
    before = PROCESS.memory_info()
    peak_before = peak_bytes()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    earlier = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (before.vms + MOST_ADDRESSES, limits[1]))
    try:
        with contextlib.redirect_stdout(Paper()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    # A peak of this input, if it is higher than those before.
    peak = peak_bytes()
    taken = peak - before.rss if peak > peak_before else 0
    assert taken < MOST_BYTES, f"it took {taken >> 20} MB of memory"


class Paper(io.StringIO):
    """Takes what a command prints; after a million letters the rest would be the same."""

    def write(self, text: str) -> int:
        if self.tell() > 1_000_000:
            raise StartedError
        return super().write(text)


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


assert os.name == "posix", "signals and limits are those of POSIX"
