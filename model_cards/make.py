"""checkpoints.yaml -> pre-trained checkpoints: statistics in the package, weights and cards here.

    python model_cards/make.py [--only t5-mini-set ...] [--jobs 2] [--work_dir runs/checkpoints]
    (make checkpoints)

A checkpoint that is complete here is not made again; a run that was killed continues from its last
saved step. The weights here are in bfloat16; those of the run, in float32, stay in the work folder.

Weights are kept beside statistics only where they have these statistics. Later versions of the code
give other runs, so that of an older checkpoint is made at the commit that its card
names: `git worktree add`, this script there without the card, and then here with its --work_dir.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from joblib import Parallel, delayed
from render import CARDS, STATISTICS, card_of, say_facts

from hf_synpre.config import build_spec, read_yaml
from hf_synpre.errors import UsageError, choose
from hf_synpre.files import read_json, write_text
from hf_synpre.initialization import STATISTICS_FILE
from hf_synpre.models.saving import refuse_tokenizer
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec

RELEASED = ("config.json", "pretraining.json", STATISTICS_FILE)
# The share of right validation tokens from which on weights are released, not only statistics.
LEAST_ACCURACY = 0.9


def make_checkpoint(name: str, checkpoints: dict[str, Any], work_folder: Path) -> None:
    """Pre-train one checkpoint unless it is complete; keep its statistics, its weights, its card.

    Args:
        name: a key of checkpoints["checkpoints"], the name after "synpre/" on the Hub.
        checkpoints: the content of checkpoints.yaml: models (a checkpoint's name begins with that
            of its model), run (for all), weights (the names of those that are released with
            weights), checkpoints (name -> options of its run).
        work_folder: the folder of the runs; the trained model stays in its folder `name`.

    Raises:
        UsageError: statistics are released, and the run has others.
    """
    has_weights = name in checkpoints["weights"]
    if is_complete(name, has_weights):
        return
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    # Pre-train.
    spec = build_spec(PretrainingSpec, checkpoints["run"] | checkpoints["checkpoints"][name], name)
    model_name = next(known for known in checkpoints["models"] if name.startswith(f"{known}-"))
    model = build_spec(ModelSpec, checkpoints["models"][model_name], model_name)
    run = work_folder / name
    result = pretrain(spec, model, run)

    # Keep what is released. The card comes last: it says that the checkpoint is complete.
    released = STATISTICS / name
    if released.exists():
        check_statistics(run, released)
    else:
        released.mkdir()
        for file in RELEASED:
            shutil.copyfile(run / file, released / file)
    if has_weights and result["accuracy"] >= LEAST_ACCURACY:
        write_weights(run, CARDS / name)
        say_facts(released, CARDS / name)
    (CARDS / name).mkdir(exist_ok=True)
    write_text(CARDS / name / "README.md", card_of(released, CARDS))

    print(
        f"{name}: {result['accuracy']:.4f} after {result['steps']} steps, "
        f"{result['train_s']:.0f} s",
        flush=True,
    )


def is_complete(name: str, has_weights: bool) -> bool:
    """Say whether a checkpoint has its card, and its weights where these are to be released."""
    if not (CARDS / name / "README.md").exists():
        return False
    if not has_weights:
        return True
    accuracy = read_json(STATISTICS / name / "pretraining.json")["accuracy"]
    return accuracy < LEAST_ACCURACY or (CARDS / name / "model.safetensors").exists()


def check_statistics(run: Path, released: Path) -> None:
    """Raise UsageError where the statistics of a run's weights are not the released ones."""
    if read_json(run / STATISTICS_FILE) == read_json(released / STATISTICS_FILE):
        return
    commit = read_json(released / "pretraining.json")["versions"]["commit"]
    raise UsageError(
        f"The weights in {run} do not have the released statistics of {released.name}, which were "
        f"made at commit {commit}; make the run there, and give its --work_dir here."
    )


def write_weights(run: Path, folder: Path) -> None:
    """Write the model of a finished run in bfloat16; from_pretrained loads it in float32.

    Args:
        run: the folder of the run: config.json and float32 weights.
        folder: where model.safetensors, config.json, generation_config.json and the
            tokenizer_config.json that says that there is no tokenizer go.
    """
    (architecture,) = read_json(run / "config.json")["architectures"]
    model = getattr(transformers, architecture).from_pretrained(run, dtype=torch.float32)
    # Some modules of T5 would stay in float32 if they were loaded as bfloat16.
    model = model.to(torch.bfloat16)
    model.config.use_cache = True  # transformers' Trainer switched it off
    model.save_pretrained(folder)

    # The files are small, and whoever trains the model does so in float32.
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    refuse_tokenizer(folder)


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
