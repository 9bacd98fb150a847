"""Tasks that a user defines: the fields of a definition -> a task, or the key that is wrong."""

from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from typing import Any

from hf_synpre.config import build_spec
from hf_synpre.errors import UsageError
from hf_synpre.finetuning.catalog import TASKS, find_head
from hf_synpre.finetuning.label_heads import LABEL_HEADS
from hf_synpre.finetuning.label_tasks import LabelTask
from hf_synpre.finetuning.language_tasks import LanguageTask
from hf_synpre.finetuning.tasks import FinetuningTask
from hf_synpre.finetuning.text_tasks import TextToTextTask

# The field `head` of a task's definition -> the class of the task; LabelTask for other heads.
TASK_CLASSES: dict[str, type[FinetuningTask]] = {"text": TextToTextTask, "lm": LanguageTask}


def task_from_fields(name: str, fields: Mapping[str, Any]) -> FinetuningTask:
    """Return a task that a user has defined.

    Args:
        name: the task's name, which no task of hf_synpre has.
        fields: its definition, as in YAML: the fields of a LabelTask, which has the field `head`,
            of a LanguageTask, which has the head lm, or of a TextToTextTask.

    Raises:
        UsageError: where the name is taken, or a field is unknown, missing or wrong.
    """
    if name in TASKS:
        raise UsageError(f"hf_synpre has a task '{name}'; give your task another name.")
    where = f"tasks.{name}.define"

    # The head says which kind of task it is; a text-to-text task needs none.
    is_labelled = "label" in fields and not {"source", "target"} & fields.keys()
    if is_labelled and "head" not in fields:
        raise UsageError(
            f"{where} has a label and no head, which says how it is predicted; give head: "
            f"{', '.join(LABEL_HEADS)}, or source and target for text that is generated."
        )
    head_name = fields.get("head", "text")
    task_class = TASK_CLASSES.get(head_name, LabelTask)
    values = {"name": name, **fields}
    if task_class is not LabelTask:
        values.pop("head", None)
    check_kind(task_class, values, where)

    # A column may be given as a word, columns as one list.
    for field in ("text", "label", "choices"):
        if field in values:
            values[field] = as_alternatives(values[field])
    for field in ("source", "target"):
        if isinstance(values.get(field), str):
            values[field] = [values[field]]
    return build_spec(task_class, values, where)


def check_kind(task_class: type[FinetuningTask], values: Mapping[str, Any], where: str) -> None:
    """Check that no key of a definition belongs to the other kind of task.

    Args:
        task_class: LabelTask, TextToTextTask or LanguageTask.
        values: the keys of the definition.
        where: the name of the definition, for the message.

    Raises:
        UsageError: a key is one of the other kind alone.
    """
    kinds: dict[type[FinetuningTask], str] = {
        TextToTextTask: "a text-to-text task (without head, with source and target)",
        LabelTask: "a labelled task (with head, text and label)",
        LanguageTask: "a task of language modelling (with head lm and document)",
    }
    allowed = {field.name for field in dataclass_fields(task_class)}
    for other, other_kind in kinds.items():
        own = {field.name for field in dataclass_fields(other)}
        for key in values:
            if key in own and key not in allowed:
                raise UsageError(
                    f"{where} is {kinds[task_class]}, and its key '{key}' belongs to {other_kind}; "
                    "give the keys of one kind."
                )


def as_alternatives(value: Any) -> Any:
    """Return columns as a list of alternatives, each a list of columns.

    Args:
        value: the name of a column, a list of columns, or a list of such lists; anything else is
            returned as it is.

    Examples:
        >>> as_alternatives("text"), as_alternatives(["title", "body"])
        ([['text']], [['title', 'body']])
    """
    if isinstance(value, str):
        return [[value]]
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return [value]
    return value


def usual_model_type(name: str, fields: Mapping[str, Any] | None = None) -> str:
    """Return the usual architecture for a task, a model_type of transformers.

    Args:
        name: the task's name; it may be unknown.
        fields: the task's definition, if a user has defined it.
    """
    if fields is not None:
        head_name = fields.get("head", "text")
    elif name in TASKS:
        head_name = TASKS[name].head_name
    else:
        head_name = "text"
    return find_head(head_name).usual_model_type
