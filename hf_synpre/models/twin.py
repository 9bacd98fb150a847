"""A model -> its twin, a language model of few symbols with the same body; and the body back.

What a task of 128 symbols teaches a model's layers needs no embeddings of 50,000 tokens. The twin
is built of the model's config with another vocabulary. Its layers begin with the model's weights,
its embeddings, head and tables of positions with draws of their own initialiser. It is trained in
the model's place, which is not touched before `Twin.give_back`.

1. `check_trainable(model)`: the errors of models that cannot be trained at all.
2. `twin_of(model, vocabulary, ...)`: the twin, or the error where there is none.
3. `Twin.give_back()`: the trained tensors of the chosen parts, copied into the model.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from hf_synpre.data.connection import one_line_cause
from hf_synpre.errors import UsageError, choose
from hf_synpre.initialization import PARTS, build, read_parameters, resolve_class
from hf_synpre.initialization.build import body_name
from hf_synpre.models.families import AUTO_CLASSES, first_position, model_family
from hf_synpre.models.spec import DROPOUTS, check_config, config_parts, fit_vocabulary
from hf_synpre.vocabulary import Vocabulary

# What a model keeps of its twin -> the parts of the model (`PARTS`; None: of no known role).
KEPT_PARTS: dict[str, set[str | None]] = {
    "body": {*PARTS, None} - {"embedding", "head", "position"},
    "attention": {"attention"},
    "mlp": {"mlp"},
    "all": {*PARTS, None},
}
# A matrix whose deviation differs by this factor from that of the initialiser was not drawn by it,
# and so many numbers tell a deviation.
OTHER_DEVIATION = 1.25
FEWEST_NUMBERS = 256
# The share of such matrices from which on a model counts as trained.
MOST_OTHERS = 0.5


@dataclass
class Twin:
    """A model and its twin, whose tensors are known by the model's names."""

    model: PreTrainedModel
    network: PreTrainedModel  # the twin
    # The name of a tensor that is given back -> that of the twin's; both have one shape, but for
    # embeddings and heads of "all", of which some rows are given back.
    kept: dict[str, str]
    # The tensors of the model's layers that the twin has not, and so are not trained.
    left: list[str]
    # The id of the model that each symbol of the twin has, -1 for none, int64 [symbols].
    ids: torch.Tensor

    def take_weights(self, names: dict[str, str]) -> None:
        """Copy tensors of the model into the twin, in place; `names` is as `kept`."""
        symbols, ids = self.rows()
        with torch.no_grad():
            for name, twin_name in names.items():
                source, target = (
                    self.model.get_parameter(name),
                    self.network.get_parameter(twin_name),
                )
                copy_rows(source, target, ids, symbols)

    def give_back(self) -> None:
        """Copy the trained tensors into the model, in place, once all of them are known to be good.

        Raises:
            FloatingPointError: a tensor holds numbers that are not finite; the model is as it was.
        """
        for twin_name in self.kept.values():
            if not self.network.get_parameter(twin_name).isfinite().all():
                raise FloatingPointError(
                    f"{twin_name} holds numbers that are not finite; give a smaller learning_rate"
                )
        symbols, ids = self.rows()
        with torch.no_grad():
            for name, twin_name in self.kept.items():
                source, target = (
                    self.network.get_parameter(twin_name),
                    self.model.get_parameter(name),
                )
                copy_rows(source, target, symbols, ids)

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the symbols that have an id of the model, and these ids."""
        symbols = (self.ids >= 0).nonzero()[:, 0]
        return symbols, self.ids[symbols]


def copy_rows(
    source: torch.Tensor, target: torch.Tensor, from_rows: torch.Tensor, to_rows: torch.Tensor
) -> None:
    """Copy a tensor into another in place; where the number of rows differs, some rows alone.

    Args:
        source: the tensor that is copied.
        target: of the same shape, or of another number of rows along one axis.
        from_rows: which rows of the source are copied then.
        to_rows: where they go.
    """
    source = source.detach().to(target)
    if source.shape == target.shape:
        target.copy_(source)
        return
    axis = differing_axis(source.shape, target.shape)
    rows = source.index_select(axis, from_rows.to(target.device))
    target.index_copy_(axis, to_rows.to(target.device), rows)


def check_trainable(model: object) -> PreTrainedModel:
    """Return a model that can be warmed up.

    Raises:
        UsageError: it is no model of transformers, quantised, on the meta device, or in shards.
    """
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel):
        raise UsageError(
            f"The model is a {name}; give a PreTrainedModel of transformers, without wrappers of "
            "peft, DDP or torch.compile around it."
        )
    is_quantised = getattr(model, "is_quantized", False) or any(
        not tensor.is_floating_point() for tensor in model.parameters()
    )
    if is_quantised:
        raise UsageError(
            f"{name} is quantised, so its weights cannot be trained; warm up the model that is not "
            "quantised."
        )
    for tensor_name, tensor in model.named_parameters():
        if tensor.device.type == "meta":
            raise UsageError(
                f"{name} is on the meta device: {tensor_name} has no numbers yet; build the model "
                "on a CPU or GPU."
            )
        if hasattr(tensor, "ds_id") or hasattr(tensor, "full_tensor"):
            raise UsageError(
                f"{name} is in shards (FSDP or DeepSpeed); warm it up before it is sharded, with "
                "hf_synpre.warm_up or `synpre warmup`."
            )
    return model


def twin_of(
    model: PreTrainedModel,
    vocabulary: Vocabulary,
    *,
    seed: int = 0,
    keep: str = "body",
    special_ids: set[int] | None = None,
    force: bool = False,
) -> Twin:
    """Return a model's twin, with the weights of the model's body.

    Args:
        model: any model of transformers whose architecture has a language model; it may have
            another head, or none.
        vocabulary: a plain one; its ids are the twin's symbols.
        seed: of the draws of the twin's embeddings, head and positions, and of `ids`.
        keep: a key of KEPT_PARTS: which tensors are given back.
        special_ids: ids of the model's vocabulary that stand for no symbol.
        force: take a model whose weights are not those of its initialiser.

    Raises:
        UsageError: there is no language model of the architecture, it has frozen parameters or
            natural weights, or too few ids for the symbols.
    """
    choose("keep", keep, KEPT_PARTS)
    network = build_twin(model, vocabulary, seed)

    # The tensors that both have, by their names without the body's prefix; of the twin's those that
    # are learned.
    twin_names = {
        body_name(network, name): name
        for name, parameter in read_parameters(network).items()
        if not parameter.fixed
    }
    parameters = read_parameters(model)
    shared, resized, left = {}, {}, []
    for name, parameter in parameters.items():
        twin_name = twin_names.get(body_name(model, name), "")
        shape = tuple(network.get_parameter(twin_name).shape) if twin_name else ()
        is_of_body = parameter.part in KEPT_PARTS["body"]
        if twin_name and shape == parameter.shape:
            shared[name] = twin_name
        elif not is_of_body and differing_axis(shape, parameter.shape) is not None:
            resized[name] = twin_name
        elif is_of_body and not parameter.fixed:
            left.append(name)
    body = {name: shared[name] for name in shared if parameters[name].part in KEPT_PARTS["body"]}
    if not any(parameters[name].layer is not None for name in body):
        raise UsageError(
            f"The head of {type(model).__name__} cannot be found: the layers of "
            f"{type(network).__name__}, the language model of its config, have other names."
        )
    check_frozen(model, body)
    if not force:
        check_fresh(model, network, body)

    # What is given back. Tables of positions that begin at another row are not.
    kept = {name: shared[name] for name in shared if parameters[name].part in KEPT_PARTS[keep]}
    ids = torch.full((vocabulary.size,), -1)
    if keep == "all":
        kept |= resized
        ids = symbol_ids(model, vocabulary, special_ids or set(), seed)
        if first_position(model) != first_position(network):
            for name in [name for name in kept if parameters[name].part == "position"]:
                del kept[name]
    if not kept:
        raise UsageError(
            f"{type(model).__name__} has no parameters whose role is {keep}; give keep 'body'."
        )

    twin = Twin(model, network, kept, left, ids)
    twin.take_weights(body | kept)
    return twin


def build_twin(model: PreTrainedModel, vocabulary: Vocabulary, seed: int) -> PreTrainedModel:
    """Return a language model of a model's config, but for its vocabulary, with random weights.

    It has no dropout, because the rows of a task have no end.

    Raises:
        UsageError: transformers has no language model of this architecture, or it cannot be built.
    """
    config: PreTrainedConfig = copy.deepcopy(model.config)
    name = type(model).__name__
    try:
        auto_class = AUTO_CLASSES[model_family(config)]
    except UsageError as error:
        raise UsageError(
            f"{name} has no head over tokens that a warm-up could train: {error}"
        ) from error
    fit_vocabulary(config, vocabulary)
    for part in config_parts(config):
        for dropout in DROPOUTS:
            if isinstance(getattr(part, dropout, None), int | float):
                setattr(part, dropout, 0.0)
    if not torch.cuda.is_available():
        config._attn_implementation = "eager"  # benchmarks/pretraining.py
    check_config(config)

    # The model's own class, where it is one of language models, or derived from one.
    twin_class = resolve_class(auto_class, config)
    if isinstance(model, twin_class):
        twin_class = type(model)
    try:
        return build(twin_class, config, {}, seed)
    except UsageError:
        raise
    except Exception as error:  # whatever the architecture raises on its own fields
        raise UsageError(
            f"{name} cannot be built with {vocabulary.size} ids ({one_line_cause(error)}); give "
            "another number of symbols."
        ) from error


def differing_axis(shape: Sequence[int], other: Sequence[int]) -> int | None:
    """Return the one axis in which two shapes differ, None where they differ in others too."""
    if len(shape) != len(other):
        return None
    axes = [axis for axis in range(len(shape)) if shape[axis] != other[axis]]
    return axes[0] if len(axes) == 1 else None


def symbol_ids(
    model: PreTrainedModel, vocabulary: Vocabulary, special_ids: set[int], seed: int
) -> torch.Tensor:
    """Return the model's id of each symbol, drawn by the seed; padding and end have none.

    Args:
        model: its config names further special ids.
        vocabulary: of the symbols.
        special_ids: ids that stand for no symbol.
        seed: of the draw.

    Raises:
        UsageError: there are fewer ordinary ids than symbols.
    """
    excluded = set(special_ids)
    for part in config_parts(model.config):
        for name, value in vars(part).items():
            if name.endswith("_token_id"):
                excluded |= {value} if isinstance(value, int) else set(value or ())
    ordinary = np.setdiff1d(np.arange(model.config.vocab_size), sorted(excluded))
    symbols = vocabulary.size - vocabulary.first_regular
    if len(ordinary) < symbols:
        raise UsageError(
            f"The vocabulary has {len(ordinary)} ids that are not special, and the task "
            f"{symbols} symbols; give fewer symbols, or keep 'body'."
        )
    drawn = np.random.default_rng(seed).choice(ordinary, symbols, replace=False)
    ids = torch.full((vocabulary.size,), -1)
    ids[vocabulary.first_regular :] = torch.from_numpy(drawn)
    return ids


def check_frozen(model: PreTrainedModel, names: dict[str, str]) -> None:
    """Raise UsageError where a named parameter, which the architecture learns, is frozen."""
    frozen = [name for name in names if not model.get_parameter(name).requires_grad]
    if frozen:
        raise UsageError(
            f"{type(model).__name__} has frozen parameters ({len(frozen)}, the first is "
            f"{frozen[0]}), which a warm-up would change; give requires_grad=True to them, and "
            "freeze them after it."
        )


def check_fresh(model: PreTrainedModel, fresh: PreTrainedModel, names: dict[str, str]) -> None:
    """Raise UsageError where weights are not those of the model's initialiser.

    They are where gains and biases that begin as a constant have it, and where at least half of the
    matrices have the deviation of a fresh draw.

    Args:
        model: the model.
        fresh: a model of the same architecture with random weights.
        names: name of a tensor -> its name in `fresh`.
    """
    matrices, others = 0, []
    trained = None
    for name, fresh_name in names.items():
        tensor, drawn = model.get_parameter(name).detach(), fresh.get_parameter(fresh_name).detach()
        if drawn.min() == drawn.max():
            constant = drawn.flatten()[0].to(tensor)
            if not (tensor == constant).all():
                trained = trained or name
        elif drawn.numel() >= FEWEST_NUMBERS:
            matrices += 1
            ratio = float(tensor.float().std() / drawn.std())
            if not 1 / OTHER_DEVIATION < ratio < OTHER_DEVIATION:
                others.append(name)
    if trained is None and len(others) > MOST_OTHERS * matrices:
        trained = others[0]
    if trained is not None:
        raise UsageError(
            f"{type(model).__name__} has weights that its initialiser does not draw (the first is "
            f"{trained}), so it was trained before, and symbols would spoil what it knows; give a "
            "fresh model (AutoModel... .from_config), or force=True where that is meant."
        )
