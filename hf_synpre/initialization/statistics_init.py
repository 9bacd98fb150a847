"""Layer 3: models whose weights are sampled from a checkpoint's parameter statistics, or copied from it, by one of SCHEMES.

Every tensor is drawn from a generator of its own, keyed by (seed, its name), on the CPU in float32: its numbers do not
depend on order, device, dtype, sharding or on what else is drawn. The name is that in the base model, so that a body has
the same numbers under any head. What a scheme leaves out is the model's own random init, keyed in the same way.
"""

import copy
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from hf_synpre.errors import UsageError, as_integer, choose
from hf_synpre.initialization.checkpoints import (
    STATISTICS_FILE,
    StoredTensors,
    find_config,
    find_weights,
    read_config,
)
from hf_synpre.initialization.matching import Matching, Twin, bare_names, check_shape
from hf_synpre.initialization.roles import (
    PARTS,
    ROLES,
    Parameter,
    read_parameters,
    require_roles,
    token_parameters,
)
from hf_synpre.initialization.schemes import SCHEMES, Scheme
from hf_synpre.initialization.statistics import Moments, ParameterStatistics, pool

RESIZE = ("fan_in", "depth", "none")
HUB = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
LOADING = (
    "dtype",
    "torch_dtype",
    "attn_implementation",
    "experts_implementation",
)  # keywords that a config has fields for


def tensor_generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator that depends on (seed, parameter name) only."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class KeyedDraws(TorchDispatchMode):
    """Inside, whatever draws into a parameter of `model` does so from the parameter's own generator.

    A draw into a temporary tensor, as trunc_normal_ makes, goes on with the parameter that was drawn into last.
    """

    def __init__(self, model: PreTrainedModel, seed: int):
        super().__init__()
        bare = bare_names(model)
        named = reversed(list(model.named_parameters()))
        self.generators = {
            p.untyped_storage().data_ptr(): tensor_generator(seed, bare(name)) for name, p in named
        }
        self.current: torch.Generator | None = None

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(
            argument.name == "generator" for argument in function._schema.arguments
        ) and torch.is_tensor(args[0]):
            self.current = self.generators.get(args[0].untyped_storage().data_ptr(), self.current)
            kwargs = kwargs | {"generator": self.current}
        return function(*args, **kwargs)


def build(
    model_class: Any, config: PreTrainedConfig, tensors: Mapping[str, torch.Tensor], seed: int
) -> PreTrainedModel:
    """Return a float32 model of `config` that owns these tensors; the rest is its own random init under `seed`."""
    with no_init_weights(), torch.random.fork_rng(devices=[]):
        model = resolve_class(model_class, config)._from_config(
            copy.deepcopy(config), dtype=torch.float32
        )
    own = dict(model.named_parameters())
    for name, tensor in tensors.items():
        check_shape(name, tuple(tensor.shape), tuple(own[name].shape))
        own[name].data = tensor
        own[name]._is_hf_initialized = True
    with torch.random.fork_rng(devices=[]), torch.no_grad(), KeyedDraws(model, seed):
        torch.manual_seed(seed)
        model.init_weights()
    for thing in (*model.modules(), *own.values()):
        thing.__dict__.pop("_is_hf_initialized", None)
    return model


def resolve_class(model_class: Any, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the model class that an Auto class stands for under `config`; a model class as it is."""
    mapping = getattr(model_class, "_model_mapping", None)
    if mapping is None:
        return model_class
    if type(config) not in mapping:
        raise UsageError(
            f"{model_class.__name__} has no model for {type(config).__name__}; use another Auto class."
        )
    found = mapping[type(config)]
    return found[0] if isinstance(found, tuple) else found


def skeleton(model_class: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """Return the model without memory for its weights."""
    with torch.device("meta"):
        return resolve_class(model_class, config)._from_config(config)


def embedding_names(model: PreTrainedModel) -> set[str]:
    """Return the names of the token embeddings and of the head that maps back to tokens, tied or not."""
    owned = token_parameters(model)
    return {name for name, p in model.named_parameters(remove_duplicate=False) if id(p) in owned}


class StatisticsInit:
    """A factory with `from_pretrained` and `from_config` of a model class, whose models start from parameter statistics.

    `model_class` is a transformers model or Auto class, `scheme` a name of SCHEMES, `seed` decides every number. `include`
    and `exclude` hold parts ("attention", "mlp", "norm", "position", "projection", "other", "embedding", "head"), ROLES or
    patterns of parameter names with *; token embeddings stay fresh unless `include` names them. `value` is the constant of
    constant_pre_attn_ln, `roles` maps parameters to ROLES where the modules do not tell them. `resize` says what happens
    where a given config has another size: "fan_in" adapts depth and scale, "depth" depth only, "none" is a UsageError.
    """

    def __init__(
        self,
        model_class: Any,
        *,
        scheme: str = "per_param_mean_sd",
        seed: int = 0,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] | None = None,
        value: float = 0.4,
        resize: str = "fan_in",
        roles: Mapping[str, str] | None = None,
    ):
        self.model_class, self.roles, self.value = model_class, roles, value
        self.scheme_name, self.scheme = scheme, SCHEMES[choose("scheme", scheme, SCHEMES)]
        self.resize = choose("resize", resize, RESIZE)
        self.seed = as_integer(seed)
        if self.seed is None or not 0 <= self.seed < 2**63:
            raise UsageError(f"seed is {seed!r}; give an integer in 0..2**63-1.")
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise UsageError(f"value is {value!r}; give a finite number.")
        self.include = None if include is None else as_words("include", include)
        self.exclude = as_words("exclude", exclude or ())

    def from_pretrained(
        self,
        pretrained_model_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | str | Path | None = None,
        **kwargs: Any,
    ) -> PreTrainedModel | tuple[PreTrainedModel, dict[str, Any]]:
        """Return a model with the architecture of a checkpoint, made from its statistics; keywords as of transformers.

        Where there is a statistics file, only it and the config are downloaded. With output_loading_info=True, missing_keys
        are the fresh parameters. Raises UsageError where the checkpoint does not fit its config.
        """
        if kwargs.pop("trust_remote_code", None):
            raise UsageError(
                "trust_remote_code=True was given; hf_synpre runs no remote code. Use a model of transformers."
            )
        hub = {key: value for key in HUB if (value := kwargs.pop(key, None)) is not None}
        name_or_path, resize = pretrained_model_name_or_path, self.resize
        if not isinstance(config, PreTrainedConfig):
            kept = {key: kwargs.pop(key) for key in LOADING if key in kwargs}
            own, given = config is None, set(kwargs)
            config, kwargs = read_config(
                find_config(name_or_path if own else config, **hub), kwargs
            )
            resize = "none" if own and given == set(kwargs) else resize
            kwargs |= kept
        model, fresh = self.make(config, self.read(name_or_path, **hub), resize)
        return load(model, config, fresh, find_config(name_or_path, **hub), kwargs)

    def from_config(
        self,
        config: PreTrainedConfig,
        statistics: ParameterStatistics | str | Path | None = None,
        **kwargs: Any,
    ) -> PreTrainedModel:
        """Return a model of `config` made from statistics, or from those of a checkpoint's folder or Hub id.

        Keywords as of transformers' from_config: dtype, attn_implementation. constant_pre_attn_ln takes no statistics;
        schemes that copy weights take a folder or Hub id. Raises UsageError where one of its parameters is missing.
        """
        source = self.read(statistics) if isinstance(statistics, str | Path) else statistics
        model, fresh = self.make(config, source, self.resize)
        if kwargs or config.dtype not in (None, torch.float32):
            model = load(model, config, fresh, None, kwargs).train()
        return model

    def read(
        self, name_or_path: str | Path, **hub: Any
    ) -> ParameterStatistics | StoredTensors | None:
        """Return what the scheme needs of a checkpoint."""
        if not self.scheme.needs_checkpoint:
            return None
        if self.scheme.fill == "weights":
            return StoredTensors(find_weights(name_or_path, **hub))
        return ParameterStatistics.from_pretrained(name_or_path, **hub)

    def make(
        self,
        config: PreTrainedConfig,
        source: ParameterStatistics | StoredTensors | None,
        resize: str,
    ) -> tuple[PreTrainedModel, set[str]]:
        """Return the float32 model on the CPU and the names of its fresh parameters."""
        self.check_source(source)
        bare_model = skeleton(self.model_class, config)
        parameters = read_parameters(bare_model, self.roles)
        chosen = self.chosen(parameters)
        if not chosen:
            raise UsageError(
                f"Scheme {self.scheme_name} under include and exclude fills no parameter of {type(bare_model).__name__}; "
                "give another scheme, or roles=."
            )
        if self.scheme.fill == "constant":
            model = build(self.model_class, config, {}, self.seed)
            return self.with_constant(model, chosen), parameters.keys() - {p.name for p in chosen}
        matching = Matching(bare_model, parameters, shapes_of(source))
        tensors = self.tensors(chosen, source, matching, resize)
        model = build(self.model_class, config, tensors, self.seed)
        if isinstance(source, StoredTensors) and not self.scheme.by_role and self.include is None:
            take_buffers(model, source, matching)
        return model, parameters.keys() - tensors.keys()

    def with_constant(self, model: PreTrainedModel, chosen: list[Parameter]) -> PreTrainedModel:
        """Return the model with `value` as the gain of the chosen norms; one that starts at 0 is added to 1 (Gemma's)."""
        own = dict(model.named_parameters())
        with torch.no_grad():
            for p in chosen:
                own[p.name].fill_(self.value if own[p.name].any() else self.value - 1)
        return model

    def check_source(self, source: Any) -> None:
        """Raise UsageError where the scheme needs something else than was given."""
        if self.scheme.needs_checkpoint and source is None:
            raise UsageError(
                f"Scheme {self.scheme_name} needs statistics; give them, or a checkpoint's folder or Hub id."
            )
        if self.scheme.fill == "weights" and isinstance(source, ParameterStatistics):
            raise UsageError(
                f"Scheme {self.scheme_name} copies values; give a checkpoint's folder or Hub id, no statistics."
            )

    def groups(self, config: PreTrainedConfig) -> dict[str, list[str]]:
        """Return group -> names of the parameters of a model of `config` that the scheme fills."""
        found: dict[str, list[str]] = defaultdict(list)
        for p in self.chosen(read_parameters(skeleton(self.model_class, config), self.roles)):
            found[self.scheme.key(p)].append(p.name)
        return dict(found)

    def chosen(self, parameters: dict[str, Parameter]) -> list[Parameter]:
        """Return the parameters that the scheme fills under include and exclude."""
        rules = [*(self.include or ()), *self.exclude]
        if self.scheme.by_role or any(rule in PARTS or rule in ROLES for rule in rules):
            require_roles(parameters, f"Scheme {self.scheme_name}")
        for rule in rules:
            if (
                rule not in PARTS
                and rule not in ROLES
                and not any(fnmatchcase(name, rule) for name in parameters)
            ):
                raise UsageError(
                    f"'{rule}' in include or exclude is no part ({', '.join(PARTS)}), no role and fits no parameter's name."
                )
        learned = [p for p in parameters.values() if not p.fixed or self.scheme.fill == "weights"]
        return [p for p in learned if self.scheme.key(p) is not None and self.takes(p)]

    def takes(self, p: Parameter) -> bool:
        """Say whether include and exclude let a parameter through."""
        if self.include is None:
            wanted = self.scheme.embeddings or p.part != "embedding"
        else:
            wanted = any(fits(p, rule) for rule in self.include)
        return wanted and not any(fits(p, rule) for rule in self.exclude)

    def tensors(
        self,
        chosen: list[Parameter],
        source: ParameterStatistics | StoredTensors,
        matching: Matching,
        resize: str,
    ) -> dict[str, torch.Tensor]:
        """Return name -> tensor of the chosen parameters that the source knows. Raises UsageError where it lacks one."""
        resize = "none" if self.scheme.fill == "weights" else resize
        twins = {p: matching.twin(p, resize) for p in chosen}
        needed = {
            p.name: twin
            for p, twin in twins.items()
            if p.part not in ("head", "projection") and not p.fixed
        }
        if missing := sorted(name for name, twin in needed.items() if twin is None):
            cause = "use a config of the same architecture" + (
                " and depth." if resize == "none" else "."
            )
            if matching.fused:
                cause = (
                    "transformers joins stored tensors on loading; put ParameterStatistics.from_model(the loaded model)"
                    f".save('{STATISTICS_FILE}') into the folder and take a scheme of statistics, or {cause}"
                )
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise UsageError(
                f"{name_of(source)} lacks {missing[0]}{more} of the model's parameters; {cause}"
            )
        pairs = [(p, twin) for p, twin in twins.items() if twin]
        if resize == "none":
            matching.check_shapes()
        for p, twin in pairs:
            if len(twin.shape) != len(p.shape):
                check_shape(p.name, twin.shape, p.shape)
        if isinstance(source, StoredTensors):
            return {p.name: source[twin.stored] for p, twin in pairs}
        moments = pooled_moments(self.scheme, matching, source.parameters)
        return {
            p.name: self.draw(p, twin, moments[self.scheme.key(twin.place)], resize, matching.bare)
            for p, twin in pairs
        }

    def draw(
        self,
        p: Parameter,
        twin: Twin,
        moments: tuple[float, float],
        resize: str,
        bare: Callable[[str], str],
    ) -> torch.Tensor:
        """Return the tensor of one parameter, (shape), float32."""
        mean, sd = moments
        if self.scheme.fill == "scale" and p.part == "norm":
            return torch.full(p.shape, mean, dtype=torch.float32, device="cpu")
        scale = p.scale(twin.shape) if resize == "fan_in" else 1.0
        mean = mean * scale if self.scheme.fill == "mean_sd" else 0.0
        tensor = torch.empty(p.shape, dtype=torch.float32, device="cpu")
        return tensor.normal_(mean, sd * scale, generator=tensor_generator(self.seed, bare(p.name)))


def take_buffers(model: PreTrainedModel, source: StoredTensors, matching: Matching) -> None:
    """Copy what a checkpoint stores beside its parameters, as the running means of BatchNorm."""
    with torch.no_grad():
        for name in model.state_dict().keys() - {
            name for name, _ in model.named_parameters(remove_duplicate=False)
        }:
            if stored := matching.found.get(matching.bare(name)):
                check_shape(name, source.shapes[stored], tuple(model.get_buffer(name).shape))
                model.get_buffer(name).copy_(source.stored(stored))


def load(
    model: PreTrainedModel,
    config: PreTrainedConfig,
    fresh: set[str],
    folder: Path | None,
    kwargs: dict[str, Any],
) -> Any:
    """Return a made model as transformers' own loader hands it over: dtype, device, attention, loading info, eval mode."""
    info_wanted = kwargs.pop("output_loading_info", False)
    loaded, info = type(model).from_pretrained(
        None, config=config, state_dict=model.state_dict(), output_loading_info=True, **kwargs
    )
    if folder and (folder / "generation_config.json").exists() and loaded.can_generate():
        loaded.generation_config = GenerationConfig.from_pretrained(folder)
    return (loaded, info | {"missing_keys": fresh}) if info_wanted else loaded


def shapes_of(source: ParameterStatistics | StoredTensors) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of what a source holds."""
    return (
        source.shapes
        if isinstance(source, StoredTensors)
        else {n: m.shape for n, m in source.parameters.items()}
    )


def name_of(source: ParameterStatistics | StoredTensors) -> str:
    """Return how an error calls a source."""
    return (
        str(source.folder)
        if isinstance(source, StoredTensors)
        else f"The statistics of {source.source}"
    )


def pooled_moments(
    scheme: Scheme, matching: Matching, measured: Mapping[str, Moments]
) -> dict[str, tuple[float, float]]:
    """Return group -> mean and sd of the checkpoint's tensors in it, taken together."""
    members: dict[str, list[Moments]] = defaultdict(list)
    for twin in matching.all():
        if (group := scheme.key(twin.place)) is not None:
            members[group].append(measured[twin.stored])
    return {group: pool(parts) for group, parts in members.items()}


def fits(p: Parameter, rule: str) -> bool:
    """Say whether a parameter is of a part or role, or its name fits a pattern."""
    return rule in (p.part, p.role) or (rule not in PARTS and fnmatchcase(p.name, rule))


def as_words(name: str, given: Iterable[str]) -> tuple[str, ...]:
    """Return include or exclude as a tuple. Raises UsageError on a bare string, which would be read letter by letter."""
    if isinstance(given, str):
        raise UsageError(f"{name} is '{given}'; give a list, as ['{given}'].")
    if wrong := [word for word in given if not isinstance(word, str)]:
        raise UsageError(f"{name} holds {wrong[0]!r}; give names of parts, roles or parameters.")
    return tuple(given)
