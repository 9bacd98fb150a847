"""A model -> the role of each parameter, by the classes, names, positions and shapes of modules.

Rules, in this order (`roles=` overrides all of them):
- token tables and the output layer over tokens are "embedding"; what lies outside the base model is
  "head";
- a module with "norm" in its class name and vectors only is a norm; another nn.Embedding (relative
  or absolute positions, segments) is "position";
- a layer is an element of the outermost nn.ModuleList; a module whose class name says attention is
  an attention block;
- in an attention block, matrices are query, key, value or output by the letter or word in their
  name, a fused one is "qkv" (by its name, or wider than its input); norms are "qk_norm" where the
  name has such a word, else "pre_attention_norm";
- the other matrices of a layer with attention are "mlp"; norms in a block without attention are
  "pre_mlp_norm"; norms beside the blocks belong to the blocks without a norm inside, in order of
  declaration, attention first; a single one belongs to attention;
- outside the layers: "embedding_norm" beside the token table, "final_norm" elsewhere, matrices are
  "projection"; a stack without attention counts as outside where another has some (the convolutions
  before wav2vec2's encoder);
- a parameter that is no module's weight or bias is "position" if its name says so, else "other"
  (class tokens, scales, sinks), which no scheme pools.

A bias has the role of its module and is pooled with biases only (the paper's T5 has none). The
"pre_" of a norm's role is that of T5, which normalises before a block; in a model that normalises
after the block (BERT), the role is the same.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import groupby, pairwise

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hf_synpre.errors import UsageError, choose
from hf_synpre.initialization.parameters import PARTS, ROLES, Parameter

# A word in the name of an attention block's matrix -> its role.
ATTENTION_WORDS = {
    "q": "query",
    "wq": "query",
    "query": "query",
    "k": "key",
    "wk": "key",
    "key": "key",
    "v": "value",
    "wv": "value",
    "value": "value",
    "o": "output",
    "wo": "output",
    "out": "output",
    "output": "output",
}


def read_parameters(
    model: PreTrainedModel, roles: Mapping[str, str] | None = None
) -> dict[str, Parameter]:
    """Read the role, the layer and the shape of every parameter of a model.

    Args:
        model: any model of transformers; its weights are not read, so it may be on the meta device.
        roles: parameter name, or pattern with * -> one of ROLES; it overrides the rules.

    Returns:
        Name -> parameter, in the order of named_parameters(); tied ones count once, under their
        first name. A role is None if no rule decides it.

    Raises:
        UsageError: `roles` has an unknown role, or a pattern that fits no parameter.

    Examples:
        parameters = read_parameters(skeleton(AutoModelForSeq2SeqLM, T5Config()))
        parameters["encoder.block.0.layer.0.SelfAttention.q.weight"].role   # "query"
    """
    if roles is not None and not isinstance(roles, Mapping):
        raise UsageError(
            f"roles is {roles!r}; give a mapping of parameter names, or patterns with *, to roles."
        )

    # Apply the rules.
    reader = RoleReader(model)
    parameters = {
        name: reader.read_parameter(name, tensor) for name, tensor in model.named_parameters()
    }
    settle_by_layers(parameters, reader.norms_beside)

    # Apply the caller's `roles`.
    for pattern, role in (roles or {}).items():
        choose("role", role, ROLES)
        matched = [name for name in parameters if fnmatchcase(name, pattern)]
        if not matched:
            raise UsageError(
                f"roles has '{pattern}', which fits no parameter of {type(model).__name__}; "
                "see named_parameters()."
            )
        for name in matched:
            parameters[name] = replace(parameters[name], role=role)
    return parameters


def settle_by_layers(
    parameters: dict[str, Parameter], norms_beside: Mapping[str, str | None]
) -> None:
    """Decide, in place, the roles of norms that their own layer does not decide.

    Args:
        parameters: name -> parameter.
        norms_beside: path of a norm beside the blocks of its layer -> its role, None if its layer
            does not decide it.
    """
    norms_of_module = Counter(parent(path) for path in norms_beside)
    unsettled = [
        parameter
        for parameter in parameters.values()
        if parameter.role is None and parent(parameter.name) in norms_beside
    ]
    for parameter in unsettled:
        # The same norm in other layers decides.
        votes: Counter[str] = Counter()
        for other in parameters.values():
            if other.role is not None and other.template == parameter.template:
                votes[other.role] += 1

        # A norm that is alone in its layer is that of attention.
        role = None
        if votes:
            role = votes.most_common(1)[0][0]
        elif norms_of_module[parent(parent(parameter.name))] == 1:
            role = "pre_attention_norm"
        parameters[parameter.name] = replace(parameter, role=role)


class RoleReader:
    """Applies the rules to one model.

    Args:
        model: any model of transformers.

    Attributes:
        modules: path -> module, as named_modules() gives them.
        base: path of the base model; "" where the model has no head.
        token_ids: ids of the parameters that are token embeddings or map back to tokens.
        norms_beside: path of a norm beside the blocks of its layer -> its role, None if its layer
            does not decide it.
        stacks: paths of the stacks of layers that have attention.
    """

    def __init__(self, model: PreTrainedModel):
        self.modules: dict[str, nn.Module] = dict(model.named_modules())
        self.token_ids = token_parameters(model)

        self.base = ""
        for path, module in self.modules.items():
            if module is model.base_model:
                self.base = path
                break

        self.norms_beside = dict(self.read_norms_beside_blocks())

        self.stacks: set[str] = set()
        for stack, layer in {self.layer_around(path) for path in self.modules}:
            if layer is not None and holds_attention(self.modules[f"{stack}.{layer}"]):
                self.stacks.add(stack)

    def read_parameter(self, name: str, tensor: nn.Parameter) -> Parameter:
        """Read one parameter."""
        path, _, attribute = name.rpartition(".")
        module = self.modules[path]
        stack, layer = self.layer_around(path)
        role: str | None = "embedding"
        if id(tensor) not in self.token_ids:
            role = self.parameter_role(path, attribute)
        bias = attribute == "bias" or attribute.endswith("_bias")
        is_computed = "sinusoidal" in type(module).__name__.lower()

        # The inputs of a linear map or convolution: all axes of its weight but the first; Conv1D
        # has them the other way.
        summed_axes: tuple[int, ...] = ()
        is_map = attribute == "weight" and inputs_outputs(module) is not None
        if is_map and role != "embedding":
            summed_axes = tuple(range(1, tensor.dim()))
            if isinstance(module, Conv1D):
                summed_axes = (0,)

        # A matrix that is an attribute of a block itself: the axis of its inputs is not known.
        in_block = role in (*PARTS["attention"], "mlp")
        axes_unknown = in_block and tensor.dim() > 1 and attribute != "weight" and not bias

        return Parameter(
            name=name,
            shape=tuple(tensor.shape),
            role=role,
            stack=stack,
            layer=layer,
            bias=bias,
            summed_axes=summed_axes,
            axes_unknown=axes_unknown,
            transposed=getattr(module, "is_transposed", None),
            fixed=is_computed or not tensor.requires_grad,
        )

    def parameter_role(self, path: str, attribute: str) -> str | None:
        """Return the role of a parameter that embeds no tokens, None if no rule decides it.

        Args:
            path: the module that the parameter is an attribute of.
            attribute: the name of the attribute: "weight", "bias", or another for a parameter that
                is no module's weight or bias.
        """
        module = self.modules[path]
        by_itself = attribute not in ("weight", "bias")
        sizes = inputs_outputs(module)
        block = self.attention_around(path)
        stack, layer = self.layer_around(path)
        if self.stacks and stack not in self.stacks:
            layer = None

        # Roles that the class of the module or the name of the attribute decides.
        if self.base and not f"{path}.".startswith(f"{self.base}."):
            return "head"
        if is_norm(module):
            return self.norm_role(path, layer, block)
        if isinstance(module, nn.Embedding):
            return "position"
        if by_itself and re.search("pos_emb|position", attribute):
            return "position"
        if isinstance(module, nn.MultiheadAttention) and attribute.startswith("in_proj"):
            return "qkv"

        # Other roles depend on where the module is: in an attention block, outside the layers, or
        # beside a block.
        fallback = "other" if by_itself else None
        is_map = sizes is not None and not by_itself
        if block:
            own_name = attribute if by_itself else last_part(path)
            if own_name == "linear":  # inside a module of its own, as q_proj.linear
                own_name = last_part(parent(path))
            return attention_role(own_name, sizes) or fallback
        if layer is None:
            return "projection" if is_map else fallback
        if not self.layer_has_attention(path):
            return None
        of_experts = getattr(module, attribute).dim() > 2 or attribute.endswith("_bias")
        return "mlp" if is_map or of_experts else fallback

    def norm_role(self, path: str, layer: int | None, block: str | None) -> str | None:
        """Return the role of a norm.

        Args:
            path: the norm.
            layer: the index of its layer, None outside the layers.
            block: the path of the attention block that it is in, None outside of all.
        """
        if block:
            return "qk_norm" if names_query_or_key(path) else "pre_attention_norm"

        if layer is None:
            # Beside the token table is a sibling that has it and no stack of layers.
            siblings = list(self.modules[parent(path)].children())
            direct = [p for sibling in siblings for p in sibling.parameters(recurse=False)]
            beside_tokens = any(id(p) in self.token_ids for p in direct)
            beside_layers = any(isinstance(sibling, nn.ModuleList) for sibling in siblings)
            return "embedding_norm" if beside_tokens and not beside_layers else "final_norm"

        if path in self.norms_beside:
            return self.norms_beside[path]
        return "pre_mlp_norm" if self.layer_has_attention(path) else None

    def read_norms_beside_blocks(self) -> Iterator[tuple[str, str | None]]:
        """Yield (path, role) of the norms that stand beside the blocks of a layer, not in one.

        Such norms come in the order of the blocks that have no norm of their own: first those of
        attention, then that of the MLP. The role is None where their number does not fit the
        blocks.
        """
        norms = []
        for path, module in self.modules.items():
            if is_norm(module) and self.layer_around(path)[1] is not None:
                norms.append(path)
        beside = []
        for path in norms:
            if not self.attention_around(path) and holds_attention(self.modules[parent(path)]):
                beside.append(path)

        # Module by module: those that stand beside the same blocks.
        for host, group in groupby(beside, parent):
            # In order of declaration; but GPT-2 declares the norm of its cross-attention last.
            paths = sorted(group, key=lambda path: "cross" not in last_part(path))

            # The attention blocks beside these norms, and the norms that lie deeper, in some block.
            blocks = set()
            for path in self.modules:
                if path.startswith(f"{host}."):
                    blocks.add(self.attention_around(path))
            blocks.discard(None)
            deeper = [p for p in norms if p.startswith(f"{host}.") and p not in paths]

            # How many attention blocks have no norm inside, not counting norms of queries or keys.
            attentions = 0
            for block in blocks:
                inside = [path for path in deeper if path.startswith(f"{block}.")]
                if all(names_query_or_key(path) for path in inside):
                    attentions += 1

            # The MLP has a norm inside if one lies deeper and in no attention block.
            mlps = 1
            if not all(self.attention_around(path) for path in deeper):
                mlps = 0

            # Deal the norms out evenly: one for each block, or two (before and after it).
            roles: list[str | None] = []
            norms_per_block, remainder = divmod(len(paths), max(attentions + mlps, 1))
            if remainder == 0:
                roles += ["pre_attention_norm"] * attentions * norms_per_block
                roles += ["pre_mlp_norm"] * mlps * norms_per_block
            if not roles:
                roles += [None] * len(paths)
            yield from zip(paths, roles, strict=True)

    def ancestors(self, path: str) -> list[str]:
        """Return the paths from the outermost module to `path` itself; none for the whole model."""
        if not path:
            return []
        parts = path.split(".")
        return [".".join(parts[: i + 1]) for i in range(len(parts))]

    def layer_around(self, path: str) -> tuple[str, int | None]:
        """Return the outermost module list around a path and the index; ("", None) outside."""
        for outer, inner in pairwise(self.ancestors(path)):
            if isinstance(self.modules[outer], nn.ModuleList):
                return outer, int(last_part(inner))
        return "", None

    def layer_has_attention(self, path: str) -> bool:
        """Say whether the layer around a path has an attention block."""
        stack, layer = self.layer_around(path)
        return holds_attention(self.modules[f"{stack}.{layer}"])

    def attention_around(self, path: str) -> str | None:
        """Return the outermost attention block around a path, inside its layer."""
        stack, layer = self.layer_around(path)
        for outer in self.ancestors(path):
            in_layer = layer is None or outer.startswith(f"{stack}.{layer}.")
            # A model may have attention in its own class name.
            is_model = outer == self.base or isinstance(self.modules[outer], PreTrainedModel)
            if in_layer and not is_model and is_attention(self.modules[outer]):
                return outer
        return None


def is_attention(module: nn.Module) -> bool:
    """Say whether a module's class is that of an attention block."""
    return re.search("attention|attn", type(module).__name__, re.IGNORECASE) is not None


def holds_attention(module: nn.Module) -> bool:
    """Say whether there is an attention block in a module, or it is one."""
    return any(is_attention(inner) for inner in module.modules())


def is_norm(module: nn.Module) -> bool:
    """Say whether a module is a norm: by its class, with vectors only."""
    named = "norm" in type(module).__name__.lower()
    if not named and not isinstance(module, nn.LayerNorm | nn.GroupNorm):
        return False
    has_children = any(True for _ in module.children())
    return not has_children and all(p.dim() <= 1 for p in module.parameters())


def inputs_outputs(module: nn.Module) -> tuple[int, int] | None:
    """Return the numbers of inputs and outputs of a linear map; None for another module."""
    weight = getattr(module, "weight", None)
    if weight is None or weight.dim() < 2 or isinstance(module, nn.Embedding):
        return None
    if isinstance(module, Conv1D):
        return weight.shape[0], weight.shape[1]
    return math.prod(weight.shape[1:]), weight.shape[0]


def attention_role(name: str, sizes: tuple[int, int] | None) -> str | None:
    """Return the role of a matrix of an attention block; None if nothing decides it.

    Args:
        name: its own name, as "q_proj".
        sizes: its numbers of inputs and outputs; None if it is no linear map.
    """
    roles = {ATTENTION_WORDS[word] for word in split_words(name) if word in ATTENTION_WORDS}
    is_fused = len(roles & {"query", "key", "value"}) > 1
    if is_fused or re.search("qkv|kv", name, re.IGNORECASE):
        return "qkv"
    if len(roles) == 1:
        return roles.pop()

    # The name does not decide. A fused matrix has more outputs than inputs.
    if sizes is None:
        return None
    inputs, outputs = sizes
    return "qkv" if outputs > inputs else "output"


def names_query_or_key(path: str) -> bool:
    """Say whether the last part of a path names a query, a key or a value."""
    return attention_role(last_part(path), None) in ("query", "key", "value", "qkv")


def split_words(name: str) -> list[str]:
    """Return the words of a name: "in_q_proj" -> in, q, proj; "cAttn" -> c, attn."""
    return re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())


def parent(path: str) -> str:
    """Return the path of the module around a module or parameter."""
    return path.rpartition(".")[0]


def last_part(path: str) -> str:
    """Return a module's own name, the last part of its path."""
    return path.rpartition(".")[2]


def token_parameters(model: PreTrainedModel) -> set[int]:
    """Return the ids of the parameters that embed tokens or map back to tokens, tied or not."""
    tables = []
    for module in model.modules():
        if not isinstance(module, PreTrainedModel):
            continue
        # Whisper's encoder returns a convolution as its input embeddings.
        inputs = own_table(module, "get_input_embeddings")
        if isinstance(inputs, nn.Embedding):
            tables.append(inputs)
        outputs = own_table(module, "get_output_embeddings")
        if isinstance(outputs, nn.Module):
            tables.append(outputs)
    return {id(parameter) for table in tables for parameter in table.parameters(recurse=False)}


def own_table(model: PreTrainedModel, getter: str) -> nn.Module | None:
    """Return what a getter of transformers gives, None for a model without tokens."""
    try:
        return getattr(model, getter)()
    except (NotImplementedError, AttributeError):
        return None
