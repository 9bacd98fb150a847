"""What happens to token embeddings when a model's ids are not those of the checkpoint.

| policy   | the row of a token                                              |
| -------- | --------------------------------------------------------------- |
| fresh    | the model's own random one                                      |
| kept     | the checkpoint's of the same number; the ids must be the same   |
| by_token | the checkpoint's of the same token, as it is written; or fresh  |
| mean     | the checkpoint's of the same number; of further ones their mean |

The output layer, tied or not, and its bias follow the same policy. `mean` is what transformers does
when it resizes embeddings, without its noise.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from hf_synpre.errors import UsageError

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
        policy: "by_token" or "mean".
        same_rows: for by_token, the model's id -> the checkpoint's id of the same token.

    Returns:
        Name -> a new table of the model's shape.

    Raises:
        UsageError: a table has another width than the model's.
    """
    tables = {}
    for name, old in stored.items():
        new = current[name].clone()
        if old.shape[1:] != new.shape[1:]:
            raise UsageError(
                f"{name} is {list(old.shape)} in the checkpoint, {list(new.shape)} in the model; "
                'give the same width, or embeddings "fresh".'
            )
        if policy == "by_token":
            assert same_rows is not None  # match_tokens was called
            ids = [id_ for id_, old_id in same_rows.items() if id_ < len(new) and old_id < len(old)]
            new[ids] = old[[same_rows[id_] for id_ in ids]]
        else:
            kept = min(len(old), len(new))
            new[:kept] = old[:kept]
            new[kept:] = old.mean(0)
        tables[name] = new
    return tables


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
