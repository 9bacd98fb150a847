"""`synpre reproduce`: a card alone gives the same rows, and on the same versions the same weights.

Run: pytest tests/hub/test_reproduce.py
"""

import re
import shutil

import pytest
import yaml
from hub_clients import HOME, TINY, WRITE

from hf_synpre.cli import main
from hf_synpre.hub import cards
from hf_synpre.provenance import tensors_sha256


def lines_of(capsys):
    """Return the lines of standard output, and the last line of standard error."""
    said = capsys.readouterr()
    return said.out.splitlines(), said.err.splitlines()[-1] if said.err else ""


def card_alone(model, folder, **changes):
    """Write the card of a model into an empty folder; changes are of its entry for hf_synpre."""
    folder.mkdir()
    text = cards.model_card(model, "me/tiny-set")
    header = yaml.safe_load(text.split("---\n")[1])
    header["synpre"] |= changes
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n")
    return folder


# --- datasets -------------------------------------------------------------------------------------


def test_a_card_alone_gives_the_rows(dataset, tmp_path, capsys):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(dataset / "README.md", alone)
    assert main(["reproduce", str(alone), "--output_dir", str(tmp_path / "again")]) == 0
    out, _ = lines_of(capsys)
    assert sum("rows rebuilt; they equal the card's sha256" in line for line in out) == 3
    assert all(line.endswith("(no shard is there)") for line in out if "rebuilt" in line)
    for file in dataset.glob("*/*.parquet"):
        assert (tmp_path / "again" / file.relative_to(dataset)).read_bytes() == file.read_bytes()

    card = alone / "README.md"
    card.write_text(re.sub(r"sha256: [0-9a-f]{64}", f"sha256: {'f' * 64}", card.read_text()))
    assert main(["reproduce", str(alone), "--config", "small"]) == 1
    assert "small/train: the rebuilt rows have sha256" in lines_of(capsys)[0][-1]


def test_the_former_name_does_the_same(dataset, capsys):
    assert main(["generate", "--from-card", str(dataset), "--config", "small"]) == 0
    assert "small/train: 300 rows rebuilt" in lines_of(capsys)[0][-1]


# --- models ---------------------------------------------------------------------------------------


def test_a_card_alone_gives_the_weights(model, tmp_path, capsys):
    alone, again = card_alone(model, tmp_path / "alone"), tmp_path / "again"
    assert main(["reproduce", str(alone), "--output_dir", str(again)]) == 0
    out, _ = lines_of(capsys)
    assert out[-1] == f"equal: the weights have the card's sha256 {tensors_sha256(model)}"
    assert tensors_sha256(again) == tensors_sha256(model)
    assert (again / "pretraining.json").exists()


def test_a_folder_without_a_card_is_known_by_its_run(model, capsys):
    assert not (model / "README.md").exists()
    assert main(["reproduce", str(model)]) == 0
    assert lines_of(capsys)[0][-1].startswith("equal: ")


def test_other_weights_are_said_with_the_versions_that_differ(model, tmp_path, capsys):
    card = yaml.safe_load(cards.model_card(model, "me/x").split("---\n")[1])["synpre"]
    changes = {
        "weights_sha256": "f" * 64,
        "versions": card["versions"] | {"torch": "1.0"},
        "run": card["run"] | {"processes": 2, "threads": 2},
    }
    alone = card_alone(model, tmp_path / "alone", **changes)
    assert main(["reproduce", str(alone)]) == 1
    out, _ = lines_of(capsys)
    (different,) = (line for line in out if line.startswith("different: the weights have sha256 "))
    assert different.endswith(f", the card says {'f' * 64}")
    (torch_line,) = (line for line in out if line.startswith("  torch was 1.0, here it is 2."))
    assert out.index(different) < out.index(torch_line)
    assert out[-1] == "  processes was 2, here it is 1"


def test_what_was_published_is_reproduced_from_the_hub(server, model):
    pushed, done, missing = server.commands(
        (WRITE, ["push", model, "--repo_id", "synpre/again"]),
        (WRITE, ["reproduce", "synpre/again"]),
        (WRITE, ["reproduce", "synpre/none"]),
    )
    assert (pushed.returncode, done.returncode, missing.returncode) == (0, 0, 2), done.stderr
    assert done.stdout.splitlines()[-1].startswith("equal: the weights have the card's sha256 ")
    assert (
        "synpre/none: the Hub has no such repository, revision or file (HTTP 404)" in missing.stderr
    )


def test_a_run_on_text_needs_its_corpus(tmp_path, capsys, monkeypatch):
    """The path of the corpus is not in the card: the corpus is missing, another one, or named."""
    monkeypatch.chdir(tmp_path)
    texts = tmp_path / "texts.csv"
    rows = [f"row {i} of words {i * 7 % 5} and {i * 3 % 4}" for i in range(60)]
    texts.write_text("text\n" + "\n".join(rows) + "\n")
    overrides = "hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=64"
    words = [str(texts), "--model_type", "roberta", "--config_overrides", overrides]
    words += ["--max_steps", "2", "--window", "16", "--batch_size", "4", "--vocab_size", "300"]
    assert main(["self-pretrain", *words, "--output_dir", "self"]) == 0
    alone = card_alone(tmp_path / "self", tmp_path / "alone")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    capsys.readouterr()

    assert main(["reproduce", str(alone)]) == 2
    assert lines_of(capsys)[1].startswith(
        f"synpre: The weights of {alone} cannot be made again: the corpus texts.csv is missing"
    )
    other = tmp_path / "here" / "other.csv"
    other.write_text(texts.read_text() + "one more row\n")
    assert main(["reproduce", str(alone), "--corpus", str(other)]) == 2
    assert "the corpus texts.csv here is another one (" in lines_of(capsys)[1]
    assert main(["reproduce", str(alone), "--corpus", str(texts)]) == 0
    assert lines_of(capsys)[0][-1].startswith("equal: ")


def test_a_tokenizer_that_is_missing_is_named(tmp_path, capsys, encoder_tokenizer):
    """A run on a task with somebody's tokenizer."""
    encoder_tokenizer.save_pretrained(tmp_path / "tokenizer")
    words = ["set", "--tokenizer_name", str(tmp_path / "tokenizer"), "--config_overrides", TINY]
    words += ["--parameters", "min_length=4,max_length=8", "--max_steps", "1"]
    folder = tmp_path / "run"
    assert main(["pretrain", *words, "--output_dir", str(folder)]) == 0
    alone = card_alone(folder, tmp_path / "alone")
    assert main(["reproduce", str(alone)]) == 2
    assert "its tokenizer is missing here; --tokenizer_name names it" in lines_of(capsys)[1]
    assert main(["reproduce", str(folder)]) == 0, "the folder has it"


BAD = {
    "no folder": (lambda f: "./nowhere", "There is no folder ./nowhere"),
    "no card": (lambda f: f, "has no card with a recipe of hf_synpre"),
    "another's card": (
        lambda f: (f / "README.md").write_text("---\nlicense: mit\n---\n") and f,
        "has no card with a recipe of hf_synpre",
    ),
    "no network": (lambda f: "synpre/set", "synpre/set: the Hub cannot be reached"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line(what, tmp_path, capsys):
    make, message = BAD[what]
    assert main(["reproduce", str(make(tmp_path))]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said


SMALL = {"pretraining": {"task": "set", "training": {"max_steps": 1}}, "model": {}}
CHANGES = {
    "no sha256": ({"weights_sha256": None}, "has no sha256 of its weights"),
    "threads": ({"run": {"threads": 10**9}}, "has threads 1000000000; that is no number of them"),
    "recipe": ({"recipe": {"pretraining": {"task": "sett"}}}, "sett"),
    "model": ({"recipe": SMALL | {"model": 3}}, "is 3; give keys"),
    "corpus": ({"recipe": SMALL | {"corpus": 3}}, "has corpus 3, which has no keys"),
    "tokens": ({"recipe": SMALL | {"tokens": "many"}}, "has tokens 'many', which is no number"),
    "a task of one's own": (
        {"recipe": SMALL | {"task_files": {"my_tasks.py": "80f9a506"}}},
        "cannot be made again: the file of the task set is another one here (my_tasks.py",
    ),
    "rows": ({"recipe": SMALL}, "cannot be made again: its card has no number of rows of a step"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_card_that_hf_synpre_does_not_write_is_refused(what, model, tmp_path, capsys):
    changes, message = CHANGES[what]
    assert main(["reproduce", str(card_alone(model, tmp_path / "alone", **changes))]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert message in said


def test_flags_of_the_other_kind_are_refused(dataset, model, capsys):
    assert main(["reproduce", str(dataset), "--corpus", "x"]) == 2
    assert f"--corpus was given, and {dataset} is a dataset; leave it out" in lines_of(capsys)[1]
    assert main(["reproduce", str(model), "--config", "small"]) == 2
    assert f"--config was given, and {model} is a model; leave it out" in lines_of(capsys)[1]


def test_every_card_says_where_its_task_is_defined(dataset, model):
    """The Hub links a repository to the papers whose addresses are in its card."""
    link = "[arXiv 2206.10139](https://arxiv.org/abs/2206.10139)"
    assert link in (dataset / "README.md").read_text()
    assert link in cards.model_card(model, "me/x")
    assert (
        "[arXiv 2101.06223](https://arxiv.org/abs/2101.06223)"
        in (HOME / "model_cards" / "t5-mini-lime" / "README.md").read_text()
    )
