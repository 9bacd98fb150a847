"""Which of several processes this is."""

from torch import distributed


def rank() -> int:
    """Return this process's number; accelerate's debug_launcher sets no RANK."""
    return distributed.get_rank() if distributed.is_initialized() else 0
