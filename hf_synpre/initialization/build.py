"""A config, tensors by name and a seed -> a model; the other parameters get its random init.

Every parameter is drawn from its own generator, keyed by (seed, its name), on the CPU in float32:
its numbers do not depend on order, device, dtype, sharding or on what else is drawn. The name is
that in the base model, so that a body has the same numbers under any head.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from hf_synpre.errors import UsageError
from hf_synpre.initialization.roles import read_parameters, token_parameters

# With this attribute transformers marks the parameters that its random init must not touch.
INITIALIZED_MARK = "_is_hf_initialized"

# torch's operations that make a tensor without numbers.
EMPTY_TENSORS = (
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.new_empty.default,
    torch.ops.aten.new_empty_strided.default,
)

# The deviation of most models' random init.
USUAL_DEVIATION = 0.02

# Bytes of a weight in float32.
BYTES_OF_A_WEIGHT = 4

# The parts of a model whose matrices `scale_layers` multiplies.
SCALED_PARTS = ("attention", "mlp", "projection")


def resolve_class(model_class: type, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the model class that an Auto class stands for under a config.

    Args:
        model_class: an Auto class of transformers, or a model class, which is returned as it is.
        config: the config of the model.

    Raises:
        UsageError: the Auto class has no model for this kind of config.
    """
    mapping = getattr(model_class, "_model_mapping", None)
    if mapping is None:
        return model_class
    if type(config) not in mapping:
        raise UsageError(
            f"{model_class.__name__} has no model for {type(config).__name__}; "
            "use another Auto class."
        )

    # An Auto class may know several models for a config; the first is the usual one.
    resolved = mapping[type(config)]
    if isinstance(resolved, tuple):
        resolved = resolved[0]
    return resolved


def skeleton(model_class: type, config: PreTrainedConfig) -> PreTrainedModel:
    """Return the model of a config without memory for its weights (on the device "meta").

    Args:
        model_class: an Auto class or model class of transformers.
        config: the config of the model.
    """
    with torch.device("meta"):
        return from_config(model_class, config)


def check_memory(
    model_class: type,
    config: PreTrainedConfig,
    remedy: str = "give a smaller config, or smaller sizes with overrides (--config_overrides)",
) -> None:
    """Refuse a model whose weights have no room in memory; its parameters are counted without any.

    Linux gives out more memory than there is, and kills a process that fills it, without a word.
    A bare model_type is one way there: it has the sizes of a published model.

    Args:
        model_class: an Auto class or model class of transformers.
        config: the config of the model.
        remedy: what to do, for the error.

    Raises:
        UsageError: the weights alone, in float32, take more bytes than are free.
    """
    with no_init_weights():
        parameters = skeleton(model_class, config).num_parameters()
    needed = parameters * BYTES_OF_A_WEIGHT
    free = psutil.virtual_memory().available
    if needed > free:
        raise UsageError(
            f"A {config.model_type} of these sizes has {parameters:,} parameters, which take "
            f"{needed / 1e9:.1f} GB in float32, and {free / 1e9:.1f} GB of memory are free; "
            f"{remedy}."
        )


def from_config(
    model_class: type, config: PreTrainedConfig, dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """Return the model of a config as transformers makes it.

    Raises:
        UsageError: the class cannot be built of the config, such as RoBERTa, which counts positions
            from its padding id, with a large one.
    """
    actual_class = resolve_class(model_class, config)
    options = {} if dtype is None else {"dtype": dtype}
    try:
        return actual_class._from_config(config, **options)
    except (AssertionError, ValueError, IndexError, TypeError, AttributeError) as error:
        cause = " ".join(str(error).split())
        ids, pad = (getattr(config, name, None) for name in ("vocab_size", "pad_token_id"))
        padding = "" if pad is None else f", of which {pad} is padding"
        raise UsageError(
            f"The architecture {config.model_type} cannot be built as {actual_class.__name__} with "
            f"{ids} ids{padding} ({cause}); give other fields, or another "
            "tokenizer or architecture."
        ) from error


class TensorsOnDemand(Mapping[str, torch.Tensor]):
    """Name -> tensor, made anew each time that it is asked for.

    So a model can be built whose tensors are not all in memory beside it.

    Args:
        names: the names, in their order.
        make: name -> tensor.
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], torch.Tensor]):
        self.names = dict.fromkeys(names)
        self.make = make

    def __contains__(self, name: object) -> bool:
        """Say whether there is a tensor of this name, without making it."""
        return name in self.names

    def __getitem__(self, name: str) -> torch.Tensor:
        """Make one tensor."""
        if name not in self.names:
            raise KeyError(name)
        return self.make(name)

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self.names)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.names)


def build(
    model_class: type,
    config: PreTrainedConfig,
    tensors: Mapping[str, torch.Tensor],
    seed: int,
) -> PreTrainedModel:
    """Return a float32 model on the CPU with some tensors given and the others at random.

    Args:
        model_class: an Auto class or model class of transformers.
        config: the config of the model; it is copied.
        tensors: parameter name -> its tensor, of the parameter's shape, float32. They are not
            copied, and asked for one after the other (TensorsOnDemand).
        seed: decides every number of the other parameters, which get the random init of their
            model, each by (seed, its name).

    Raises:
        UsageError: the class cannot be built of the config, its weights have no room in memory, or
            a tensor has another shape than its parameter.

    Examples:
        model = build(AutoModelForCausalLM, config, {}, seed=0)   # a random init
    """
    # Allocate the model; its parameters hold no numbers yet. Its weights are those of no folder,
    # whatever folder the config was read from.
    config = copy.deepcopy(config)
    config._name_or_path = ""
    with torch.random.fork_rng(devices=[]):
        check_memory(model_class, config)
    with no_init_weights(), torch.random.fork_rng(devices=[]), NotANumberInEmptyTensors():
        model = from_config(model_class, config, dtype=torch.float32)

    # Put the tensors in, and mark them so that the random init leaves them alone.
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        parameter = parameters[name]
        check_shape(name, tuple(tensor.shape), tuple(parameter.shape))
        parameter.data = tensor
        setattr(parameter, INITIALIZED_MARK, True)

    # Draw the others. Draws before that of the first parameter use torch's global generator, which
    # is seeded here and restored after.
    with torch.random.fork_rng(devices=[]), torch.no_grad(), KeyedDraws(model, seed):
        torch.manual_seed(seed)
        model.init_weights()
    fill_forgotten(model, seed)

    # Take the marks off: a later init_weights of transformers may touch everything again.
    for marked in (*model.modules(), *parameters.values()):
        marked.__dict__.pop(INITIALIZED_MARK, None)
    return model


def scale_layers(model: PreTrainedModel, factor: float) -> None:
    """Multiply the matrices of a model's layers by a factor, in place.

    Those are the matrices of attention, of MLPs and of projections, and matrices whose role is not
    known. Embeddings, tables of positions, heads, norms and biases stay as they are.

    Args:
        model: any model of transformers.
        factor: above 0.

    Examples:
        model = build(AutoModelForCausalLM, config, {}, seed=0)
        scale_layers(model, 0.5)   # half the deviation of the model's random init
    """
    with torch.no_grad():
        for name, parameter in read_parameters(model).items():
            tensor = model.get_parameter(name)
            if tensor.dim() > 1 and parameter.part in (*SCALED_PARTS, None):
                tensor.mul_(factor)


class NotANumberInEmptyTensors(TorchDispatchMode):
    """While active, new tensors of floats without numbers hold NaN, and not what lay in memory."""

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation of torch."""
        result = function(*args, **(kwargs or {}))
        if function in EMPTY_TENSORS and result.is_floating_point():
            result.fill_(math.nan)
        return result


def fill_forgotten(model: PreTrainedModel, seed: int) -> None:
    """Draw the parameters that the random init of a model's class has not touched, in place.

    Some classes forget a kind of module, such as the Conv1D of openai-gpt. Biases and buffers
    become 0, the gains of norms 1, all others normal with the deviation that the config has.

    Args:
        model: the model after its init_weights; a parameter that was not touched holds NaN.
        seed: decides the numbers, with the parameter's name.
    """
    deviation = getattr(model.config, "initializer_range", None)
    if not isinstance(deviation, int | float):
        deviation = USUAL_DEVIATION
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.isnan().any():
                continue
            module = model.get_submodule(name.rpartition(".")[0])
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1 and "norm" in type(module).__name__.lower():
                parameter.fill_(1)
            else:
                generator = tensor_generator(seed, body_name(model, name))
                parameter.normal_(0, deviation, generator=generator)
        for buffer in model.buffers():
            if buffer.is_floating_point() and buffer.isnan().any():
                buffer.zero_()


class KeyedDraws(TorchDispatchMode):
    """While active, a random draw into a parameter of a model uses the parameter's own generator.

    A draw into a temporary tensor, as trunc_normal_ makes, uses the generator of the parameter that
    was drawn into last.
    """

    def __init__(self, model: PreTrainedModel, seed: int):
        super().__init__()
        self.current: torch.Generator | None = None

        # By address, because draws see tensors and not names. In reverse order, so that of
        # parameters that share their memory the first name decides.
        self.generators: dict[int, torch.Generator] = {}
        for name, parameter in reversed(list(model.named_parameters())):
            address = parameter.untyped_storage().data_ptr()
            self.generators[address] = tensor_generator(seed, body_name(model, name))

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation of torch, with the parameter's generator where it takes one."""
        kwargs = dict(kwargs or {})
        takes_generator = any(
            argument.name == "generator" for argument in function._schema.arguments
        )
        if takes_generator and torch.is_tensor(args[0]):
            address = args[0].untyped_storage().data_ptr()
            self.current = self.generators.get(address, self.current)
            kwargs["generator"] = self.current
        return function(*args, **kwargs)


def tensor_generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator that depends on nothing but (seed, parameter name)."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    # One bit less: manual_seed takes a signed number of 64 bits.
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def body_name(model: PreTrainedModel, name: str) -> str:
    """Return a parameter's name in the base model, without the base model's prefix."""
    if not model.base_model_prefix:
        return name
    return name.removeprefix(f"{model.base_model_prefix}.")


def check_shape(
    name: str,
    stored_shape: tuple[int, ...],
    parameter_shape: tuple[int, ...],
    remedy: str = "give a config with the checkpoint's sizes.",
) -> None:
    """Raise UsageError where a tensor does not fit its parameter.

    Args:
        name: the parameter.
        stored_shape: its shape in the checkpoint.
        parameter_shape: its shape in the model.
        remedy: what to do, the end of the error.
    """
    if stored_shape != parameter_shape:
        raise UsageError(
            f"{name} has shape {list(stored_shape)} in the checkpoint and {list(parameter_shape)} "
            f"in the model; {remedy}"
        )


def embedding_names(model: PreTrainedModel) -> set[str]:
    """Return the names of the parameters that embed tokens or map back to them, tied or not."""
    token_ids = token_parameters(model)
    named = model.named_parameters(remove_duplicate=False)
    return {name for name, parameter in named if id(parameter) in token_ids}
