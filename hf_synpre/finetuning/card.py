"""The card of a fine-tuned model: where it comes from, its scores, how to load it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    ModelCardData,
    eval_result_entries_to_yaml,
)
from transformers import PreTrainedConfig, PreTrainedModel

from hf_synpre.digits import write_number
from hf_synpre.finetuning.prepared import PreparedTask
from hf_synpre.finetuning.text_tasks import COLUMN
from hf_synpre.models.families import is_decoder
from hf_synpre.provenance import without_local_paths

# The head of a task -> the name of transformers' pipeline that loads its models.
PIPELINES = {
    "classes": "text-classification",
    "labels": "text-classification",
    "number": "text-classification",
    "tags": "token-classification",
}
# Ids of a text in a command that is printed.
IDS_OF_EXAMPLE = 48
# The head of a task without such a pipeline -> what the Hub calls it.
HUB_TASKS = {
    "text": "text2text-generation",
    "lm": "fill-mask",
    "span": "question-answering",
    "choices": "multiple-choice",
}


def finetuned_card(
    model: PreTrainedModel, data: PreparedTask, result: Mapping[str, Any], folder: Path
) -> str:
    """Return the card of a fine-tuned model.

    Args:
        model: the model.
        data: the prepared task.
        result: the content of the result file.
        folder: where the model lies, for the lines that load it.
    """
    entry = EvalResult(
        task_type=hub_task(data.task.head_name, model.config),
        dataset_type=data.task.hub_id or result["task"],
        dataset_name=result["task"],
        dataset_split="test",
        metric_type=result["metric"],
        metric_value=float(write_number(result["score"], 4)),
    )
    header = ModelCardData(
        library_name="transformers",
        pipeline_tag=entry.task_type,
        tags=["hf_synpre"],
        datasets=[data.task.hub_id] if data.task.hub_id else None,
        model_name=folder.name,
        eval_results=[entry],
    )
    code = loading_code(data, shown_path(folder), model.config)
    recipe = json.dumps(without_local_paths(result["config"]), sort_keys=True)
    sections = [
        f"---\n{header.to_yaml(line_break=chr(10))}\n---\n",
        f"# {folder.name}\n",
        f"{type(model).__name__}, {count_parameters(model):,} parameters, fine-tuned on "
        f"{result['task']} from {describe_start(result['config']['arm'])}, seed "
        f"{result['seed']}.\n",
        f"## How to load\n\n```python\n{code}\n```\n",
        f"## Scores\n\n{score_table(result)}\n",
        f"## Data\n\n{describe_data(data)}\n",
        f"## Recipe\n\n```json\n{recipe}\n```\n",
        "Made with hf_synpre. The model was not studied for bias or safety.\n",
    ]
    return "\n".join(sections)


def eval_results_file(data: PreparedTask, result: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the file by which the Hub shows a model's score on the page of its dataset.

    Args:
        data: the prepared task.
        result: the content of the result file.

    Returns:
        The name in the model's folder, .eval_results/TASK.yaml, and its text; None where the rows
        are no dataset of the Hub.
    """
    hub_id = data.metadata.get("hub_id")
    if hub_id is None:
        return None
    entry = EvalResultEntry(
        dataset_id=hub_id,
        task_id=data.task.hub_config or "default",
        value=float(write_number(result["score"], 4)),
        notes=f"{result['metric']} on {result['test_examples']} examples of the test split; one "
        f"seed of fine-tuning, by hf_synpre {result['versions']['hf_synpre']}",
    )
    text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
    name = re.sub(r"[^\w-]+", "-", result["task"]).strip("-")
    return f".eval_results/{name}.yaml", text


def hub_task(head_name: str, config: PreTrainedConfig) -> str:
    """Return what the Hub calls what a model does, and transformers its pipeline if it has one."""
    if head_name in PIPELINES:
        return PIPELINES[head_name]
    if head_name in ("text", "lm") and is_decoder(config):
        return "text-generation"
    return HUB_TASKS[head_name]


def count_parameters(model: PreTrainedModel) -> int:
    """Return the number of a model's parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def describe_start(arm: Mapping[str, Any]) -> str:
    """Return where the weights came from, by the fields of the arm."""
    start = "random weights"
    if arm["checkpoint"] is not None:
        checkpoint = without_local_paths(arm["checkpoint"])
        start = f"the weights of {checkpoint}"
        if arm["init"] == "statistics":
            start = f"weights drawn from the statistics of {checkpoint} (scheme {arm['scheme']})"
    if arm["lora"] is not None:
        start += " with LoRA, whose adapters are merged into the weights"
    return start


def loading_code(
    data: PreparedTask, folder: str, config: PreTrainedConfig, texts: list[str] | None = None
) -> str:
    """Return the lines of Python that load a fine-tuned model and use it.

    Args:
        data: the prepared task.
        folder: the path of the model.
        config: the config of the model.
        texts: the text or the two texts of the example, as `first_texts` returns them; without them
            the names of the columns stand for them. A card may be published, and a row may not.
    """
    head_name = data.task.head_name
    texts = texts or placeholders(data)
    if head_name == "lm" and not is_decoder(config):
        texts = [f"{texts[0]} {data.tokenizer.mask_token}"]
    first, *others = [json.dumps(text, ensure_ascii=False) for text in texts]
    if head_name == "text" and data.task.chat_template:
        return (
            "from transformers import pipeline\n\n"
            f'predict = pipeline("text-generation", model="{folder}")\n'
            f'chat = predict([{{"role": "user", "content": {first}}}])[0]["generated_text"]\n'
            'print(chat[-1]["content"])'
        )
    if head_name in PIPELINES or head_name == "lm":
        example = f"{first}, truncation=True"
        if head_name in ("tags", "lm"):
            example = first
        elif others:
            example = f'{{"text": {first}, "text_pair": {others[0]}}}, truncation=True'
        return (
            "from transformers import pipeline\n\n"
            f'predict = pipeline("{hub_task(head_name, config)}", model="{folder}")\n'
            f"print(predict({example}))"
        )

    head = data.head_for(config)
    auto_class = head.model_class.__name__
    lines = [
        f"from transformers import AutoTokenizer, {auto_class}\n",
        f'tokenizer = AutoTokenizer.from_pretrained("{folder}")',
        f'model = {auto_class}.from_pretrained("{folder}")',
    ]
    if head_name == "text":
        # A decoder repeats its prompt before what it generates.
        generated = "ids[0]"
        if not config.is_encoder_decoder:
            generated = 'ids[0, inputs["input_ids"].shape[1] :]'
        lines += [
            f'inputs = tokenizer({first}, return_tensors="pt", truncation=True)',
            "ids = model.generate(**inputs)",
            f"print(tokenizer.decode({generated}, skip_special_tokens=True))",
        ]
    elif head_name == "choices" and not head.adds_parameters:
        # The loss of a decoder is the mean over the labels, those of the choice.
        whole = json.dumps(" ".join(texts), ensure_ascii=False)
        lines += [
            f'context = tokenizer({first}, return_tensors="pt")["input_ids"]',
            f'ids = tokenizer({whole}, return_tensors="pt")["input_ids"]',
            "labels = ids.clone()",
            "labels[:, : context.shape[1]] = -100",
            "print(-model(ids, labels=labels).loss.item())",
        ]
    return "\n".join(lines)


def placeholders(data: PreparedTask) -> list[str]:
    """Return what stands for the texts of a row: the names of their columns, in the template."""
    if data.task.head_name == "lm":
        return ["<text>"]
    if data.task.head_name == "text":
        source = data.task.source[0]
        if not COLUMN.search(source):
            return [f"<{source}>"]
        return [COLUMN.sub(r"<\1>", source)]
    columns = [f"<{column}>" for column in data.task.text[0]]
    if data.task.head_name == "choices":
        return [" ".join(columns), f"<{data.task.choices[0][0]}>"]
    return columns


def first_texts(data: PreparedTask) -> list[str]:
    """Return the texts of the first test row as the tokenizer spells them, long ones cut.

    Of choices they are the context and the first choice. For a chat the names of its columns stand,
    because its ids hold the template too.
    """
    if data.task.head_name == "text" and data.task.chat_template:
        return placeholders(data)
    if data.task.head_name == "choices":
        row = data.read_table("test", ["joined", "starts"]).slice(0, 1).to_pylist()[0]
        ids, start = row["joined"][0], row["starts"][0]
        pieces = [ids[:start], ids[start:]]
    elif data.task.head_name in ("text", "lm"):
        pieces = [data.read_table("test", ["input_ids"])["input_ids"][0].as_py()]
    else:
        pieces = data.read_table("test", ["pieces"])["pieces"][0].as_py()
    if data.task.head_name == "tags":  # its pieces are words
        pieces = [[token for word in pieces for token in word]]
    return [data.tokenizer.decode(piece[:IDS_OF_EXAMPLE]).strip() for piece in pieces]


def score_table(result: Mapping[str, Any]) -> str:
    """Return the test scores as a table, that of the task's metric first."""
    scores = {result["metric"]: result["score"], **result["scores"]}
    lines = ["| metric | score |", "| --- | ---: |"]
    lines += [f"| {metric} | {write_number(score, 4)} |" for metric, score in scores.items()]
    lines.append(f"\nOn {result['test_examples']:,} test examples, from one seed.")
    return "\n".join(lines)


def describe_data(data: PreparedTask) -> str:
    """Return the columns, the labels and the numbers of rows of a task."""
    task, metadata = data.task, data.metadata
    lines = []
    if task.head_name == "text":
        lines.append(f"{' or '.join(task.target)} is generated from {' or '.join(task.source)}.")
    elif task.head_name == "lm":
        lines.append("The tokens of text are predicted.")
    else:
        text = " or ".join(" and ".join(columns) for columns in task.text)
        label = " or ".join(", ".join(columns) for columns in task.label)
        lines.append(f"{label} is predicted from {text}.")
    if metadata.get("labels"):
        lines.append(f"Labels: {', '.join(str(name) for name in metadata['labels'])}.")

    counts = [f"{split['rows']:,} {name}" for name, split in metadata["splits"].items()]
    lines.append(
        f"Rows: {', '.join(counts)}. Tokenizer: {without_local_paths(metadata['tokenizer'])}."
    )
    return "\n".join(lines)


def shown_path(folder: Path) -> str:
    """Return a path as a card shows it: of an absolute one the name alone."""
    return folder.name if folder.is_absolute() else folder.as_posix()
