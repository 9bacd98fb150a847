"""Every code block of README.md and docs/*.md is executed, page by page, as a newcomer would.

Commands run with the flags of SMALL in place of their own sizes, and with data of this folder in
place of names on the Hub. Run: pytest tests/test_snippets.py
"""

import contextlib
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from encoder_examples import labelled, write_dataset
from small_models import TINY
from transformers import T5Config

from hf_synpre.cli import main
from hf_synpre.cli.options import parse
from hf_synpre.cli.verbs import VERBS
from hf_synpre.config import read_yaml
from hf_synpre.experiments import Experiment
from hf_synpre.finetuning.own_data import choose_task

ROOT = Path(__file__).parents[1]
PAGES = sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))
if os.environ.get("TEST_README"):  # test_first_screen.py executes it, from a wheel
    PAGES = ["README.md"]
LANGUAGES = {"python", "bash", "yaml", "text"}  # text is output, or a picture of folders

# Architecture -> the sizes of its small model.
SIZES = {
    "t5": ",".join(f"{name}={value}" for name, value in TINY.items()),
    "gpt2": "n_embd=32,n_layer=1,n_head=2",
}
TRAINING = {"--max_steps": "2", "--per_device_train_batch_size": "4", "--use_cpu": None}
# Verb -> flags that replace or join those of the page.
SMALL = {
    "pretrain": TRAINING | {"--evaluations": "1", "--warmup_steps": "0"},
    "self-pretrain": TRAINING | {"--evaluations": "1", "--warmup_steps": "0"},
    "finetune": TRAINING | {"--evaluations": "1", "--test_examples": "8"},
    "run": {"--list": None},
    "warmup": {"--steps": "60", "--symbols": "32", "--parameters": "length=16,types=8,max_depth=4"},
    "push": {"--dry_run": None},
}
# Commands that need a GPU or the network: their flags are read and nothing else.
ONLY_READ = ("accelerate launch", "torchrun")


def blocks(page):
    """Return language and text of the code blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.S | re.M)


def commands(text):
    """Return the commands of a block of bash as lists of words, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [command for command in words if command]


def with_small_sizes(verb, words):
    """Return a verb's words with the flags of SMALL instead of its own of the same name."""
    words = list(words)
    for flag, value in SMALL.get(verb, {}).items():
        if flag == "--per_device_train_batch_size" and "--batch_size" in words:
            continue  # two names of the same size
        if flag in words:
            position = words.index(flag)
            if words[position + 1 : position + 2] == ["0"]:  # no training at all
                continue
            del words[position : position + (1 if value is None else 2)]
        words += [flag] if value is None else [flag, value]
    return words


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory, tiny_dataset, encoder_tokenizer):
    """Local files in place of what the pages name on the Hub or on the reader's disk."""
    folder = tmp_path_factory.mktemp("stand-ins")
    T5Config(vocab_size=32128, decoder_start_token_id=0, **TINY).save_pretrained(folder / "t5")
    encoder_tokenizer.save_pretrained(folder / "ids")
    rows = {"train": labelled(0, 60), "test": labelled(60, 20)}
    news = write_dataset(folder / "ag_news", **rows)
    data = folder / "data"
    experiment = read_yaml(ROOT / "examples" / "self_pretraining.yaml")
    for name in experiment["tasks"]:
        write_dataset(data / name, **rows)
    for name in ("eltec_eng", "novels_and_source"):
        write_dataset(data / name, **rows, validation=labelled(80, 10))
    asked = [{"question": f"{i}?", "choices": ["a", f"{i}"], "label": i % 2} for i in range(40)]
    (folder / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    (folder / "texts").mkdir()
    (folder / "texts" / "numbers.txt").write_text(" ".join(map(str, range(3000))), "utf-8")
    finished = shutil.copytree(ROOT / "results" / "quickstart", folder / "quickstart")
    return {
        "results/quickstart": str(finished),
        "runs/quickstart": str(finished),
        "asked.jsonl": str(folder / "asked.jsonl"),
        "google-t5/t5-small": str(folder / "t5"),
        "openai-community/gpt2": str(folder / "ids"),
        "path/to/mtop": str(tiny_dataset),
        "path/to/texts": str(folder / "texts"),
        "path/to/data": str(data),
        "ag_news": str(news),
    }


@pytest.fixture
def workspace(tmp_path, monkeypatch, forgotten_tasks):
    """A folder that looks like a clone to the commands, into which they write."""
    folders = ("examples", "dataset_scripts", "model_cards", "results")
    for name in (*folders, "constraints.txt", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    # The stand-ins have other columns; tests/experiments/test_campaign.py looks for these.
    monkeypatch.setattr(Experiment, "check_columns", lambda *_: [])
    return tmp_path


def run_command(words, stand_ins):
    """Execute one command of a page."""
    words = [stand_ins.get(word, word) for word in words]
    match words:
        case [*rest, ">", file]:
            with open(file, "w") as output, contextlib.redirect_stdout(output):
                run_command(rest, stand_ins)
        case ["synpre", "audit"]:
            pass  # tests/audit/test_law_audits.py runs it with fewer models
        case ["synpre", verb, *rest]:
            if {"--help", "--version"}.isdisjoint(words):
                rest = with_small_sizes(verb, rest)
            if verb == "pretrain" and {"--config_name", "--config_overrides"}.isdisjoint(rest):
                architecture = "t5"
                if "--model_type" in rest:
                    architecture = rest[rest.index("--model_type") + 1]
                rest += ["--config_overrides", SIZES[architecture]]
            assert main([verb, *rest]) == 0, shlex.join(words)
        case ["make", target]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{target}:", makefile, flags=re.M), f"no target {target}"
        case ["pip", "install", *_]:
            pass  # tests/test_first_screen.py installs a wheel
        case ["trackio", "show", *_]:
            pass  # it serves until it is stopped; tests/training/test_trackio.py reads the curves
        case ["python", "examples/mixed_corpus.py", _]:
            pass  # tests/test_mixed_corpus.py executes it
        case ["sbatch", *_, script]:
            assert (ROOT / script).exists()  # tests/experiments/test_slurm.py executes it
        case ["lm_eval", *_]:
            pass  # benchmarks/clients.py installs and runs it
        case _:
            assert shlex.join(words).startswith(ONLY_READ), f"how to run {words}?"
            script = words.index("examples/pretrain.py")
            parse(VERBS["pretrain"], words[script + 1 :])
            for word in words[:script]:
                assert not word.startswith("examples/") or (ROOT / word).exists()


def check_task(text):
    """Read a YAML of a page as the file of a task beside the data of examples/."""
    Path("data").symlink_to(ROOT / "examples" / "data")
    Path("task.yaml").write_text(text, encoding="utf-8")
    assert choose_task("task.yaml", {}).train_rows > 0


# The stock Trainer asks for pinned memory on a CPU too
# (https://github.com/pytorch/pytorch/blob/main/torch/utils/data/dataloader.py).
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set:UserWarning")
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page, stand_ins, workspace, capsys):
    namespace = {"__name__": "__main__"}
    for language, text in blocks(page):
        assert language in LANGUAGES, f"{page} has a block of {language or 'no language'}"
        if language == "bash":
            for words in commands(text):
                run_command(words, stand_ins)
        elif language == "yaml":
            check_task(text)
        elif file := re.match(r"# (\w+\.py)\n", text):
            Path(file[1]).write_text(text, encoding="utf-8")
        elif language == "python":
            text = re.sub(r"\bmax_steps=\d+", "max_steps=2", text)
            exec(compile(text, page, "exec"), namespace)
