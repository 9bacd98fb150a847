"""Statistics of a checkpoint's parameters -> a model.

The steps of StatisticsInit, in order; each names the module and what it has:

1. Read: checkpoints.find_config, find_weights: folder or Hub id -> local folder;
   weight_files.weight_files: folder -> its safetensors files;
   statistics.ParameterStatistics: files -> mean and standard deviation (Moments) of each tensor,
   or stored_tensors.StoredTensors: files -> the tensors themselves.
2. Roles: roles.read_parameters: model -> Parameter for each name, with its role ("query", "mlp",
   "pre_attention_norm").
3. Match: matching.Matching and match_parameters: parameters, names and shapes in the checkpoint ->
   the SourceTensor of each parameter.
4. Pool: schemes.SCHEMES: Parameter -> name of its group; statistics.pool: Moments of a group ->
   (mean, sd).
5. Draw: build.tensor_generator: (seed, name of the parameter) -> generator -> tensor, float32.
6. Build: build.build: config, tensors by name, seed -> model. Parameters without a tensor get the
   model's random init under the seed.
7. Embeddings: embedding_policy: token tables of a checkpoint and of the model -> the rows that the
   model takes, by number or by token.
8. Report: load_report.LoadReport: what was loaded, and what was not.
"""

from hf_synpre.initialization.build import (
    build,
    embedding_names,
    resolve_class,
    scale_layers,
    skeleton,
    tensor_generator,
)
from hf_synpre.initialization.checkpoints import (
    STATISTICS_FILE,
    bundled_checkpoints,
    checkpoint_config,
    checkpoint_folder,
    find_config,
    read_config,
)
from hf_synpre.initialization.load_report import LoadReport
from hf_synpre.initialization.moments import Moments, pool
from hf_synpre.initialization.parameters import PARTS, ROLES, Parameter
from hf_synpre.initialization.roles import read_parameters
from hf_synpre.initialization.schemes import SCHEMES, Scheme
from hf_synpre.initialization.statistics import ParameterStatistics, measure
from hf_synpre.initialization.statistics_init import RESIZE, StatisticsInit

__all__ = [
    "PARTS",
    "RESIZE",
    "ROLES",
    "SCHEMES",
    "STATISTICS_FILE",
    "LoadReport",
    "Moments",
    "Parameter",
    "ParameterStatistics",
    "Scheme",
    "StatisticsInit",
    "build",
    "bundled_checkpoints",
    "checkpoint_config",
    "checkpoint_folder",
    "embedding_names",
    "find_config",
    "measure",
    "pool",
    "read_config",
    "read_parameters",
    "resolve_class",
    "scale_layers",
    "skeleton",
    "tensor_generator",
]
