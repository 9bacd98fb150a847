"""Layer 1: which ids the symbols of a task have: the paper's T5 ids, any tokenizer's, or a plain range of ids.

A task needs content symbols (one contiguous range of ids, drawn uniformly) and a few marks (dividers, yes/no, brackets).
Everything is integers; a tokenizer is only asked once, here.
"""

import functools
import itertools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
PAPER_NAMES = tuple(T5_NAMES)

# What T5's SentencePiece makes of str(0) .. str(220), a leading bare '▁' dropped; + joins two pieces (spec, section 2.0).
T5_NUMBERS = """
    632 209 204 220 314 305 431 489 505 668 335 850 586 1179 968 627 898 1003 507 957 460 1401 1630 1902 997 944 2208 2307
    2059 2838 604 2664 3538 5400 6154 3097 4475 6862 6654 6352 1283 8798 6426 8838 8537 3479 9668 10635 4678 9526 943
    11696 9065 12210 10630 6897 11526 3436 3449 3390 1640 4241 4056 3891 6687 7123 3539 3708 3651 3951 2861 4450 9455 4552
    4581 6374 3959 4013 3940 4440 2775 4959 4613 4591 4608 11989 3840 4225 4060 3914 2777 4729 4508 4271 4240 11923 4314
    4327 3916 12185 910 13736 14388 17864 15442 12869 16431 18057 16169 17304 11190 15866 850+357 20522 18959 15660 20159
    20275 20056 19993 5864 22011 20889 14574 22504 10124 21976 22367 209+2577 22174 12778 22048 23757 22974 23747 209+2469
    23459 24636 22744 24090 11397 26059 24978 25133 20885 20987 24300 24719 24748 24816 4261 26578 26320 27025 27308 20896
    25463 27452 26556 27904 11321 898+536 898+357 898+519 26987 22823 26811 27650 24274 27096 209+2518 1003+536 27156
    1003+519 27693 209+3072 26782 26793 27640 26593 8003 507+536 507+357 24361 25987 21594 25398 25828 25794 25312 11776
    957+536 19978 957+519 957+591 22464 26937 27181 24151 19479 2382 22772 19818 23330 26363 23201 24643 26426 23946
    460+1298 15239 27278 24837 204+2368 27357 204+1808 27184 204+2517 204+2606 204+2294 204+1755
"""
SIGNS = (
    "||",
    "/",
    "|",
    "nothing",
    "yes",
    "no",
    ":",
    "<sep>",
    "<UPPER>",
    "[",
    "<LOWER>",
    "<MATH>",
    "]",
)


@dataclass(frozen=True)
class Vocabulary:
    """Ids of a task's symbols. `size` ids in all; content symbols are `first` .. `first + content - 1`.

    `marks` maps every name of SYMBOLS to an id; `names` maps a task to the ids of its name (spec, section 2.0); `numbers`
    are the known ids of 0, 1, 2, ...; `tokenizer` gives the ids of other numbers and of words, where there is one.
    """

    size: int
    pad: int
    eos: int
    first: int
    content: int
    marks: Mapping[str, int]
    names: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: tuple[tuple[int, ...], ...] = ()
    tokenizer: Any = field(default=None, compare=False, repr=False)

    def __hash__(self) -> int:
        return hash((self.size, self.pad, self.eos, self.first, self.content))

    def name_ids(self, task: str) -> tuple[int, ...]:
        """Return the ids that name `task`: the vocabulary's own, else one content symbol.

        It is the place of a paper's function among the 18, so they differ; for other tasks the name's hash chooses it.
        """
        number = PAPER_NAMES.index(task) if task in PAPER_NAMES else zlib.crc32(task.encode())
        return self.names.get(task) or (self.first + number % self.content,)

    def number_ids(self, n: int) -> tuple[int, ...]:
        """Return the ids of a number: the known ones, else the tokenizer's for its decimal digits, else digit by digit."""
        if n < len(self.numbers):
            return self.numbers[n]
        if self.tokenizer is None:
            return tuple(i for digit in str(n) for i in self.numbers[int(digit)])
        ids = self.tokenizer.encode(str(n), add_special_tokens=False)
        bare = len(ids) > 1 and self.tokenizer.convert_ids_to_tokens(ids[0]) == "▁"
        return tuple(ids[1:] if bare else ids)

    def spell(self, i: int) -> str:
        """Return an id for people: a sign for a mark, a digit, or letters (a, b, ..., z, aa, ab, ...)."""
        signs = {self.marks[name]: sign for name, sign in zip(SYMBOLS, SIGNS, strict=True)}
        digits = {ids[0]: str(n) for n, ids in enumerate(self.numbers[:10])}
        if i in signs or i in digits:
            return signs.get(i) or digits[i]
        n, letters = i - self.first - (10 if digits.get(self.first) else 0), ""
        if n < 0 or i >= self.first + self.content:
            return f"<{i}>"
        while n >= 0:
            n, letters = n // 26 - 1, chr(ord("a") + n % 26) + letters
        return letters

    @classmethod
    @functools.cache
    def t5(cls) -> "Vocabulary":
        """The ids of the paper: content 2..31999, marks from the top of T5's 32,100 (spec, section 2.0)."""
        marks = dict(zip(MARKS[:4], range(32099, 32095, -1), strict=True)) | {
            "yes": 4273,
            "no": 150,
        }
        marks |= dict(zip(LIME_MARKS, range(32000, 32007), strict=True))
        numbers = tuple(tuple(map(int, ids.split("+"))) for ids in T5_NUMBERS.split())
        return cls(32100, 0, 1, 2, 31998, marks, T5_NAMES, numbers)

    @classmethod
    def plain(cls, size: int) -> "Vocabulary":
        """A vocabulary of `size` ids without text: 0 pad, 1 end of sequence, content (the digits first), then the marks."""
        if (
            isinstance(size, bool)
            or not isinstance(size, int)
            or not 2 + len(SYMBOLS) + 4 <= size < 2**31
        ):
            raise UsageError(
                f"A vocabulary size is {size!r}; give an integer from {2 + len(SYMBOLS) + 4} to 2**31 - 1."
            )
        marks = {name: size - 1 - i for i, name in enumerate(SYMBOLS)}
        content = size - 2 - len(SYMBOLS)
        digits = tuple((2 + digit,) for digit in range(min(10, content)))
        return cls(size, 0, 1, 2, content, marks, numbers=digits)

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "Vocabulary":
        """The symbols of any Hugging Face tokenizer.

        Content is the longest run of ids that are neither control tokens nor `<extra_id_*>` sentinels (<unk> counts as
        content, as in the reference); where there are no sentinels the marks take the run's last ids.
        """
        if tokenizer.eos_token_id is None and tokenizer.sep_token_id is None:
            raise UsageError(
                "The tokenizer has neither an end-of-sequence nor a separator token; set tokenizer.eos_token."
            )
        eos = (
            tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        )
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos
        control = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id} | {eos, pad}
        control |= {
            i for token, i in tokenizer.get_added_vocab().items() if token.startswith("<extra_id_")
        }
        first, content = longest_run(len(tokenizer), control)
        if (len(tokenizer), pad, eos, first, content) == (32100, 0, 1, 2, 31998):
            return replace(cls.t5(), tokenizer=tokenizer)
        return replace(cls._marked(len(tokenizer), pad, eos, first, content), tokenizer=tokenizer)

    @classmethod
    def _marked(cls, size: int, pad: int, eos: int, first: int, content: int) -> "Vocabulary":
        content -= len(SYMBOLS)
        if content < 4:
            raise UsageError(
                f"The tokenizer has only {size} ids; at least {len(SYMBOLS) + 4} ordinary ones are needed."
            )
        marks = {name: first + content + i for i, name in enumerate(SYMBOLS)}
        return cls(size, pad, eos, first, content, marks)


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
    raise UsageError(
        f"vocabulary is {given!r}; give None (T5 ids), a size, a tokenizer or a Vocabulary."
    )
