"""Layer 1: which ids the symbols of a task have: the paper's T5 ids, any tokenizer's, or a plain range of ids.

A task needs content symbols (one contiguous range of ids, drawn uniformly) and a few marks (dividers, yes/no, brackets).
Everything is integers; a tokenizer is only asked once, here.
"""

import itertools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from hf_synpre.errors import UsageError

MARKS = ("name_divider", "word_divider", "argument_divider", "empty", "yes", "no")
LIME_MARKS = ("colon", "separator", "upper", "open", "lower", "math", "close")
SYMBOLS = MARKS + LIME_MARKS

# The ids that the reference's T5 SentencePiece gives to its internal names of the tasks (spec, section 2.0).
T5_NAMES = {
    "identity": (2405,),
    "reverse": (7211,),
    "set": (356,),
    "first_token": (166, 834, 4059),
    "last_token": (336, 834, 4059),
    "deduplicate": (20, 26, 413, 26221),
    "length": (2475,),
    "longest_word": (14783, 834, 6051),
    "duplicate": (19197,),
    "count": (3476,),
    "delete": (9268,),
    "search": (960,),
    "sort": (1843,),
    "replace": (3601,),
    "union": (7021,),
    "intersect": (27806,),
    "set1_minus_set2": (356, 834, 536, 834, 14078, 834, 357),
    "set2_minus_set1": (356, 834, 357, 834, 14078, 834, 536),
}


@dataclass(frozen=True)
class Vocabulary:
    """Ids of a task's symbols. `size` ids in all; content symbols are `first` .. `first + content - 1`.

    `marks` maps every name of SYMBOLS to an id; `names` maps a task to the ids of its name (spec, section 2.0).
    """

    size: int
    pad: int
    eos: int
    first: int
    content: int
    marks: Mapping[str, int]
    names: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def name_ids(self, task: str) -> tuple[int, ...]:
        """Return the ids that name `task`: the vocabulary's own, else one content symbol chosen by the name's hash."""
        return self.names.get(task) or (self.first + zlib.crc32(task.encode()) % self.content,)

    @classmethod
    def t5(cls) -> "Vocabulary":
        """The ids of the paper: content 2..31999, marks from the top of T5's 32,100 (spec, section 2.0)."""
        marks = dict(zip(MARKS[:4], range(32099, 32095, -1), strict=True)) | {"yes": 4273, "no": 150}
        marks |= dict(zip(LIME_MARKS, range(32000, 32007), strict=True))
        return cls(32100, 0, 1, 2, 31998, MappingProxyType(marks), MappingProxyType(T5_NAMES))

    @classmethod
    def plain(cls, size: int) -> "Vocabulary":
        """A vocabulary of `size` ids without text: 0 pad, 1 end of sequence, then content, the marks at the top."""
        if isinstance(size, bool) or not isinstance(size, int) or not 2 + len(SYMBOLS) + 4 <= size < 2**31:
            raise UsageError(f"A vocabulary size is {size!r}; give an integer from {2 + len(SYMBOLS) + 4} to 2**31 - 1.")
        marks = {name: size - 1 - i for i, name in enumerate(SYMBOLS)}
        return cls(size, 0, 1, 2, size - 2 - len(SYMBOLS), MappingProxyType(marks))

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "Vocabulary":
        """The symbols of any Hugging Face tokenizer.

        Content is the longest run of ids that are neither control tokens nor `<extra_id_*>` sentinels (<unk> counts as
        content, as in the reference); where there are no sentinels the marks take the run's last ids.
        """
        if tokenizer.eos_token_id is None and tokenizer.sep_token_id is None:
            raise UsageError("The tokenizer has neither an end-of-sequence nor a separator token; set tokenizer.eos_token.")
        eos = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos
        control = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id} | {eos, pad}
        control |= {i for token, i in tokenizer.get_added_vocab().items() if token.startswith("<extra_id_")}
        first, content = longest_run(len(tokenizer), control)
        return (
            cls.t5()
            if (len(tokenizer), pad, eos, first, content) == (32100, 0, 1, 2, 31998)
            else cls._marked(len(tokenizer), pad, eos, first, content)
        )

    @classmethod
    def _marked(cls, size: int, pad: int, eos: int, first: int, content: int) -> "Vocabulary":
        content -= len(SYMBOLS)
        if content < 4:
            raise UsageError(f"The tokenizer has only {size} ids; at least {len(SYMBOLS) + 4} ordinary ones are needed.")
        marks = {name: first + content + i for i, name in enumerate(SYMBOLS)}
        return cls(size, pad, eos, first, content, MappingProxyType(marks))


def longest_run(size: int, excluded: set[int]) -> tuple[int, int]:
    """Return (first, length) of the longest run of ids below `size` that avoids `excluded`."""
    walls = [-1, *sorted(i for i in excluded if i < size), size]
    length, left = max((b - a - 1, -a) for a, b in itertools.pairwise(walls))
    return 1 - left, length


def as_vocabulary(given: Any = None) -> Vocabulary:
    """Return the Vocabulary meant by None (the paper's T5 ids), an int (plain size), a tokenizer, or a Vocabulary."""
    if given is None:
        return Vocabulary.t5()
    if isinstance(given, Vocabulary):
        return given
    if isinstance(given, int):
        return Vocabulary.plain(given)
    if hasattr(given, "all_special_ids"):
        return Vocabulary.from_tokenizer(given)
    raise UsageError(f"vocabulary is {given!r}; give None (T5 ids), a size, a tokenizer or a Vocabulary.")
