"""Text-to-text tasks on decoders: prompts and completions, generation, what is saved.

Run: pytest tests/finetuning/test_completions.py
"""

import json
import re
import runpy
from unittest.mock import MagicMock

import pytest
import torch
from headed_models import result_of, tiny_model
from small_models import DECODERS
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from hf_synpre.data.tokenizers import train_tokenizer
from hf_synpre.errors import UsageError
from hf_synpre.finetuning import (
    FinetuningSpec,
    finetune,
    get_finetuning_task,
    prepare,
    save_model,
)
from hf_synpre.finetuning.card import loading_code
from hf_synpre.finetuning.completion_head import CompletionCollator, longest_prompt
from hf_synpre.finetuning.finetuning import finetuning_trainer
from hf_synpre.finetuning.text_head import longest_target
from hf_synpre.finetuning.text_to_text import generate_ids, say_once
from hf_synpre.training.progress import ProgressLines, reported_to

PAD, EOS = 0, 1
# Decoders whose layers are all recurrent here: transformers has no cache for them.
HYBRIDS = {"jamba": DECODERS["llama"], "recurrent_gemma": DECODERS["llama"]}


@pytest.fixture(scope="module")
def mtop(tmp_path_factory, tiny_dataset):
    folder = tmp_path_factory.mktemp("mtop")
    task = get_finetuning_task("mtop", max_target=48)
    return prepare(task, folder / "data", data_dir=str(tiny_dataset), vocab_size=400)


def fresh(data, model_type="llama", **fields):
    return tiny_model(data, model_type, DECODERS[model_type] | fields)


def test_labels_are_the_next_ids_of_the_target():
    collate = CompletionCollator(PAD, EOS, max_source=4, max_target=3)
    rows = [{"input_ids": [5, 6], "labels": [7, 8]}, {"input_ids": [2, 3, 4, 5, 6], "labels": [7]}]
    batch = collate(rows)
    assert batch["input_ids"][:, :7].tolist() == [
        [5, 6, EOS, 7, 8, EOS, 0],
        [2, 3, 4, EOS, 7, EOS, 0],
    ]
    assert batch["attention_mask"].sum(1).tolist() == [6, 6]
    assert batch["labels"][:, :7].tolist() == [
        [-100, -100, 7, 8, EOS, -100, -100],
        [-100, -100, -100, 7, EOS, -100, -100],
    ]

    # A prompt is padded on the left, and a source that is cut still ends.
    prompts = collate.prompts(rows)
    assert prompts["input_ids"][:, -4:].tolist() == [[PAD, 5, 6, EOS], [2, 3, 4, EOS]]
    assert prompts["attention_mask"].sum(1).tolist() == [3, 4]


def test_a_target_that_is_cut_has_no_end():
    collate = CompletionCollator(PAD, EOS, max_source=4, max_target=2)
    batch = collate([{"input_ids": [5], "labels": [7, 8, 9]}])
    assert batch["labels"][0, :4].tolist() == [-100, 7, 8, -100]


def test_the_loss_is_on_the_prompt_too_where_it_is_asked_for(mtop, tmp_path):
    model = fresh(mtop)
    for loss_on in ("targets", "all"):
        spec = FinetuningSpec({"max_steps": 1, "use_cpu": True}, loss_on=loss_on)
        trainer = finetuning_trainer(model, mtop, spec, 0, tmp_path)
        train = trainer.data_collator([trainer.train_dataset[0]])
        next_ids = train["input_ids"].roll(-1)[0]
        labelled = train["labels"][0] != -100
        assert torch.equal(train["labels"][0][labelled], next_ids[labelled])

        # All ids but the first of a sequence are predicted, or those after the prompt.
        row = trainer.train_dataset[0]
        prompt, target = len(row["input_ids"]) + 1, len(row["labels"]) + 1
        expected = target if loss_on == "targets" else prompt + target - 1
        assert labelled.sum() == expected

        # Validation is on the target.
        row = trainer.eval_dataset[0]
        labels = trainer.data_collator([row])["labels"]
        assert (labels != -100).sum() == len(row["labels"]) + 1


def test_the_start_line_counts_prompts_and_targets(mtop, tmp_path):
    """What it says before the first step is what the run has read at its end."""
    recorder = ProgressLines("a run")
    recorder.begun = told = MagicMock()
    # Half the rows a step, so that a few steps read all of them about once.
    spec = FinetuningSpec({"max_steps": 6, "use_cpu": True, "per_device_train_batch_size": 8})
    with reported_to(recorder):
        outcome = finetune(fresh(mtop), mtop, spec, seed=0, output_dir=tmp_path)
    (state,) = told.call_args.args
    assert state.tokens == pytest.approx(outcome["spent"]["tokens"], rel=0.15)


@pytest.mark.parametrize("model_type", DECODERS | HYBRIDS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_generation_is_what_the_model_finds_most_likely(model_type, attention, caplog):
    """Rows of other lengths are padded on the left; each must be as if it were alone."""
    fields = (DECODERS | HYBRIDS)[model_type]
    config = AutoConfig.for_model(model_type, **fields | {"vocab_size": 40})
    config.pad_token_id, config.eos_token_id = PAD, EOS
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).eval()
    if attention == "sdpa" and not model._supports_sdpa:
        pytest.skip(f"{model_type} has no sdpa")
    if model._supports_sdpa:
        model.set_attn_implementation(attention)
    with torch.no_grad():  # large weights: what comes next differs from row to row
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape) * 0.7)

    rows = [{"input_ids": [5 + i] * i + [9], "labels": [3]} for i in range(6)]
    collate = CompletionCollator(PAD, EOS, max_source=16, max_target=8)
    say_once.cache_clear()
    generated = generate_ids(model, rows, collate.prompts, limit=6, batch_size=4)
    assert ("without a cache" in caplog.text) == (model_type in ("jamba", "recurrent_gemma"))
    assert ("reads the padding" in caplog.text) == (model_type == "recurrent_gemma")
    assert len(caplog.records) == len({record.message for record in caplog.records})

    for row, ids in zip(rows, generated, strict=True):
        sequence = [*row["input_ids"], EOS, *ids]
        with torch.no_grad():
            ids_of_row = torch.tensor([sequence])
            logits = model(ids_of_row, use_cache=False).logits[0]  # [length, vocabulary]
        expected = logits[len(row["input_ids"]) :].argmax(-1).tolist()
        assert ids == expected[: len(ids)]
        assert len(ids) == 6 or expected[len(ids)] == EOS
    assert len({tuple(ids) for ids in generated}) > 2, "all rows have one answer"


def test_a_decoder_is_fine_tuned_tested_and_saved(mtop, tmp_path, monkeypatch, capsys):
    training = {"max_steps": 4, "use_cpu": True, "per_device_train_batch_size": 8}
    spec = FinetuningSpec(training, 2, 8, 8, max_new_tokens=6)
    model = fresh(mtop)
    outcome = finetune(model, mtop, spec, seed=0, output_dir=tmp_path / "trainer")
    assert outcome["test_examples"] == 8
    assert outcome["curve"][1]["loss"] < outcome["curve"][0]["loss"]
    assert {"exact_match", "f1"} & outcome["scores"].keys()

    # The folder answers as the test did, by the lines that its card shows.
    result = result_of(outcome, "mtop")
    save_model(model, mtop, spec, result, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.padding_side == "left"
    assert tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert generation["do_sample"] is False, "pipelines would draw tokens"
    card = (tmp_path / "model" / "README.md").read_text()
    assert "pipeline_tag: text-generation" in card

    code = loading_code(mtop, str(tmp_path / "model"), model.config)
    text = mtop.tokenizer.decode(mtop.rows("test")[0]["input_ids"])
    script = tmp_path / "use.py"
    script.write_text(re.sub('tokenizer\\("[^"]*"', f"tokenizer({text!r}", code, count=1))
    runpy.run_path(str(script))
    prompts = CompletionCollator(*ends(mtop), 1024, 48).prompts
    ids = generate_ids(model, [mtop.rows("test")[0]], prompts, limit=6)
    expected = mtop.tokenizer.decode(ids[0], skip_special_tokens=True)
    assert capsys.readouterr().out == f"{expected}\n"


def ends(data):
    return data.tokenizer.pad_token_id, data.tokenizer.eos_token_id


def test_too_few_position_embeddings_are_refused_before_training(mtop, tmp_path):
    prompt = longest_prompt(mtop)
    with pytest.raises(
        UsageError, match=f"prompts of up to {prompt} ids .* gpt2 has 16 position .* n_positions of"
    ):
        fresh(mtop, "gpt2", n_positions=16)

    # Batches are padded to a multiple of 8, which has to fit too; then all rows train.
    longest = prompt + longest_target(mtop)
    width = -(-longest // 8) * 8
    assert longest < width, "another max_target shows nothing"
    with pytest.raises(UsageError, match=f"in batches {width} wide, .* n_positions of {width}, or"):
        fresh(mtop, "gpt2", n_positions=width - 1)
    training = {"max_steps": 1, "use_cpu": True, "per_device_train_batch_size": 200}
    spec = FinetuningSpec(training, 1, test_examples=40)
    model = fresh(mtop, "gpt2", n_positions=width)
    finetune(model, mtop, spec, seed=0, output_dir=tmp_path)


def test_a_tokenizer_without_padding_pads_with_its_end(tmp_path, tiny_dataset):
    """The end of a target is learned all the same, and padding is not."""
    tokenizer = train_tokenizer(["call mum now [IN:X [SL:Y ] ]"], 300)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    task = get_finetuning_task("mtop", max_target=48)
    name = str(tmp_path / "tokenizer")
    data = prepare(task, tmp_path / "data", data_dir=str(tiny_dataset), tokenizer=name)
    spec = FinetuningSpec({"max_steps": 1, "use_cpu": True}, 1, 8, 8, max_new_tokens=4)
    model = fresh(data)
    end = data.tokenizer.eos_token_id
    assert model.config.pad_token_id == end
    trainer = finetuning_trainer(model, data, spec, 0, tmp_path / "trainer")
    rows = sorted((data.rows("train")[k] for k in range(9)), key=lambda row: len(row["labels"]))
    batch = trainer.data_collator([rows[0], rows[-1]])
    assert batch["attention_mask"][0].sum() < batch["attention_mask"].shape[1]
    labels = batch["labels"][0]
    assert labels[labels != -100].tolist() == [*rows[0]["labels"], end]

    outcome = finetune(model, data, spec, seed=0, output_dir=tmp_path / "trainer")
    result = outcome | {"task": "mtop", "seed": 0, "config": {"arm": {"checkpoint": None}}}
    result["config"]["arm"]["lora"] = None
    save_model(model, data, spec, result, tmp_path / "model")
    assert AutoTokenizer.from_pretrained(tmp_path / "model").pad_token_id == end


def test_an_encoder_generates_no_text(mtop):
    config = AutoConfig.for_model("bert")
    with pytest.raises(UsageError, match="bert is neither an encoder-decoder nor a decoder"):
        mtop.head_for(config)
