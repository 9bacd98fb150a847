"""Labels on decoders: heads, padding, saved models; choices by likelihood, also untrained.

Run: pytest tests/finetuning/test_decoder_labels.py
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from encoder_examples import write_dataset
from label_examples import TASKS, TRAINING, headed
from small_models import DECODERS
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast, pipeline

from hf_synpre import UsageError
from hf_synpre.data.tokenizers import train_tokenizer
from hf_synpre.experiments.cell import check_untrained
from hf_synpre.experiments.spec import ArmSpec
from hf_synpre.finetuning import FinetuningSpec, LabelTask, finetune, prepare, save_model
from hf_synpre.finetuning.card import first_texts, loading_code
from hf_synpre.finetuning.finetuning import finetuning_trainer
from hf_synpre.finetuning.label_rows import LikelihoodRows, SpecialTokensTemplate
from hf_synpre.finetuning.likelihood_head import mean_likelihoods, token_losses
from hf_synpre.models.chunked_head import chunked_head
from hf_synpre.models.spec import ModelSpec
from hf_synpre.vocabulary import Vocabulary

HEADS = ("classes", "pairs", "number", "tags", "choices")
# What transformers has no class for.
WITHOUT = {("mamba", head) for head in ("classes", "pairs", "number", "tags")} | {("opt", "tags")}
CELLS = [(model, head) for model in DECODERS for head in HEADS if (model, head) not in WITHOUT]
IGNORED = -100


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The tasks with a tokenizer as GPT-2's: the end pads, nothing around a text or between two."""
    folder = tmp_path_factory.mktemp("ended")
    texts = [text for name in ("pairs", "classes") for text in TASKS[name][1](0, 40).popitem()[1:]]
    backend = train_tokenizer(map(str, texts), 400).backend_tokenizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", padding_side="left"
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    made = {}
    for name in HEADS:
        task, rows, _ = TASKS[name]
        write_dataset(folder / name, train=rows(0, 16), validation=rows(16, 8), test=rows(24, 8))
        made[name] = prepare(
            task, folder / f"{name}.ids", data_dir=str(folder), tokenizer=f"{folder}/tokenizer"
        )
    return made


def decoder(data, model_type, **fields):
    """Return a tiny decoder with a task's head, whose weights are so large that rows differ."""
    overrides = {**DECODERS[model_type], **fields}
    overrides.pop("vocab_size", None)
    model = headed(data, ModelSpec(model_type, overrides=overrides)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model


def batch_of(data, model, rows):
    """Return rows as the batch of a model's head, without labels; a row alone has no padding."""
    collator = data.head_for(model.config).collator(data, model.config)
    collator.multiple = 1 if len(rows) == 1 else 8
    batch = collator(rows)
    del batch["labels"]
    return batch


def rows_of(data, model, split="test"):
    """Return eight rows; those of one text or two are cut to several lengths."""
    rows = data.rows(split, head=data.head_for(model.config))
    taken = [rows[i] for i in range(8)]
    for cut, row in enumerate(taken[:5]):
        for name, array in row.items():
            if isinstance(array, np.ndarray) and array.ndim:
                row[name] = array[: len(array) - cut]
    return taken


def outputs_of(data, model, rows):
    """Return what the head predicts with: logits, or the likelihoods of continuations."""
    batch = batch_of(data, model, rows)
    targets = batch.pop("targets", None)
    with torch.no_grad():
        if targets is None:
            return model(**batch).logits
        outputs = model(**{name: ids.flatten(0, 1) for name, ids in batch.items()})
        losses = token_losses(outputs, targets.flatten(0, 1))
        return mean_likelihoods(losses.view(targets.shape), targets)


@pytest.mark.parametrize("tokenizer", ["prepared", "ended"])
@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_a_row_does_not_depend_on_its_batch(model_type, head, tokenizer, request):
    data = request.getfixturevalue(tokenizer)[head]
    model = decoder(data, model_type)
    rows = rows_of(data, model)
    together = outputs_of(data, model, rows)
    for row, output in zip(rows, together, strict=True):
        alone = outputs_of(data, model, [row])[0]
        torch.testing.assert_close(output[: len(alone)], alone, atol=1e-4, rtol=1e-4)
    assert together.std(0).max() > 0.01, "all rows have one answer"


# OPT's head looks for the end too, but its positions follow the mask; GPT-2's do not.
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma2", "mixtral", "opt"])
@pytest.mark.parametrize("tokenizer", ["prepared", "ended"])
def test_the_class_is_read_at_the_last_token_on_either_side_of_padding(
    model_type, tokenizer, request
):
    data = request.getfixturevalue(tokenizer)["pairs"]
    model = decoder(data, model_type)
    for row in rows_of(data, model):
        full = batch_of(data, model, [row])  # without padding
        right = batch_of(data, model, [row, row])
        length, width = len(row["input_ids"]), right["input_ids"].shape[1]
        left = {name: ids.roll(width - length, 1) for name, ids in right.items()}
        with torch.no_grad():
            expected = model.score(model.base_model(**full).last_hidden_state[0, -1])
            for batch in (full, right, left):
                torch.testing.assert_close(model(**batch).logits[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("tokenizer", ["prepared", "ended"])
@pytest.mark.parametrize("head", ["pairs", "number"])
@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen3", "gemma2", "mixtral"])
def test_a_saved_model_predicts_the_same_in_a_pipeline(
    model_type, head, tokenizer, request, tmp_path
):
    data = request.getfixturevalue(tokenizer)[head]
    model = decoder(data, model_type)
    save(model, data, tmp_path / "model")
    config = AutoConfig.from_pretrained(tmp_path / "model")
    assert config.pad_token_id is not None

    # The texts of the test rows, decoded: words have the same ids alone and in a text.
    rows = data.rows("test")
    tokenizer = data.tokenizer
    inputs = []
    for index in range(8):
        first, second = map(tokenizer.decode, rows.pieces(index))
        inputs.append({"text": first, "text_pair": second})
    expected = outputs_of(data, model, [rows[i] for i in range(8)])
    if head == "pairs":
        expected = expected.softmax(-1)
    predict = pipeline("text-classification", model=str(tmp_path / "model"), top_k=None)
    for batch_size in (1, 8):
        for found, row in zip(predict(inputs, batch_size=batch_size), expected, strict=True):
            scores = {label["label"]: label["score"] for label in found}
            in_order = [scores[config.id2label[i]] for i in range(len(row))]
            assert in_order == pytest.approx(row.tolist(), abs=1e-4)


def save(model, data, folder):
    result = {
        "task": "mine",
        "seed": 0,
        "metric": "accuracy",
        "score": 0.0,
        "scores": {"accuracy": 0.0},
        "test_examples": 8,
        "config": {"arm": {"checkpoint": None, "lora": None}},
        "versions": {},
    }
    save_model(model, data, FinetuningSpec(), result, folder)


def test_two_texts_are_told_apart_where_a_tokenizer_puts_nothing_between_them(ended):
    data = ended["pairs"]
    first, second = data.rows("train").pieces(0)
    row = data.rows("train")[0]["input_ids"].tolist()
    assert row == [*first, data.tokenizer.eos_token_id, *second]


def test_xlnet_reads_the_last_position_so_its_rows_are_padded_on_the_left(prepared, tmp_path):
    data = prepared["classes"]
    shape = {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32}
    model = headed(data, ModelSpec("xlnet", overrides=shape)).eval()
    rows = rows_of(data, model)
    together = outputs_of(data, model, rows)
    for row, output in zip(rows, together, strict=True):
        torch.testing.assert_close(output, outputs_of(data, model, [row])[0], atol=1e-5, rtol=0)
    save(model, data, tmp_path / "model")
    assert AutoTokenizer.from_pretrained(tmp_path / "model").padding_side == "left"


@pytest.mark.parametrize(("model_type", "head"), sorted(WITHOUT))
def test_a_head_that_transformers_lacks_is_refused_in_a_line(model_type, head, prepared):
    auto_class = "TokenClassification" if head == "tags" else "SequenceClassification"
    with pytest.raises(
        UsageError,
        match=f"^{head} has the head .*, and transformers has no AutoModelFor{auto_class} of "
        rf"{model_type}; give another model_type or checkpoint, such as an encoder \(electra, "
        r"bert ...\) or llama.$",
    ):
        headed(prepared[head], ModelSpec(model_type))


def test_a_routers_loss_is_refused_under_a_head(prepared, tmp_path):
    for head in ("classes", "choices"):
        model = decoder(prepared[head], "mixtral", output_router_logits=True)
        with pytest.raises(UsageError, match=r"router cannot be added .* leave output_router"):
            finetuning_trainer(model, prepared[head], FinetuningSpec(TRAINING), 0, tmp_path)


# --- choices --------------------------------------------------------------------------------------


def test_a_likelihood_is_that_of_the_continuation_over_its_tokens(ended):
    """Computed by hand: one continuation at a time, without padding."""
    data = ended["choices"]
    model = decoder(data, "llama")
    scores = outputs_of(data, model, rows_of(data, model))
    rows = data.rows("test", head=data.head_for(model.config))
    texts = TASKS["choices"][1](24, 8)
    encode = data.tokenizer
    for index in range(8):
        context = encode(texts["ctx"][index])["input_ids"]
        for choice, ending in enumerate(texts["endings"][index]):
            ids = encode(f"{texts['ctx'][index]} {ending}")["input_ids"]
            with torch.no_grad():
                log_probs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            chosen = [log_probs[i - 1, ids[i]].item() for i in range(len(context), len(ids))]
            assert ids[len(context) :] == rows.pieces(index)[choice][len(context) :].tolist()
            assert scores[index, choice].item() == pytest.approx(np.mean(chosen), abs=1e-4)


@pytest.mark.parametrize("model_type", ["gpt2", "gemma2", "mamba"])
def test_the_gradient_of_chunks_is_that_of_all_logits(model_type, prepared, monkeypatch, tmp_path):
    monkeypatch.setattr("hf_synpre.models.chunked_head.chunk_positions", lambda *_: 7)
    data = prepared["choices"]
    model = decoder(data, model_type)
    trainer = finetuning_trainer(model, data, FinetuningSpec(TRAINING), 0, tmp_path)
    assert chunked_head(model) is not None
    head = data.head_for(model.config)
    batch = head.collator(data, model.config)(rows_of(data, model, "train"))
    results = []
    for chunked in (trainer.chunked_head, None):
        trainer.chunked_head = chunked
        model.zero_grad()
        with trainer._head_in_chunks():
            loss = trainer.compute_loss(model, dict(batch))
        loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        results.append([loss.detach(), *gradients])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_decoder_learns_to_choose_and_is_saved_as_it_is(prepared, tmp_path, capsys):
    data = prepared["choices"]
    model = headed(data, ModelSpec("llama", overrides=shape_of("llama")))
    spec = FinetuningSpec(TRAINING | {"max_steps": 40}, evaluations=2)
    outcome = finetune(model, data, spec, seed=0, output_dir=tmp_path / "trainer")
    assert outcome["score"] >= 0.8
    assert "per token" in outcome["scoring"]["accuracy"]

    # The lines of the card print the score of a choice, here of the first one.
    save(model, data, tmp_path / "model")
    assert 'tokenizer("<ctx> <endings>"' in (tmp_path / "model" / "README.md").read_text()
    exec(loading_code(data, str(tmp_path / "model"), model.config, first_texts(data)), {})
    rows = data.rows("test", head=data.head_for(model.config))
    score = outputs_of(data, model.eval(), [rows[0]])[0, 0].item()
    assert float(capsys.readouterr().out) == pytest.approx(score, rel=1e-4)

    # The same model, tested without a step.
    again = type(model).from_pretrained(tmp_path / "model")
    untrained = replace(spec, training=TRAINING | {"max_steps": 0})
    tested = finetune(again, data, untrained, seed=0, output_dir=tmp_path / "again")
    assert tested["score"] == outcome["score"]
    assert tested["probabilities"] == outcome["probabilities"]
    assert tested["spent"]["steps"] == 0
    assert [point["step"] for point in tested["curve"]] == [0]
    for one, other in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


def shape_of(model_type):
    return {name: value for name, value in DECODERS[model_type].items() if name != "vocab_size"}


def likelihood_rows(joined, starts, before=(), length=6):
    template = SpecialTokensTemplate(before, (9,), (), False, length)
    encoded = pa.table(
        {
            "label": [0],
            "joined": pa.array([joined], pa.list_(pa.list_(pa.int32()))),
            "starts": [starts],
        }
    )
    return LikelihoodRows(encoded, template, eos=1)[0]["choices"]


@pytest.mark.parametrize(
    ("joined", "start", "before", "inputs", "targets"),
    [
        ([5, 6, 7, 8], 2, (), [5, 6, 7], [IGNORED, 7, 8]),
        ([5, 6, 7, 8], 2, (3,), [3, 5, 6, 7], [IGNORED, IGNORED, 7, 8]),
        # Without a context the end of a sequence is before the first id.
        ([7, 8], 0, (), [1, 7], [7, 8]),
        ([7, 8], 0, (3,), [3, 7], [7, 8]),
        # The beginning of a long context is cut, and the end of a long continuation.
        (range(10, 20), 7, (3,), [3, 14, 15, 16, 17, 18], [IGNORED] * 3 + [17, 18, 19]),
        (range(10, 30), 2, (), [11, 12, 13, 14, 15, 16], [12, 13, 14, 15, 16, 17]),
    ],
)
def test_rows_of_continuations(joined, start, before, inputs, targets):
    row = likelihood_rows([list(joined)], [start], before)[0]
    assert row["input_ids"].tolist() == inputs
    assert row["targets"].tolist() == targets


def prepare_choices(folder, texts, **fields):
    columns = {"ctx": ["one two", "three"], "endings": [["four", "five six"]] * 2, "label": [0, 1]}
    write_dataset(folder / "mine", train=columns | texts, validation=columns, test=columns)
    task = LabelTask("mine", "choices", [["start", "ctx"], ["ctx"]], [["label"]], [["endings"]])
    return prepare(replace(task, **fields), folder / "ids", data_dir=str(folder), vocab_size=300)


def test_the_beginning_of_all_continuations_belongs_to_the_context(tmp_path):
    data = prepare_choices(tmp_path, {})
    table = data.read_table("train").to_pydict()
    decoded = [data.tokenizer.decode(ids) for ids in table["joined"][0]]
    assert [text.strip() for text in decoded] == ["one two four", "one two five six"]
    prompt = data.tokenizer("one two", add_special_tokens=False)["input_ids"]
    assert table["starts"][0] == [len(prompt)] * 2


def test_choices_that_have_no_likelihood_are_refused(tmp_path):
    data = prepare_choices(tmp_path, {"endings": [["four", ""]] * 2})
    model = headed(data, ModelSpec("llama", overrides=shape_of("llama")))
    with pytest.raises(UsageError, match=r"^mine: a row has a choice without text, which has no"):
        data.rows("train", head=data.head_for(model.config))


# --- without training -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "arm", "message"),
    [
        (
            "classes",
            {},
            "^max_steps is 0, and mine is answered by the head classes, whose layer no checkpoint "
            "has: it would be tested with random weights. Give max_steps >= 1.$",
        ),
        (
            "choices",
            {"init": "weights", "checkpoint": "x"},
            "^max_steps is 0, and mine would be tested with fresh token embeddings, which are "
            "random; give embeddings kept with the checkpoint's tokenizer, or max_steps >= 1.$",
        ),
        ("choices", {"init": "weights", "checkpoint": "x", "embeddings": "kept"}, None),
        ("choices", {}, None),
    ],
)
def test_random_parameters_are_not_tested_in_silence(head, arm, message, prepared):
    data = prepared[head]
    config = ModelSpec("llama", overrides=shape_of("llama")).config(Vocabulary.plain(64))
    arguments = ("mine", data.head_for(config), ArmSpec(**arm))
    check_untrained(*arguments, FinetuningSpec({"max_steps": 1}))
    untrained = FinetuningSpec({"max_steps": 0})
    if message is None:
        check_untrained(*arguments, untrained)
        return
    with pytest.raises(UsageError, match=message):
        check_untrained(*arguments, untrained)
