"""Layer 3: what each parameter of a transformer is for, told from its modules: their classes, their place, their shapes.

Rules, in this order (`roles=` overrides all of them):
- token tables and the output layer over tokens are "embedding"; what lies outside the base model is "head";
- a module with "norm" in its class name and vectors only is a norm; another nn.Embedding (relative or absolute positions,
  segments) is "position";
- a layer is an element of the outermost nn.ModuleList; a module whose class name says attention is an attention block;
- in an attention block, matrices are query, key, value or output by the letter or word in their name, a fused one is "qkv"
  (by its name, or wider than its input); norms are "qk_norm" where the name has such a word, else "pre_attention_norm";
- the other matrices of a layer with attention are "mlp"; norms in a block without attention are "pre_mlp_norm"; norms beside
  the blocks go to the blocks that have none inside, in order of declaration, attention first; a single one to attention;
- outside the layers: "embedding_norm" beside the token table, "final_norm" elsewhere, matrices are "projection"; a stack
  without attention counts as outside where another has some (the convolutions before wav2vec2's encoder);
- what is no module's weight or bias is "position" if its name says so, else "other" (class tokens, scales, sinks): no
  scheme pools it.
A bias has the role of its module and is pooled with biases only (the paper's T5 has none). "pre_" is the word for T5: in a
model that normalises after the block (BERT), it is the norm of that block all the same.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hf_synpre.errors import UsageError, choose

PARTS = {
    "attention": ("query", "key", "value", "output", "qkv"),
    "mlp": ("mlp",),
    "norm": ("pre_attention_norm", "pre_mlp_norm", "qk_norm", "final_norm", "embedding_norm"),
    "position": ("position",),
    "projection": ("projection",),
    "other": ("other",),
    "embedding": ("embedding",),
    "head": ("head",),
}
ROLES = tuple(role for roles in PARTS.values() for role in roles)
LETTERS = {"q": "query", "query": "query", "k": "key", "key": "key", "v": "value", "value": "value"}
LETTERS |= {
    "o": "output",
    "out": "output",
    "output": "output",
    "wq": "query",
    "wk": "key",
    "wv": "value",
    "wo": "output",
}


@dataclass(frozen=True)
class Parameter:
    """One parameter's place in a model.

    `layer` is None outside the layers; `summed` are the axes that a linear map sums over, `raw` says that it has some and no
    module to tell which; `fixed` tables are computed, not learned.
    """

    name: str
    shape: tuple[int, ...]
    role: str | None
    stack: str
    layer: int | None
    bias: bool
    summed: tuple[int, ...]
    raw: bool = False
    fixed: bool = False

    @property
    def part(self) -> str | None:
        """The part of the model that the role belongs to, a key of PARTS."""
        return next((part for part, roles in PARTS.items() if self.role in roles), None)

    def scale(self, there: tuple[int, ...]) -> float:
        """Return the root of (inputs that an output sums in the shape `there` / here); 1 for what is no linear map.

        Raises UsageError on a raw parameter of which the sides change differently.
        """
        sides = [(-2,), (-1,)] if self.raw else [self.summed]
        ratios = {
            math.prod(there[i] for i in axes) / math.prod(self.shape[i] for i in axes)
            for axes in sides
        }
        if len(ratios) > 1:
            raise UsageError(
                f"{self.name} goes from {list(there)} to {list(self.shape)}, and nothing tells which side it sums over; "
                "give resize='depth' or sizes that change alike."
            )
        return math.sqrt(ratios.pop())

    @property
    def template(self) -> str:
        """Its name with * for the number of its layer: the same in every layer."""
        return (
            self.name
            if self.layer is None
            else self.name.replace(f"{self.stack}.{self.layer}.", f"{self.stack}.*.", 1)
        )


def says_attention(module: nn.Module) -> bool:
    """Say whether a module's class is an attention block's."""
    return re.search("attention|attn", type(module).__name__, re.IGNORECASE) is not None


def holds_attention(module: nn.Module) -> bool:
    """Say whether there is an attention block in a module."""
    return any(map(says_attention, module.modules()))


def is_norm(module: nn.Module) -> bool:
    """Say whether a module is a norm: by its class, with vectors only."""
    named = (
        isinstance(module, nn.LayerNorm | nn.GroupNorm) or "norm" in type(module).__name__.lower()
    )
    return (
        named
        and not any(True for _ in module.children())
        and all(p.dim() <= 1 for p in module.parameters())
    )


def words(name: str) -> list[str]:
    """Return the words of a name: "in_q_proj" -> in, q, proj; "c_attn" -> c, attn."""
    return re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())


def attention_role(name: str, shape: tuple[int, int] | None) -> str | None:
    """Return the role of a matrix of an attention block from its name and (inputs, outputs); None where neither tells."""
    found = {LETTERS[word] for word in words(name) if word in LETTERS}
    if len(found & {"query", "key", "value"}) > 1 or re.search("qkv|kv", name, re.IGNORECASE):
        return "qkv"
    if len(found) == 1:
        return found.pop()
    return shape and ("qkv" if shape[1] > shape[0] else "output")


def inputs_outputs(module: nn.Module) -> tuple[int, int] | None:
    """Return how many inputs and outputs a linear map has; None for another module."""
    weight = getattr(module, "weight", None)
    if weight is None or weight.dim() < 2 or isinstance(module, nn.Embedding):
        return None
    if isinstance(module, Conv1D):
        return weight.shape[0], weight.shape[1]
    return math.prod(weight.shape[1:]), weight.shape[0]


class Reader:
    """Reads the roles of one model; paths are those of named_modules()."""

    def __init__(self, model: PreTrainedModel):
        self.model, self.modules = model, dict(model.named_modules())
        self.base = next(
            (path for path, module in self.modules.items() if module is model.base_model), ""
        )
        self.tokens = token_parameters(model)
        self.aside = dict(self.norms_beside_blocks())
        layers = {self.layer_of(path) for path in self.modules} - {("", None)}
        self.stacks = {
            stack for stack, i in layers if holds_attention(self.modules[f"{stack}.{i}"])
        }

    def ancestors(self, path: str) -> Iterator[str]:
        """Yield the paths from the outermost module to `path` itself."""
        parts = path.split(".") if path else []
        yield from (".".join(parts[:i]) for i in range(1, len(parts) + 1))

    def layer_of(self, path: str) -> tuple[str, int | None]:
        """Return the outermost module list around a path and the index in it; ("", None) outside of all."""
        for outer, inner in zip(*(list(self.ancestors(path))[i:] for i in (0, 1)), strict=False):
            if isinstance(self.modules[outer], nn.ModuleList):
                return outer, int(inner.rpartition(".")[2])
        return "", None

    def attention_of(self, path: str) -> str | None:
        """Return the outermost attention block around a path, inside its layer."""
        stack, layer = self.layer_of(path)
        inside = (
            a for a in self.ancestors(path) if layer is None or a.startswith(f"{stack}.{layer}.")
        )
        blocks = (
            a for a in inside if a != self.base and not isinstance(self.modules[a], PreTrainedModel)
        )
        return next((a for a in blocks if says_attention(self.modules[a])), None)

    def norms_beside_blocks(self) -> Iterator[tuple[str, str | None]]:
        """Yield (path, role) of the norms that stand beside the blocks of a layer rather than in one of them."""
        norms = [
            path
            for path, module in self.modules.items()
            if is_norm(module) and self.layer_of(path)[1] is not None
        ]
        beside = [
            p
            for p in norms
            if not self.attention_of(p) and holds_attention(self.modules[parent(p)])
        ]
        for host, group in groupby(beside, parent):
            paths = sorted(
                group, key=lambda p: "cross" not in p.rpartition(".")[2]
            )  # GPT-2 declares that one last
            blocks = {self.attention_of(p) for p in self.modules if p.startswith(f"{host}.")} - {
                None
            }
            inner = [p for p in norms if p.startswith(f"{host}.") and p not in paths]
            bare = sum(
                not any(p.startswith(f"{b}.") and not qk_named(p) for p in inner) for b in blocks
            )
            mlp = all(self.attention_of(p) for p in inner)
            each, rest = divmod(len(paths), max(bare + mlp, 1))
            told = ["pre_attention_norm"] * bare * each + ["pre_mlp_norm"] * mlp * each
            yield from zip(paths, told if told and not rest else [None] * len(paths), strict=True)

    def role(self, path: str, attribute: str) -> str | None:
        """Return the role of a parameter that is an attribute of the module at `path`, None where no rule tells."""
        module, (stack, layer), block = (
            self.modules[path],
            self.layer_of(path),
            self.attention_of(path),
        )
        layer = None if self.stacks and stack not in self.stacks else layer
        maps, raw = inputs_outputs(module), attribute not in ("weight", "bias")
        if self.base and not f"{path}.".startswith(f"{self.base}."):
            return "head"
        if is_norm(module):
            return self.norm_role(path, layer, block)
        if isinstance(module, nn.Embedding):
            return "position"
        if raw and re.search("pos_emb|position", attribute):
            return "position"
        if isinstance(module, nn.MultiheadAttention) and attribute.startswith("in_proj"):
            return "qkv"
        other = "other" if raw else None
        if block:
            return attention_role(attribute if raw else path.rpartition(".")[2], maps) or other
        if layer is not None and holds_attention(self.modules[self.layer_path(path)]):
            stacked = getattr(module, attribute).dim() > 2 or attribute.endswith(
                "_bias"
            )  # of experts
            return "mlp" if (maps and not raw) or stacked else other
        return ("projection" if maps and not raw else other) if layer is None else None

    def layer_path(self, path: str) -> str:
        """Return the path of the layer around a path."""
        return "{}.{}".format(*self.layer_of(path))

    def norm_role(self, path: str, layer: int | None, block: str | None) -> str | None:
        """Return the role of the norm at `path`."""
        if block:
            return "qk_norm" if qk_named(path) else "pre_attention_norm"
        if layer is None:
            host = self.modules[parent(path)]
            beside = any(
                id(p) in self.tokens for m in host.children() for p in m.parameters(recurse=False)
            )
            lists = any(isinstance(m, nn.ModuleList) for m in host.children())
            return "embedding_norm" if beside and not lists else "final_norm"
        if path in self.aside:
            return self.aside[path]
        return "pre_mlp_norm" if holds_attention(self.modules[self.layer_path(path)]) else None

    def parameter(self, name: str, tensor: nn.Parameter) -> Parameter:
        """Return the place of one parameter."""
        path, _, attribute = name.rpartition(".")
        stack, layer = self.layer_of(path)
        role = "embedding" if id(tensor) in self.tokens else self.role(path, attribute)
        module = self.modules[path]
        linear = (
            attribute == "weight" and role != "embedding" and inputs_outputs(module) is not None
        )
        summed = (
            ()
            if not linear
            else (0,)
            if isinstance(module, Conv1D)
            else tuple(range(1, tensor.dim()))
        )
        bias = attribute == "bias" or attribute.endswith("_bias")
        raw = (
            attribute != "weight"
            and not bias
            and tensor.dim() > 1
            and role in (*PARTS["attention"], "mlp")
        )
        fixed = not tensor.requires_grad or "sinusoidal" in type(module).__name__.lower()
        return Parameter(name, tuple(tensor.shape), role, stack, layer, bias, summed, raw, fixed)


def parent(path: str) -> str:
    """Return the path of the module around a module."""
    return path.rpartition(".")[0]


def qk_named(path: str) -> bool:
    """Say whether the last part of a path names a query, a key or a value."""
    return attention_role(path.rpartition(".")[2], None) in ("query", "key", "value", "qkv")


def token_parameters(model: PreTrainedModel) -> set[int]:
    """Return the ids of the parameters of the token embeddings and of the layers that map back to tokens, tied or not."""
    found = set()
    for module in model.modules():
        for getter in (
            ("get_input_embeddings", "get_output_embeddings")
            if isinstance(module, PreTrainedModel)
            else ()
        ):
            try:
                table = getattr(module, getter)()
            except (NotImplementedError, AttributeError):  # a model without tokens
                continue
            kind = (
                nn.Embedding if getter == "get_input_embeddings" else nn.Module
            )  # Whisper's encoder returns a convolution
            found |= (
                {id(p) for p in table.parameters(recurse=False)}
                if isinstance(table, kind)
                else set()
            )
    return found


def read_parameters(
    model: PreTrainedModel, roles: Mapping[str, str] | None = None
) -> dict[str, Parameter]:
    """Return name -> place of a model's parameters; tied ones count once, under their first name.

    `roles` maps names, or patterns with *, to ROLES and goes before the rules. A role is None where no rule tells it.
    Raises UsageError where `roles` has an unknown role or a pattern that fits no parameter.
    """
    if roles is not None and not isinstance(roles, Mapping):
        raise UsageError(
            f"roles is {roles!r}; give a mapping of parameter names, or patterns with *, to roles."
        )
    reader = Reader(model)
    found = {name: reader.parameter(name, tensor) for name, tensor in model.named_parameters()}
    settle_by_layers(found, reader.aside)
    for pattern, role in (roles or {}).items():
        choose("role", role, ROLES)
        fitting = [name for name in found if fnmatchcase(name, pattern)]
        if not fitting:
            raise UsageError(
                f"roles has '{pattern}', which fits no parameter of {type(model).__name__}; see named_parameters()."
            )
        found |= {name: replace(found[name], role=role) for name in fitting}
    return found


def settle_by_layers(found: dict[str, Parameter], aside: Mapping[str, str | None]) -> None:
    """Give norms whose layer does not tell their role that of the same norm in other layers; a single one to attention."""
    hosts = Counter(map(parent, aside))
    for p in [p for p in found.values() if p.role is None and parent(p.name) in aside]:
        votes = Counter(q.role for q in found.values() if q.template == p.template and q.role)
        alone = "pre_attention_norm" if hosts[parent(parent(p.name))] == 1 else None
        found[p.name] = replace(p, role=votes.most_common(1)[0][0] if votes else alone)


def require_roles(parameters: Mapping[str, Parameter], purpose: str) -> None:
    """Raise UsageError where a role is missing: which parameters, and how to tell it."""
    unknown = [name for name, p in parameters.items() if p.role is None]
    if unknown:
        templates = sorted({parameters[name].template for name in unknown})
        shown = ", ".join(templates[:8]) + (
            f" and {len(templates) - 8} more" if len(templates) > 8 else ""
        )
        raise UsageError(
            f"{purpose} needs the role of every parameter, and the modules do not tell that of {shown}; "
            f"pass roles={{'{templates[0]}': ROLE, ...}} with roles of: {', '.join(ROLES)}."
        )
