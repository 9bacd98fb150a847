"""What tests of fine-tuning share: tiny models with a head, corpora, results to save."""

import pyarrow as pa
import pyarrow.parquet as pq

from hf_synpre.initialization import build
from hf_synpre.models.spec import ModelSpec
from hf_synpre.vocabulary import as_vocabulary


def headed(data, model, seed=0):
    """Return a model of an architecture with the head of a prepared task."""
    config = model.config(as_vocabulary(data.tokenizer))
    head = data.head_for(config)
    return build(head.model_class, head.configure(config, data), {}, seed)


def tiny_model(data, model_type, fields, seed=0):
    """Return a model with the head of a prepared task; the task's tokenizer gives its vocab_size.

    Args:
        data: the prepared task.
        model_type: transformers' name of the architecture.
        fields: fields of its config.
        seed: that of its weights.
    """
    overrides = {name: value for name, value in fields.items() if name != "vocab_size"}
    return headed(data, ModelSpec(model_type, overrides=overrides), seed)


def write_corpus(folder, texts):
    """Write the documents of every split as Parquet; return the folder."""
    for split, documents in texts.items():
        pq.write_table(pa.table({"text": documents}), folder / f"{split}.parquet")
    return folder


def result_of(outcome, task):
    """Return what a cell of an experiment makes of the outcome of a fine-tuning."""
    arm = {"checkpoint": None, "lora": None}
    return {**outcome, "task": task, "arm": "random", "seed": 0, "config": {"arm": arm}}
