"""hf_synpre: pre-training without a natural corpus, for any Hugging Face model.

The public names are imported when they are first used, so that what needs only arrays does not
import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_synpre.data.collators import CausalCollator, Seq2SeqCollator
    from hf_synpre.data.synthetic import SyntheticBuilder, SyntheticDataset, load_synthetic
    from hf_synpre.errors import UsageError
    from hf_synpre.initialization import ParameterStatistics, StatisticsInit
    from hf_synpre.models.verification import verify_checkpoint
    from hf_synpre.tasks import generate, get_task, list_tasks, register_task
    from hf_synpre.tasks.imports import import_tasks
    from hf_synpre.training.warm_up import WarmUpCallback, warm_up
    from hf_synpre.vocabulary import Vocabulary

__version__ = "0.1.0"

# Public name -> the module that has it. The imports above are for editors and type checkers.
_MODULES = {
    "CausalCollator": "hf_synpre.data.collators",
    "ParameterStatistics": "hf_synpre.initialization",
    "Seq2SeqCollator": "hf_synpre.data.collators",
    "StatisticsInit": "hf_synpre.initialization",
    "SyntheticBuilder": "hf_synpre.data.synthetic",
    "SyntheticDataset": "hf_synpre.data.synthetic",
    "UsageError": "hf_synpre.errors",
    "Vocabulary": "hf_synpre.vocabulary",
    "WarmUpCallback": "hf_synpre.training.warm_up",
    "generate": "hf_synpre.tasks",
    "get_task": "hf_synpre.tasks",
    "import_tasks": "hf_synpre.tasks.imports",
    "list_tasks": "hf_synpre.tasks",
    "load_synthetic": "hf_synpre.data.synthetic",
    "register_task": "hf_synpre.tasks",
    "verify_checkpoint": "hf_synpre.models.verification",
    "warm_up": "hf_synpre.training.warm_up",
}

__all__ = [
    "CausalCollator",
    "ParameterStatistics",
    "Seq2SeqCollator",
    "StatisticsInit",
    "SyntheticBuilder",
    "SyntheticDataset",
    "UsageError",
    "Vocabulary",
    "WarmUpCallback",
    "generate",
    "get_task",
    "import_tasks",
    "list_tasks",
    "load_synthetic",
    "register_task",
    "verify_checkpoint",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'hf_synpre' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*__all__, "__version__"])
