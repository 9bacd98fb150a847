"""Cards: shards or a model folder's JSON files -> the text of README.md.

`dataset_card` reads the footers of shards; `model_card` reads pretraining.json,
parameter_statistics.json, config.json and the results of experiments. The texts around the numbers
are in templates/. The same files always give the same card.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData, ModelCardData
from jinja2 import TemplateError

from hf_synpre.config import read_header, read_yaml
from hf_synpre.data.recipes import config_folder
from hf_synpre.data.shards import BLOCK_ROWS, read_configs
from hf_synpre.errors import UsageError
from hf_synpre.files import read_json, write_text
from hf_synpre.hub.scores import Score, experiment_scores, model_index_entry
from hf_synpre.provenance import without_local_paths
from hf_synpre.report import read_cells
from hf_synpre.report.render import template_environment
from hf_synpre.tasks import get_task
from hf_synpre.tasks.base import describe_loss
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

CARD = "README.md"
TEMPLATES = Path(__file__).parent / "templates"
SYNTHETIC_TASKS_PAPER = "2206.10139"  # Wu et al. 2022, cited by every card
SELF_PRETRAINING_PAPER = "Krishna et al. 2023, arXiv 2209.14389"
# An arXiv number in the text that says where a task is defined.
ARXIV_NUMBER = re.compile(r"arXiv[: ]?(\d{4}\.\d{4,5}(?:v\d+)?)")
# How a card in a folder calls that folder.
LOCAL_FOLDER = "path/to/this/folder"
# What a dataset's card says of all its rows: every vocabulary of a recipe pads with 0 and ends a
# sequence with 1, and the rows have neither.
ROWS_ENTRY = {"has_end_of_sequence": False, "eos_token_id": 1, "pad_token_id": 0}
# The Hub's names for sizes of datasets; the first is for numbers of up to three digits.
SIZE_CATEGORIES = (
    *("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M"),
    *("1M<n<10M", "10M<n<100M", "100M<n<1B"),
)
# A folder with one of these has a tokenizer.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "vocab.json")
# What the YAML of a model's card holds beside what the Hub knows, and what it holds of a run whose
# weights can be made again.
CARD_KEYS = ("task", "recipe", "vocabulary", "versions")
REMAKE_KEYS = ("weights_sha256", "run")
# Keys of pretraining.json on the machine of a run, which decides the last bits of the weights.
MACHINE_KEYS = ("processes", "threads", "device", "accumulation", "tokenizer")
# Name of a row in a model card's table -> its key in pretraining.json.
RUN_ROWS = {
    "steps": "steps",
    "tokens (input and target, without padding)": "tokens",
    "FLOPs (matrix products, forward and backward)": "flops",
    "seconds of training": "train_s",
    "stopped by": "stopped",
    "validation token accuracy": "accuracy",
}
# The same for what results say that are younger; see `RunResult`.
LOSS_ROWS = {
    "positions that carry loss": "loss_positions",
    "lowest possible loss of a model (nats a scored token)": "bayes_loss",
    "excess loss, of the last evaluation above it": "excess_loss",
}
LEARNT = {True: "yes", False: "no", None: "not judged"}
# End of an architecture's name -> the Auto class of transformers that loads it.
AUTO_CLASS_OF_HEAD = {
    "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForPreTraining": "AutoModelForPreTraining",
    "ForTokenClassification": "AutoModelForTokenClassification",
}


# --- templates ------------------------------------------------------------------------------------


def render_card(
    template: str, data: DatasetCardData | ModelCardData, context: Mapping[str, Any]
) -> str:
    """Return the text of a card.

    Args:
        template: the name of a file in templates/.
        data: the metadata, which becomes the YAML at the top of the card.
        context: the template's variables.

    Raises:
        UsageError: a JSON file that the card is made of holds a text that UTF-8 does not have.
    """
    environment = template_environment(TEMPLATES)
    environment.filters["number"] = format_value
    environment.filters["json"] = sorted_json
    body = environment.get_template(template).render(context)
    header = data.to_yaml(line_break="\n")
    card = f"---\n{header}\n---\n\n{body}"
    try:
        card.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"The card would have half of a character ({error.reason}), from a JSON file that it "
            "is made of; make that file again."
        ) from error
    return card


def format_value(value: Any) -> str:
    """Return a value of a JSON file as a card shows it: 12,345 or 0.9876; strings stay."""
    if value is None:
        return "not recorded"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}"


def sorted_json(value: Any) -> str:
    """Return a value as JSON in one line, its keys in alphabetical order."""
    return json.dumps(value, sort_keys=True)


def cited_papers(*texts: str) -> list[dict[str, Any]]:
    """Return the entries of papers.yaml whose arXiv numbers are in the texts.

    Wu et al. 2022 are always cited, first.
    """
    papers = {str(number): paper for number, paper in read_yaml(TEMPLATES / "papers.yaml").items()}

    numbers = [SYNTHETIC_TASKS_PAPER]
    for text in texts:
        for number in re.findall(r"\d{4}\.\d{5}", text):
            if number in papers and number not in numbers:
                numbers.append(number)
    return [{"arxiv": number, **papers[number]} for number in numbers]


def linked_papers(paper: str) -> str:
    """Return where a task is defined, its arXiv numbers as links, by which the Hub finds papers.

    Examples:
        >>> linked_papers("Wu, Li, Liang 2022, arXiv 2206.10139")
        'Wu, Li, Liang 2022, [arXiv 2206.10139](https://arxiv.org/abs/2206.10139)'
    """
    return ARXIV_NUMBER.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", paper)


def task_definition(task: str) -> dict[str, str]:
    """Return where a task is defined, and the two parts of its docstring.

    They are "paper", "sentences" and "drawing", the example below the sentences.
    """
    docstring = get_task(task).description
    sentences, _, drawing = docstring.partition("\n\n")
    lines = [line.strip() for line in drawing.strip().splitlines()]
    return {
        "paper": linked_papers(get_task(task).paper),
        "sentences": " ".join(sentences.split()),
        "drawing": "\n".join(lines),
    }


# --- datasets -------------------------------------------------------------------------------------


def write_dataset_card(folder: str | Path, repo_id: str) -> bool:
    """Write README.md into a folder of shards.

    Args:
        folder: the folder of a built dataset.
        repo_id: the name that the card gives to the dataset, namespace/name.

    Returns:
        Whether a configuration was complete; without one no card is written.
    """
    configs = read_configs(folder)
    if configs:
        write_text(Path(folder) / CARD, dataset_card(repo_id, configs, is_published=False))
    return bool(configs)


def dataset_card(
    repo_id: str, configs: dict[str, dict[str, Any]], *, is_published: bool = True
) -> str:
    """Return the card of a dataset. Its YAML is read by `load_dataset` and by `rebuild`.

    Args:
        repo_id: namespace/name on the Hub.
        configs: configuration -> its recipe and the metadata of its splits, as
            `data.shards.read_configs` returns them.
        is_published: whether the card goes to the Hub and says how to load the dataset from there;
            otherwise it says how to load the folder that it is in. It names no path, so that the
            folder may be moved.
    """
    # The configuration called default comes first; if there is none, the first is the default.
    configs = dict(sorted(configs.items(), key=lambda item: item[0] != "default"))
    first_name, first_config = next(iter(configs.items()))
    tasks = list(dict.fromkeys(config["task"] for config in configs.values()))

    data = DatasetCardData(
        license="apache-2.0",
        pretty_name=repo_id.split("/")[1],
        tags=["synthetic", "pre-training", "hf_synpre"],
        size_categories=[size_category(row_count(first_config))],
        configs=[
            data_files_entry(name, config, is_default=name == first_name)
            for name, config in configs.items()
        ],
        dataset_info=[dataset_info_entry(name, config) for name, config in configs.items()],
        synpre={"rows": ROWS_ENTRY, "configs": configs},
    )
    smallest = min(configs, key=lambda name: row_count(configs[name]))
    is_t5 = isinstance(configs[smallest]["vocabulary"], str)
    context = {
        "repo_id": repo_id,
        "configs": configs,
        "main": first_config,
        "smallest": smallest,
        "causal": configs[smallest].get("layout") == "causal",
        "sequence": get_task(configs[smallest]["task"]).is_sequence,
        "task_files": own_task_files(configs),
        "vocab_size": Vocabulary.t5().size if is_t5 else configs[smallest]["vocabulary"],
        "location": repo_id if is_published else LOCAL_FOLDER,
        "block": BLOCK_ROWS,
        "version": first_config["hf_synpre"],
        "lowest_losses": lowest_losses(configs),
        "tasks": {task: task_definition(task) for task in tasks},
        "papers": cited_papers(*(get_task(task).paper for task in tasks)),
    }
    return render_card("dataset_card.md.jinja", data, context)


def lowest_losses(configs: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the lowest loss that a model can have on the rows of each configuration, in words."""
    known: dict[str, str] = {}
    losses = {}
    for name, config in configs.items():
        # Configurations may differ in their seed and number of rows alone.
        law = sorted_json([config[key] for key in ("task", "vocabulary", "parameters")])
        if law not in known:
            size = None if isinstance(config["vocabulary"], str) else config["vocabulary"]
            loss = get_task(config["task"]).bayes_loss(vocabulary=size, **config["parameters"])
            known[law] = describe_loss(loss)
        losses[name] = known[law]
    return losses


def own_task_files(configs: dict[str, dict[str, Any]]) -> list[str]:
    """Return the Python files that define tasks of configurations, by name."""
    names: set[str] = set()
    for config in configs.values():
        names.update(config.get("task_files") or ())
    return sorted(name for name in names if name.endswith(".py"))


def row_count(config: dict[str, Any]) -> int:
    """Return the rows of all splits of a configuration."""
    return sum(split["rows"] for split in config["splits"].values())


def size_category(rows: int) -> str:
    """Return the Hub's name for a number of rows, such as 1K<n<10K."""
    thousands_digits = max(len(str(rows)) - 3, 0)
    return SIZE_CATEGORIES[min(thousands_digits, len(SIZE_CATEGORIES) - 1)]


def data_files_entry(name: str, config: dict[str, Any], is_default: bool) -> dict[str, Any]:
    """Return the entry of `configs:` that tells load_dataset which files a configuration has."""
    entry: dict[str, Any] = {"config_name": name}
    if is_default:
        entry["default"] = True
    entry["data_files"] = [
        {"split": split, "path": f"{config_folder(name)}/{split}-*.parquet"}
        for split in config["splits"]
    ]
    return entry


def dataset_info_entry(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of `dataset_info:`; load_dataset checks the numbers of rows against it."""
    features = [{"name": column, "list": "int32"} for column in ("input_ids", "labels")]
    splits = []
    for split, metadata in config["splits"].items():
        # In Arrow an id takes four bytes, and so does the end of each of a row's two lists.
        num_bytes = 4 * metadata["ids"] + 8 * metadata["rows"]
        splits.append({"name": split, "num_bytes": num_bytes, "num_examples": metadata["rows"]})
    return {"config_name": name, "features": features, "splits": splits}


def read_card_configs(file: str | Path) -> dict[str, dict[str, Any]] | None:
    """Return the configurations that `dataset_card` wrote into a card; None where it has none.

    The card may be written by anybody: its values are not checked here.

    Raises UsageError where its YAML is broken or out of bounds.
    """
    try:
        configs = read_header(file)["synpre"]["configs"]
        return {str(name): dict(config) for name, config in configs.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        return None


# --- models ---------------------------------------------------------------------------------------


def model_card(folder: str | Path, repo_id: str, weights_folder: str | Path | None = None) -> str:
    """Return the card of a model folder, from its JSON files alone.

    Args:
        folder: a folder with pretraining.json or parameter_statistics.json; config.json, weights
            and results/ are used if they exist.
        repo_id: namespace/name on the Hub.
        weights_folder: for a checkpoint of this repository, the folder in a clone where its card
            is, and its weights if they are released; its last two names are in the card.

    Raises:
        UsageError: neither of the two files exists, or a file is not what hf_synpre writes.
    """
    try:
        context = model_card_context(Path(folder))
        if weights_folder is not None:
            place = Path(weights_folder)
            context["has_weights"] = any(place.glob("*.safetensors"))
            context["clone_folder"] = "/".join(place.parts[-2:])
        own_scores = [score for score in context["scores"] if score.from_this_run]
        data = ModelCardData(
            license="apache-2.0",
            library_name="transformers",
            tags=["synthetic-pretraining", "hf_synpre"],
            model_name=repo_id.split("/")[1],
            eval_results=[model_index_entry(score) for score in own_scores] or None,
            synpre=card_entry(context),
        )
        return render_card("model_card.md.jinja", data, context | {"repo_id": repo_id})
    except (KeyError, TypeError, AttributeError, TemplateError) as error:
        raise UsageError(
            f"The JSON files of {folder} are not what hf_synpre writes ({error!r}); "
            "make them again."
        ) from error


def card_entry(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the YAML of a model's card holds beside what the Hub knows."""
    names: tuple[str, ...] = CARD_KEYS
    if context["weights_sha256"]:
        names += REMAKE_KEYS
    return {name: context[name] for name in names}


def model_card_context(folder: Path) -> dict[str, Any]:
    """Return the variables of the template of a model card.

    Raises:
        UsageError: the folder has neither pretraining.json nor parameter_statistics.json.
    """
    run = read_json_if_exists(folder / "pretraining.json")
    statistics = read_json_if_exists(folder / "parameter_statistics.json")
    config = read_json_if_exists(folder / "config.json") or {}
    if run is None and statistics is None:
        raise UsageError(
            f"{folder} holds neither pretraining.json nor parameter_statistics.json, so a card has "
            "nothing to say; give a folder that has one."
        )

    # The recipe of the pre-training run, and the paper of its task or text.
    recipe = (run or {}).get("recipe") or {}
    pretraining = recipe.get("pretraining") or {}
    task = pretraining.get("task")
    if task:
        paper = get_task(task).paper
    elif pretraining.get("text") is not None:
        paper = SELF_PRETRAINING_PAPER
    else:
        paper = ""

    # The scores of every experiment whose results are in the folder.
    scores: list[Score] = []
    for results in sorted({file.parent for file in folder.glob("results/**/*--*--*.json")}):
        scores += experiment_scores(read_cells(results), run or {})

    # What it takes to make the same weights again.
    remake: dict[str, Any] = {"weights_sha256": None, "run": None}
    if run is not None and run.get("weights_sha256"):
        machine = {key: run[key] for key in MACHINE_KEYS if key in run}
        remake = {"weights_sha256": run["weights_sha256"], "run": machine}

    architectures = config.get("architectures") or ["T5ForConditionalGeneration"]
    return remake | {
        "task": task,
        "definition": task_definition(task) if task else None,
        "has_answers": has_answers(pretraining),
        "pretraining": pretraining,
        "recipe": recipe,
        "versions": (run or {}).get("versions"),
        "vocabulary": vocabulary_entry(pretraining.get("vocabulary")) if task else None,
        "run_rows": run_rows(run, pretraining) if run else [],
        "config": config,
        "auto_class": auto_class(architectures[0]),
        "tensor_sizes": [tensor["numel"] for tensor in (statistics or {}).get("parameters", ())],
        "has_tokenizer": any((folder / name).exists() for name in TOKENIZER_FILES),
        "has_weights": any(folder.glob("*.safetensors")),
        "scores": scores,
        "paper": linked_papers(paper),
        "task_files": own_task_files({"run": recipe}),
        "papers": cited_papers(paper),
    }


def has_answers(pretraining: Mapping[str, Any]) -> bool:
    """Say whether a run was trained to answer an input: no text, sequences or masked spans.

    Args:
        pretraining: the options of the run.
    """
    if not pretraining.get("task") or pretraining.get("objective") == "span_corruption":
        return False
    task = get_task(pretraining["task"])
    return not (task.is_sequence or task.is_text)


def read_json_if_exists(file: Path) -> Any:
    """Return a JSON file's content without paths of this machine, None without such a file."""
    return without_local_paths(read_json(file)) if file.exists() else None


def auto_class(architecture: str) -> str:
    """Return the Auto class of transformers that loads an architecture."""
    for head, auto in AUTO_CLASS_OF_HEAD.items():
        if architecture.endswith(head):
            return auto
    return "AutoModelForCausalLM"


def vocabulary_entry(size: int | None) -> dict[str, Any]:
    """Return the ids of a synthetic run under the keys of its card.

    Args:
        size: the size of a plain vocabulary; None for the paper's T5 ids.
    """
    vocabulary = as_vocabulary(size)
    return {
        "size": vocabulary.size,
        "pad": vocabulary.pad,
        "eos": vocabulary.eos,
        "first": vocabulary.first_regular,
        "content": vocabulary.regular_count,
        "marks": dict(vocabulary.special_ids),
    }


def run_rows(run: dict[str, Any], pretraining: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows (name, value) of a card's table on the pre-training run.

    Args:
        run: the content of pretraining.json.
        pretraining: the PretrainingSpec in its recipe.
    """
    rows = [(name, format_value(run.get(key))) for name, key in RUN_ROWS.items()]
    rows += [(name, format_value(run[key])) for name, key in LOSS_ROWS.items() if key in run]
    if "learnt" in run:
        reason = f": {run['not_judged']}" if run.get("not_judged") else ""
        rows.append(("the task was learnt", LEARNT[run["learnt"]] + reason))
    rows.append(("seed", format_value(pretraining.get("seed"))))
    if run.get("epochs"):
        rows.append(("epochs of the text", format_value(run["epochs"])))
    if run.get("corpus_ids"):
        rows.append(("ids of the text that are read", format_value(run["corpus_ids"])))

    if run.get("device"):
        machine = f"{run['device']}; processes {run['processes']}, threads of each {run['threads']}"
        rows.append(("computed on", machine))

    versions = [f"{name} {version}" for name, version in (run.get("versions") or {}).items()]
    rows.append(("versions", ", ".join(versions) or "not recorded"))
    return rows
