"""Pre-train the checkpoints of checkpoints.yaml and keep here what is released of them: config, statistics, facts, card.

    python model_cards/make.py [--only t5-mini-set ...] [--jobs 2] [--work_dir runs/checkpoints]     (make checkpoints)

What is here already is not made again; a killed run goes on. The weights stay in the work folder: `synpre push` publishes
them from there.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from joblib import Parallel, delayed

from hf_synpre.config import build_spec, read_yaml
from hf_synpre.errors import UsageError, choose
from hf_synpre.files import write_text
from hf_synpre.hub.cards import model_card
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec

HERE = Path(__file__).parent
RELEASED = ("config.json", "pretraining.json", "parameter_statistics.json")


def make(name: str, given: dict[str, Any], work: Path, home: Path = HERE) -> None:
    """Pre-train one checkpoint unless its files are in `home`; copy them there and render its card."""
    if (home / name / "README.md").exists():
        return
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    spec = build_spec(PretrainingSpec, given["run"] | given["checkpoints"][name], name)
    facts = pretrain(spec, build_spec(ModelSpec, given["model"], "model"), work / name)
    (home / name).mkdir(exist_ok=True)
    for file in RELEASED:
        shutil.copyfile(work / name / file, home / name / file)
    write_text(home / name / "README.md", model_card(home / name, f"synpre/{name}"))
    print(
        f"{name}: {facts['accuracy']:.4f} after {facts['steps']} steps, {facts['train_s']:.0f} s",
        flush=True,
    )


def main() -> int:
    """Make what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="names of checkpoints.yaml")
    parser.add_argument(
        "--jobs", type=int, default=2, help="runs at the same time, of one thread each"
    )
    parser.add_argument("--work_dir", type=Path, default=Path("runs/checkpoints"))
    options = parser.parse_args()
    given = read_yaml(HERE / "checkpoints.yaml")
    try:
        names = [
            choose("checkpoint", name, given["checkpoints"])
            for name in options.only or given["checkpoints"]
        ]
        Parallel(n_jobs=options.jobs)(
            delayed(make)(name, given, options.work_dir) for name in names
        )
    except UsageError as error:
        print(f"make.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
