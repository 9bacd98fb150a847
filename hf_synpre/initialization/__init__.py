"""Layer 3: models that start from the parameter statistics of a pre-trained one, or from parts of its weights."""

from hf_synpre.initialization.checkpoints import (
    STATISTICS_FILE,
    bundled_checkpoints,
    checkpoint_folder,
    find_config,
    read_config,
)
from hf_synpre.initialization.roles import PARTS, ROLES, read_parameters
from hf_synpre.initialization.schemes import SCHEMES, Scheme
from hf_synpre.initialization.statistics import Moments, ParameterStatistics, measure, pool
from hf_synpre.initialization.statistics_init import (
    RESIZE,
    StatisticsInit,
    build,
    embedding_names,
    resolve_class,
    skeleton,
    tensor_generator,
)

__all__ = [
    "PARTS",
    "RESIZE",
    "ROLES",
    "SCHEMES",
    "STATISTICS_FILE",
    "Moments",
    "ParameterStatistics",
    "Scheme",
    "StatisticsInit",
    "build",
    "bundled_checkpoints",
    "checkpoint_folder",
    "embedding_names",
    "find_config",
    "measure",
    "pool",
    "read_config",
    "read_parameters",
    "resolve_class",
    "skeleton",
    "tensor_generator",
]
