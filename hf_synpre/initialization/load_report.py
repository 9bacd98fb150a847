"""What a load of weights took from a checkpoint: counts and names of the model's parameters."""

import html
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hf_synpre.errors import UsageError, counted

logger = logging.getLogger(__name__)

MOST_LISTED = 8  # names in a log line or a result file


@dataclass(frozen=True)
class CopiedTables:
    """Token tables of a model that have rows of a checkpoint's (embedding_policy.py)."""

    # The names of the parameters.
    names: tuple[str, ...]

    # How many tokens have the checkpoint's rows, and how many the model has.
    kept: int
    tokens: int

    # What the other tokens have, in words.
    others: str

    # Whether rows went to tokens of the same number that may be others.
    by_number: bool

    def as_json(self) -> dict[str, Any]:
        """Return what result files hold."""
        return {"tensors": len(self.names), "kept": self.kept, "tokens": self.tokens}

    def __str__(self) -> str:
        rest = self.tokens - self.kept
        text = f"{self.kept:,} of {counted(self.tokens, 'token')} have the checkpoint's rows"
        if self.by_number:
            text += " by number, as it has no tokenizer"
        return f"{text}, {rest:,} {self.others}" if rest else text


@dataclass(frozen=True)
class LoadReport:
    """Which tensors of a model came from a checkpoint, and which did not.

    `str` gives one line of counts with the first names; a notebook shows a table.

    Examples:
        init = StatisticsInit(AutoModelForCausalLM)
        model = init.from_pretrained("runs/pretrained")
        print(model.load_report)  # runs/pretrained: 26 tensors drawn; 1 fresh ...
    """

    # The checkpoint: its folder, its Hub id, or whose statistics they are.
    source: str

    # The tensors of the model that were copied, or drawn from the checkpoint's statistics.
    loaded: tuple[str, ...] = ()

    # The tensors of the model that the checkpoint lacks; they have the model's random init.
    missing: tuple[str, ...] = ()

    # The tensors of the checkpoint that the model has no place for.
    left_over: tuple[str, ...] = ()

    # Those of them that the checkpoint has in another shape.
    other_shape: tuple[str, ...] = ()

    # The tensors of the model that were not to be loaded; they have the model's random init.
    fresh: tuple[str, ...] = ()

    # The token tables with rows of the checkpoint's, which are not among `loaded`.
    tables: CopiedTables | None = None

    # Whether `loaded` were drawn anew, by a scheme, and not copied.
    drawn: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what result files hold: the counts, and the first names of those not loaded."""
        content: dict[str, Any] = {"loaded": len(self.loaded)}
        for kind, _ in DESCRIPTIONS:
            names = getattr(self, kind)
            content[kind] = len(names)
            if names:
                content[f"first_{kind}"] = list(names[:MOST_LISTED])
        if self.tables is not None:
            content["embeddings"] = {**self.tables.as_json(), "text": str(self.tables)}
        return content

    def log(self, level: int) -> "LoadReport":
        """Write the line of counts into the log; return the report."""
        logger.log(level, "%s", self)
        return self

    @property
    def done(self) -> str:
        """What became of the tensors in `loaded`."""
        return "drawn" if self.drawn else "loaded"

    def __str__(self) -> str:
        parts = [f"{self.source}: {counted(len(self.loaded), 'tensor')} {self.done}"]
        if self.tables is not None:
            copied = f"{counted(len(self.tables.names), 'table')} of token embeddings copied"
            parts.append(f"{copied} ({listed(self.tables.names)}): {self.tables}")
        for kind, description in DESCRIPTIONS:
            names = getattr(self, kind)
            if names:
                parts.append(f"{len(names)} {description} ({listed(names)})")
        return "; ".join(parts)

    def __repr__(self) -> str:
        return f"<LoadReport {self}>"

    def _repr_html_(self) -> str:
        rows = [(self.done, self.loaded)]
        if self.tables is not None:
            rows.append((f"copied: {self.tables}", self.tables.names))
        rows += [(description, getattr(self, kind)) for kind, description in DESCRIPTIONS]
        cells = [(text, str(len(names)), listed(names)) for text, names in rows]
        return html_table(self.source, ("tensors", "count", "names"), cells)


# A field of the report -> what its names are called in the log.
DESCRIPTIONS = (
    ("missing", "missing in the checkpoint"),
    ("left_over", "of the checkpoint left over"),
    ("other_shape", "of them in another size than the checkpoint's"),
    ("fresh", "fresh by choice"),
)


def tensor_sums(tensors: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the sum of each tensor in float64, by which a tensor that was drawn again is known."""
    return {name: float(tensor.sum(dtype=torch.float64)) for name, tensor in tensors.items()}


def refuse_redrawn(
    source: str,
    given: Mapping[str, torch.Tensor],
    sums: Mapping[str, float],
    loaded: Mapping[str, torch.Tensor],
) -> None:
    """Check that transformers has left the weights as they were given to it.

    It runs the initialiser of a model's class after it has loaded the weights, and not every class
    spares them (`models/verification.py`). The loaded tensors may be the given ones themselves.

    Args:
        source: the checkpoint, for the error.
        given: name -> tensor that was given. A name that the model has not is passed over.
        sums: `tensor_sums` of the given tensors before the load.
        loaded: the state dict of the loaded model, of any type.

    Raises:
        UsageError: a tensor has other numbers.
    """
    for name, tensor in given.items():
        if name not in loaded or loaded[name].shape != tensor.shape:
            continue
        if not math.isfinite(sums[name]):
            continue  # which is refused elsewhere
        is_same = float(tensor.sum(dtype=torch.float64)) == sums[name]
        if not (is_same and torch.equal(tensor.to(loaded[name]), loaded[name])):
            raise UsageError(
                f"{source}: {name} was loaded with other numbers than it has: the initialiser of "
                "the model's class has drawn it again. Let its _init_weights draw by "
                "transformers.initialization, which spares loaded tensors."
            )


def joined(reports: Iterable[LoadReport]) -> LoadReport:
    """Return the report of a model whose parts were loaded one after another."""
    reports = list(reports)
    kinds = ("loaded", *(kind for kind, _ in DESCRIPTIONS))
    fields: dict[str, Any] = {
        "tables": next((each.tables for each in reports if each.tables is not None), None),
        "drawn": any(each.drawn for each in reports),
    }
    for kind in kinds:
        fields[kind] = tuple(name for report in reports for name in getattr(report, kind))
    return LoadReport(reports[0].source, **fields)


def listed(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    names = list(names)
    text = ", ".join(names[:MOST_LISTED])
    if len(names) > MOST_LISTED:
        text += f" and {len(names) - MOST_LISTED} more"
    return text


def html_table(caption: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table for a notebook; all texts are escaped."""
    lines = ["<table>", f"<caption>{html.escape(caption)}</caption>"]
    lines.append("<tr>" + "".join(f"<th>{html.escape(text)}</th>" for text in head) + "</tr>")
    for row in rows:
        lines.append("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>")
    return "\n".join([*lines, "</table>"])
