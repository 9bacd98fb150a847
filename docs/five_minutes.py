"""Record docs/five_minutes.md: run its commands in an empty folder and write what they print.

    python docs/five_minutes.py  # some 90 s of one core; `make docs` does it where needed

1. `STEPS`: what the page says and which command it shows.
2. `record`: a step's block -> what it printed, without the lines that tell the time.
3. `render`: steps and outputs -> the page.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PAGE = DOCS / "five_minutes.md"
# What the commands find in their folder, as in a clone.
NEEDED = ("examples/own_task.yaml", "examples/data/imports", "results/quickstart")
COLUMNS = 108  # of the terminal that the page shows
# Lines that are other ones in every run, because they tell the time.
TIMES = (
    r"about .* for all steps",
    r"\d+ of \d+ cells?, .* so far",
    r"step \d+ of \d+, loss",
    r'"\w+_(s|share)":',
    r"it/s\]",
)


class Step(NamedTuple):
    """A part of the page.

    Attributes:
        title: its heading.
        before: what is said before the block.
        language: bash or python.
        block: what is executed.
        after: what is said about the output; nothing in it depends on the run.
    """

    title: str
    before: str
    language: str
    block: str
    after: str = ""


STEPS = [
    Step(
        "A synthetic task",
        "A [synthetic task](concepts.md#synthetic-task) is a function from random tokens to a "
        "target. *Set* asks for the distinct tokens of its input.",
        "bash",
        "synpre tasks set",
        "The last two lines are a row for T5's vocabulary of 32,100 ids: the first two ids of the "
        "input name the task.",
    ),
    Step(
        "Its rows",
        "Rows are computed when they are needed. The same number, seed and parameters give the "
        "same row, on every machine.",
        "bash",
        "synpre generate set --stop 3 --vocabulary 32 --parameters min_length=4,max_length=10",
    ),
    Step(
        "Pre-train on it",
        "`smoke` is the shortest preset: 100 steps, with fewer rows here. It shows that a run "
        "works and learns nothing yet. `synpre pretrain set` without it takes some minutes, and "
        "stops when 99 % of the target tokens are right.",
        "bash",
        "synpre pretrain set --preset smoke --batch_size 16 --output_dir runs/set",
        "The folder is a checkpoint that `from_pretrained` loads. `accuracy` is the share of the "
        "target tokens of validation rows that are right.",
    ),
    Step(
        "A task of your own",
        "The rows are CSV files with a Python name in one column and the statement that imports it "
        "in another. `examples/own_task.yaml` names these columns. The first run starts from "
        "random weights.",
        "bash",
        "synpre finetune examples/own_task.yaml --max_steps 300 --output_dir runs/random \\\n"
        "    --config_name synpre/t5-mini-set",
    ),
    Step(
        "The same from parameter statistics",
        "Every tensor is drawn from the mean and the standard deviation of a model that was "
        "pre-trained on Set. The package contains these numbers. Everything else is as before.",
        "bash",
        "synpre finetune examples/own_task.yaml --max_steps 300 --output_dir runs/statistics \\\n"
        "    --init statistics --checkpoint synpre/t5-mini-set",
        "Compare the two lines `exact_match`. One seed each is a first look, and no finding: "
        "[Your own task](own_task.md) trains for longer and with two seeds.",
    ),
    Step(
        "Use the model",
        "The folder has the weights, the tokenizer and a card, as every model of transformers.",
        "python",
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n"
        "\n"
        'folder = "runs/statistics/imports--statistics--0"\n'
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "model = AutoModelForSeq2SeqLM.from_pretrained(folder)\n"
        'ids = model.generate(**tokenizer("encodings.cp1253.getregentry", return_tensors="pt"))\n'
        "print(tokenizer.decode(ids[0], skip_special_tokens=True))",
        "After so few steps the model is right on some rows and wrong on others.",
    ),
    Step(
        "Compare starts",
        "An experiment repeats such runs: several starts, tasks and seeds. "
        "`synpre run examples/quickstart.yaml` takes seven minutes on two cores. Its results are "
        "in the repository, and this command makes their report.",
        "bash",
        "synpre report results/quickstart",
        "The brackets are 95 % intervals. [Concepts](concepts.md) says what an arm and a benefit "
        "are, [Comparing starts](experiments.md) how to write an experiment.",
    ),
]


def record(step: Step, folder: Path, environment: dict[str, str]) -> str:
    """Execute a step's block; return what it printed, folded, without the lines of TIMES.

    Args:
        step: the step.
        folder: where the block is executed.
        environment: its environment variables.

    Raises:
        RuntimeError: the block failed.
    """
    program = ["bash", "-c"] if step.language == "bash" else [sys.executable, "-c"]
    done = subprocess.run(
        [*program, step.block],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{step.block}\n{done.stdout}")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    lines = [line for line in lines if not re.search("|".join(TIMES), line)]
    return "\n".join(part for line in lines for part in folded(line)).strip()


def folded(line: str) -> list[str]:
    """Return a line as a terminal shows it: in rows of COLUMNS characters."""
    rows = [line[at : at + COLUMNS] for at in range(0, len(line), COLUMNS)]
    return [row.rstrip() for row in rows] or [""]


def record_all() -> list[str]:
    """Execute all steps, one after the other, in a folder that looks like a clone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for needed in NEEDED:
            copy = shutil.copytree if (ROOT / needed).is_dir() else shutil.copy
            (folder / needed).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / needed, folder / needed)

        # One thread adds in one order; the `synpre` of this environment comes first.
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {
            "PATH": programs,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "SYNPRE_CACHE": str(folder / "cache"),
        }
        return [record(step, folder, environment) for step in STEPS]


def render(outputs: list[str]) -> str:
    """Return the page, with one output for each step."""
    lines = [
        "# Five minutes",
        "",
        "Seven steps from nothing to a comparison, each with what it printed. They run in a clone, "
        "on a CPU, without a network. `docs/five_minutes.py` executed them and wrote this page; "
        "`make docs` does so again whenever the package has changed. One thread computed. Lines "
        "that tell the time are left out, and another processor may change last digits.",
        "",
    ]
    for number, (step, output) in enumerate(zip(STEPS, outputs, strict=True), 1):
        lines += [f"## {number}. {step.title}", "", step.before, ""]
        lines += [f"```{step.language}", step.block, "```", ""]
        lines += ["```text", output, "```", ""]
        if step.after:
            lines += [step.after, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render(record_all()), encoding="utf-8")
