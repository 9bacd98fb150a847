"""Layer 4: what one process makes while others wait or go elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hf_synpre.errors import UsageError


def lock(target: Path, wait: bool = True) -> FileLock:
    """Return the lock of one product; the system releases it when its holder dies. Timeout at once if not to `wait`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(target.with_name(f".{target.name}.lock"), timeout=-1 if wait else 0)


@contextmanager
def held(target: Path) -> Iterator[None]:
    """Hold the lock of one product. Raises UsageError where another process does."""
    try:
        with lock(target, wait=False):
            yield
    except Timeout:
        raise UsageError(f"Another command is at work on {target}; wait for it, or choose another folder.") from None
