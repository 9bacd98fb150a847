"""checkpoints.yaml -> pre-trained checkpoints; their released files in the package, cards here.

    python model_cards/make.py [--only t5-mini-set ...] [--jobs 2] [--work_dir runs/checkpoints]
    (make checkpoints)

A checkpoint whose card is here is not made again; a run that was killed continues from its last
saved step. The weights stay in the work folder: `synpre push` publishes them from there.
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

CARDS = Path(__file__).parent
STATISTICS = CARDS.parent / "hf_synpre" / "statistics"
RELEASED = ("config.json", "pretraining.json", "parameter_statistics.json")


def make_checkpoint(name: str, checkpoints: dict[str, Any], work_folder: Path) -> None:
    """Pre-train one checkpoint unless it has a card; keep its JSON files and its card.

    Args:
        name: a key of checkpoints["checkpoints"], the name after "synpre/" on the Hub.
        checkpoints: the content of checkpoints.yaml: models (a checkpoint's name begins with that
            of its model), run (for all), checkpoints (name -> options of its run).
        work_folder: the folder of the runs; the weights go into its folder `name` and stay there.
    """
    card = CARDS / name / "README.md"
    if card.exists():
        return
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    # Pre-train.
    spec = build_spec(PretrainingSpec, checkpoints["run"] | checkpoints["checkpoints"][name], name)
    model_name = next(known for known in checkpoints["models"] if name.startswith(f"{known}-"))
    model = build_spec(ModelSpec, checkpoints["models"][model_name], model_name)
    result = pretrain(spec, model, work_folder / name)

    # Keep what is released. The card comes last: it says that the checkpoint is complete.
    released = STATISTICS / name
    released.mkdir(exist_ok=True)
    for file in RELEASED:
        shutil.copyfile(work_folder / name / file, released / file)
    card.parent.mkdir(exist_ok=True)
    write_text(card, model_card(released, f"synpre/{name}"))

    print(
        f"{name}: {result['accuracy']:.4f} after {result['steps']} steps, "
        f"{result['train_s']:.0f} s",
        flush=True,
    )


def main() -> int:
    """Make the checkpoints that were asked for; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="names of checkpoints.yaml")
    parser.add_argument(
        "--jobs", type=int, default=2, help="runs at the same time, of one thread each"
    )
    parser.add_argument("--work_dir", type=Path, default=Path("runs/checkpoints"))
    options = parser.parse_args()

    checkpoints = read_yaml(CARDS / "checkpoints.yaml")
    all_names = checkpoints["checkpoints"]
    try:
        names = [choose("checkpoint", name, all_names) for name in options.only or all_names]
        Parallel(n_jobs=options.jobs)(
            delayed(make_checkpoint)(name, checkpoints, options.work_dir) for name in names
        )
    except UsageError as error:
        print(f"make.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
