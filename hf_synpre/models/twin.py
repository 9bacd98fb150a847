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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from hf_synpre.data.connection import one_line_cause
from hf_synpre.errors import UsageError, choose
from hf_synpre.initialization import PARTS, build, read_parameters, resolve_class
from hf_synpre.initialization.build import body_name
from hf_synpre.initialization.embedding_policy import POLICIES, match_rows
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
    # The name of a tensor that is given back -> that of the twin's; both have one shape.
    kept: dict[str, str]
    # The same of the token tables, of which some rows are given back: as `embeddings` says.
    tables: dict[str, str]
    embeddings: str
    # The tensors of the model's layers that the twin has not, and so are not trained.
    left: list[str]
    # Symbol -> the id of the model that it stands for, with embeddings "kept"; padding and end have
    # none.
    ids: dict[int, int]
    first_symbol: int

    def take_weights(self, names: dict[str, str]) -> None:
        """Copy tensors of the model into the twin, in place; `names` is as `kept`."""
        with torch.no_grad():
            for name, twin_name in names.items():
                target = self.network.get_parameter(twin_name)
                target.copy_(self.model.get_parameter(name))
        if self.embeddings == "kept":
            copy_tables(self.model, self.network, swapped(self.tables), "kept", self.ids)

    def give_back(self) -> None:
        """Copy the trained tensors into the model, in place, once all of them are known to be good.

        Raises:
            FloatingPointError: a tensor holds numbers that are not finite; the model is as it was.
        """
        for twin_name in (*self.kept.values(), *self.tables.values()):
            if not self.network.get_parameter(twin_name).isfinite().all():
                raise FloatingPointError(
                    f"{twin_name} holds numbers that are not finite; give a smaller learning_rate"
                )
        with torch.no_grad():
            for name, twin_name in self.kept.items():
                target = self.model.get_parameter(name)
                target.copy_(self.network.get_parameter(twin_name))
        if self.embeddings == "kept":
            copy_tables(self.network, self.model, self.tables, "kept", swapped(self.ids))
        elif self.embeddings == "mean":
            first = self.first_symbol
            copy_tables(self.network, self.model, self.tables, "mean", {}, first)


def copy_tables(
    source: PreTrainedModel,
    target: PreTrainedModel,
    names: Mapping[str, str],
    policy: str,
    same_rows: Mapping[int, int],
    first_row: int = 0,
) -> None:
    """Copy rows of token tables of a model into those of another one, in place.

    Args:
        source: the model whose rows are copied.
        target: the model that gets them.
        names: name of a table in the target -> its name in the source.
        policy: "kept" or "mean" (`match_rows`).
        same_rows: row of the target -> row of the source.
        first_row: the rows of the source before this one count for nothing.
    """
    stored = {}
    for name, other in names.items():
        stored[name] = source.get_parameter(other).detach()[first_row:]
    current = {name: target.get_parameter(name) for name in names}
    with torch.no_grad():
        for name, table in match_rows(stored, current, policy, same_rows).items():
            current[name].copy_(table)


def swapped(pairs: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return value -> key."""
    return {value: key for key, value in pairs.items()}


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
    # PyTorch's own quantised layers hold their weights outside of the parameters.
    is_quantised |= any(".quantized" in type(module).__module__ for module in model.modules())
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
    embeddings: str | None = None,
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
        embeddings: what becomes of the model's token tables, one of POLICIES of
            initialization/embedding_policy.py but "by_token": "fresh" leaves them, "kept" gives the
            rows of the symbols to the ids that the seed draws for them, "mean" gives every row the
            mean of the symbols' rows. None is "kept" with keep "all", else "fresh".
        special_ids: ids of the model's vocabulary that stand for no symbol.
        force: take a model whose weights are not those of its initialiser.

    Raises:
        UsageError: there is no language model of the architecture, it has frozen parameters or
            natural weights, or too few ids for the symbols.
    """
    choose("keep", keep, KEPT_PARTS)
    embeddings = embeddings or ("kept" if keep == "all" else "fresh")
    choose("embedding policy", embeddings, POLICIES)
    if embeddings == "by_token":
        raise UsageError(
            "Embeddings by_token match the tokens of two tokenizers, and the symbols of a warm-up "
            "are of none; give fresh, kept or mean."
        )
    network = build_twin(model, vocabulary, seed)

    # The tensors that both have, by their names without the body's prefix; of the twin's those that
    # are learned.
    twin_names = {
        body_name(network, name): name
        for name, parameter in read_parameters(network).items()
        if not parameter.fixed
    }
    parameters = read_parameters(model)
    shared, tables, left = {}, {}, []
    for name, parameter in parameters.items():
        twin_name = twin_names.get(body_name(model, name), "")
        shape = tuple(network.get_parameter(twin_name).shape) if twin_name else ()
        is_of_body = parameter.part in KEPT_PARTS["body"]
        # Token tables, and what else of a head has a number for each token.
        is_table = parameter.part == "embedding" or shape[:1] != parameter.shape[:1]
        if twin_name and is_table and not is_of_body and shape[1:] == parameter.shape[1:]:
            tables[name] = twin_name
        elif twin_name and shape == parameter.shape:
            shared[name] = twin_name
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
    ids = {}
    if embeddings == "kept":
        ids = symbol_ids(model, vocabulary, special_ids or set(), seed)
    if keep == "all" and first_position(model) != first_position(network):
        for name in [name for name in kept if parameters[name].part == "position"]:
            del kept[name]
    if not kept:
        raise UsageError(
            f"{type(model).__name__} has no parameters whose role is {keep}; give keep 'body'."
        )

    if embeddings == "fresh":
        tables = {}
    twin = Twin(model, network, kept, tables, embeddings, left, ids, vocabulary.first_regular)
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


def symbol_ids(
    model: PreTrainedModel, vocabulary: Vocabulary, special_ids: set[int], seed: int
) -> dict[int, int]:
    """Return symbol -> the model's id for it, drawn by the seed; padding and end have none.

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
            f"{symbols} symbols; give fewer symbols, or embeddings fresh."
        )
    drawn = np.random.default_rng(seed).choice(ordinary, symbols, replace=False)
    return dict(zip(range(vocabulary.first_regular, vocabulary.size), drawn.tolist(), strict=True))


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
        tensor = model.get_parameter(name).detach()
        drawn = fresh.get_parameter(fresh_name).detach()

        # Gains and biases are constant in a fresh model, matrices have a deviation.
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
