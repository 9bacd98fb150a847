"""Write docs/options.md, the keys of an experiment's YAML: `make options`."""

import dataclasses
import types
import typing
from pathlib import Path

from transformers import Seq2SeqTrainingArguments

from hf_synpre.data.text_spec import TextSpec
from hf_synpre.experiments import ExperimentSpec, TaskSpec
from hf_synpre.experiments.arm import ArmSpec
from hf_synpre.finetuning import FinetuningSpec, LabelTask, LanguageTask, TextToTextTask
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.argument_table import FINETUNING, NEEDS, PRETRAINING
from hf_synpre.training.arguments import refusal
from hf_synpre.training.pretraining_spec import PretrainingSpec

PAGE = Path(__file__).with_name("options.md")
# Where the keys stand in the YAML file -> the dataclass that reads them.
SECTIONS = {
    "At the top": ExperimentSpec,
    "model": ModelSpec,
    "pretraining: NAME": PretrainingSpec,
    "pretraining: NAME: text": TextSpec,
    "arms: NAME": ArmSpec,
    "tasks: NAME": TaskSpec,
    "tasks: NAME: define (a text-to-text task of your own)": TextToTextTask,
    "tasks: NAME: define (a labelled task of your own, which has the key head)": LabelTask,
    "tasks: NAME: define (language modelling on text of your own, with head: lm)": LanguageTask,
    "finetuning": FinetuningSpec,
}


def type_name(hint: typing.Any) -> str:
    """Return a type as it is read aloud: "integer", "list of text", "text or nothing"."""
    names = {int: "integer", float: "number", str: "text", bool: "true or false"}
    if hint in names:
        return names[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(a) for a in arguments if a is not type(None))
    if origin is list:
        return f"list of {type_name(arguments[0])}"
    return "keys and values"


def default_text(field: dataclasses.Field) -> str:
    """Return a field's default as YAML has it, "required" where there is none."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        return f"`{value}`" if value and not dataclasses.is_dataclass(value) else "–"
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None:
        return "–"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def section(title: str, spec: type) -> list[str]:
    """Return the lines of one dataclass: a heading and a table with a row for each key."""
    hints = typing.get_type_hints(spec)
    lines = [f"## {title}", "", "| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for field in dataclasses.fields(spec):
        help_text = field.metadata["help"]
        former = field.metadata.get("former")
        if former:
            help_text += f" (Also read under its former name `{former}`.)"
        if field.metadata.get("read_with"):
            help_text += f" Read with {field.metadata['read_with']} only."
        cells = [f"`{field.name}`", type_name(hints[field.name]), default_text(field), help_text]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return [*lines, ""]


def training_section() -> list[str]:
    """Return the lines on the training arguments of transformers that are refused."""
    lines = [
        "## training: the arguments of transformers that are refused",
        "",
        "`training` takes transformers' Seq2SeqTrainingArguments, as flags do. Those that are not "
        "in this table are obeyed; a value that asks for nothing (`false`, null) is always taken.",
        "",
        "| argument | in a pre-training | in a fine-tuning |",
        "| --- | --- | --- |",
    ]
    for field in dataclasses.fields(Seq2SeqTrainingArguments):
        reasons = [refusal(field.name, run) for run in (PRETRAINING, FINETUNING)]
        if any(reasons):
            first, second = (reason or "obeyed" for reason in reasons)
            cells = [f"`{field.name}`", first, "the same" if second == first else second]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Some are read in the company of another one only, and refused without it:", ""]
    lines += ["| argument | without it |", "| --- | --- |"]
    lines += [f"| `{name}` | {need.remedy} |" for name, need in NEEDS.items()]
    return [*lines, ""]


def render() -> str:
    """Return the page."""
    lines = [
        "# The keys of an experiment's YAML",
        "",
        "Made by `make options` from the dataclasses that read the file; the flags of the command "
        "line come from the same texts.",
        "See [experiments](experiments.md) for how the parts fit together, and "
        "`examples/quickstart.yaml` for a file with every part.",
        "",
    ]
    for title, spec in SECTIONS.items():
        lines += section(title, spec)
    lines += training_section()
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
