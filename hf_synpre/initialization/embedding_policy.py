"""What happens to token embeddings when a model's ids are not those of the checkpoint.

| policy   | the row of a token                                              |
| -------- | --------------------------------------------------------------- |
| fresh    | the model's own random one                                      |
| kept     | the checkpoint's of the same number; the ids must be the same   |
| by_token | the checkpoint's of the same token, as it is written; or fresh  |
| mean     | the checkpoint's of the same number; of further ones their mean |

The output layer, tied or not, and its bias follow the same policy. An output layer that the
checkpoint has not stored, because it is tied there, is the table of its inputs. `mean` is what
transformers does when it resizes embeddings, without its noise.

All that starts a model from another one follows these: `take_weights` (--start, the arms with
weights), `StatisticsInit`, `synpre init`, and `warm_up`, where the symbols of the task take the
place of the checkpoint's ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_synpre.data.tokenizers import read_tokenizer
from hf_synpre.errors import UsageError
from hf_synpre.initialization.build import check_shape
from hf_synpre.initialization.checkpoints import find_weights, has_tokenizer, tokenizer_file
from hf_synpre.initialization.load_report import CopiedTables
from hf_synpre.initialization.matching import Matching
from hf_synpre.initialization.parameters import Parameter
from hf_synpre.initialization.statistics import ParameterStatistics
from hf_synpre.initialization.stored_tensors import StoredTensors

# Policy -> in words, for help texts.
POLICIES = {
    "fresh": "drawn anew",
    "kept": "those of the checkpoint, whose ids must be the same",
    "by_token": "those of the same tokens in the checkpoint, whatever their ids; others anew",
    "mean": "those of the checkpoint by number, further ones their mean",
}
# The policies that give a table another number of rows.
MATCHED = ("by_token", "mean")


def match_rows(
    stored: Mapping[str, torch.Tensor],
    current: Mapping[str, torch.Tensor],
    policy: str,
    same_rows: Mapping[int, int] | None,
) -> dict[str, torch.Tensor]:
    """Return a model's token tables with rows of the checkpoint's.

    Args:
        stored: name -> the checkpoint's table, [its ids, width] or [its ids] of a bias.
        current: name -> the model's own table, fresh, [ids, width] or [ids].
        policy: "mean" gives rows without a partner the mean of the checkpoint's; with the others
            they stay as they are.
        same_rows: the model's id -> the checkpoint's id whose row it takes; None takes the row of
            the same number.

    Returns:
        Name -> a new table of the model's shape, type and device.

    Raises:
        UsageError: a table has another width than the model's.
    """
    tables = {}
    for name, old in stored.items():
        new = current[name].detach().clone()
        if old.shape[1:] != new.shape[1:]:
            raise UsageError(
                f"{name} is {list(old.shape)} in the checkpoint, {list(new.shape)} in the model; "
                'give the same width, or embeddings "fresh".'
            )
        pairs = rows_taken(len(old), len(new), same_rows)
        ids = list(pairs)
        if policy == "mean":
            new[:] = old.float().mean(0).to(new)
        new[ids] = old[[pairs[id_] for id_ in ids]].to(new)
        tables[name] = new
    return tables


def rows_taken(stored: int, rows: int, same_rows: Mapping[int, int] | None) -> dict[int, int]:
    """Return row of a model's table -> the row of the checkpoint's that it takes.

    Args:
        stored: how many rows the checkpoint's table has.
        rows: how many the model's has.
        same_rows: as in `match_rows`.
    """
    if same_rows is None:
        return {id_: id_ for id_ in range(min(stored, rows))}
    return {id_: old for id_, old in same_rows.items() if id_ < rows and old < stored}


def matching_rows(
    source: str | Path, tokenizer: PreTrainedTokenizerBase | None, embeddings: str
) -> dict[int, int] | None:
    """Return the model's id -> the checkpoint's id of the same token, for embeddings by_token.

    Args:
        source: the checkpoint: a folder or a Hub id.
        tokenizer: that of the model; None for a plain vocabulary.
        embeddings: one of POLICIES; the result is None for the others.

    Raises:
        UsageError: the tokenizers do not allow the policy (`match_tokens`).
    """
    if embeddings not in MATCHED:
        return None
    stored = read_tokenizer(str(source)) if has_tokenizer(source) else None
    return match_tokens(source, stored, tokenizer, embeddings)


def match_tokens(
    source: str | Path,
    stored: PreTrainedTokenizerBase | None,
    tokenizer: PreTrainedTokenizerBase | None,
    policy: str,
) -> dict[int, int] | None:
    """Return the model's id -> the checkpoint's id of each token that both tokenizers have.

    Args:
        source: the checkpoint, for errors.
        stored: its tokenizer; None where it has none.
        tokenizer: the tokenizer of the model; None for a plain vocabulary.
        policy: one of POLICIES.

    Returns:
        The pairs; None for policies that need none.

    Raises:
        UsageError: by_token without two tokenizers, or with none of whose tokens are the same; mean
            with tokenizers that give a token another number.
    """
    if policy not in MATCHED:
        return None
    if stored is None or tokenizer is None:
        if policy == "mean":  # numbers alone
            return None
        lacking = f"the checkpoint {source}" if stored is None else "the model"
        raise UsageError(
            f"Embeddings by_token match the tokens of two tokenizers, and {lacking} has none; give "
            "one, or embeddings fresh or mean."
        )

    old_ids, ids = stored.get_vocab(), tokenizer.get_vocab()
    if policy == "mean":
        for token, old_id in sorted(old_ids.items(), key=lambda pair: pair[1]):
            if ids.get(token, old_id) != old_id:
                raise UsageError(
                    f"Embeddings mean keep rows by number, and the token {token!r} is {old_id} in "
                    f"{source} and {ids[token]} in the model; give embeddings by_token."
                )
        return None
    same_rows = {id_: old_ids[token] for token, id_ in ids.items() if token in old_ids}
    special = {*stored.all_special_ids}
    if all(old_id in special for old_id in same_rows.values()):
        raise UsageError(
            f"Embeddings by_token: no token of the model is one of {source}, special tokens not "
            "counted; give embeddings fresh."
        )
    return same_rows


def check_ids(source: str | Path, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Check that the token embeddings of a checkpoint belong to the ids of a tokenizer.

    A checkpoint without a tokenizer.json passes, because its ids are not known.

    Args:
        source: the checkpoint: a folder or a Hub id.
        tokenizer: the tokenizer of the model that takes the weights.

    Returns:
        True where the ids are the same, False where they are not known.

    Raises:
        UsageError: the checkpoint's tokenizer has other ids, or cannot be read.
    """
    file = tokenizer_file(source)
    if file is None:
        return check_other_ids(source, tokenizer)
    try:
        stored_ids = Tokenizer.from_file(str(file)).get_vocab()
    except Exception as error:  # the class that tokenizers raises
        cause = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{file} is no tokenizer that can be read ({cause}); copy the checkpoint again."
        ) from error
    check_same_ids(source, stored_ids, tokenizer)
    return True


def check_other_ids(source: str | Path, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Do as `check_ids` for a checkpoint in a folder that has no tokenizer.json."""
    if not Path(source).is_dir() or not has_tokenizer(source):
        return False
    check_same_ids(source, read_tokenizer(str(source)).get_vocab(), tokenizer)
    return True


def check_same_ids(
    source: str | Path, stored_ids: dict[str, int], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raise UsageError where a checkpoint's tokenizer has other ids than a tokenizer."""
    if stored_ids != tokenizer.get_vocab():
        raise UsageError(
            f"{source} has embeddings for the ids of another tokenizer; "
            'give that tokenizer, or embeddings "fresh".'
        )


# --- the tables of a checkpoint, for StatisticsInit -----------------------------------------------


@dataclass(frozen=True)
class TokenTables:
    """The token tables of a checkpoint, and which of their rows a model takes."""

    stored: StoredTensors
    # One of POLICIES, but not "fresh".
    policy: str
    # The model's id -> the checkpoint's id, of "by_token".
    same_rows: Mapping[int, int] | None
    # Whether the checkpoint's ids are known to be the model's.
    same_ids: bool
    # Whether rows go by number to tokens that may be others, as the checkpoint has no tokenizer.
    by_number: bool


def open_token_tables(
    checkpoint: ParameterStatistics | str | Path | None,
    source: ParameterStatistics | StoredTensors,
    policy: str,
    tokenizer: PreTrainedTokenizerBase | None,
    hub: Mapping[str, Any],
) -> TokenTables:
    """Open the token tables of a checkpoint.

    Args:
        checkpoint: the checkpoint's folder or Hub id; statistics have no tables.
        source: what was read of it: its weights, or statistics.
        policy: one of POLICIES, but not "fresh".
        tokenizer: that of the model; None where it has none.
        hub: where and how the Hub is asked for weights, if they are needed.

    Raises:
        UsageError: only statistics are there, or the tokenizers do not allow the policy.
    """
    if not isinstance(checkpoint, str | Path) or Path(checkpoint).is_file():
        name = source.source
        raise UsageError(
            f"Embeddings {policy} copy rows of a checkpoint's tables, and of {name} only the "
            "statistics were given; give the folder or Hub id of its weights, or embeddings fresh."
        )
    stored = source
    if isinstance(stored, ParameterStatistics):
        stored = StoredTensors.in_folder(find_weights(checkpoint, **hub))
    same_ids = False
    if policy == "kept" and tokenizer is not None:
        same_ids = check_ids(checkpoint, tokenizer)
    same_rows = matching_rows(checkpoint, tokenizer, policy)
    by_number = same_rows is None and tokenizer is not None and not has_tokenizer(checkpoint)
    return TokenTables(stored, policy, same_rows, same_ids, by_number)


def copy_token_tables(
    model: PreTrainedModel, parameters: Mapping[str, Parameter], tables: TokenTables
) -> CopiedTables:
    """Copy rows of a checkpoint's token tables into those of a model, in place.

    Args:
        model: the model, with its random init.
        parameters: name -> parameter.
        tables: the checkpoint's tables.

    Returns:
        The names of the parameters that were filled, and how many tokens took a row. Parameters
        that the checkpoint lacks, such as the bias of an output layer that it has not, stay as they
        are.

    Raises:
        UsageError: the checkpoint has none of them, or of another width, or with "kept" of another
            number of rows.
    """
    matching = Matching(model, parameters, tables.stored.shapes)
    inputs = model.get_input_embeddings().weight

    stored, current = {}, {}
    for name, parameter in parameters.items():
        if parameter.part != "embedding":
            continue
        source = matching.source_tensor(parameter, "none")
        if source is None and not parameter.bias:  # an output layer that is tied there
            source = matching.source_tensor(parameters[name_of(inputs, model)], "none")
        if source is None:
            continue
        current[name] = model.get_parameter(name)
        stored[name] = tables.stored[source.stored_name]
        if tables.policy == "kept":
            if tables.same_ids:  # many checkpoints have further rows, for speed
                stored[name] = stored[name][: len(current[name])]
            check_shape(
                name,
                tuple(stored[name].shape),
                parameter.shape,
                "for other ids give embeddings 'by_token', 'mean' or 'fresh'.",
            )
    if not stored:
        raise UsageError(
            f"{tables.stored.source} has no token embeddings of a {type(model).__name__}; give "
            "embeddings fresh."
        )

    filled = match_rows(stored, current, tables.policy, tables.same_rows)
    with torch.no_grad():
        for name, table in filled.items():
            current[name].copy_(table)
    name = next(iter(filled))
    taken = rows_taken(len(stored[name]), len(current[name]), tables.same_rows)
    others = "the mean of its rows" if tables.policy == "mean" else "fresh ones"
    return CopiedTables(tuple(filled), len(taken), len(current[name]), others, tables.by_number)


def name_of(tensor: torch.Tensor, model: PreTrainedModel) -> str:
    """Return the first name of a model's parameter."""
    return next(name for name, parameter in model.named_parameters() if parameter is tensor)
