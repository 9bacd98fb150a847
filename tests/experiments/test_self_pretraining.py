"""Experiments on labelled tasks: arms of self-pretraining, shared tokenizers, gains, ensembles.

Run: pytest tests/experiments/test_self_pretraining.py
"""

import json

import pytest
import torch
from encoder_examples import ENCODER, labelled, write_dataset
from label_examples import MODEL, TRAINING

from hf_synpre import UsageError
from hf_synpre.config import build_spec
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.experiments import Experiment, ExperimentSpec
from hf_synpre.experiments.cell import initial_model
from hf_synpre.report import write_report
from hf_synpre.vocabulary import as_vocabulary

RUN = {
    "objective": "rtd",
    "window": 24,
    "batch_size": 8,
    "target_accuracy": 2.0,
    "evaluations": 1,
    "validation_examples": 8,
}
STEPS = {"max_steps": 4, "optim": "adamw_torch", "learning_rate": 1e-3, "use_cpu": True}
DEFINED = {"head": "classes", "text": [["text"]], "label": [["label"]]}


def campaign(tmp_path, **changes):
    for name, first in (("one", 0), ("two", 500)):
        if not (tmp_path / name).exists():
            train, test = labelled(first, 80), labelled(first + 80, 20)
            if name == "two":  # a corpus may hold another task's test rows
                test["text"][:3] = labelled(0, 80)["text"][10:13]
            write_dataset(tmp_path / name, train=train, test=test)
    own = RUN | {"corpus": "self", "training": STEPS}
    given = {
        "name": "small",
        "model": {"model_type": "electra", "overrides": ENCODER | {"embedding_size": 16}},
        "pretraining": {
            "self": own,
            "one": own | {"corpus": "one"},
            "books": own | {"corpus": "two", "text": {"limit_mb": 0.002}},
            "tapt": own | {"start": "books"},
            "set": {
                "task": "set",
                "vocabulary": 64,
                "objective": "mlm",
                "batching": "packed",
                "evaluations": 1,
                "row_length": 64,
            }
            | {
                "parameters": {"min_length": 4, "max_length": 8},
                "training": STEPS | {"per_device_train_batch_size": 4},
            },
            "set_self": own | {"start": "set", "start_embeddings": "fresh"},
        },
        "tasks": {name: {"define": DEFINED, "vocab_size": 400} for name in ("one", "two")},
        "arms": {"random": {}, "equal_compute": {"match_flops_of": "tapt"}}
        | {
            run: {"init": "weights", "checkpoint": run, "embeddings": "kept"}
            for run in ("self", "one", "tapt", "set_self")
        }
        | {"natural": {"init": "weights", "checkpoint": "books", "embeddings": "kept"}}
        | {"synthetic": {"init": "weights", "checkpoint": "set"}},
        "finetuning": {"training": TRAINING | {"max_steps": 4}, "evaluations": 1},
        "seeds": [0, 1],
        "jobs": 1,
        "data_dir": str(tmp_path),
    }
    return build_spec(ExperimentSpec, given | changes, "x")


def test_every_arm_of_self_pretraining_runs_and_is_reported(tmp_path):
    experiment = Experiment(campaign(tmp_path), tmp_path / "results")
    assert experiment.run() == []
    cells = {f.stem: json.loads(f.read_text()) for f in (tmp_path / "results").glob("*--*--*.json")}
    assert len(cells) == 2 * 8 * 2
    runs = sorted(
        p.name.rpartition("-")[0]
        for p in (tmp_path / "results" / "work" / "pretraining").iterdir()
        if p.is_dir()
    )
    assert (
        runs.count("rtd-one") == 4
    )  # on its own text from scratch, which is arm one too, TAPT, after Set; for task two
    own = cells["two--self--0"]["phases"]["pretraining"]
    assert own["recipe"]["corpus"]["name"] == "two"
    assert own["recipe"]["corpus"]["checked_against"] == {"validation": 8, "test": 20}
    assert str(tmp_path) not in json.dumps(own)
    other = cells["two--one--0"]["phases"]["pretraining"]
    assert other["recipe"]["corpus"]["name"] == "one"
    assert other["test_rows_seen"] == {"one": 3}  # put there by `campaign`
    assert own["test_rows_seen"] == {"two": 0}
    tapt, natural = (
        cells[f"one--{arm}--0"]["phases"]["pretraining"] for arm in ("tapt", "natural")
    )
    assert tapt["before"]["flops"] == natural["flops"]
    flops = {
        arm: cells[f"one--{arm}--0"]["phases"]["finetuning"]["flops"]
        for arm in ("random", "equal_compute")
    }
    assert flops["equal_compute"] - flops["random"] == pytest.approx(
        tapt["flops"] + natural["flops"], rel=0.2
    )
    report = write_report(tmp_path / "results")
    matrix = report["transfer"]["matrix"]
    assert matrix["gains"].keys() >= set(report["arms"]) - {"random", "natural"}
    pairs = {tuple(row["arms"]): row for row in report["transfer"]["ensembles"]["one"]}
    assert ("random", "self") in pairs or ("self", "random") in pairs
    assert ("random", "two seeds") in pairs
    assert (tmp_path / "results" / "gains.png").stat().st_size > 5000
    text = (tmp_path / "results" / "report.md").read_text()
    assert "## Gain by start and task" in text
    assert "### Pairs on two" in text


def test_rows_of_another_task_are_found_in_shuffled_sentences_too(tmp_path):
    experiment = Experiment(campaign(tmp_path), tmp_path / "results")
    for order in ("natural", "shuffled_sentences"):
        experiment.spec.pretraining["one"].text = TextSpec(order=order)
        assert experiment.artifacts.test_rows_seen("one", "two") == {"one": 3}


def test_tasks_share_a_tokenizer_and_so_a_pre_training(tmp_path):
    shared = {"define": DEFINED, "vocab_size": 400, "tokenizer_corpora": ["two", "one"]}
    experiment = Experiment(
        campaign(tmp_path, tasks=dict.fromkeys(("one", "two"), shared)), tmp_path / "results"
    )
    first, second = (experiment.artifacts.prepared_task(name) for name in ("one", "two"))
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    assert first.metadata["tokenizer"] == "strict: trained on two, one, 400 ids, case kept"
    assert experiment.artifacts.checkpoint("one", "one") == experiment.artifacts.checkpoint(
        "one", "two"
    )
    alone = Experiment(campaign(tmp_path), tmp_path / "alone")
    assert alone.artifacts.prepared_task("one").tokenizer.get_vocab() != first.tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"tokenizer": "bert", "tokenizer_corpora": ["one"]},
            "The option tokenizer_corpora is read with a tokenizer that is trained only, which",
        ),
        (
            {"tokenizer_corpora": []},
            "tokenizer_corpora is empty; name a task or a corpus, or leave it out",
        ),
        (
            {"tokenizer_corpora": ["three"]},
            "Unknown corpus 'three'.* Or a task of the experiment: one",
        ),
    ],
)
def test_a_shared_tokenizer_needs_text(given, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        Experiment(
            campaign(tmp_path, tasks={"one": {"define": DEFINED} | given}), tmp_path / "results"
        ).open_folder()


def test_runs_that_need_each_other_are_refused(tmp_path):
    own = RUN | {"corpus": "self", "training": STEPS}
    with pytest.raises(
        UsageError, match="The runs a, b need each other; start one of them from something else"
    ):
        campaign(
            tmp_path,
            pretraining={"a": own | {"start": "b"}, "b": own | {"start": "a"}},
            arms={"random": {}},
        )


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_a_checkpoint_of_the_hub_is_an_arm(kind, tmp_path, prepared):
    """A body without a head, as the published kundank/dspt-* are (in the old format), by its id or
    folder.
    """
    from transformers import ElectraModel

    data = prepared["classes"]
    body = ElectraModel(MODEL.config(as_vocabulary(data.tokenizer)))
    body.save_pretrained(tmp_path / "dspt")
    arms = {
        "published": {"init": "weights", "checkpoint": str(tmp_path / "dspt"), "embeddings": "kept"}
    }
    spec = campaign(tmp_path, arms=arms, pretraining={}, seeds=[0])
    task = next(iter(spec.tasks))
    experiment = Experiment(spec, tmp_path / "results")
    made = experiment.artifacts.prepared_task(task)
    body.resize_token_embeddings(len(made.tokenizer))
    body.save_pretrained(tmp_path / "dspt")
    if kind == "pytorch_model.bin":
        (tmp_path / "dspt" / "model.safetensors").unlink()
        torch.save(body.state_dict(), tmp_path / "dspt" / kind)
    model, pretraining_cost = initial_model(
        experiment.cells()[0], experiment.spec, experiment.artifacts, made
    )
    assert pretraining_cost == {"name": str(tmp_path / "dspt")}
    assert torch.equal(
        model.electra.encoder.layer[0].output.dense.weight,
        body.encoder.layer[0].output.dense.weight,
    )
    assert torch.equal(model.get_input_embeddings().weight, body.get_input_embeddings().weight)
