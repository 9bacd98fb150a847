"""What a fine-tuning reports: its evaluations' rows, scores of greedy decoding, divergence.

Run: pytest tests/finetuning/test_test_scores.py
"""

import pytest
from pretraining_runs import MODEL
from small_models import TINY
from transformers import AutoModelForSeq2SeqLM

from hf_synpre.initialization import build
from hf_synpre.models.spec import ModelSpec
from hf_synpre.vocabulary import as_vocabulary


def test_a_diverged_run_says_so(tmp_path, tiny_dataset):
    from hf_synpre.finetuning import FinetuningSpec, finetune, get_finetuning_task, prepare

    data = prepare(
        get_finetuning_task("mtop", max_target=48),
        tmp_path / "data",
        data_dir=str(tiny_dataset),
        vocab_size=400,
    )
    config = MODEL.config(as_vocabulary(data.tokenizer))
    spec = FinetuningSpec({"max_steps": 6, "learning_rate": 1e30, "use_cpu": True}, 1, 8, 8)
    with pytest.raises(FloatingPointError, match="smaller learning_rate"):
        finetune(
            build(AutoModelForSeq2SeqLM, config, {}, 0),
            data,
            spec,
            seed=0,
            output_dir=tmp_path / "work",
        )


def test_evaluation_rows_are_a_fixed_shuffle(tmp_path, tiny_dataset):
    from hf_synpre.finetuning import get_finetuning_task, prepare

    data = prepare(
        get_finetuning_task("mtop"), tmp_path / "data", data_dir=str(tiny_dataset), vocab_size=400
    )
    chosen, again = (
        [r[0] for r in data.rows("train", 20).references.to_pylist()] for _ in range(2)
    )
    assert chosen == again
    assert set(chosen) != {r[0] for r in data.rows("train").references.to_pylist()[:20]}


def test_the_test_score_is_that_of_greedy_decoding(tmp_path, tiny_dataset):
    """Teacher forcing finds exactly the rows that greedy decoding gets right, in any order."""
    from hf_synpre.finetuning import FinetuningSpec, finetune, get_finetuning_task, prepare

    task = get_finetuning_task("mtop", max_target=48)
    data = prepare(task, tmp_path / "data", data_dir=str(tiny_dataset), vocab_size=400)
    for split in ("validation", "test"):
        (data.folder / f"{split}.parquet").write_bytes((data.folder / "train.parquet").read_bytes())
    config = ModelSpec(overrides=TINY | {"d_model": 64, "d_ff": 128}).config(
        as_vocabulary(data.tokenizer)
    )
    training = {
        "max_steps": 150,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 16,
        "use_cpu": True,
    }
    spec = FinetuningSpec(
        training | {"learning_rate": 5e-2}, evaluations=3, validation_examples=60, test_examples=60
    )
    outcome = finetune(
        build(AutoModelForSeq2SeqLM, config, {}, 0),
        data,
        spec,
        seed=0,
        output_dir=tmp_path / "work",
    )
    assert outcome["score"] == pytest.approx(outcome["validation_score"])
    assert outcome["score"] > 0.2
