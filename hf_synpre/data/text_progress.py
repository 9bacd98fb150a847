"""The reading of much text -> lines in the log: how much, how fast, and how long it still takes."""

import logging
import time
from collections.abc import Iterable, Iterator

logger = logging.getLogger(__name__)

# Seconds between two lines.
LINE_EVERY_S = 5.0
# Durations of so many seconds and more are shown in minutes.
LONGEST_IN_SECONDS = 90


class TextProgress:
    """Logs every few seconds how far work on texts is; nothing where it is done before that.

    Args:
        name: what is done, as "tokenising books".
        size: about how many bytes the texts have; None where that is not known.

    Attributes:
        was_shown: whether there was a line.
    """

    def __init__(self, name: str, size: int | None = None):
        self.name, self.size = name, size
        self.was_shown = False
        self._bytes = 0
        self._share = 0.0
        self._last_line = time.monotonic()
        # When the work began that speed is measured by: the time, the bytes and the share then.
        self._begun = (self._last_line, 0, 0.0)

    def read(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield texts, and count them."""
        for text in texts:
            yield text
            self._bytes += len(text.encode(errors="replace"))
            now = time.monotonic()
            if now - self._last_line >= LINE_EVERY_S:
                self._last_line = now
                self.was_shown = True
                logger.warning("%s", self._line(now))

    def reach(self, share: float) -> None:
        """Be told that a share of the work is done, where not all of the texts are needed.

        At the first call the work begins: what was read before it was passed over.
        """
        is_first = not self._share
        self._share = share
        if is_first:
            self._begun = (time.monotonic(), self._bytes, self._done())

    def _done(self) -> float:
        """Return the share of the work that is done, 0 where that is not known."""
        of_texts = self._bytes / self.size if self.size else 0.0
        return min(1.0, max(self._share, of_texts))

    def _line(self, now: float) -> str:
        """Return how much was read, how fast, and how long it still takes."""
        began, first_bytes, first_share = self._begun
        seconds = max(now - began, 1e-3)
        line = f"{self.name}: {self._bytes / 1e6:,.0f}"
        if self.size:
            line += f" of about {self.size / 1e6:,.0f}"
        line += f" MB, {(self._bytes - first_bytes) / 1e6 / seconds:.1f} MB/s"

        done = self._done()
        if done > first_share:
            line += f", about {clock(seconds * (1 - done) / (done - first_share))} left"
        return line


def clock(seconds: float | None) -> str:
    """Write a duration: "45 s", "12 min", "3 h 05 min", "?" if it is not known."""
    if seconds is None:
        return "?"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    if seconds >= LONGEST_IN_SECONDS:
        return f"{minutes} min"
    return f"{round(seconds)} s"
