"""Clients of other people on what hf_synpre leaves, unmodified, in an environment of their own.

    python benchmarks/clients.py [--environment DIR] [--only NAME ...]

It installs this package and the clients, in the versions of clients.txt, from a package index into
a new virtual environment. There small models are made with `synpre`, as a user makes them, and each
client is run on them: as a command of its own, or as a script of client_scripts/ that is written as
the client's documents say. What a client gives is compared with what hf_synpre gives, and so is a
control, something else that the same comparison must find different. Results go to
results/clients.json; a client that cannot be installed is named there with the reason.

It needs Python's standard library alone. `make bench` leaves it out, because it needs a network.
"""

import argparse
import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "benchmarks" / "client_scripts"
PINS = ROOT / "benchmarks" / "clients.txt"
RESULT = ROOT / "benchmarks" / "results" / "clients.json"
# What an installation of this package is made from.
SOURCES = ("hf_synpre", "setup.py", "pyproject.toml", "README.md", "LICENSE")

LLAMA = (
    "hidden_size=64,intermediate_size=128,num_hidden_layers=2,num_attention_heads=4,"
    "num_key_value_heads=2,max_position_embeddings=256"
)
T5 = "d_model=64,d_kv=16,num_heads=4,d_ff=128,num_layers=2,num_decoder_layers=2"
SHORT = "--parameters min_length=4,max_length=16 --max_steps 200"
# One step that changes no weight: its evaluation has the loss of the start.
NO_LEARNING = (
    "--learning_rate 1e-30 --max_steps 1 --evaluations 1 --per_device_eval_batch_size 200 "
    "--test_examples 8 --no_save_model"
)
# What a user types, in the folder of the work. make_texts.py writes tokenizer/ and texts/.
COMMANDS = (
    f"synpre pretrain set --model_type llama --tokenizer_name tokenizer {SHORT} "
    f"--config_overrides {LLAMA} --output_dir llama",
    f"synpre pretrain set --tokenizer_name tokenizer {SHORT} --config_overrides {T5} "
    "--output_dir t5",
    "synpre self-pretrain data/kinds --preset electra_smoke --max_steps 30 --output_dir electra",
    "synpre self-pretrain data/kinds --preset roberta_smoke --max_steps 30 --output_dir roberta",
    "synpre finetune texts --head lm --max_source 64 --init weights --checkpoint llama "
    "--max_steps 60 --output_dir lm",
    "synpre finetune data/kinds --source name --target kind --init weights --checkpoint llama "
    "--max_steps 300 --output_dir answers",
    "synpre finetune data/imports --init weights --checkpoint llama/checkpoint-200 "
    f"{NO_LEARNING} --output_dir llama_loss",
    f"synpre finetune data/imports --init statistics --checkpoint t5 {NO_LEARNING} "
    "--output_dir t5_loss",
    "synpre build set --config small --num_shards 4 --output_dir rows",
)


@dataclass
class Check:
    """A comparison of a client with hf_synpre.

    Args:
        compared: what is compared.
        client: the client's figure.
        ours: that of hf_synpre.
        tolerance: how far one may be from the other.
        control: what else is compared with hf_synpre's figure and must be farther from it; None
            where nothing else has such a figure.
        control_figure: its figure.
    """

    compared: str
    client: float
    ours: float
    tolerance: float = 0.0
    control: str | None = None
    control_figure: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the client agrees, and the control does not."""
        agrees = abs(self.client - self.ours) <= self.tolerance
        if self.control_figure is None:
            return agrees
        return agrees and abs(self.control_figure - self.ours) > self.tolerance


@dataclass
class Place:
    """An environment, and a folder in which its commands run.

    Args:
        environment: the folder of the virtual environment.
        work: the folder of the models.
    """

    environment: Path
    work: Path

    def run(self, *command: str | Path) -> str:
        """Run a command of the environment; return what it prints. RuntimeError: it fails."""
        program = self.environment / "bin" / command[0]
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "HF_ENDPOINT", "HF_TOKEN")
        variables = {name: text for name, text in os.environ.items() if name not in hidden}
        variables |= {
            "HF_HOME": str(self.work / "huggingface"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        words = [str(program), *map(str, command[1:])]
        done = subprocess.run(words, cwd=self.work, env=variables, capture_output=True, text=True)
        if done.returncode:
            said = (done.stdout + done.stderr).strip()[-2000:]
            raise RuntimeError(
                f"{' '.join(map(str, command))} ended with {done.returncode}: {said}"
            )
        return done.stdout

    def script(self, name: str, *words: str | Path) -> Any:
        """Run a script of client_scripts/; return the JSON of its last line."""
        return json.loads(self.run("python", SCRIPTS / f"{name}.py", *words).splitlines()[-1])

    def pip(self, *words: str | Path) -> None:
        """Install packages in the tested versions."""
        pins = ("-c", ROOT / "constraints.txt", "-c", PINS)
        self.run("python", "-m", "pip", "install", "-q", *pins, *words)

    def read(self, name: str) -> Any:
        """Return the JSON of a file of the work."""
        return json.loads((self.work / name).read_text(encoding="utf-8"))

    def version(self, package: str) -> str:
        """Return the version of a package that is installed."""
        code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
        return self.run("python", "-c", code, package).strip()


# --- The clients ----------------------------------------------------------------------------------


def lm_eval(place: Place) -> list[Check]:
    """Compare bits per byte of lm-evaluation-harness with the test score of `--head lm`."""
    scores = {}
    for model in ("lm/texts--weights--0", "llama"):
        output = place.work / "lm_eval" / model
        options = "--tasks texts --device cpu --batch_size 8 --include_path"
        place.run(
            *("lm_eval", "--model", "hf", "--model_args", f"pretrained={model},max_length=64"),
            *(*options.split(), SCRIPTS / "lm_eval", "--output_path", output),
        )
        (file,) = output.rglob("results_*.json")
        scores[model] = place.read(str(file))["results"]["texts"]["bits_per_byte,none"]
    return [
        Check(
            "bits per byte of 12 documents, and the test score of `synpre finetune --head lm`",
            client=scores["lm/texts--weights--0"],
            ours=place.read("lm/texts--weights--0.json")["score"],
            tolerance=1e-4,
            control="the model before it was fine-tuned",
            control_figure=scores["llama"],
        )
    ]


def trl(place: Place) -> list[Check]:
    """Compare the losses of SFTTrainer with the loss of the checkpoint that it goes on from."""
    checkpoint, rows = "llama/checkpoint-200", "data/imports/validation.csv"
    losses = place.script("trl_sft", checkpoint, rows, "6")["losses"]
    result = place.read("llama_loss/imports--weights--0.json")
    return [
        Check(
            "first loss on 200 rows, and that of the checkpoint in `synpre finetune`",
            client=losses[0],
            ours=result["curve"][0]["loss"],
            tolerance=1e-4,
            control="the loss after one step",
            control_figure=losses[1],
        ),
        Check("steps of five after which the loss is lower", falls(losses), 5),
    ]


def falls(losses: list[float]) -> int:
    """Return how many losses are lower than the one before."""
    return sum(after < before for before, after in itertools.pairwise(losses))


def stock_trainer(place: Place) -> list[Check]:
    """Compare the losses of a stock Trainer on a model of StatisticsInit with those of ours."""
    rows = "data/imports/validation.csv"
    losses = place.script("stock_trainer", "t5", rows, "0", "6")["losses"]
    other_seed = place.script("stock_trainer", "t5", rows, "1", "1")["losses"]
    result = place.read("t5_loss/imports--statistics--0.json")
    return [
        Check(
            "first loss on 200 rows, and that of `synpre finetune --init statistics`",
            client=losses[0],
            ours=result["curve"][0]["loss"],
            tolerance=1e-4,
            control="another seed of StatisticsInit",
            control_figure=other_seed[0],
        ),
        Check("steps of five after which the loss is lower", falls(losses), 5),
    ]


def peft(place: Place) -> list[Check]:
    """Compare the logits of a LoRA adapter that was saved and loaded with those before."""
    distances = place.script("peft_lora", "llama")
    return [
        Check(
            "largest difference of a logit after the adapter was saved and loaded",
            client=distances["loaded"],
            ours=0.0,
            tolerance=1e-5,
            control="without the adapter",
            control_figure=distances["base"],
        ),
        Check(
            "largest difference of a logit after the adapter was merged, saved and loaded",
            client=distances["merged"],
            ours=0.0,
            tolerance=1e-4,
        ),
    ]


def pipeline(place: Place) -> list[Check]:
    """Compare the texts of the pipeline text-generation with those that `synpre finetune` tests."""
    model, rows = "answers/kinds--weights--0", "data/kinds/test.csv"
    theirs = place.script("generate_texts", model, rows)["texts"]
    ours = place.script("our_texts", model, rows)["texts"]
    with (place.work / rows).open(newline="") as file:
        expected = [row["kind"] for row in csv.DictReader(file)]
    return [
        Check(
            "share of 200 texts that are those which hf_synpre generates",
            client=share_equal(theirs, ours),
            ours=1.0,
            control="the expected texts",
            control_figure=share_equal(expected, ours),
        ),
        Check(
            "share of 200 texts that are right, and the test score of `synpre finetune`",
            client=share_equal([text.strip() for text in theirs], expected),
            ours=place.read(f"{model}.json")["score"],
            tolerance=1e-9,
        ),
    ]


def share_equal(ones: list[str], others: list[str]) -> float:
    """Return the share of items that are the same in two lists; 0.0 where one is longer."""
    if len(ones) != len(others) or not ones:
        return 0.0
    return sum(one == other for one, other in zip(ones, others, strict=True)) / len(ones)


def sentence_transformers(place: Place) -> list[Check]:
    """Compare vectors of sentence-transformers with the means of the encoder's last states."""
    checks = []
    for encoder in ("electra", "roberta"):
        farthest = place.script("sentence_vectors", encoder, "data/kinds/test.csv")
        checks.append(
            Check(
                f"largest difference of 201 vectors of {encoder} to the means of its last states",
                client=farthest["mean"],
                ours=0.0,
                tolerance=1e-5,
                control="the first states",
                control_figure=farthest["first"],
            )
        )
    return checks


def torchdata(place: Place) -> list[Check]:
    """Compare the batches of a loader that goes on from a state with those of one that ran on."""
    # After so many batches the loader is within the second part of the rows.
    kinds = (
        ("stream", "59", "load_synthetic(streaming=True)"),
        ("map", "59", "a shuffled SyntheticDataset"),
        ("rows", "17", "a streamed folder of `synpre build`"),
    )
    checks = []
    for kind, steps, name in kinds:
        for workers in ("0", "2"):
            expected = place.script("stateful_loader", kind, workers, steps)["batches"]
            resumed = place.script("stateful_loader", kind, workers, "0")["batches"]
            checks.append(
                Check(
                    f"share of {len(expected)} batches of {name} that are the same after a "
                    f"restart, {workers} workers",
                    client=share_equal(resumed, expected),
                    ours=1.0,
                    control="the same batches, one later",
                    control_figure=share_equal(resumed[1:] + resumed[:1], expected),
                )
            )
    return checks


def huggingface_hub(place: Place) -> list[Check]:
    """Verify pushed folders with `hf cache verify`, and a copy in which a byte was changed."""
    folders = ("model:llama", "model:lm/texts--weights--0", "model:electra", "dataset:rows")
    checks = []
    for found in place.script("hub_folders", ROOT, *folders):
        folder = found["folder"]
        checks += [
            Check(
                f"exit code of push, download and `hf cache verify` on {folder}/",
                client=max(found["codes"].values()),
                ours=0,
                control="a byte of the download is changed",
                control_figure=found["changed"],
            ),
            Check(
                f"files of {folder}/ that are others on the Hub, the card aside",
                client=len(found["others"]),
                ours=0,
            ),
        ]
        print(*found["said"], *found["others"], sep="\n")
    return checks


@dataclass(frozen=True)
class Client:
    """A client.

    Args:
        package: the name under which its version is known.
        requirement: what is installed for it.
        used: how it is used.
        check: the function that compares it with hf_synpre.
    """

    package: str
    requirement: str
    used: str
    check: Callable[[Place], list[Check]]


CLIENTS = {
    "lm-evaluation-harness": Client(
        "lm_eval", "lm_eval[hf]", "`lm_eval --model hf` on a task file", lm_eval
    ),
    "TRL": Client("trl", "trl", "SFTTrainer from a checkpoint", trl),
    "transformers' Trainer": Client(
        "transformers", "transformers", "StatisticsInit for from_pretrained", stock_trainer
    ),
    "transformers' pipeline": Client(
        "transformers", "transformers", "text-generation of a fine-tuned decoder", pipeline
    ),
    "peft": Client("peft", "peft", "LoRA, saved, loaded and merged", peft),
    "sentence-transformers": Client(
        "sentence-transformers",
        "sentence-transformers",
        "vectors of encoders",
        sentence_transformers,
    ),
    "torchdata": Client("torchdata", "torchdata", "StatefulDataLoader that goes on", torchdata),
    "huggingface_hub": Client(
        "huggingface_hub", "huggingface_hub", "`hf cache verify`", huggingface_hub
    ),
}


# --- The environment and the models ---------------------------------------------------------------


def install(place: Place, names: list[str]) -> dict[str, str]:
    """Make the environment, or bring the one that stands to this working tree.

    Args:
        place: where it is.
        names: the clients.

    Returns:
        A client that cannot be installed -> the reason.
    """
    if not (place.environment / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", place.environment], check=True)
    place.pip("torch", "setuptools>=69")

    # From a copy, so that the working tree gets no folder build/.
    with tempfile.TemporaryDirectory() as copy:
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, Path(copy) / name)
            else:
                shutil.copy(ROOT / name, copy)
        place.pip("--no-build-isolation", copy)

    missing = {}
    for name in names:
        try:
            place.pip(CLIENTS[name].requirement)
        except RuntimeError as error:
            lines = str(error).splitlines()
            missing[name] = next((line for line in lines if line.startswith("ERROR")), lines[-1])
    return missing


def make_models(place: Place) -> None:
    """Make the models and the rows with the commands of a user."""
    shutil.copytree(ROOT / "examples" / "data", place.work / "data")
    place.run("python", SCRIPTS / "make_texts.py")
    for command in COMMANDS:
        print(command, flush=True)
        place.run(*command.split())


def measure(place: Place, name: str) -> dict[str, Any]:
    """Return what a client came to: its version, its checks, whether all of them passed."""
    client = CLIENTS[name]
    try:
        checks = client.check(place)
        outcome: dict[str, Any] = {"checks": [asdict(c) | {"passed": c.passed} for c in checks]}
        outcome["passed"] = all(check.passed for check in checks)
    except RuntimeError as error:  # the client itself fails
        outcome = {"checks": [], "passed": False, "error": str(error)}
    return {"version": place.version(client.package), "used": client.used, **outcome}


def main() -> int:
    """Install, make the models, run the clients, write the JSON; 1 where a client disagrees."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--environment", type=Path, help="a folder that stays, and is used again")
    parser.add_argument("--only", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        environment = given.environment or Path(temporary) / "environment"
        place = Place(environment.resolve(), Path(temporary) / "work")
        place.work.mkdir()
        missing = install(place, given.only)
        make_models(place)

        report = json.loads(RESULT.read_text()) if RESULT.exists() else {"clients": {}}
        for name in given.only:
            if name in missing:
                outcome = {"used": CLIENTS[name].used, "not_installed": missing[name]}
            else:
                outcome = measure(place, name)
            print(name, json.dumps(outcome, indent=1), flush=True)
            report["clients"][name] = outcome
        for package in ("hf_synpre", "torch", "transformers"):
            report[package] = place.version(package)
        RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    return int(not all(report["clients"][name].get("passed") for name in given.only))


if __name__ == "__main__":
    sys.exit(main())
