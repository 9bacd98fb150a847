"""A scheme and what was read of a checkpoint -> the tensor of each parameter, drawn or copied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from hf_synpre.errors import UsageError
from hf_synpre.initialization.build import body_name, tensor_generator
from hf_synpre.initialization.generalized_gaussian import draw_generalized
from hf_synpre.initialization.head_moments import HeadPair, draw_by_head
from hf_synpre.initialization.matching import Matching, SourceTensor, pool_groups
from hf_synpre.initialization.moments import Moments
from hf_synpre.initialization.parameters import Parameter
from hf_synpre.initialization.schemes import Scheme
from hf_synpre.initialization.spectra import LEVELS, all_singular_values, draw_with_values
from hf_synpre.initialization.statistics import ParameterStatistics
from hf_synpre.initialization.stored_tensors import StoredTensors
from hf_synpre.initialization.value_fills import VALUE_FILLS


@dataclass
class Draws:
    """Makes the tensors of a model by a scheme that reads a checkpoint.

    Each depends on the seed and the parameter's name alone, and on what was read.
    """

    scheme: Scheme
    model: PreTrainedModel  # without weights
    source: ParameterStatistics | StoredTensors
    # Name of a parameter -> the parameter, and its tensor in the checkpoint.
    pairs: Mapping[str, tuple[Parameter, SourceTensor]]
    matching: Matching
    # One of RESIZE.
    resize: str
    seed: int
    # Name of a parameter -> the heads that it holds, for the fill "per_head".
    heads: Mapping[str, Sequence[HeadPair]]

    def __post_init__(self) -> None:
        self.moments: dict[str | None, tuple[float, float]] = {}
        if isinstance(self.source, ParameterStatistics):
            self.moments = pool_groups(self.scheme, self.matching, self.source.parameters)

    def tensor(self, name: str) -> torch.Tensor:
        """Return the tensor of a parameter, float32 on the CPU."""
        parameter, stored = self.pairs[name]
        generator = tensor_generator(self.seed, body_name(self.model, name))
        if self.scheme.copies:
            assert isinstance(self.source, StoredTensors)  # StatisticsInit.check_source
            values = self.source[stored.stored_name]
            if parameter.fixed:
                return values
            return VALUE_FILLS[self.scheme.fill](parameter, values, generator)

        scale = 1.0
        if self.resize == "fan_in" and not self.is_constant_gain(parameter):
            scale = parameter.fan_in_scale(stored.shape)
        if self.scheme.fill == "spectral":
            return self.spectral(parameter, stored, scale, generator)
        if isinstance(self.source, StoredTensors):
            values = self.source[stored.stored_name]
            return draw_by_head(parameter, values, self.heads[name], scale, generator)
        if self.scheme.fill == "generalized_gaussian":
            measured = self.source.parameters[stored.stored_name]
            return draw_generalized(parameter.shape, measured, scale, generator, self.source.source)
        mean, sd = self.moments[self.scheme.group(stored.parameter)]
        return self.normal(parameter, mean, sd, scale, generator)

    def is_constant_gain(self, parameter: Parameter) -> bool:
        """Say whether a parameter is filled with its mean: norms in schemes with fill "scale"."""
        return self.scheme.fill == "scale" and parameter.part == "norm"

    def normal(
        self,
        parameter: Parameter,
        mean: float,
        sd: float,
        scale: float,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Draw normal numbers for one parameter, or fill it with its mean.

        Args:
            parameter: the parameter of the model.
            mean: the mean of its group in the checkpoint.
            sd: the standard deviation of its group in the checkpoint.
            scale: the factor of both that makes up for another fan-in.
            generator: the parameter's own generator, on the CPU.
        """
        if self.is_constant_gain(parameter):
            return torch.full(parameter.shape, mean, dtype=torch.float32, device="cpu")
        if self.scheme.fill == "scale":
            mean = 0.0
        tensor = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
        return tensor.normal_(mean * scale, sd * scale, generator=generator)

    def spectral(
        self,
        parameter: Parameter,
        stored: SourceTensor,
        scale: float,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Draw a tensor with the singular values of the checkpoint's, all of them or quantiles.

        Vectors, and tensors of more than two axes of which only statistics are known, are normal
        with its mean and deviation.

        Raises:
            UsageError: the statistics lack the quantiles of a matrix.
        """
        sources: list[tuple[Sequence[float], Sequence[float]]] = []
        if isinstance(self.source, StoredTensors):
            values = self.source[stored.stored_name]
            moments = Moments.of(values)
            if len(parameter.shape) > 1:
                sources += map(all_singular_values, parameter.as_maps(values))
        else:
            moments = self.source.parameters[stored.stored_name]
            if moments.spectrum is not None:
                sources.append((LEVELS, moments.spectrum))
            elif len(parameter.shape) == 2 and (moments.sd or moments.mean):
                raise UsageError(
                    "Scheme spectral reads quantiles of singular values, which the statistics of "
                    f"{self.source.source} lack; give a checkpoint with weights, or a file of "
                    "`synpre statistics CHECKPOINT --spectrum true`."
                )
        if not sources:
            return self.normal(parameter, moments.mean, moments.sd, scale, generator)
        mean_square = (moments.sd**2 + moments.mean**2) * scale**2
        return draw_with_values(parameter, sources, mean_square, generator)
