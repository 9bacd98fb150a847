"""A fine-tuned model -> a folder that `from_pretrained` and `pipeline` load, with a card.

The folder has the weights (adapters merged), the config with the names of the labels, the settings
of generation, the tokenizer as the model was trained with it, README.md, and for rows of the Hub
the scores in .eval_results/.
"""

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_synpre.files import atomic_folder
from hf_synpre.finetuning.card import describe_start, eval_results_file, finetuned_card
from hf_synpre.finetuning.finetuning import FinetuningSpec
from hf_synpre.finetuning.label_rows import SpecialTokensTemplate
from hf_synpre.finetuning.label_tasks import HEADS_OF_TEXTS
from hf_synpre.finetuning.masked_language_head import frame_ids
from hf_synpre.finetuning.prepared import PreparedTask
from hf_synpre.finetuning.text_head import longest_target
from hf_synpre.models.families import is_decoder, reads_last_position, uses_token_types
from hf_synpre.models.saving import append_end, complete_tokenizer, usual_use_cache
from hf_synpre.models.verification import say_if_not_whole
from hf_synpre.provenance import recipe_sha256, write_facts

CARD = "README.md"


def save_model(
    model: PreTrainedModel,
    data: PreparedTask,
    spec: FinetuningSpec,
    result: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write a fine-tuned model into a folder, which appears with all its files at once.

    Args:
        model: the model after `finetune`; its adapters, which are merged, are taken out of it.
        data: the prepared task.
        spec: the recipe, for the settings of generation.
        result: the content of the result file: task, arm, seed, config, scores, versions.
        folder: the folder; a model that it holds is replaced.

    Raises:
        UsageError: the folder cannot be written.
    """
    take_out_adapters(model)
    if data.task.head_name == "text":
        model.generation_config = generation_settings(model, data, spec)

    with atomic_folder(folder) as partial:
        with usual_use_cache(model):
            model.save_pretrained(partial)
        write_facts(partial, finetuning_facts(result))
        serving_tokenizer(data, model).save_pretrained(partial)
        card = finetuned_card(model, data, result, folder)
        (partial / CARD).write_text(card, encoding="utf-8")
        if scores := eval_results_file(data, result):
            name, text = scores
            (partial / name).parent.mkdir()
            (partial / name).write_text(text, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
    say_if_not_whole(folder, type(model))


def finetuning_facts(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the header of a fine-tuned model's safetensors files says.

    Args:
        result: the content of the result file.

    Returns:
        task; start, where the weights came from; tokens of the fine-tuning; the commit and version
        of hf_synpre; recipe_sha256, the hash of the recipe in the card. A result without costs or
        versions, as that of a model which was not trained, gives none of those.
    """
    cost = (result.get("phases") or {}).get("finetuning") or {}
    made_with = result.get("versions") or {}
    facts = {
        "task": result["task"],
        "start": describe_start(result["config"]["arm"]),
        "tokens": cost.get("tokens"),
        "commit": made_with.get("commit"),
        "hf_synpre": made_with.get("hf_synpre"),
        "recipe_sha256": recipe_sha256(result["config"]),
    }
    return {name: value for name, value in facts.items() if value is not None}


def take_out_adapters(model: PreTrainedModel) -> None:
    """Replace every layer with merged LoRA adapters by the layer that they were merged into."""
    wrapped = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    for name, module in wrapped.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module.get_base_layer())
    if wrapped:
        del model.peft_config
        model._hf_peft_config_loaded = False


def generation_settings(
    model: PreTrainedModel, data: PreparedTask, spec: FinetuningSpec
) -> GenerationConfig:
    """Return the settings with which the test was generated, as `generate` reads them."""
    settings: dict[str, Any] = {
        "max_new_tokens": spec.max_new_tokens or longest_target(data),
        "do_sample": False,  # the pipeline text-generation draws tokens where nothing is said
        "pad_token_id": model.config.pad_token_id,
        "eos_token_id": model.config.eos_token_id,
    }
    if model.generation_config.use_cache is False:  # transformers has none for the model
        settings["use_cache"] = False
    if model.config.is_encoder_decoder:
        settings["decoder_start_token_id"] = model.config.decoder_start_token_id
    if spec.num_beams > 1:
        settings["num_beams"] = spec.num_beams
        settings["length_penalty"] = spec.length_penalty
    return GenerationConfig(**settings)


def serving_tokenizer(data: PreparedTask, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    """Return the tokenizer that gives the ids which the model was trained on.

    It ends a source text with the end of sequence, as the rows of a text-to-text task do, puts
    between two texts what the rows of a labelled task have there, frames the text of a masked
    language model, pads on the side on which batches were padded, cuts at the task's length, and
    has token types only if the model reads them. Behind the text of a choice it puts nothing for a
    decoder.
    """
    tokenizer = complete_tokenizer(data.tokenizer, model)
    tokenizer.model_max_length = data.task.max_source
    backend = getattr(tokenizer, "backend_tokenizer", None)
    has_labels = data.task.head_name not in ("text", "lm")
    generates = not has_labels and is_decoder(model.config)
    # What a decoder generates follows the last position. With labels padding is on the right, where
    # a decoder with learned positions, such as GPT-2, does not see it.
    is_left = generates or reads_last_position(model.config)
    tokenizer.padding_side = "left" if is_left else "right"
    tokenizer.init_kwargs["padding_side"] = tokenizer.padding_side
    if data.task.head_name == "text":
        if not data.task.chat_template:  # which has all that stands around a turn
            append_end(tokenizer)
    elif data.task.head_name in (*HEADS_OF_TEXTS, "span") and backend is not None:
        separate_pairs(tokenizer)
    elif data.task.head_name == "choices" and backend is not None:
        if not data.head_for(model.config).adds_parameters:
            leave_open(tokenizer)
    elif data.task.head_name == "lm" and not is_decoder(model.config) and backend is not None:
        ids = frame_ids(tokenizer)
        start, end = tokenizer.convert_ids_to_tokens(ids)
        backend.post_processor = TemplateProcessing(
            f"{start} $A {end}", f"{start} $A {end} $B {end}", [(start, ids[0]), (end, ids[1])]
        )

    inputs = ["input_ids", "attention_mask"]
    if has_labels and uses_token_types(model.config):
        inputs.insert(1, "token_type_ids")
    tokenizer.model_input_names = inputs
    tokenizer.init_kwargs["model_input_names"] = inputs
    return tokenizer


def separate_pairs(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a fast tokenizer put between two texts what the rows of labelled tasks have there."""
    text = tokenizer("a", add_special_tokens=False)["input_ids"]
    pair = tokenizer("a", text_pair="a")["input_ids"]
    template = SpecialTokensTemplate.from_tokenizer(tokenizer, length=2 * len(pair) + 1)
    ids = np.array(text, np.int32)
    if template.row(ids, ids)["input_ids"].tolist() == pair:
        return

    parts = (template.before, template.between, template.after)
    before, between, after = (tokenizer.convert_ids_to_tokens(list(part)) for part in parts)
    end_of_second = [f"{token}:1" for token in after]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        [*before, "$A", *after],
        [*before, "$A", *between, "$B:1", *end_of_second],
        list(zip([*before, *between, *after], itertools.chain(*parts), strict=True)),
    )


def leave_open(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a fast tokenizer put special tokens before a text alone, as in rows of likelihoods."""
    template = SpecialTokensTemplate.from_tokenizer(tokenizer, length=1)
    if not template.after:
        return
    before = tokenizer.convert_ids_to_tokens(list(template.before))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        [*before, "$A"],
        [*before, "$A", "$B:1"],
        list(zip(before, template.before, strict=True)),
    )
