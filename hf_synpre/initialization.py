"""Layer 3: weights sampled from the parameter statistics of a pre-trained model (Wu et al. 2022, section 5), or copied.

Every tensor is drawn from a generator of its own, keyed by (seed, its name): its numbers do not depend on order, device,
sharding or on what else is drawn. Embeddings and the head tied to them stay fresh: the model's own random init.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from hf_synpre.errors import UsageError, choose
from hf_synpre.files import read_json, write_json

STATISTICS_FILE = "parameter_statistics.json"
FORMAT = 1


@dataclass(frozen=True)
class Moments:
    """Mean and population standard deviation of one parameter's `numel` elements."""

    shape: tuple[int, ...]
    numel: int
    mean: float
    sd: float

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Moments":
        """Measure a tensor in float64."""
        values = tensor.detach().to("cpu", torch.float64)
        return cls(tuple(tensor.shape), tensor.numel(), values.mean().item(), values.std(correction=0).item())


@dataclass(frozen=True)
class ParameterStatistics:
    """The first two moments of every parameter of a model: what is left of it when the values are thrown away."""

    source: str
    parameters: dict[str, Moments]

    @classmethod
    def from_model(cls, model: PreTrainedModel, source: str = "") -> "ParameterStatistics":
        """Measure a model; tied parameters count once, under their first name."""
        return cls(source or model.name_or_path, {name: Moments.of(p) for name, p in model.named_parameters()})

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **hub: Any) -> "ParameterStatistics":
        """Read a checkpoint's statistics file, or measure its safetensors one tensor at a time; `hub` goes to the Hub.

        Raises UsageError where the folder holds neither.
        """
        folder = checkpoint_folder(name_or_path, **hub)
        if (folder / STATISTICS_FILE).exists():
            return cls.load(folder / STATISTICS_FILE)
        return cls(str(name_or_path), {name: Moments.of(tensor) for name, tensor in stored_tensors(folder)})

    @classmethod
    def load(cls, file: str | Path) -> "ParameterStatistics":
        """Read a statistics file. Raises UsageError with what is wrong in it."""
        stored = read_json(file)
        try:
            if stored["format"] != FORMAT:
                raise UsageError(f"{file} has format {stored['format']}; this version reads format {FORMAT}.")
            entries = {
                p["name"]: Moments(tuple(p["shape"]), *(p[k] for k in ("numel", "mean", "sd"))) for p in stored["parameters"]
            }
            broken = [n for n, m in entries.items() if not (math.isfinite(m.mean) and math.isfinite(m.sd) and m.sd >= 0)]
            source = stored["source"]
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{file} is not a statistics file ({error}); make one with `synpre statistics`.") from None
        if broken:
            raise UsageError(f"{file}: {broken[0]} has {entries[broken[0]]}; mean and sd must be finite, sd >= 0.")
        return cls(source, entries)

    def save(self, file: str | Path) -> None:
        """Write the statistics file (format 1: source, and name, shape, numel, mean, sd of each parameter)."""
        entries = [{"name": name, **asdict(m)} for name, m in self.parameters.items()]
        write_json(file, {"format": FORMAT, "source": self.source, "parameters": entries})


def checkpoint_folder(name_or_path: str | Path, **hub: Any) -> Path:
    """Return the local folder of a checkpoint: a path as it is, a Hub id downloaded (safetensors and JSON only)."""
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    if Path(name_or_path).is_absolute() or str(name_or_path).startswith("."):
        raise UsageError(f"There is no folder {name_or_path}; give a checkpoint folder or a Hub id.")
    return Path(snapshot_download(str(name_or_path), allow_patterns=["*.safetensors", "*.json"], **hub))


def stored_tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) from a folder's safetensors files, one tensor in memory at a time."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UsageError(f"{folder} holds neither {STATISTICS_FILE} nor *.safetensors; give a checkpoint folder or Hub id.")
    for file in files:
        try:
            with safe_open(file, framework="pt") as reader:
                for name in reader.keys():  # noqa: SIM118 - a reader, not a dict
                    yield name, reader.get_tensor(name)
        except SafetensorError as error:
            raise UsageError(f"{file} is not a whole safetensors file ({error}); copy it again.") from None


SCHEMES: dict[str, Callable[[Moments, tuple[int, ...], torch.Generator], torch.Tensor]] = {}


def scheme(function: Callable) -> Callable:
    """Register a scheme: (moments, shape, generator) -> the tensor of one parameter."""
    SCHEMES[function.__name__] = function
    return function


@scheme
def per_param_mean_sd(moments: Moments, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Every tensor from N(its mean, its sd), layer-norm scales included (Wu et al. 2022, Per Param Mean/SD)."""
    return torch.randn(shape, generator=generator).mul_(moments.sd).add_(moments.mean)


def tensor_generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator that depends on (seed, parameter name) only."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def embedding_names(model: PreTrainedModel) -> set[str]:
    """Return the names of the token embeddings and of the head that maps back to tokens, tied or not."""
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    owned = {id(p) for m in modules if m is not None for p in m.parameters(recurse=False)}
    return {name for name, p in model.named_parameters(remove_duplicate=False) if id(p) in owned}


def build(model_class: Any, config: PreTrainedConfig, tensors: dict[str, torch.Tensor], seed: int) -> PreTrainedModel:
    """Return a model of `config` with these tensors; what they leave out is the model's own random init under `seed`."""
    model_class = resolve_class(model_class, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class._from_config(config)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            if own[name].shape != tensor.shape:
                raise UsageError(f"{name} has shape {list(tensor.shape)}, the model wants {list(own[name].shape)}.")
            own[name].copy_(tensor)
    return model


def resolve_class(model_class: Any, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the model class that an Auto class stands for under `config`; a model class as it is."""
    mapping = getattr(model_class, "_model_mapping", None)
    if mapping is None:
        return model_class
    if type(config) not in mapping:
        raise UsageError(f"{model_class.__name__} has no model for {type(config).__name__}; use another Auto class.")
    found = mapping[type(config)]
    return found[0] if isinstance(found, tuple) else found


def skeleton(model_class: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """Return the model without memory for its weights."""
    with torch.device("meta"):
        return resolve_class(model_class, config)._from_config(config)


def all_parameters(model_class: Any, config: PreTrainedConfig) -> set[str]:
    """Return the names of all parameters; tied ones count once, under their first name."""
    return {name for name, _ in skeleton(model_class, config).named_parameters()}


def body_parameters(model_class: Any, config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the parameters that are neither token embeddings nor a head on them."""
    model = skeleton(model_class, config)
    fresh = embedding_names(model)
    return {name: tuple(p.shape) for name, p in model.named_parameters() if name not in fresh}


class StatisticsInit:
    """A factory with `from_pretrained` of a model class, whose models are sampled from parameter statistics.

    `model_class` is a transformers model or Auto class, `scheme` a name of SCHEMES, `seed` decides every number.
    """

    def __init__(self, model_class: Any, *, scheme: str = "per_param_mean_sd", seed: int = 0):
        self.model_class, self.seed = model_class, seed
        self.scheme = SCHEMES[choose("scheme", scheme, SCHEMES)]

    def from_pretrained(self, name_or_path: str | Path, **hub: Any) -> PreTrainedModel:
        """Return a model with the architecture of a checkpoint and weights sampled from its statistics."""
        stats = ParameterStatistics.from_pretrained(name_or_path, **hub)
        return self.from_config(AutoConfig.from_pretrained(name_or_path, **hub), stats)

    def from_config(self, config: PreTrainedConfig, statistics: ParameterStatistics) -> PreTrainedModel:
        """Return a model of `config`; raises UsageError where the statistics lack one of its parameters."""
        wanted = body_parameters(self.model_class, config)
        if missing := sorted(wanted.keys() - statistics.parameters.keys()):
            raise UsageError(
                f"The statistics of {statistics.source} lack {len(missing)} parameters of the model, {missing[0]} first; "
                "use a config of the same architecture and depth."
            )
        tensors = {
            name: self.scheme(statistics.parameters[name], shape, tensor_generator(self.seed, name))
            for name, shape in wanted.items()
        }
        return build(self.model_class, config, tensors, self.seed)


def transfer(
    model_class: Any, name_or_path: str | Path, config: PreTrainedConfig, *, embeddings: str = "fresh", seed: int = 0
) -> PreTrainedModel:
    """Return a model of `config` with a checkpoint's weights; `embeddings` is "fresh" (random init) or "kept"."""
    choose("embedding policy", embeddings, ("fresh", "kept"))
    body = body_parameters(model_class, config)
    stored = dict(stored_tensors(checkpoint_folder(name_or_path)))
    if missing := sorted(body.keys() - stored.keys()):
        raise UsageError(f"{name_or_path} lacks {len(missing)} parameters of the model, {missing[0]} first.")
    keep = body.keys() if embeddings == "fresh" else stored.keys() & all_parameters(model_class, config)
    return build(model_class, config, {name: stored[name] for name in keep}, seed)
