"""At which size and number of tokens ELECTRA's objective starts to work: loss against its floor.

    python benchmarks/replaced_tokens.py --data_dir DIR [--jobs 2] [--work_dir DIR]

Replaced-token detection (objective rtd) pre-trains ELECTRAs of three sizes on novels and source
code (`python examples/mixed_corpus.py DIR` writes the corpus), with 4,096 ids trained on it; a
step reads 128 windows of 128 tokens. The floor is the loss of a discriminator that knows the share
of replaced tokens and nothing else. A killed run goes on where it was (give --work_dir). Writes
results/replaced_tokens.json. On a GPU the three runs at once take minutes, on two CPU cores days.
"""

import argparse
import math
import tempfile
from itertools import islice
from pathlib import Path

import torch
import transformers
from joblib import Parallel, delayed

from hf_synpre.data.corpora import open_corpus
from hf_synpre.data.tokenizers import train_encoder_tokenizer
from hf_synpre.files import write_json
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.versions import commit

RESULT = Path(__file__).parent / "results" / "replaced_tokens.json"
CORPUS = "novels_and_source"
WINDOW = 128
BATCH_SIZE = 128
DOCUMENTS = 2000  # of these the tokenizer is trained
# Width and layers; the last one is ELECTRA-small but for its vocabulary.
SIZES = [(128, 2), (256, 4), (256, 12)]
TRAINING = {
    "max_steps": 4000,
    "warmup_steps": 400,
    "lr_scheduler_type": "linear",
    "optim": "adamw_torch",
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "adam_epsilon": 1e-6,
    "save_steps": 500,
    "bf16": True,
}
# What is kept of an evaluation.
KEYS = ("step", "generator_loss", "discriminator_loss", "replaced_share", "replaced_recall")
KEYS += ("balanced_accuracy", "token_accuracy")


def model_of(width: int, layers: int) -> ModelSpec:
    """Return the discriminator of a size; the generator is a quarter as wide."""
    overrides = {
        "embedding_size": 128 if width > 128 else 64,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
        "max_position_embeddings": WINDOW,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return ModelSpec("electra", overrides=overrides)


def guess_loss(share: float) -> float:
    """Return the loss of a guess that knows the share of replaced tokens, in nats a token."""
    return -share * math.log(share) - (1 - share) * math.log(1 - share)


def measure(width: int, layers: int, data_dir: str, folder: Path) -> dict:
    """Return the facts of one run: its evaluations, its tokens, its device."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    # All sizes read the same text with the same ids.
    corpus = open_corpus(CORPUS, data_dir, None)
    tokenizer = train_encoder_tokenizer(islice(corpus.texts("train"), DOCUMENTS), 4096)

    # Pre-train, and keep the losses.
    spec = PretrainingSpec(
        corpus=CORPUS,
        objective="rtd",
        window=WINDOW,
        batch_size=BATCH_SIZE,
        target_accuracy=1.1,
        evaluations=20,
        training=TRAINING,
    )
    facts = pretrain(
        spec,
        model_of(width, layers),
        folder / f"{width}x{layers}",
        tokenizer=tokenizer,
        corpus=corpus,
    )
    curve = []
    for point in facts["curve"]:
        kept = {key: point[key] for key in KEYS}
        curve.append(kept | {"floor": guess_loss(kept["replaced_share"])})
    return {"curve": curve, "tokens": facts["tokens"], "train_s": facts["train_s"]}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--work_dir", type=Path, default=Path(tempfile.gettempdir()) / "synpre-replaced-tokens"
    )
    options = parser.parse_args()

    # The runs, and what made them.
    runs = Parallel(n_jobs=options.jobs)(
        delayed(measure)(*size, options.data_dir, options.work_dir) for size in SIZES
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    facts = {"torch": torch.__version__, "commit": commit(), "device": device}
    facts |= {"tokens_a_step": BATCH_SIZE * WINDOW}
    named = {}
    for (width, layers), run in zip(SIZES, runs, strict=True):
        named[f"{width} wide, {layers} layers"] = run
    write_json(RESULT, facts | {"runs": named})


if __name__ == "__main__":
    main()
