"""Bad input is one clear line and exit code 2, and leaves nothing behind.

Run: pytest tests/cli/test_bad_input.py
"""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_synpre.cli import main
from hf_synpre.config import build_spec
from hf_synpre.errors import UsageError
from hf_synpre.models.spec import ModelSpec

GOOD = """
name: good
tasks: {stdlib_ast: {}}
arms: {random: {}}
"""


BART = "d_model=32,encoder_layers=1,decoder_layers=1,encoder_ffn_dim=32,decoder_ffn_dim=32"
SHORT_GPT2 = ("--model_type=gpt2", "--config_overrides", "n_positions=64,n_embd=32,n_head=2")


BAD_ARGUMENTS = [
    ([], ""),
    (["rum"], "Unknown verb 'rum'. Did you mean 'run'?"),
    (["generate", "sett"], "Unknown task 'sett'. Did you mean 'set'?"),
    (["generate", "set", "--stop", "-5"], "Rows 0 to -5 were asked for"),
    (["generate", "set", "--stop", "many"], "invalid int value: 'many'"),
    (
        ["generate", "set", "--sed", "3"],
        "Unknown option of synpre generate '--sed'. Did you mean '--seed'?",
    ),
    (["generate", "set", "--seed", "-1"], "seed is -1; give an integer >= 0"),
    (["finetune", "rows.csv", "--head=--"], "--head is '--'; give a value"),
    (["generate", "set", "--split", "dev"], "Unknown split 'dev'"),
    (["generate", "set", "--vocabulary", "5"], "A vocabulary size is 5"),
    (["generate", "set", "--vocabulary=-3"], "A vocabulary size is -3"),
    (["generate", "set", "--parameters", "min_length"], "write name=value"),
    (["generate", "set", "--parameters", "min_lenght=3"], "Did you mean 'min_length'?"),
    (
        ["generate", "set", "--parameters", "min_length=300,max_length=10"],
        "min_length 300 exceeds max_length 10",
    ),
    (["generate", "set", "--output_file", "rows.csv"], "ends in .parquet or .jsonl"),
    (["run"], "No experiment was given"),
    (["run", "nowhere.yaml"], "There is no file nowhere.yaml"),
    (["run", "nowhere.yaml", "--jobs", "x"], "invalid int value"),
    (["report", "nowhere"], "nowhere"),
    (["statistics"], "No checkpoint was given"),
    (["statistics", "./nowhere"], "There is no folder"),
    (["statistics", "nobody/nothing"], "'nobody/nothing' is no folder and could not be downloaded"),
    (["pretrain", "set", "--model_type", "vit"], "ViTConfig has no language model"),
    (["pretrain", "set", "--preset", "quick"], "Unknown preset 'quick'"),
    (["pretrain", "set", "--batching", "backed"], "Did you mean 'packed'?"),
    (
        ["pretrain", "set", "--batching", "packed", "--ramp_steps", "5"],
        "a curriculum by length (curriculum_steps) cannot apply",
    ),
    (["pretrain", "set", "--objective", "mlm"], "objective of a seq2seq model 'mlm'"),
    (
        ["pretrain", "set", "--objective", "seq2seq", "--corpus", "stdlib"],
        "give exactly one of the two",
    ),
    (
        ["pretrain", "--corpus", "stdlib", "--objective", "seq2seq"],
        "Text has no targets",
    ),
    (["pretrain", "--corpus", "stdlib"], "give --tokenizer_name"),
    (
        ["pretrain", "--corpus", "stdlib", "--vocabulary", "64"],
        "The option vocabulary is read with",
    ),
    (["pretrain", "set", "--window", "32"], "The option window is read with text only"),
    (
        ["pretrain", "--corpus", "stdlib", "--parameters", "max_length=9"],
        "The option parameters is read with a synthetic task only",
    ),
    (
        ["pretrain", "set", "--schedule", "rsqrt", "--lr_scheduler_type", "linear"],
        "--schedule and --lr_scheduler_type were given",
    ),
    (
        ["pretrain", "set", "--model_type", "bert", "--config_name", "x"],
        "model_type bert and config_name x were given",
    ),
    (
        ["self-pretrain", "ag_news", "--vocab_size", "999", "--tokenizer_name", "x"],
        "--tokenizer_name and --vocab_size were given",
    ),
    (["pretrain", "--corpus", "nowhere"], "Unknown corpus 'nowhere'. Allowed: stdlib, a folder"),
    (["pretrain", "nesting_language", "--vocabulary", "64", "--window", "400"], "hides 20 spans"),
    (
        ["pretrain", "set", "--batch_size", "7", "--gradient_accumulation_steps", "2"],
        "give one that makes a multiple of 2",
    ),
    (
        [*("pretrain", "set", "--model_type", "gpt2"), *("--config_overrides", "n_positions=8")],
        "or more embeddings (--config_overrides n_positions=...)",
    ),
    (["pretrain", "set", "--tokenizer_name", "./nowhere"], "There is no folder ./nowhere"),
    (["pretrain", "set", "--model_type", "nosuch"], "Unknown model_type 'nosuch'"),
    (["pretrain", "set", "--competence", "nan"], "target_accuracy is nan"),
    (
        ["pretrain", "set", "--competence", "0"],
        "target_accuracy is 0.0; give a share above 0",
    ),
    (["pretrain", "set", "--seed", "4294967296"], "0 <= seed < 2**32"),
    (["pretrain", "set", "--seed", "9" * 20], "give a number of at most 64 bits, below 2**63"),
    (["generate", "set", "--seed", "9" * 5000], "invalid int value"),
    (["generate", "set", "--vocabulary", "9" * 5000], "cannot be used (File name too long)"),
    (["generate", "set", "--output_file", "a\0.jsonl"], "give a text without the character 0"),
    (["generate", f"set:{'9' * 5000}"], "is no new task with an integer weight"),
    (["pretrain", "set", "--batch_size", "0"], "batch_size is 0; give an integer >= 1"),
    (
        ["pretrain", "set", "--batch_size", "1000000000"],
        "batch_size is 1000000000; give at most 1048576",
    ),
    (
        ["pretrain", "set", "--ramp_steps", "-1"],
        "curriculum_steps is -1; give 0 (no curriculum) or more",
    ),
    (["run", "x.yaml", "--only", "a--*", "--only=b--*"], "--only was given twice; give it once"),
    (["pretrain", "set", "--task", "identity"], "--task was given twice"),
    (
        ["pretrain", "set", "--num_train_epochs", "3"],
        "num_train_epochs cannot apply; give max_steps",
    ),
    (
        ["pretrain", "set", "--dataloader_num_workers=-1"],
        "dataloader_num_workers is -1; give 0 or more",
    ),
    (["pretrain", "set", "--resume_from_checkpoint", "nowhere"], "There is no checkpoint nowhere"),
    (["pretrain", "nesting_language", "--window", "1"], "window is 1; give 4 token ids or more"),
    (
        ["pretrain", "set", *SHORT_GPT2, "--preset=paper", "--vocabulary=64"],
        "position embeddings for 64; give shorter ones (--parameters max_length=...) or",
    ),
    (
        [
            *("pretrain", "k_dyck", "--vocabulary=160", "--model_type=gpt2"),
            *(
                "--parameters",
                "length=80",
                "--config_overrides",
                "n_positions=64,n_embd=32,n_head=2",
            ),
        ],
        "position embeddings for 64; give shorter ones (--parameters length=...) or",
    ),
    (
        ["init", "gpt2", "--scheme=gamma", "--value=7", "--output_dir=x"],
        "--value was given, and scheme gamma has no constant; leave it out, or give --scheme const",
    ),
    (
        ["pretrain", "set", "--hub_token", "hf_x"],
        "The training argument hub_token is not kept with a run",
    ),
    (
        ["pretrain", "set", "--hub_model_id", "me/x"],
        "--hub_model_id was given without --push_to_hub",
    ),
    (
        ["pretrain", "set", "--vocabulary=64", "--tokenizer_name", "t"],
        "the ids come from one of them",
    ),
    (
        ["pretrain", "set", "--batch_size=8", "--per_device_train_batch_size=8"],
        "leave one out",
    ),
    (["pretrain", "set", "--push_to_hub"], "The repo id '' is no namespace/name"),
    (["pretrain", "set", "use_cpu"], "'use_cpu' belongs to no option"),
    (["pretrain", "set", "--max_steps", "5", "6"], "'6' belongs to no option"),
    (
        [
            "pretrain",
            "set",
            "--model_type",
            "bart",
            "--vocabulary",
            "64",
            "--batching",
            "packed",
            "--config_overrides",
            BART,
        ],
        "cannot take several examples in a row",
    ),
    (["pretrain", "set", "--max_steps", "abc"], "max_steps is 'abc'; give an integer"),
    (["pretrain", "set", "--learning_rate=-1"], "give training.learning_rate > 0"),
    (["pretrain", "set", "--config_overrides", "d_model=x"], "The field d_model is 'x'"),
    (
        ["pretrain", "set", "--config_overrides", "num_heads=0"],
        "The field num_heads is 0; give an integer >= 1",
    ),
    (["pretrain", "set", "--config_overrides", "vocab_size=9"], "follows from the vocabulary"),
    (["pretrain", "set", "--config_overrides", "dropout_rate=5"], "cannot be built"),
    (["pretrain", "set", "--config_name", "./nowhere"], "There is no folder ./nowhere"),
    (["generate", "set", "--parameters", "seed=3"], "give it as --seed"),
    (["generate", "set", "--parameters", "min_length=["], "whose value is no number"),
    (["generate", "set", "--vocabulary", "²"], "--vocabulary is '²'"),
    (["pretrain", "sett"], "Unknown task 'sett'"),
    (
        ["finetune", "cola", "--num_beams", "4"],
        "The option num_beams is read with a task that is answered with generated text only, which",
    ),
    (
        ["finetune", "stdlib_ast", "--layer_decay", "0.8"],
        "The option layer_decay is read with a labelled task only, which the task stdlib_ast does",
    ),
    (
        ["generate", "set", "--parameters", "min_length=4,min_length=6"],
        "--parameters has min_length twice; give it once.",
    ),
    (
        ["pretrain", "set", "--run_name", "{a"],
        "--run_name has '{a', whose value is no number, word or list; put a text with signs into",
    ),
    (["pretrain", "set", "--max_step", "3"], "Did you mean '--max_steps'?"),
    (["pretrain", "set", "--max_steps=0"], "max_steps is 0; give training.max_steps >= 1"),
    (["pretrain", "set", "--config_overrides", "d_modle=3"], "Did you mean 'd_model'?"),
    (["finetune", "stdlib_asd"], "Did you mean 'stdlib_ast'?"),
    (["finetune", "mtop", "--data_dir", "nowhere"], "There is no folder or file nowhere in "),
    (["finetune"], "write `synpre finetune DATA`, as `synpre finetune reviews.csv`"),
    (["finetune", "--target", "nope"], "No data were given; write `synpre finetune DATA`"),
    (["finetune", "cola", "--init", "weights"], "was given without a checkpoint"),
    (
        ["finetune", "cola", "--init", "statistics", "--scheme", "mlp_scale"],
        "was given without a checkpoint",
    ),
    (
        [
            "finetune",
            "cola",
            "--init",
            "statistics",
            "--scheme",
            "constant_pre_attn_ln",
            "--checkpoint",
            "x",
        ],
        "scheme constant_pre_attn_ln, which reads none",
    ),
    (
        ["finetune", "cola", "--init", "statistics", "--scheme", "weights", "--checkpoint", "x"],
        "embeddings fresh; give kept",
    ),
]


@pytest.mark.parametrize(
    ("argv", "message"), BAD_ARGUMENTS, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_bad_arguments_are_one_clear_line(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == (1 if argv else 0)
    assert list(tmp_path.iterdir()) == [], "bad input left something behind"


BAD_YAML = [
    (
        "name: x\ntasks: {stdlib_ast: {}}\narm: {random: {}}",
        "Unknown key in bad.yaml 'arm'. Did you mean 'arms'?",
    ),
    ("name: x\ntasks: {stdlib_ast: {}}", "bad.yaml lacks the key 'arms'"),
    (
        GOOD.replace("stdlib_ast", "stdlib_asd"),
        "Unknown downstream task 'stdlib_asd'. Did you mean 'stdlib_ast'?",
    ),
    (GOOD + "seeds: [0, -1]", "give distinct seeds in 0"),
    (GOOD + "seeds: 3", "bad.yaml.seeds is 3; give a list"),
    (GOOD + "seeds: [a]", "bad.yaml.seeds[0] is 'a'; give an integer"),
    (GOOD + "jobs: -1", "jobs >= 0"),
    (GOOD + "finetuning: {evaluations: 1.5}", "evaluations is 1.5; give an integer"),
    (GOOD + "finetuning: {test_examples: -3}", "test_examples is -3; give an integer >= 1"),
    (GOOD + "finetuning: {training: {learningrate: 1}}", "Did you mean 'learning_rate'?"),
    (GOOD + "finetuning: {training: {max_steps: -3}}", "give training.max_steps >= 0"),
    (GOOD + "model: {overrides: {d_modle: 3}}", "Did you mean 'd_model'?"),
    (GOOD + "model: {model_type: t6}", "Unknown model_type 't6'"),
    (
        GOOD.replace("{random: {}}", "{random: {init: weight}}"),
        "Unknown init of an arm 'weight'. Did you mean 'weights'?",
    ),
    (
        GOOD.replace("{random: {}}", "{a: {init: weights}}"),
        "init weights was given without a checkpoint",
    ),
    (GOOD.replace("{random: {}}", "{a--b: {}}"), "The name 'a--b' becomes a file name"),
    (GOOD + "pretraining: {p: {}}", "give exactly one of the two"),
    (GOOD + "pretraining: {p: {task: sett}}", "Unknown task 'sett'"),
    (
        GOOD
        + "pretraining: {p: {task: set, parameters: {min_length: 0}, training: {max_steps: 1}}}",
        "min_length",
    ),
    (
        GOOD + "pretraining: {p: {corpus: wikipedia, training: {max_steps: 1}}}",
        "Unknown corpus 'wikipedia'. Allowed: stdlib, a folder",
    ),
    (
        GOOD + "pretraining: {p: {corpus: stdlib, budget_of: q}}",
        "Unknown run that 'p' takes its budget from 'q'",
    ),
    (GOOD.replace("stdlib_ast: {}", "mtop: {data_dir: nowhere}"), "folder or file nowhere in /"),
    ("[1, 2]", "holds a list; write keys and their values"),
    ("a: [", "is not valid YAML"),
    (GOOD.replace("{random: {}}", "{}"), "arms is empty; name at least one"),
    (GOOD + "seeds: [4294967296]", "distinct seeds in 0..2**32-1"),
    (GOOD + "finetuning: {training: {max_steps: 2.5}}", "max_steps is 2.5; give an integer"),
    (
        GOOD + "finetuning: {training: {per_device_train_batch_size: 0}}",
        "per_device_train_batch_size is 0",
    ),
    (GOOD + "name: y", "the key 'name' is given twice"),
    (
        GOOD.replace("{}}", "{vocab_size: -4}}", 1),
        "vocab_size is -4; a byte-level tokenizer needs 291 ids",
    ),
    (GOOD.replace("{}}", "{max_source: 0}}", 1), "max_source 0; give an integer >= 1"),
]


@pytest.mark.parametrize(("text", "message"), BAD_YAML, ids=[m[:40] for _, m in BAD_YAML])
def test_bad_yaml_is_one_clear_line(text, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(text)
    assert main(["run", "bad.yaml"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["bad.yaml"]


def test_a_missing_column_and_a_missing_split_are_named(
    tmp_path, tiny_dataset, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_dataset, "bad")
    words = [
        "finetune",
        "retrosynthesis",
        "--data_dir",
        "bad",
        "--output_dir",
        "out",
        "--max_steps=1",
        "--use_cpu",
    ]
    assert main(words) == 2
    assert (
        "column product is not in the dataset; it has utterance, logical_form"
        in capsys.readouterr().err
    )
    (tmp_path / "bad" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files: data/train-*.parquet\n---\n"
    )
    assert main(["finetune", "mtop", *words[2:]]) == 2
    assert "mtop has no validation split; it has train" in capsys.readouterr().err


def test_a_folder_without_data_is_named(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert (
        main(
            [
                "finetune",
                "mtop",
                "--data_dir",
                str(tmp_path / "empty"),
                "--output_dir",
                str(tmp_path / "out"),
            ]
        )
        == 2
    )
    assert "empty has no file of data; give a folder with train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"), [("--jobs", "jobs is -1"), ("--data_dir", "There is no folder -1")]
)
def test_options_of_run_are_checked_like_the_yaml(option, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(GOOD)
    assert main(["run", "good.yaml", f"{option}=-1"]) == 2
    assert message in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["good.yaml"]


def test_a_foreign_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("dear")
    config = tmp_path / "good.yaml"
    config.write_text(GOOD)
    assert main(["run", str(config), "--output_dir", str(tmp_path)]) == 2
    assert "is not empty and holds no experiment" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"thesis.tex", "good.yaml"}
    assert main(["pretrain", "set", "--output_dir", str(tmp_path)]) == 2
    assert "holds no pre-training that was begun or finished" in capsys.readouterr().err


def test_a_folder_begun_with_another_recipe_is_left_alone(tmp_path, capsys):
    tiny = "d_model=32,d_kv=16,num_heads=2,d_ff=64,num_layers=1,num_decoder_layers=1"
    words = [
        "--vocabulary",
        "64",
        "--parameters",
        "min_length=4,max_length=8",
        "--config_overrides",
        tiny,
    ]
    words += [
        "--max_steps",
        "2",
        "--use_cpu",
        "--per_device_train_batch_size=4",
        "--output_dir",
        str(tmp_path / "p"),
    ]
    assert main(["pretrain", "set", *words]) == 0
    assert main(["pretrain", "set", *words]) == 0, "the same recipe finds what was made"
    capsys.readouterr()
    assert main(["pretrain", "reverse", *words]) == 2
    assert (
        "was begun with another recipe (pretraining.task: set before, reverse now); choose another "
        "folder or delete"
    ) in capsys.readouterr().err
    (tmp_path / "p" / "pretraining.json").rename(tmp_path / "kept")
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "recipe.json").write_bytes((tmp_path / "kept").read_bytes())
    assert main(["pretrain", "reverse", *words[:-1], str(tmp_path / "q")]) == 2
    assert "was begun with another recipe" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    assert main(["pretrain", "--max_steps", "1", "--use_cpu", "--output_dir", "/proc/foo"]) == 2
    error = capsys.readouterr().err.strip()
    assert error == "synpre: Cannot write /proc (No such file or directory); give another folder."


def test_paths_that_are_no_folders(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    (tmp_path / "good.yaml").write_text(GOOD)
    assert main(["run", str(tmp_path / "good.yaml"), "--output_dir", str(tmp_path / "file")]) == 2
    assert main(["run", str(tmp_path / "good.yaml"), "--work_dir", str(tmp_path / "file")]) == 2
    assert main(["run", str(tmp_path / "file" / "x.yaml")]) == 2
    assert main(["generate", "set", "--output_file", str(tmp_path / "file" / "x.parquet")]) == 2
    assert main(["generate", "set", "--output_file", str(tmp_path / "file" / "x.jsonl")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 5
    assert "Traceback" not in error


def test_data_that_is_no_text_is_named(tmp_path, tiny_dataset, capsys):
    bad = tmp_path / "bad"
    shutil.copytree(tiny_dataset, bad)
    file = bad / "data" / "train-00000-of-00001.parquet"
    words = ["finetune", "mtop", "--data_dir", str(bad), "--output_dir", str(tmp_path / "out")]
    pq.write_table(pa.table({"utterance": ["a", None], "logical_form": ["x", "y"]}), file)
    assert main(words) == 2
    assert "1 of 2 rows of train have no text in column utterance, the" in capsys.readouterr().err
    file.write_bytes(b"PAR1 no")
    assert main(words) == 2
    assert "cannot be read as a dataset: Parquet file size is 7 bytes" in capsys.readouterr().err


def test_specs_reject_what_is_no_mapping():
    with pytest.raises(
        UsageError, match="model is 3; give keys and values: model_type, config_name, overrides"
    ):
        build_spec(ModelSpec, 3, "model")


def test_the_environment_may_ask_for_the_whole_traceback(capsys, monkeypatch):
    assert main(["generate", "sett"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("SYNPRE_TRACEBACK", "1")
    assert main(["generate", "sett"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "in choose" in err
    assert err.endswith("See `synpre tasks`.\n")


def test_compiled_code_where_everybody_may_write_is_refused(tmp_path, monkeypatch, capsys):
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(shared))
    shared.chmod(0o777)
    assert main(["tasks"]) == 2
    assert "where everybody may write; compiled code that others leave" in capsys.readouterr().err
    shared.chmod(0o755)
    assert main(["tasks"]) == 0
