"""Token frequencies -> the output layer of a fresh model, which then predicts them everywhere.

The logarithm of a token's share is added to its logit, in the first of these places that the model
has:

1. the bias of the output layer (BERT, GPT-J, Phi), or the bias that BART's family keeps beside it;
2. a term of rank 1: one coordinate of the last hidden state becomes the constant 1 (its gain in the
   final norm 0, its bias 1), and its column in the output layer the logarithms. That takes a final
   norm with a bias and an output layer that is not tied (GPT-NeoX).

Others (Llama, T5, GPT-2) have neither, and are refused: a tied column would enter the inputs too.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_synpre.data.documents import file_texts
from hf_synpre.data.encoding import batched_by_size, document_parts, encode_texts
from hf_synpre.data.tokenizers import read_tokenizer
from hf_synpre.errors import UsageError, in_message
from hf_synpre.files import read_json
from hf_synpre.initialization.parameters import Parameter

# The scheme that reads token frequencies.
UNIGRAM_SCHEME = "log_unigram_head"
TOKENIZER_FILE = "tokenizer.json"
# The bias that encoder-decoders of BART's family add to their logits, [1, ids].
BIAS_BUFFER = "final_logits_bias"
ADVICE = "give another scheme, or a model whose output layer has a bias."

# What token frequencies may be given as: a text or tokenizer file, or a count for each id.
Unigrams: TypeAlias = str | Path | Sequence[float] | np.ndarray | torch.Tensor


def log_unigrams(source: Unigrams, tokenizer: PreTrainedTokenizerBase | None) -> torch.Tensor:
    """Return the logarithm of the share of each token.

    Counts are smoothed by adding 1 to each, so that no share is 0.

    Args:
        source: a file of text (.txt, .jsonl, .parquet ... with a column of text), whose tokens are
            counted, special tokens that it spells as text; a folder or tokenizer.json of a Unigram
            tokenizer, which stores logarithms of shares; or a count for each id.
        tokenizer: what makes tokens of a text.

    Returns:
        [ids] float32.

    Raises:
        UsageError: the file cannot be read, has no frequencies, or there is no tokenizer.
    """
    if not isinstance(source, str | Path):
        return smoothed(as_counts(source))

    path = Path(source)
    if path.is_dir() or path.name == TOKENIZER_FILE:
        return tokenizer_scores(path)
    if not path.is_file():
        raise UsageError(
            f"unigrams is {source}, and there is no such file; give a text, or the folder of a "
            "Unigram tokenizer."
        )
    if tokenizer is None:
        raise UsageError(
            f"unigrams is {source}, a text, and the model has no tokenizer to count its tokens "
            "with; give one (tokenizer=, --tokenizer_name)."
        )
    counts = np.zeros(len(tokenizer))
    documents = chain.from_iterable(document_parts([text]) for text in file_texts(path))
    for texts in batched_by_size(documents):
        for ids in encode_texts(tokenizer, texts)["input_ids"]:
            counts += np.bincount(np.asarray(ids, dtype=np.int64), minlength=len(counts))
    if not counts.any():
        raise UsageError(f"unigrams is {source}, which holds no tokens; give a longer text.")
    return smoothed(counts)


def name_of_unigrams(source: Any) -> str:
    """Return what a record calls token frequencies: their file or folder, or how many they are."""
    return repr(str(source)) if isinstance(source, str | Path) else f"<{len(source)} counts>"


def as_counts(source: Any) -> np.ndarray:
    """Return counts as an array. Raises UsageError where they are none."""
    try:
        counts = np.asarray(source, dtype=np.float64)
    except (TypeError, ValueError):
        counts = np.full(1, np.nan)
    if counts.ndim != 1 or not len(counts) or not np.isfinite(counts).all() or (counts < 0).any():
        raise UsageError(
            f"unigrams is {in_message(source)}; give a count >= 0 for each id, a file of text, or "
            "the folder of a Unigram tokenizer."
        )
    return counts


def smoothed(counts: np.ndarray) -> torch.Tensor:
    """Return the logarithms of the shares of counts, to each of which 1 is added."""
    shares = np.log((counts + 1) / (counts.sum() + len(counts)))
    return torch.from_numpy(shares.astype(np.float32))


def tokenizer_scores(path: Path) -> torch.Tensor:
    """Return the logarithms of shares that a Unigram tokenizer stores.

    Special tokens, whose stored number says nothing, and tokens that were added later get the
    smallest one.

    Args:
        path: its folder, or its tokenizer.json.

    Raises:
        UsageError: it is of another kind, which stores no frequencies.
    """
    file = path / TOKENIZER_FILE if path.is_dir() else path
    if not file.exists():
        raise UsageError(
            f"unigrams is {path}, which has no {TOKENIZER_FILE}; give a file of text, or the "
            "folder of a Unigram tokenizer."
        )
    content = read_json(file)
    model = content.get("model") if isinstance(content, dict) else None
    kind = model.get("type") if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind != "Unigram":
        raise UsageError(
            f"{file} is of the kind {kind}, which stores no frequencies; give a Unigram tokenizer, "
            "or a file of text."
        )
    tokenizer = read_tokenizer(str(file.parent))
    scores = np.full(len(tokenizer), -np.inf)
    stored = [score for _, score in model["vocab"]]
    scores[: len(stored)] = stored
    added = {*tokenizer.all_special_ids, *range(len(stored), len(scores))}
    ordinary = [id_ for id_ in range(len(scores)) if id_ not in added]
    scores[sorted(added)] = scores[ordinary].min()
    return torch.from_numpy(scores).log_softmax(0).float()


# --- the model ------------------------------------------------------------------------------------


def log_unigram_head(
    model: PreTrainedModel,
    parameters: Mapping[str, Parameter],
    selected: Collection[str],
    seed: int,
    options: Mapping[str, Any],
) -> set[str]:
    """Let the output layer add the logarithm of each token's share to its logit, in place.

    Rows after the last id get the smallest logarithm.

    Args:
        model: the model with its random init.
        parameters: name -> parameter.
        selected: the names of those that may be filled.
        seed: not read.
        options: "unigrams", what `log_unigrams` returns.

    Returns:
        The names of the tensors that were changed; none where one of them may not be filled.

    Raises:
        UsageError: the model has no place for the term, or fewer rows than there are ids.
    """
    name = type(model).__name__
    output = model.get_output_embeddings()
    if output is None:
        raise UsageError(
            f"Scheme log_unigram_head: {name} has no output layer over tokens; {ADVICE}"
        )
    logarithms = padded(options["unigrams"], len(output.weight), name)

    names = {id(tensor): key for key, tensor in model.named_parameters()}
    bias = getattr(output, "bias", None)
    if bias is not None:
        changed = {names[id(bias)]} & set(selected)
        if changed:
            bias.copy_(logarithms)
        return changed
    for key, buffer in model.named_buffers():
        if key.rpartition(".")[2] == BIAS_BUFFER:
            buffer.copy_(logarithms)
            return {key}
    return rank_one_term(model, parameters, selected, output, logarithms)


def padded(logarithms: torch.Tensor, rows: int, name: str) -> torch.Tensor:
    """Return one logarithm for each row of an output layer. UsageError: there are more ids."""
    if len(logarithms) > rows:
        raise UsageError(
            f"unigrams are of {len(logarithms)} ids, and the output layer of {name} has {rows}; "
            "give the model's own tokenizer."
        )
    result = logarithms.new_full((rows,), logarithms.min().item())
    result[: len(logarithms)] = logarithms
    return result


def rank_one_term(
    model: PreTrainedModel,
    parameters: Mapping[str, Parameter],
    selected: Collection[str],
    output: torch.nn.Module,
    logarithms: torch.Tensor,
) -> set[str]:
    """Make the first coordinate of the last hidden state 1, and its column the logarithms.

    Args:
        model: the model; it is changed.
        parameters: name -> parameter.
        selected: the names of those that may be filled.
        output: the output layer.
        logarithms: one for each of its rows.

    Returns:
        The names of the final norm's gains and biases and of the output layer; none where one of
        them may not be filled.

    Raises:
        UsageError: the model has no such norm, or the coordinate does not stay 1.
    """
    refusal = UsageError(
        f"Scheme log_unigram_head: the output layer of {type(model).__name__} has no bias, and a "
        "constant coordinate needs a decoder with a final norm that has a bias and an output layer "
        f"that is not tied; {ADVICE}"
    )
    biases = [p.name for p in parameters.values() if p.role == "final_norm" and p.bias]
    is_tied = output.weight is model.get_input_embeddings().weight
    if is_tied or len(biases) != 1 or model.config.is_encoder_decoder:
        raise refusal
    norm = model.get_submodule(biases[0].rpartition(".")[0])
    names = {id(tensor): key for key, tensor in model.named_parameters()}
    changed = {names[id(output.weight)], names[id(norm.weight)], biases[0]}
    if not changed <= set(selected):
        return set()
    norm.weight[0], norm.bias[0] = 0, 1

    # Whether it reaches the output layer as it is shows in a row of two ids.
    seen: list[torch.Tensor] = []
    hook = output.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    was_training = model.training
    model.eval()
    try:
        model(input_ids=torch.arange(2)[None])
    finally:
        hook.remove()
        model.train(was_training)
    if not seen or not (seen[0][..., 0] == 1).all():
        raise refusal
    output.weight[:, 0] = logarithms
    return changed
