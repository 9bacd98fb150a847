"""Layer 5: cards of datasets and models, rendered from templates/ and what JSON files and shards say of themselves."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData, EvalResult, ModelCardData

from hf_synpre.config import read_yaml
from hf_synpre.data.shards import BLOCK_ROWS, config_folder, read_configs
from hf_synpre.errors import UsageError
from hf_synpre.files import read_json, write_text
from hf_synpre.report import read_cells, summarize
from hf_synpre.tasks import get_task
from hf_synpre.vocabulary import as_vocabulary

CARD = "README.md"
TEMPLATES = Path(__file__).parent / "templates"
FIRST_PAPER = "2206.10139"
SELF_PAPER = "2209.14389"  # Krishna et al.: pre-training on a dataset's own text
ROW_COUNTS = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
SAME_RUN = (
    "tokens",
    "flops",
    "accuracy",
    "train_s",
)  # what tells that a cell started from a checkpoint
RUN_FACTS = {
    "steps": "steps",
    "tokens (input and target, without padding)": "tokens",
    "FLOPs (matrix products, forward and backward)": "flops",
    "seconds of training": "train_s",
    "stopped by": "stopped",
    "validation token accuracy": "accuracy",
}


def render(template: str, data: DatasetCardData | ModelCardData, facts: Mapping[str, Any]) -> str:
    """Return a card: the YAML of `data`, then the template with `facts`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    looks = {
        "undefined": StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "keep_trailing_newline": True,
    }
    environment = Environment(loader=FileSystemLoader(TEMPLATES), **looks)
    environment.filters |= {
        "number": number,
        "json": lambda value: json.dumps(value, sort_keys=True),
    }
    body = environment.get_template(template).render(facts)
    return f"---\n{data.to_yaml(line_break=chr(10))}\n---\n\n{body}"


def papers(*texts: str) -> list[dict[str, Any]]:
    """Return the papers whose arXiv numbers stand in the texts, Wu et al. 2022 first."""
    known = {str(number): paper for number, paper in read_yaml(TEMPLATES / "papers.yaml").items()}
    numbers = dict.fromkeys([FIRST_PAPER, *re.findall(r"\d{4}\.\d{5}", " ".join(texts))])
    return [{"arxiv": number, **known[number]} for number in numbers if number in known]


def definition(task: str) -> dict[str, str]:
    """Return what a task's docstring says, and the example drawn in it."""
    says, _, drawn = (get_task(task).function.__doc__ or "").partition("\n\n")
    return {
        "says": " ".join(says.split()),
        "drawn": "\n".join(line.strip() for line in drawn.strip().splitlines()),
    }


def dataset_card(repo_id: str, configs: dict[str, dict[str, Any]]) -> str:
    """Return the card of a dataset; its YAML holds all that `load_dataset` and `rebuild` need."""
    configs = dict(sorted(configs.items(), key=lambda item: item[0] != "default"))
    main = next(iter(configs.values()))
    tasks = list(dict.fromkeys(config["task"] for config in configs.values()))
    rows = sum(split["rows"] for split in main["splits"].values())
    data = DatasetCardData(
        license="apache-2.0",
        pretty_name=repo_id.split("/")[1],
        tags=["synthetic", "pre-training", "hf_synpre"],
        size_categories=[ROW_COUNTS[min(max(len(str(rows)) - 3, 0), len(ROW_COUNTS) - 1)]],
        configs=[
            files_entry(name, config, name == next(iter(configs)))
            for name, config in configs.items()
        ],
        dataset_info=[info_entry(name, config) for name, config in configs.items()],
        synpre={"configs": configs},
    )
    facts = {
        "repo_id": repo_id,
        "configs": configs,
        "main": main,
        "block": BLOCK_ROWS,
        "version": main["hf_synpre"],
    }
    facts |= {
        "tasks": {task: definition(task) for task in tasks},
        "papers": papers(*(get_task(t).paper for t in tasks)),
    }
    return render("dataset_card.md.jinja", data, facts)


def files_entry(name: str, config: dict[str, Any], default: bool) -> dict[str, Any]:
    """Return the entry of `configs:` that tells load_dataset which files a configuration has."""
    files = [{"split": s, "path": f"{config_folder(name)}/{s}-*.parquet"} for s in config["splits"]]
    return {"config_name": name, **({"default": True} if default else {}), "data_files": files}


def info_entry(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of `dataset_info:`; load_dataset checks the numbers of rows against it."""
    splits = [
        {
            "name": split,
            "num_bytes": 4 * facts["ids"] + 8 * facts["rows"],
            "num_examples": facts["rows"],
        }
        for split, facts in config["splits"].items()
    ]
    features = [{"name": column, "list": "int32"} for column in ("input_ids", "labels")]
    return {"config_name": name, "features": features, "splits": splits}


def write_dataset_card(folder: str | Path, repo_id: str) -> bool:
    """Write the card of a folder of shards, from their footers; say whether any configuration was complete."""
    configs = read_configs(folder)
    if configs:
        write_text(Path(folder) / CARD, dataset_card(repo_id, configs))
    return bool(configs)


def model_card(folder: str | Path, repo_id: str) -> str:
    """Return the card of a model folder from its JSON files: pretraining.json, parameter_statistics.json, results/."""
    try:
        facts = model_facts(Path(folder))
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"The JSON files of {folder} are not what hf_synpre writes ({error!r}); make them again."
        ) from None
    data = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        tags=["synthetic-pretraining", "hf_synpre"],
        model_name=repo_id.split("/")[1],
        eval_results=[eval_result(row) for row in facts["results"] if row["from_here"]] or None,
        synpre={name: facts[name] for name in ("task", "recipe", "vocabulary", "versions")},
    )
    return render("model_card.md.jinja", data, facts | {"repo_id": repo_id})


def model_facts(folder: Path) -> dict[str, Any]:
    """Return what a model folder's JSON files say. Raises UsageError where there are none."""
    run, statistics, config = (
        optional(folder / f"{name}.json")
        for name in ("pretraining", "parameter_statistics", "config")
    )
    if run is None and statistics is None:
        raise UsageError(
            f"{folder} holds neither pretraining.json nor parameter_statistics.json; nothing is known of it."
        )
    recipe = (run or {}).get("recipe") or {}
    spec = recipe.get("pretraining") or {}
    task = spec.get("task")
    return {
        "task": task,
        "spec": spec,
        "recipe": recipe,
        "versions": (run or {}).get("versions"),
        "vocabulary": vocabulary_facts(spec.get("vocabulary")) if task else None,
        "spent": spent_rows(run, spec) if run else [],
        "config": config or {},
        "auto_class": auto_class(
            (config or {}).get("architectures") or ["T5ForConditionalGeneration"]
        ),
        "tensors": [p["numel"] for p in (statistics or {}).get("parameters", ())],
        "results": [
            row for cells in result_folders(folder) for row in result_rows(cells, run or {})
        ],
        "has_weights": any(folder.glob("*.safetensors")),
        "about": definition(task) if task else None,
        "papers": papers(
            get_task(task).paper if task else SELF_PAPER if spec.get("text") is not None else ""
        ),
    }


AUTO_CLASSES = {
    "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForPreTraining": "AutoModelForPreTraining",
    "ForTokenClassification": "AutoModelForTokenClassification",
}


def auto_class(architectures: list[str]) -> str:
    """Return the Auto class of transformers that loads the first of `architectures`."""
    return next(
        (auto for head, auto in AUTO_CLASSES.items() if architectures[0].endswith(head)),
        "AutoModelForCausalLM",
    )


def vocabulary_facts(given: Any) -> dict[str, Any]:
    """Return the ids that a synthetic run used: their number, control ids, content range and marks."""
    words = as_vocabulary(given)
    return {name: getattr(words, name) for name in ("size", "pad", "eos", "first", "content")} | {
        "marks": dict(words.special_ids)
    }


def spent_rows(run: dict[str, Any], spec: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (what, value) of a run's facts for its card."""
    given = {name: run.get(key) for name, key in RUN_FACTS.items()} | {"seed": spec.get("seed")}
    given |= {"epochs of the text": run["epochs"]} if run.get("epochs") else {}
    versions = ", ".join(
        f"{name} {version}" for name, version in (run.get("versions") or {}).items()
    )
    return [
        *((what, number(value)) for what, value in given.items()),
        ("versions", versions or "not recorded"),
    ]


def number(value: Any) -> str:
    """Return a fact for people."""
    if value is None:
        return "not recorded"
    return (
        value
        if isinstance(value, str)
        else f"{value:,}"
        if isinstance(value, int)
        else f"{value:.4g}"
    )


def optional(file: Path) -> Any:
    """Return the content of a JSON file, None where there is none."""
    return read_json(file) if file.exists() else None


def result_folders(folder: Path) -> Iterator[list[dict]]:
    """Yield the cells of every experiment under results/."""
    for place in sorted({file.parent for file in folder.glob("results/**/*--*--*.json")}):
        yield read_cells(place)


def result_rows(cells: list[dict], run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each task and arm of an experiment; `from_here` says that its pre-training is this `run`."""
    report, rows = summarize(cells), []
    for task, arms in report["scores"].items():
        for arm, score in arms.items():
            group = [c for c in cells if (c["task"], c["arm"], c["status"]) == (task, arm, "done")]
            runs = [(c.get("phases") or {}).get("pretraining") or {} for c in group]
            same = all(of.get(key) == run.get(key) for of in runs for key in SAME_RUN)
            start = (group[0].get("config") or {}).get("arm") or {}
            row = {
                "experiment": report["experiment"],
                "task": task,
                "arm": arm,
                "init": start.get("init"),
                "score": score,
            }
            row |= {
                "metric": report["tasks"][task]["metric"],
                "from_here": bool(run.get("tokens")) and same,
            }
            rows.append(row | {"examples": report["tasks"][task]["test_examples"]})
    return rows


def eval_result(row: dict[str, Any]) -> EvalResult:
    """Return the model-index entry of a row: a score after fine-tuning, which its names say."""
    score, start = (
        row["score"],
        "these weights" if row["init"] == "weights" else "weights sampled from these statistics",
    )
    spread = (
        "" if score["low"] is None else f", 95 % interval {score['low']:.4f} to {score['high']:.4f}"
    )
    return EvalResult(
        task_type="text2text-generation",
        task_name=f"{row['task']}, fine-tuned from {start}",
        dataset_type=row["task"],
        dataset_name=row["task"],
        dataset_split="test",
        metric_type=row["metric"],
        metric_name=f"{row['metric']}, mean of {score['n']} fine-tunings{spread}",
        metric_value=round(score["value"], 4),
        verified=False,
    )
