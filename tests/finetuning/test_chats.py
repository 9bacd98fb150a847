"""Text-to-text tasks as chats: prompts of pipelines, completions, the end of a turn, refusals.

Run: pytest tests/finetuning/test_chats.py
"""

from dataclasses import replace

import pytest
from headed_models import result_of, tiny_model
from small_models import DECODER
from transformers import GenerationConfig, pipeline

from hf_synpre.config import build_spec, stored_form
from hf_synpre.data.tokenizers import train_tokenizer
from hf_synpre.errors import UsageError
from hf_synpre.experiments import Experiment, ExperimentSpec, TaskSpec
from hf_synpre.finetuning import FinetuningSpec, finetune, get_finetuning_task, prepare, save_model
from hf_synpre.finetuning.card import first_texts, loading_code
from hf_synpre.finetuning.chat import ChatFormat
from hf_synpre.finetuning.finetuning import finetuning_trainer
from hf_synpre.finetuning.text_head import answer_texts
from hf_synpre.models.spec import ModelSpec
from hf_synpre.vocabulary import as_vocabulary

# Turns between special tokens, with a line end behind each (ChatML); turns that only the end of a
# sequence ends, with a blank before the answer (Llama 2); an answer behind words of the template.
TEMPLATES = {
    "chatml": """
        {%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}
        {{- m['content'] + '<|im_end|>\n' }}
        {%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    "llama": """
        {%- for m in messages %}{% if m['role'] == 'user' %}
        {{- '<s>[INST] ' + m['content'] | trim + ' [/INST]' }}
        {%- else %}{{ ' ' + m['content'] | trim + ' </s>' }}{% endif %}{% endfor %}""",
    "thinking": """
        {%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}
        {%- if m['role'] == 'assistant' %}{{ '(no thought)\n' }}{% endif %}
        {{- m['content'] + '<|im_end|>' }}
        {%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
}
ENDS = {"chatml": "<|im_end|>", "llama": "</s>", "thinking": "<|im_end|>"}
TEXTS = ["user assistant\n[INST] what is it [/INST]", "remind me to call at nine", "<s> no"] * 9
ROWS = [("what is it", "a call"), ("[IN:GET", "nine"), ("\nnine ", "\n\nit </s>"), ("<s>", "")]


def chatting(template):
    tokenizer = train_tokenizer(TEXTS, 400)
    names = ["<s>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module", params=TEMPLATES)
def data(request, tmp_path_factory, tiny_dataset):
    """A task with the tokenizer of a template."""
    folder = tmp_path_factory.mktemp(request.param)
    chatting(TEMPLATES[request.param]).save_pretrained(folder / "tokenizer")
    task = get_finetuning_task("mtop", max_target=48, chat_template=True)
    tokenizer = str(folder / "tokenizer")
    return prepare(task, folder / "data", data_dir=str(tiny_dataset), tokenizer=tokenizer)


def fresh(data, model_type="llama", **fields):
    return tiny_model(data, model_type, DECODER | fields)


@pytest.mark.parametrize("name", TEMPLATES)
def test_prompt_and_completion_are_the_chat_of_the_template(name):
    tokenizer = chatting(TEMPLATES[name])
    chats = ChatFormat(tokenizer, special_tokens=True)
    assert tokenizer.convert_ids_to_tokens(chats.end) == ENDS[name]
    prompts, completions = chats.encode(*map(list, zip(*ROWS[:3], strict=True)))
    for (source, target), prompt, completion in zip(ROWS[:2], prompts, completions, strict=False):
        turns = [{"role": "user", "content": source}]
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
        assert prompt == asked
        turns.append({"role": "assistant", "content": target})
        whole = tokenizer.apply_chat_template(turns)["input_ids"]
        assert whole[: len(prompt) + len(completion) + 1] == [*prompt, *completion, chats.end]
        assert chats.answer(tokenizer.decode(completion)) == target

    # Special tokens that a row spells out are text, unless they are asked for.
    prompts, completions = ChatFormat(tokenizer).encode(*map(list, zip(*ROWS, strict=True)))
    control = set(tokenizer.all_special_ids)
    assert not control & {token for ids in completions for token in ids}
    assert [tokenizer.convert_tokens_to_ids("<s>") in ids for ids in prompts].count(True) in (0, 4)
    assert ChatFormat(tokenizer).answer(tokenizer.decode(completions[2])).strip() == "it </s>"


def test_prompts_are_cut_within_the_text_of_the_user(data, tmp_path):
    trainer = finetuning_trainer(fresh(data), data, FinetuningSpec({"use_cpu": True}), 0, tmp_path)
    collate = trainer.data_collator
    row = data.rows("test")[0]
    prompt, end = row["input_ids"].tolist(), ChatFormat(data.tokenizer).end
    batch = collate([row])
    target = [*row["labels"], end]
    assert batch["input_ids"][0, : len(prompt) + len(target)].tolist() == [*prompt, *target]
    assert batch["labels"][0][batch["labels"][0] != -100].tolist() == target
    assert batch["labels"][0, len(prompt) - 1] == target[0]

    collate.max_source = len(prompt) - 2
    cut = collate.prompts([row])["input_ids"][0, -len(prompt) + 2 :].tolist()
    tail = len(collate.chat_tail)
    assert cut == prompt[: len(prompt) - tail - 2] + prompt[-tail:]


def test_a_pipeline_feeds_the_saved_model_what_it_was_trained_on(
    data, tmp_path, monkeypatch, tiny_dataset
):
    model = fresh(data)
    spec = FinetuningSpec({"max_steps": 2, "use_cpu": True}, 1, 8, 8, max_new_tokens=6)
    outcome = finetune(model, data, spec, seed=0, output_dir=tmp_path / "trainer")
    result = result_of(outcome, "mtop")
    save_model(model, data, spec, result, tmp_path / "model")

    chats = ChatFormat(data.tokenizer)
    generation = GenerationConfig.from_pretrained(tmp_path / "model")
    assert generation.eos_token_id == chats.end

    # The pipeline's prompt is that of the test, and so is its answer.
    texts = data.task.load(str(tiny_dataset))["test"].to_pylist()[0]
    row = data.rows("test")[0]
    predict = pipeline("text-generation", model=str(tmp_path / "model"))
    fed, generate = [], predict.model.generate

    def spy(**inputs):
        fed.append(inputs["input_ids"])
        return generate(**inputs)

    monkeypatch.setattr(predict.model, "generate", spy)
    predict([{"role": "user", "content": texts["source"]}])
    assert fed[0].tolist() == [row["input_ids"].tolist()]
    assert answer_texts(data, [row["labels"].tolist()]) == [texts["target"]]

    code = loading_code(data, "folder", model.config, first_texts(data))
    assert 'predict([{"role": "user", "content": "<utterance>"}])' in code


# What a template does not do -> the message.
BROKEN = {
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}": "no generation wou",
    "{{ raise_exception('no turns') }}": r"refuses a user's turn .*no turns.*; leave chat_template",
    "{{ messages[0]['content'] }}": "in other words than it asks",
    None: "The tokenizer has no chat template; leave chat_template out, or give the tokenizer of a",
}


@pytest.mark.parametrize("template", BROKEN)
def test_templates_that_write_no_such_chat_are_refused(template):
    with pytest.raises(UsageError, match=BROKEN[template]):
        ChatFormat(chatting(template))


def test_what_reads_no_chat_is_refused_before_data_are_prepared(data, tmp_path):
    def experiment(task, **fields):
        fields = {"chat_template": True, "tokenizer": "x", **fields}
        values = {"name": "x", "tasks": {task: fields}, "arms": {"random": {}}}
        return build_spec(ExperimentSpec, values, "x.yaml")

    with pytest.raises(
        UsageError, match="mtop has chat_template, which decoders alone read; leave"
    ):
        Experiment(experiment("mtop"), tmp_path).open_folder()
    with pytest.raises(UsageError, match="cola is not answered with text; leave chat_template out"):
        experiment("cola")
    with pytest.raises(
        UsageError, match="chat_template is read with a tokenizer that is given onl"
    ):
        experiment("mtop", tokenizer=None)
    t5 = ModelSpec("t5").config(as_vocabulary(data.tokenizer))
    with pytest.raises(UsageError, match="chat_template, which decoders alone read"):
        data.head_for(t5).configure(t5, data)
    short = replace(data, task=replace(data.task, max_source=3))
    with pytest.raises(
        UsageError, match=r"prompts of 3 ids .* the chat template takes \d+; give a l"
    ):
        fresh(short)


def test_rows_as_chats_are_another_recipe_and_plain_rows_keep_theirs():
    plain = get_finetuning_task("mtop")
    assert "chat_template" not in plain.rows_recipe()
    assert replace(plain, chat_template=True).rows_recipe()["chat_template"] is True
    assert "chat_template" not in stored_form(TaskSpec())
