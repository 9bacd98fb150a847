"""What tests of self-pretraining share: a small labelled dataset on disk, tiny encoders, specs."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_synpre.data.collators import RowCollator
from hf_synpre.data.masking import MaskedDataset, ReplacedRows
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.data.windows import EncoderRows, FullWindows
from hf_synpre.models.electra import build_rtd
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import as_vocabulary

ENCODER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
ENCODER |= {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 64,
}
ELECTRA = ModelSpec("electra", overrides=ENCODER | {"embedding_size": 16})
ROBERTA = ModelSpec("roberta", overrides=ENCODER)
WORDS = [
    "the",
    "a",
    "dog",
    "cat",
    "runs",
    "sleeps",
    "eats",
    "under",
    "over",
    "near",
    "house",
    "tree",
    "river",
    "slowly",
    "quickly",
    "today",
]


def sentence(i):
    return " ".join(WORDS[(i * k + k) % len(WORDS)] for k in (3, 7, 5, 11, 13, 2)) + f" {i % 97}."


def write_dataset(folder, **splits):
    """Write a dataset in Hub layout: split -> columns."""
    (folder / "data").mkdir(parents=True)
    rules = "\n".join(f"  - split: {s}\n    path: data/{s}-*.parquet" for s in splits)
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{rules}\n---\n"
    )
    for split, columns in splits.items():
        pq.write_table(pa.table(columns), folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def labelled(first, count):
    """Rows whose label is said by a word: learnable."""
    texts = [sentence(i) + (" good" if i % 2 else " bad") for i in range(first, first + count)]
    return {"text": texts, "label": [i % 2 for i in range(first, first + count)]}


def spec_of(objective, **changes):
    training = {
        "max_steps": 8,
        "learning_rate": 2e-3,
        "optim": "adamw_torch",
        "lr_scheduler_type": "constant_with_warmup",
        "use_cpu": True,
        "logging_steps": 1,
    }
    given = {
        "corpus": "here",
        "text": TextSpec(),
        "objective": objective,
        "window": 32,
        "batch_size": 8,
        "target_accuracy": 2.0,
    }
    given |= {"evaluations": 2, "validation_examples": 16}
    if changes.keys() & {"budget_tokens", "budget_flops", "match_tokens_of"}:
        del training["max_steps"]
    if changes.get("task"):
        del given["text"], given["window"]
    return PretrainingSpec(**given | changes | {"training": training | changes.get("training", {})})


ELECTRA_DROPPING = ModelSpec("electra", overrides=ELECTRA.overrides | {"hidden_dropout_prob": 0.1})


# The shape of a tiny encoder as fields of its config, and the fields in which architectures differ.
SHAPE = {
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
SHAPE_CHANGES = {
    "modernbert": {
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "cls_token_id": 1,
        "sep_token_id": 1,
    },
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
    "electra": {"embedding_size": 16},
}


def masked_batch(tokenizer, rows=6, objective="mlm", pairs=False, window=24):
    """Return a batch of rows with masked tokens, of unequal lengths."""
    ids = np.array(
        tokenizer(" ".join(sentence(i) for i in range(80)), add_special_tokens=False)["input_ids"],
        np.int32,
    )
    windows = FullWindows(ids[: 5 * window + 7], size=rows, length=window)
    encoder_rows = EncoderRows(
        windows, start=tokenizer.cls_token_id, end=tokenizer.sep_token_id, pairs=pairs
    )
    vocabulary = as_vocabulary(tokenizer)
    options = {
        "mask": tokenizer.mask_token_id,
        "regular_tokens": (vocabulary.first_regular, vocabulary.regular_count),
    }
    data = MaskedDataset(
        encoder_rows, compact=True, special_tokens=tuple(tokenizer.all_special_ids), **options
    )
    data = ReplacedRows(data) if objective == "rtd" else data
    return RowCollator(vocabulary.pad, alone=True)([data[i] for i in range(rows)])


def electra_pair(tokenizer, seed=0):
    return build_rtd(ELECTRA.config(as_vocabulary(tokenizer)), seed)
