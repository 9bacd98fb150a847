"""A model's attention blocks, head by head: views of queries, keys, values and outputs.

A block is taken where it has one matrix of queries, one of keys, one of values and one of outputs,
or the first three in one matrix whose order is known, and where their sizes fit a number of heads
and of key-value heads. Matrices of gates and of relative positions may stand beside them. Others
(compressed keys, convolutions in the block, orders that are not in the tables below) are left out.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_synpre.initialization.parameters import PARTS, Parameter
from hf_synpre.initialization.roles import RoleReader, parent, split_words

# Classes of attention blocks with queries, keys and values in one matrix. In the first kind all
# queries come first, then all keys, then all values; so they do in every Conv1D of GPT's kind, and
# in every block of a vision model. In the second kind the three of each head follow each other. The
# third kind is of the first where all heads share a key head, else of the second.
IN_ORDER = (
    *("MptAttention", "DbrxAttention", "ModernBertAttention", "Phi3Attention"),
    *("Phi4MultimodalAttention", "MultiheadAttention", "BarkSelfAttention"),
    *("MgpstrAttention", "VitDetAttention", "SegGptAttention", "TimesformerSelfAttention"),
)
VISION = re.compile(r"Vision\w*Attention")
BY_HEAD = (
    *("BloomAttention", "GPTNeoXAttention", "GPTNeoXJapaneseAttention", "PersimmonAttention"),
    "DisentangledSelfAttention",
)
MULTI_QUERY = ("FalconAttention", "GPTBigCodeAttention")
# Classes whose matrix of queries holds the query of a head and then its gate, head by head.
GATED = ("Qwen3NextAttention", "Qwen3_5Attention", "Qwen3_5MoeAttention", "Qwen4ExpAttention")
# What the path of a matrix inside its block consists of, where it is no gate or the like.
PLAIN_WORDS = {
    *("q", "k", "v", "o", "query", "key", "value", "out", "output", "post", "self", "attention"),
    *("attn", "dense", "linear", "proj", "projection", "c", "w", "wq", "wk", "wv", "wo"),
}
FUSED = ("query", "key", "value")
# What stands in the path or a class of blocks that attend to another stack: BART's encoder_attn ...
CROSS_ATTENTION = re.compile("cross|enc_?dec|encoder_attn", re.IGNORECASE)

# What modules and configs call the number of heads, and the width of one.
NUMBERS_OF_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "heads")
WIDTHS_OF_HEAD = ("head_dim", "attention_head_size", "key_value_proj_dim", "d_head", "head_size")


@dataclass(frozen=True)
class HeadView:
    """How the tensor of a parameter is seen by head."""

    # The parameter that holds the heads.
    parameter: Parameter
    # query, key, value or output.
    role: str
    heads: int
    # The rows of a fused matrix that belong to the role; all of them otherwise.
    rows: slice | None = None
    # Where each head's rows have several parts, one after the other: their number, and the place of
    # the role among them.
    parts: int = 1
    place: int = 0

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a view of the parameter's tensor, or of another one of its shape.

        Returns:
            [heads, width of a head, inputs] for queries, keys and values, [heads, outputs, width of
            a head] for outputs, [heads, width of a head] for a bias.
        """
        if self.parameter.bias:
            matrix = tensor
        else:
            matrix = self.parameter.as_maps(tensor)[0]  # [outputs, inputs]
        if self.role == "output":
            return matrix.unflatten(1, (self.heads, -1)).transpose(0, 1)
        if self.rows is not None:
            matrix = matrix[self.rows]
        return matrix.unflatten(0, (self.heads, self.parts, -1))[:, self.place]


@dataclass(frozen=True)
class AttentionBlock:
    """The heads of one attention block.

    With grouped heads each key head, and the value head of the same number, serves as many query
    heads as there are query heads for one key head, in order.
    """

    path: str
    # Numbers of heads: of queries, and of keys and values.
    heads: int
    key_value_heads: int
    # Role -> where its weights are.
    weights: Mapping[str, HeadView]
    # Role -> where its biases are; those of outputs are not by head, and left out.
    biases: Mapping[str, HeadView]
    # Whether its keys come from another stack.
    is_cross: bool

    @property
    def group(self) -> int:
        """How many query heads share a key head."""
        return self.heads // self.key_value_heads

    @property
    def views(self) -> tuple[HeadView, ...]:
        """The views of weights and of biases."""
        return (*self.weights.values(), *self.biases.values())


def read_attention_blocks(
    model: PreTrainedModel, parameters: Mapping[str, Parameter]
) -> list[AttentionBlock]:
    """Return the attention blocks of a model whose heads can be told apart.

    Args:
        model: any model of transformers; its weights are not read, so it may be on the meta device.
        parameters: name -> role of the model's parameters, as read_parameters returns them.

    Examples:
        blocks = read_attention_blocks(model, read_parameters(model))
        queries = blocks[0].weights["query"]
        queries(model.get_parameter(queries.parameter.name))   # [heads, width of a head, inputs]
    """
    reader = RoleReader(model)

    # The parameters of each block.
    members: dict[str, list[Parameter]] = defaultdict(list)
    for parameter in parameters.values():
        path = reader.attention_around(parent(parameter.name))
        if path is not None and parameter.role in PARTS["attention"]:
            members[path].append(parameter)

    blocks = []
    for path, held in members.items():
        for heads in numbers_of_heads(reader.modules, path):
            block = read_block(reader.modules[path], path, held, heads)
            if block is not None:
                blocks.append(block)
                break
    return blocks


def heads_by_parameter(
    model: PreTrainedModel, parameters: Mapping[str, Parameter]
) -> dict[str, list[HeadView]]:
    """Return name of a parameter -> the views of the heads that it holds, none outside attention.

    Args:
        model: the model; its weights are not read.
        parameters: name -> parameter.
    """
    heads: dict[str, list[HeadView]] = defaultdict(list)
    for block in read_attention_blocks(model, parameters):
        for view in block.views:
            heads[view.parameter.name].append(view)
    return heads


def read_block(
    module: nn.Module, path: str, members: list[Parameter], heads: int
) -> AttentionBlock | None:
    """Return one block with so many heads; None where its matrices do not fit.

    Args:
        module: the block.
        path: its path in the model.
        members: its parameters with a role of attention.
        heads: the number of query heads that is tried.
    """
    # One matrix and at most one bias a role.
    weights = by_role([p for p in members if not p.bias], path)
    biases = by_role([p for p in members if p.bias], path)
    if weights is None or biases is None:
        return None
    is_fused = weights.keys() == {"qkv", "output"}
    if not is_fused and not weights.keys() >= {*FUSED, "output"}:
        return None
    biases.pop("output", None)

    # How many rows each role has, where the sizes fit heads of one width.
    classes = {type(inner).__name__ for inner in module.modules()}
    queries = 2 if not classes.isdisjoint(GATED) else 1  # parts of a head's rows
    sizes = {role: outputs_inputs(parameter) for role, parameter in weights.items()}
    width, remainder = divmod(sizes["output"][1], heads)  # of a value head
    if remainder or width == 0:
        return None
    if is_fused:
        rows = {"query": heads * width}
        rows["key"] = rows["value"] = (sizes["qkv"][0] - heads * width) // 2
    else:
        rows = {"query": sizes["query"][0] // queries}
        rows |= {role: sizes[role][0] for role in ("key", "value")}
    query_width = rows["query"] // heads
    key_value_heads = rows["value"] // width
    fits = key_value_heads > 0 and heads % key_value_heads == 0
    fits = fits and rows["query"] == heads * query_width
    fits = fits and rows["key"] == key_value_heads * query_width
    fits = fits and rows["value"] == key_value_heads * width
    fits = fits and (not is_fused or sum(rows.values()) == sizes["qkv"][0])
    if not fits or query_width not in (widths_of_head(module) or {query_width}):
        return None

    # How a fused matrix has them.
    order: str | None = "apart"
    if is_fused:
        order = fused_order(classes, weights["qkv"], heads, key_value_heads)
    if order is None:
        return None

    # Where the rows of each role are.
    counts = {"query": heads, "key": key_value_heads, "value": key_value_heads}
    views: dict[bool, dict[str, HeadView]] = {False: {}, True: {}}  # whether of a bias
    for is_bias, parameters in ((False, weights), (True, biases)):
        first_row = 0
        for place, role in enumerate(FUSED):
            last_row = first_row + rows[role]
            if order == "by head" and "qkv" in parameters:
                view = HeadView(parameters["qkv"], role, heads, parts=len(FUSED), place=place)
                views[is_bias][role] = view
            elif order == "in order" and "qkv" in parameters:
                view = HeadView(parameters["qkv"], role, counts[role], slice(first_row, last_row))
                views[is_bias][role] = view
            elif role in parameters:
                parts = queries if role == "query" else 1
                if parameters[role].shape[0] != parts * rows[role] and is_bias:
                    return None
                views[is_bias][role] = HeadView(parameters[role], role, counts[role], parts=parts)
            first_row = last_row
    views[False]["output"] = HeadView(weights["output"], "output", heads)
    is_cross = any(CROSS_ATTENTION.search(name) for name in (path, *classes))
    return AttentionBlock(path, heads, key_value_heads, views[False], views[True], is_cross)


def by_role(parameters: list[Parameter], path: str) -> dict[str, Parameter] | None:
    """Return the parameter of each role; None where several may be meant, or a layout is unknown.

    Where a role has several, it is that of the plain name: `o_proj` beside `gate_proj`.

    Args:
        parameters: the matrices or the biases of a block.
        path: the path of the block.
    """
    held: dict[str, list[Parameter]] = defaultdict(list)
    for parameter in parameters:
        # Convolutions, and vectors that take part in the product of queries and keys.
        if len(parameter.shape) > 2 or (len(parameter.shape) == 1 and not parameter.bias):
            return None
        held[str(parameter.role)].append(parameter)

    found = {}
    for role, candidates in held.items():
        if len(candidates) > 1 or (role == "qkv" and "query" in held):
            candidates = [each for each in candidates if has_plain_name(each, path)]
        if len(candidates) > 1:
            return None
        if candidates:
            found[role] = candidates[0]
    return found


def has_plain_name(parameter: Parameter, path: str) -> bool:
    """Say whether the name of a parameter in a block has words of queries, keys ... alone."""
    inner = parameter.name.removeprefix(path).removesuffix(".weight").removesuffix(".bias")
    return PLAIN_WORDS.issuperset(split_words(inner))


def fused_order(classes: set[str], matrix: Parameter, heads: int, key_heads: int) -> str | None:
    """Return how the rows of a fused matrix lie: "in order" or "by head"; None if it is not known.

    Args:
        classes: the names of the classes in the block.
        matrix: the fused matrix.
        heads: the number of query heads.
        key_heads: the number of key heads.
    """
    is_conv1d = matrix.summed_axes == (0,)
    is_vision = any(VISION.search(name) for name in classes)
    may_be_either = not classes.isdisjoint(MULTI_QUERY)
    if is_conv1d or is_vision or not classes.isdisjoint(IN_ORDER):
        return "in order"
    if may_be_either and key_heads == 1:
        return "in order"
    if (may_be_either or not classes.isdisjoint(BY_HEAD)) and key_heads == heads:
        return "by head"
    return None


def outputs_inputs(parameter: Parameter) -> tuple[int, int]:
    """Return the numbers of outputs and inputs of a linear map of two axes."""
    outputs, inputs = parameter.as_maps(torch.empty(parameter.shape, device="meta"))[0].shape
    return outputs, inputs


def numbers_of_heads(modules: Mapping[str, nn.Module], path: str) -> Iterator[int]:
    """Yield what a block, its config and the configs of the models around it call their heads."""
    holders: list[object] = list(modules[path].modules())
    holders += [module.config for module in modules[path].modules() if hasattr(module, "config")]
    outer = path
    while outer:
        outer = parent(outer)
        holders.append(getattr(modules[outer], "config", None))
    for holder in holders:
        for name in NUMBERS_OF_HEADS:
            number = own_field(holder, name)
            if number is not None and number > 0:
                yield number


def widths_of_head(module: nn.Module) -> set[int]:
    """Return what the modules of a block call the width of a head; none where they do not say."""
    widths = set()
    for inner in module.modules():
        for name in WIDTHS_OF_HEAD:
            width = own_field(inner, name)
            if width is not None:
                widths.add(width)
    return widths


def own_field(holder: object, name: str) -> int | None:
    """Return a field of a module or config, if it is an integer.

    The config of a model whose layers differ (Gemma 4) raises RuntimeError on a field that each
    layer has for itself.
    """
    try:
        value = getattr(holder, name, None)
    except RuntimeError:
        return None
    return value if isinstance(value, int) else None
