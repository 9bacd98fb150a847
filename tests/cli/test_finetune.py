"""The verb finetune on data of one's own: what it prints, and the model folder that it leaves.

Run: pytest tests/cli/test_finetune.py
"""

import json
import re
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from hf_synpre.cli import main
from hf_synpre.cli.experiment import point_to_report
from hf_synpre.cli.finetune import add_usual_training, is_small_model
from hf_synpre.config import build_spec
from hf_synpre.experiments import Experiment, ExperimentSpec
from hf_synpre.experiments.cell import experiment_recipe
from hf_synpre.finetuning import TaskChoice, saving
from hf_synpre.hub.publish import plan_push
from hf_synpre.models.spec import ModelSpec

ROWS = 40
TINY_T5 = "d_model=32,d_kv=8,num_heads=2,d_ff=32,num_layers=1,num_decoder_layers=1"
TINY_LLAMA = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,num_key_value_heads=2"
TINY_ENCODER = (
    "hidden_size=32,embedding_size=32,num_hidden_layers=1,num_attention_heads=2,"
    "intermediate_size=32"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty folder, the current one, with reviews.csv, pairs.csv and tags.jsonl."""
    monkeypatch.chdir(tmp_path)
    kinds = ["good", "bad"]
    lines = ["review,stars", *(f"film {i} was {kinds[i % 2]},{kinds[i % 2]}" for i in range(ROWS))]
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    lines = ["source,target", *(f"say {i} twice,{i} {i}" for i in range(ROWS))]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    rows = [{"tokens": [f"w{i}", "in", "Rome"], "tags": ["O", "O", "B-LOC"]} for i in range(ROWS)]
    (tmp_path / "tags.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return tmp_path


def finetune(*words):
    usual = ("--max_steps", "2", "--evaluations", "1", "--vocab_size", "400", "--use_cpu", "true")
    return main(["finetune", *words, *(usual if "--tokenizer" not in words else usual[:-4])])


def test_a_csv_becomes_a_classifier_that_pipeline_loads(folder, capsys):
    assert finetune("reviews.csv", "--config_overrides", TINY_ENCODER) == 0
    shown = capsys.readouterr().out
    assert (
        "reviews.csv: predicts stars (one of its classes) from review; --text and --label" in shown
    )
    assert "4 for validation and 4 for the test are held out by a fixed shuffle" in shown
    assert "2 steps of 32 rows (2 epochs); learning rate 0.001 (adamw_torch)." in shown
    assert "Model, tokenizer and card: runs/reviews/reviews--random--0." in shown

    # The line that is printed last, and that of the card, run as they stand.
    model = "runs/reviews/reviews--random--0"
    command = re.search(r"python -c '(.*)'", shown)[1]
    card = (folder / model / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", card, re.S)[1]
    assert re.search(r'predict\("film [0-9]+ was', command)  # a row of the test, which no card has
    assert 'predict("<review>", truncation=True)' in code
    for text in (command, code):
        exec(text, {})
    assert capsys.readouterr().out.count("'label': ") == 2
    assert pipeline("text-classification", model=model)("a film")[0]["label"] in ("good", "bad")
    assert main(["push", model, "--repo_id", "me/stars", "--dry_run"]) == 0
    plan = plan_push(model, "me/stars")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= plan.files.keys()
    published = plan.files["README.md"].decode()
    assert 'model="me/stars"' in published
    assert str(folder) not in published + (folder / model / "config.json").read_text()
    assert "Labels: bad, good." in card
    assert "| accuracy |" in card


def test_the_same_command_does_nothing_twice_and_makes_a_model_that_is_missing(folder, capsys):
    """Scores alone are kept with --no_save_model; without it the model is made after all."""
    words = ("reviews.csv", "--config_overrides", TINY_ENCODER)
    scores = folder / "runs/reviews/reviews--random--0.json"
    weights = folder / "runs/reviews/reviews--random--0/model.safetensors"
    assert finetune(*words, "--no_save_model") == 0
    assert "No model was kept" in capsys.readouterr().out
    first = json.loads(scores.read_text())
    assert not weights.exists()

    assert finetune(*words) == 0
    stamp = weights.stat().st_mtime_ns
    assert json.loads(scores.read_text())["score"] == first["score"]
    assert "already finished" not in capsys.readouterr().out
    assert finetune(*words) == 0
    assert "runs/reviews holds this run already finished: nothing" in capsys.readouterr().out
    assert weights.stat().st_mtime_ns == stamp


def test_pairs_of_text_become_a_model_that_generates_from_the_folder(folder, capsys):
    """Its tokenizer ends a source as the rows of training did, and generate stops by itself."""
    assert finetune("pairs.csv", "--config_overrides", TINY_T5) == 0
    shown = capsys.readouterr().out
    assert "pairs.csv: predicts target (text) from source;" in shown
    assert re.search(r'tokenizer\("say [0-9]+ twice", ', shown)
    path = "runs/pairs/pairs--random--0"
    assert 'tokenizer("<source>", ' in Path(path, "README.md").read_text()
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSeq2SeqLM.from_pretrained(path)
    inputs = tokenizer("say 3 twice", return_tensors="pt")
    assert inputs["input_ids"][0, -1] == tokenizer.eos_token_id == model.config.eos_token_id
    ids = model.generate(**inputs)
    assert model.config.use_cache is True
    assert ids.shape[1] <= 1 + model.generation_config.max_new_tokens < 20


def test_tags_have_their_names(folder, capsys):
    assert finetune("tags.jsonl", "--config_overrides", TINY_ENCODER) == 0
    assert re.search(r'predict\("w[0-9]+ in Rome"\)', capsys.readouterr().out)
    tagger = pipeline("token-classification", model="runs/tags/tags--random--0")
    assert {found["entity"] for found in tagger("He is in Rome")} <= {"O", "B-LOC"}


def test_a_checkpoint_gives_architecture_tokenizer_and_embeddings(folder, capsys):
    """What finetune left is a start itself; the class of the model is that of the new task."""
    assert finetune("reviews.csv", "--config_overrides", TINY_ENCODER, "--output_dir", "a") == 0
    start = "a/reviews--random--0"
    words = ("tags.jsonl", "--init", "weights", "--checkpoint", start, "--output_dir", "b")
    assert main(["finetune", *words, "--max_steps", "2", "--use_cpu"]) == 0
    shown = capsys.readouterr().out
    assert f"tags: weights of {start}, tokenizer of {start}; 2 steps of 32 rows" in shown
    config = json.loads((folder / "b/tags--weights--0.json").read_text())["config"]
    assert config["arm"]["embeddings"] == "kept"
    assert config["task"]["tokenizer"] == config["model"]["config_name"] == start


def test_an_architecture_beside_its_own_checkpoint_has_the_sizes_of_the_checkpoint(folder):
    arguments = ["--init", "statistics", "--checkpoint", "synpre/t5-mini-set", "--max_steps", "1"]
    words = ["pairs.csv", "--model_type", "t5", "--use_cpu", "--no_save_model", *arguments]
    assert main(["finetune", *words, "--output_dir", "a"]) == 0
    config = json.loads((folder / "a/pairs--statistics--0.json").read_text())["config"]
    assert config["model"]["config_name"] == "synpre/t5-mini-set"


def test_a_checkpoint_is_tested_without_training(folder, capsys):
    """A decoder that has read what animals say knows it when it is asked."""
    sounds = {"dog": "woof", "cat": "meow", "cow": "moo", "hen": "cluck"}
    animals = [list(sounds)[i % 4] for i in range(ROWS)]
    others = [list(sounds.values())[(i + 1 + i // 4 % 3) % 4] for i in range(ROWS)]
    read, asked = [], []
    for i, (animal, other) in enumerate(zip(animals, others, strict=True)):
        read.append({"text": f"{i} times {animal} {sounds[animal]}"})
        choices = [sounds[animal], other][:: 1 - 2 * (i % 2)]
        question = f"{i} times {animal}"
        asked.append({"question": question, "choices": choices, "label": i % 2})
    for name, rows in (("read", read), ("asked", asked)):
        Path(f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))

    shape = "hidden_size=32,num_hidden_layers=1,num_attention_heads=2,num_key_value_heads=2"
    words = ("--head", "lm", "--model_type", "llama", "--config_overrides", shape)
    words += ("--max_steps", "40", "--learning_rate", "1e-2", "--max_source", "64")
    assert main(["finetune", "read.jsonl", *words, "--use_cpu"]) == 0

    start = ("--init", "weights", "--checkpoint", "runs/read/read--random--0", "--use_cpu")
    assert main(["finetune", "asked.jsonl", *start, "--max_steps", "0"]) == 0
    shown = capsys.readouterr().out
    assert "; no training, the model is tested as it is." in shown
    assert "accuracy: the choice with the highest log-likelihood per token after its" in shown
    result = json.loads(Path("runs/asked/asked--weights--0.json").read_text())
    assert result["score"] == 1.0
    assert result["phases"]["finetuning"]["steps"] == 0

    # Generated text too; but no head that the checkpoint does not have.
    words = (*start, "--max_steps", "0", "--accept_unspellable")
    assert main(["finetune", "pairs.csv", *words]) == 0
    capsys.readouterr()
    assert main(["finetune", "reviews.csv", *start, "--max_steps", "0"]) == 2
    assert "max_steps is 0, and reviews is answered by the head classes, whose layer no" in (
        capsys.readouterr().err
    )
    assert not Path("runs/reviews").exists()


def test_statistics_that_are_bundled_need_no_tokenizer(folder, capsys):
    words = ("pairs.csv", "--init", "statistics", "--checkpoint", "synpre/t5-mini-set")
    assert finetune(*words) == 0
    assert "pairs: statistics of synpre/t5-mini-set; 2 steps of 32 rows" in capsys.readouterr().out

    config = json.loads((folder / "runs/pairs/pairs--statistics--0/config.json").read_text())
    assert config["d_model"] == 128


def test_the_scheme_is_named_and_too_long_a_warm_up_is_said(folder, capsys):
    words = ["--model_type", "llama", "--config_overrides", TINY_LLAMA]
    words += ["--init", "statistics", "--scheme", "mimetic", "--warmup_steps", "10"]
    assert finetune("pairs.csv", *words) == 0
    shown = capsys.readouterr()
    assert "pairs: llama, scheme mimetic, no checkpoint; 2 steps of 32 rows" in shown.out
    assert "10 steps of warm-up and 2 steps in all: the learning rate never" in shown.err


def test_lora_is_saved_as_plain_weights(folder):
    from safetensors import safe_open

    words = ("reviews.csv", "--config_overrides", TINY_ENCODER, "--lora", "r=2")
    assert finetune(*words, "--lora", "r=2,target_modules=query") == 2  # given twice
    words = (*words[:-1], "r=2,init_lora_weights=gaussian")
    assert finetune(*words) == 0
    file = folder / "runs/reviews/reviews--random--0/model.safetensors"
    with safe_open(file, "pt") as tensors:
        assert not [name for name in tensors.keys() if "lora" in name or "base_layer" in name]  # noqa: SIM118


def test_a_run_that_dies_while_it_saves_leaves_nothing_and_goes_on(folder, monkeypatch, capsys):
    words = ("reviews.csv", "--config_overrides", TINY_ENCODER)
    with monkeypatch.context() as patched:
        patched.setattr(saving, "finetuned_card", raise_interrupt)
        assert finetune(*words) == 130
    files = [path.name for path in (folder / "runs/reviews").iterdir()]
    assert not [name for name in files if name.startswith("reviews")]

    # What a killed process could not clean up is cleaned up by the next one.
    (folder / "runs/reviews/.reviews--random--0.partial").mkdir()
    assert finetune(*words) == 0
    assert (folder / "runs/reviews/reviews--random--0/README.md").exists()
    assert not (folder / "runs/reviews/.reviews--random--0.partial").exists()


def raise_interrupt(*arguments):
    raise KeyboardInterrupt


def test_a_report_that_is_older_than_the_results_is_named(tmp_path, capsys):
    """After `run --only` and `finetune` a report that is there lacks the new scores."""
    (tmp_path / "a--random--0.json").write_text("{}")
    point_to_report(tmp_path)
    assert capsys.readouterr().out == ""
    (tmp_path / "a--random--1.json").write_text("{}")
    point_to_report(tmp_path)
    assert f"`synpre report {tmp_path}` compares the results so far." in capsys.readouterr().out
    (tmp_path / "report.md").write_text("")
    point_to_report(tmp_path)
    assert f"report.md is older than this; `synpre report {tmp_path}`" in capsys.readouterr().out


def test_an_experiment_keeps_models_where_its_yaml_asks_for_them(tmp_path):
    """The recipe in its folder is the same with and without them, so that it may be asked later."""
    fields = {"name": "x", "tasks": {"stdlib_ast": {}}, "arms": {"random": {}}}
    plain, keeping = (
        Experiment(build_spec(ExperimentSpec, {**fields, **more}, "x.yaml"), tmp_path)
        for more in ({}, {"save_models": True})
    )
    assert experiment_recipe(plain.spec) == experiment_recipe(keeping.spec)
    cell = plain.cells()[0]
    assert plain.model_folder(cell) is None
    assert keeping.model_folder(cell) == tmp_path / "stdlib_ast--random--0"

    # A cell with scores and without its model is computed again.
    (tmp_path / cell.file_name).write_text('{"status": "done"}')
    assert cell not in plain.missing(plain.cells())
    assert cell in keeping.missing(keeping.cells())


def usual_training(fields, rows=1600, is_small=True, given=None, **arm):
    training = dict(given or {})
    add_usual_training(training, TaskChoice("mine", fields, train_rows=rows), arm, is_small)
    return training


def test_usual_training_fits_the_data_and_the_start():
    """About ten epochs within 300 to 1,000 steps; a large model's trained weights change less."""
    labels = {"head": "classes", "text": "a", "label": "b"}
    steps = [usual_training(labels, rows)["max_steps"] for rows in (24, 1600, 10**6)]
    assert steps == [300, 500, 1000]
    for batch, accumulated, expected in ((16, 1, 1000), (128, 1, 500), (16, 8, 500)):
        given = {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulated,
        }
        assert usual_training(labels, 6400, given=given)["max_steps"] == expected
    rates = [
        usual_training(labels, is_small=is_small, **arm)["learning_rate"]
        for is_small in (True, False)
        for arm in ({}, {"init": "weights"})
    ]
    assert rates == [1e-3, 1e-3, 5e-4, 1e-4]
    assert "max_steps" not in usual_training(labels, given={"num_train_epochs": 3})


@pytest.mark.parametrize(
    ("arm", "is_small", "rate", "steps"),
    [
        ({}, True, 3e-2, 1000),
        ({"init": "statistics"}, True, 3e-2, 1000),
        ({"init": "weights"}, True, 3e-2, 1000),  # with embeddings that are fresh
        ({"init": "weights", "embeddings": "kept"}, True, 1e-3, 500),
        ({"init": "statistics"}, False, 1e-3, 1000),
    ],
)
def test_usual_training_of_generated_text_fits_the_size_of_the_model(arm, is_small, rate, steps):
    training = usual_training({"source": "a", "target": "b"}, is_small=is_small, **arm)
    assert training == {
        "per_device_train_batch_size": 32,
        "lr_scheduler_type": "linear",
        "learning_rate": rate,
        "warmup_steps": 0.05,
        "max_steps": steps,
    }


def test_models_are_small_by_the_parameters_of_their_layers():
    assert is_small_model(ModelSpec(config_name="synpre/t5-mini-set"))
    assert not is_small_model(ModelSpec(model_type="t5"))  # t5-small


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoint", "runs/nothing"], "There is no folder runs/nothing"),
        (["--checkpoint", "synpre/t5-mini-set"], "has the statistics of a model and not its weig"),
        (["--checkpoint", "bert"], "pairs is answered with generated text, and bert is neither an"),
        (
            ["--label", "target", "--source", "source"],
            "source is of generated text, label of labels",
        ),
        (
            ["--source", "say"],
            "Unknown column of pairs.csv 'say'. Allowed: source, target.",
        ),
        (["--target", "nope"], "Unknown column of pairs.csv 'nope'. Allowed: source, target."),
    ],
)
def test_what_cannot_be_is_said_before_data_are_prepared(words, message, folder, capsys):
    from transformers import BertConfig

    (folder / "runs").mkdir()
    BertConfig(num_hidden_layers=1).save_pretrained(folder / "bert")
    init = ["--init", "weights"] if "--checkpoint" in words else []
    assert finetune("pairs.csv", *init, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list((folder / "runs").iterdir()) == []
