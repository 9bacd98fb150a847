"""The benefit of pre-training without a natural corpus. The public names; torch is imported only by those that need it."""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "hf_synpre.tasks": ("generate", "get_task", "list_tasks", "register_task"),
    "hf_synpre.vocabulary": ("Vocabulary",),
    "hf_synpre.data.synthetic": ("SyntheticBuilder", "SyntheticDataset", "load_synthetic"),
    "hf_synpre.initialization": ("ParameterStatistics", "StatisticsInit"),
    "hf_synpre.errors": ("UsageError",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hf_synpre' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME_OF[name]), name)
