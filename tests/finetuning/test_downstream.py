"""The downstream tasks: columns of every shape, splits, presets, a task of one's own; generation against transformers'."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import TINY
from transformers import AutoModelForSeq2SeqLM

from hf_synpre.config import build_spec
from hf_synpre.data.corpora import Corpus, open_corpus
from hf_synpre.errors import UsageError
from hf_synpre.experiments import ExperimentSpec
from hf_synpre.finetuning import (
    FinetuningSpec,
    TextToTextTask,
    finetune,
    get_finetuning_task,
    prepare,
)
from hf_synpre.finetuning.catalog import TEXT_TASKS
from hf_synpre.finetuning.finetuning import finetuning_trainer
from hf_synpre.finetuning.text_to_text import generate_ids
from hf_synpre.initialization import build
from hf_synpre.training.callbacks import BestModel
from hf_synpre.vocabulary import as_vocabulary

ROWS = {  # columns as the Hub and ../shared/data have them -> (source, gold texts)
    "retrosynthesis": ({"product": "CCO", "reactants": "CC.O"}, ("CCO", ["CC.O"])),
    "code_translation": ({"java": "int a;", "cs": "int A;"}, ("int a;", ["int A;"])),
    "mtop": (
        {"question": "call mum", "logical_form": "[IN:CALL ]", "lang": "en"},
        ("call mum", ["[IN:CALL ]"]),
    ),
    "webqsp": (
        {
            "question": "who",
            "topic_entity": "A B",
            "topic_mid": "m.1",
            "chain_form": "(JOIN r m.1)",
        },
        ("who entity: A B m.1", ["(JOIN r m.1)"]),
    ),
    "squad": (
        {
            "question": "Who?",
            "context": "It's I.",
            "answers": {"text": ["I.", "Me"], "answer_start": [5, 0]},
        },
        ("question: Who ? context: It ' s I .", ["I .", "Me"]),
    ),
    "cnn_dailymail_10k": (
        {"article": "Long\nText", "highlights": "One .\nTwo ."},
        ("long text", ["one . two ."]),
    ),
    "aeslc": ({"email_body": "a\nb", "subject_line": "Hi"}, ("a b", ["Hi"])),
    "scitldr": (
        {"source": ["One.", "Two."], "target": ["short", "brief"]},
        ("One. Two.", ["short", "brief"]),
    ),
}


def save(folder, splits):
    (folder / "data").mkdir(parents=True)
    for split, rows in splits.items():
        pq.write_table(
            pa.Table.from_pylist(rows), folder / "data" / f"{split}-00000-of-00001.parquet"
        )
    return folder


def test_every_task_has_an_example_here():
    assert set(ROWS) | {"stdlib_ast"} == {task.name for task in TEXT_TASKS}


@pytest.mark.parametrize("name", ROWS)
def test_columns_become_text(name, tmp_path):
    row, (source, golds) = ROWS[name]
    splits = ("train", "validation") if name == "squad" else ("train", "validation", "test")
    tables = get_finetuning_task(name).load(
        str(save(tmp_path / name, dict.fromkeys(splits, [row] * 20)))
    )
    assert tables["test"].to_pylist()[0] == {
        "source": source,
        "target": golds[0],
        "references": golds,
    }
    assert [len(t) for t in tables.values()] == ([18, 2, 20] if name == "squad" else [20] * 3)


@pytest.mark.parametrize("name", [task.name for task in TEXT_TASKS])
def test_presets_are_whole_recipes(name):
    for preset in get_finetuning_task(name).presets:
        spec = experiment(tasks={name: {}}, preset=preset)
        assert spec.finetuning_spec(name).training["max_steps"] >= 600
        assert spec.finetuning_spec(name).num_beams == (4 if preset == "paper" else 1)


def experiment(**changes):
    return build_spec(
        ExperimentSpec,
        {"name": "x", "tasks": {"mtop": {}}, "arms": {"random": {}}} | changes,
        "x.yaml",
    )


def test_the_task_s_recipe_wins_over_the_preset_s_and_that_over_the_experiment_s():
    general = {"training": {"max_steps": 7, "use_cpu": True, "learning_rate": 0.5}, "patience": 2}
    own = {"training": {"learning_rate": 0.25}}
    found = experiment(
        preset="paper", finetuning=general, tasks={"mtop": {"finetuning": own, "max_source": 9}}
    )
    recipe = found.finetuning_spec("mtop")
    assert (
        recipe.training["max_steps"],
        recipe.training["learning_rate"],
        recipe.training["use_cpu"],
    ) == (
        100_000,
        0.25,
        True,
    )
    assert (recipe.patience, recipe.num_beams, recipe.test_examples) == (2, 4, None)
    assert (found.finetuning_task("mtop").max_source, found.finetuning_task("mtop").max_target) == (
        9,
        128,
    )


BAD = [
    ({"preset": "papr"}, "Unknown preset 'papr'. Did you mean 'paper'?"),
    ({"preset": "paper", "tasks": {"stdlib_ast": {}}}, "Unknown preset of stdlib_ast 'paper'"),
    (
        {"tasks": {"mine": {"define": {"source": ["a"], "target": ["b"], "metric": "rouge"}}}},
        "Unknown metric 'rouge'",
    ),
    (
        {"tasks": {"mine": {"define": {"source": ["a"]}}}},
        "tasks.mine.define lacks the key 'target'",
    ),
    (
        {"tasks": {"mine": {"define": {"source": ["a"], "target": ["b"], "clean": ["lower"]}}}},
        "Did you mean 'lowercase'?",
    ),
    (
        {"tasks": {"mine": {"define": {"source": ["a"], "target": ["b"], "rows": {"train": 0}}}}},
        "rows of train is 0",
    ),
    (
        {"tasks": {"mtop": {"define": {"source": ["a"], "target": ["b"]}}}},
        "give your own another name",
    ),
    ({"tasks": {"mtop": {"finetuning": {"num_beam": 3}}}}, "Did you mean 'num_beams'?"),
    ({"tasks": {"mtop": {"seeds": [1, 1]}}}, "give distinct seeds"),
    (
        {"arms": {"random": {"tasks": ["mtip"]}}},
        "Unknown task of the arm 'random' 'mtip'. Did you mean 'mtop'?",
    ),
    (
        {"arms": {"more": {"match_flops_of": "set"}}},
        "Unknown run that 'more' takes its compute from 'set'",
    ),
    (
        {"arms": {"a": {"init": "weights", "checkpoint": "set", "match_flops_of": "set"}}},
        "only random takes it",
    ),
    (
        {"arms": {"a": {"init": "weights", "checkpoint": "x", "scheme": "mlp_scale"}}},
        "An arm with init weights has scheme mlp_scale, which only init statistics",
    ),
    (
        {"arms": {"a": {"init": "statistics", "checkpoint": "x", "value": 0.5}}},
        "has value 0.5, which only scheme constant_pre_",
    ),
    (
        {"arms": {"a": {"embeddings": "kept"}}},
        "embeddings kept, which only lora or a checkpoint takes; leave it out",
    ),
    (
        {"arms": {"a": {"tasks": []}}},
        "An arm has tasks []; name at least one, or leave it out for all",
    ),
    (
        {
            "arms": {
                "a": {"init": "statistics", "scheme": "constant_pre_attn_ln", "value": float("nan")}
            }
        },
        "value is nan; give a",
    ),
    (
        {"finetuning": {"training": {"learning_rate": float("inf")}}},
        "training.learning_rate is inf; give a finite number",
    ),
    ({"finetuning": {"training": {"output_dir": "x"}}}, "output_dir is set by hf_synpre itself"),
    ({"arms": {"a": {"lora": {"r": 0}}}}, "The field r of lora is 0; give an integer >= 1"),
    ({"arms": {"a": {"lora": {"rank": 3}}}}, "Unknown field of lora 'rank'"),
    (
        {
            "pretraining": {"tapt": {"task": "set", "training": {"max_steps": 1}}},
            "arms": {"a": {"init": "weights", "checkpoint": "tap"}},
        },
        "The arm 'a' has checkpoint 'tap'; did you mean the run 'tapt'?",
    ),
    ({"arms": {"a": {"resize": "width"}}}, "Unknown resize 'width'"),
    ({"finetuning": {"patience": -1}}, "patience is -1"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[m[:40] for _, m in BAD])
def test_bad_experiments_are_one_clear_line(changes, message):
    with pytest.raises(UsageError) as caught:
        experiment(**changes)
    assert message in str(caught.value)


def test_a_task_without_a_hub_id_says_where_its_rows_go():
    with pytest.raises(
        UsageError, match="webqsp is on no Hub id; give the folder of its rows as --data_dir"
    ):
        get_finetuning_task("webqsp").load()


def test_rows_that_are_no_text_are_named(tmp_path):
    row = {"source": "a", "target": []}
    task = TextToTextTask("mine", ["source"], ["target"])
    with pytest.raises(UsageError, match="column target of train holds"):
        task.load(
            str(
                save(
                    tmp_path / "mine",
                    dict.fromkeys(
                        ("train", "validation", "test"), (row, {"source": "b", "target": ["c"]})
                    ),
                )
            )
        )


def test_held_out_rows_are_in_no_other_split(tmp_path):
    rows = [{"source": f"s{i}", "target": "t"} for i in range(100)]
    task = TextToTextTask("mine", ["source"], ["target"], rows={"train": 50})
    tables = task.load(str(save(tmp_path / "mine", {"train": rows, "test": rows[:3]})))
    train, validation, test = (set(t["source"].to_pylist()) for t in tables.values())
    assert (len(train), len(validation), len(test)) == (50, 10, 3)
    assert not train & validation


@pytest.fixture(scope="module")
def mtop(tmp_path_factory, tiny_dataset):
    folder = tmp_path_factory.mktemp("mtop")
    return prepare(
        get_finetuning_task("mtop", max_target=48),
        folder / "data",
        data_dir=str(tiny_dataset),
        vocab_size=400,
    )


def test_a_tokenizer_may_be_trained_on_another_corpus(tmp_path, tiny_dataset):
    corpus = Corpus(lambda split: ["quagga"] * 9, {"name": "zoo"})
    data = prepare(
        get_finetuning_task("mtop"),
        tmp_path / "ids",
        data_dir=str(tiny_dataset),
        vocab_size=300,
        corpus=corpus,
    )
    assert data.metadata["tokenizer"] == "byte-level BPE trained on zoo, 300 ids"
    assert len(data.tokenizer("quagga")["input_ids"]) == 1


def fresh(data, seed=0):
    return build(
        AutoModelForSeq2SeqLM,
        experiment(model={"overrides": TINY}).model.config(as_vocabulary(data.tokenizer)),
        {},
        seed,
    )


@pytest.mark.parametrize("beams", [1, 2])
def test_generation_is_that_of_transformers(mtop, beams, tmp_path):
    """On a model whose rows end at different steps: batches shrink, and the order of the rows stays."""
    model, rows = fresh(mtop), mtop.rows("test")
    torch.manual_seed(0)
    with torch.no_grad():
        for (
            parameter
        ) in model.parameters():  # large enough that what comes next differs from row to row
            parameter.copy_(torch.randn(parameter.shape))
        model.shared.weight[1] *= 3  # the end of sequence comes sooner
    collate = finetuning_trainer(
        model, mtop, FinetuningSpec({"max_steps": 1, "use_cpu": True}), 0, tmp_path
    ).data_collator
    found = generate_ids(model, rows, collate, limit=12, batch_size=16, num_beams=beams)
    alone = []
    for i in range(len(rows)):
        batch = collate([rows[i]])
        ids = model.generate(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=12,
            num_beams=beams,
        )
        ids = ids[0, 1:].tolist()
        alone.append(ids[: ids.index(1)] if 1 in ids else ids)
    assert len({len(ids) for ids in found}) > 2, "the rows end together: nothing shrinks"
    assert found == alone


def test_patience_ends_a_run_that_gets_no_better():
    from types import SimpleNamespace

    best, control = (
        BestModel(lambda: {"tokens": 1, "flops": 1}, patience=2),
        SimpleNamespace(should_training_stop=False),
    )
    stopped = []
    for step, accuracy in enumerate((0.2, 0.5, 0.5, 0.4)):
        metrics = {"eval_loss": 1.0, "eval_token_accuracy": accuracy, "eval_score": 0.0}
        state = SimpleNamespace(global_step=step)
        best.on_evaluate(
            SimpleNamespace(max_steps=9), state, control, metrics, model=torch.nn.Linear(1, 1)
        )
        stopped.append(control.should_training_stop)
    assert stopped == [False, False, False, True]
    assert best.stopped == "patience"


def test_the_test_split_is_read_once_and_last(mtop, tmp_path, monkeypatch):
    from hf_synpre.finetuning import PreparedTask

    seen, rows, evaluated = [], PreparedTask.rows, BestModel.on_evaluate
    monkeypatch.setattr(
        PreparedTask, "rows", lambda self, split, *a: seen.append(split) or rows(self, split, *a)
    )
    monkeypatch.setattr(
        BestModel, "on_evaluate", lambda *a, **k: seen.append("evaluated") or evaluated(*a, **k)
    )
    training = {"max_steps": 4, "use_cpu": True, "per_device_train_batch_size": 8}
    outcome = finetune(
        fresh(mtop), mtop, FinetuningSpec(training, 2, 8, 8), seed=0, output_dir=tmp_path
    )
    assert seen == ["train", "validation", "evaluated", "evaluated", "test"]
    assert outcome["spent"]["stopped"] == "budget"
    assert {"validation_s", "test_s", "flops"} <= outcome["spent"].keys()


def test_a_corpus_is_a_folder_or_says_what_is_missing(tmp_path):
    save(
        tmp_path / "novels",
        {"train": [{"text": "It was"}, {"text": "a night."}], "validation": [{"text": "x"}]},
    )
    corpus = open_corpus("novels", str(tmp_path))
    assert list(corpus.texts("train")) == ["It was", "a night."]
    assert list(open_corpus(str(tmp_path / "novels")).texts("validation")) == ["x"]
    (tmp_path / "novels" / "more.txt").write_text("edited")
    assert open_corpus("novels", str(tmp_path)).metadata != corpus.metadata
    with pytest.raises(UsageError, match=r"Unknown corpus 'novel'\. Allowed: stdlib, a folder in "):
        open_corpus("novel", str(tmp_path))
    with pytest.raises(UsageError, match=r"no data/test\*\.parquet and no test"):
        list(corpus.texts("test"))
    (tmp_path / "novel.txt").write_text("It was a night.")
    with pytest.raises(UsageError, match=r"corpus 'novel\.txt' is a file; give its folder"):
        open_corpus("novel.txt", str(tmp_path))


def test_a_task_of_one_s_own_from_the_command_line(tmp_path, capsys):
    """A YAML with a name and columns, several gold answers a row, a metric of fractions; the cell holds every example's."""
    from hf_synpre.cli import main
    from hf_synpre.files import unpack_fractions

    rows = [{"word": f"say {i}", "said": [f"{i}", f"<{i}>"]} for i in range(40)]
    save(tmp_path / "rows", dict.fromkeys(("train", "validation", "test"), rows))
    (tmp_path / "task.yaml").write_text(
        'name: saying\nsource: ["{word}!"]\ntarget: [said]\nmetric: token_f1\nmax_target: 8\n'
    )
    words = [
        "--data_dir",
        str(tmp_path / "rows"),
        "--vocab_size",
        "300",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    words += ["--config_overrides", ",".join(f"{k}={v}" for k, v in TINY.items())]
    words += [
        "--max_steps=2",
        "--use_cpu",
        "--per_device_train_batch_size=8",
        "--lora",
        "r=2,target_modules=[q]",
    ]
    assert main(["finetune", str(tmp_path / "task.yaml"), *words]) == 0
    assert "f1 0." in capsys.readouterr().out
    cell = json.loads((tmp_path / "out" / "saying--random--0.json").read_text())
    assert (cell["metric"], cell["config"]["arm"]["lora"]) == (
        "f1",
        {"r": 2, "target_modules": ["q"]},
    )
    assert unpack_fractions(cell["example_scores"]).mean() == pytest.approx(cell["score"], abs=1e-4)
    assert len(unpack_fractions(cell["example_scores"])) == cell["test_examples"] == 40
    assert np.isfinite(cell["phases"]["finetuning"]["test_s"])
