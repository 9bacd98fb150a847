"""A vocabulary as the synthetic tasks see it: a tokenizer, a size or nothing comes in, ids go out.

A task needs regular tokens (one contiguous range of ids, drawn uniformly) and a few special tokens:
dividers, yes and no, brackets. All of them are integers. A tokenizer is read once, when the
Vocabulary is made; later it is asked only for numbers and words that are not known yet.
"""

import functools
import itertools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from hf_synpre.errors import UsageError, as_integer, in_message

# The special tokens by name, in the order in which compiled code finds their ids
# (tasks/kernels.py).
SIMPLE_SPECIAL_TOKENS = ("name_divider", "word_divider", "argument_divider", "empty", "yes", "no")
LIME_SPECIAL_TOKENS = ("colon", "separator", "upper", "open", "lower", "math", "close")
SPECIAL_TOKENS = SIMPLE_SPECIAL_TOKENS + LIME_SPECIAL_TOKENS

# The signs by which text shows them, in the same order.
SPECIAL_SIGNS = (
    *("||", "/", "|", "nothing", "yes", "no"),
    *(":", "<sep>", "<UPPER>", "[", "<LOWER>", "<MATH>", "]"),
)

# A plain vocabulary starts with padding and end-of-sequence.
CONTROL_TOKENS = 2
# A tokenizer with gaps may have so many ids for each of its tokens, and so many beside them.
MOST_IDS_PER_TOKEN = 16
FREE_IDS = 2**18
# With fewer regular tokens a task is no task: its target could be guessed.
FEWEST_REGULAR_TOKENS = 4
# The fewest ids of a vocabulary without text.
SMALLEST_SIZE = CONTROL_TOKENS + len(SPECIAL_TOKENS) + FEWEST_REGULAR_TOKENS

# The ids that T5's SentencePiece gives to the reference's internal names of the tasks
# (docs/papers.md, "Token ids").
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

# What T5's SentencePiece makes of str(0) .. str(220), a leading bare '▁' dropped; + joins two
# pieces (docs/papers.md, "Token ids").
T5_NUMBERS = """
    632 209 204 220 314 305 431 489 505 668 335 850 586 1179 968 627 898 1003 507 957 460 1401 1630
    1902 997 944 2208 2307 2059 2838 604 2664 3538 5400 6154 3097 4475 6862 6654 6352 1283 8798 6426
    8838 8537 3479 9668 10635 4678 9526 943 11696 9065 12210 10630 6897 11526 3436 3449 3390 1640
    4241 4056 3891 6687 7123 3539 3708 3651 3951 2861 4450 9455 4552 4581 6374 3959 4013 3940 4440
    2775 4959 4613 4591 4608 11989 3840 4225 4060 3914 2777 4729 4508 4271 4240 11923 4314 4327 3916
    12185 910 13736 14388 17864 15442 12869 16431 18057 16169 17304 11190 15866 850+357 20522 18959
    15660 20159 20275 20056 19993 5864 22011 20889 14574 22504 10124 21976 22367 209+2577 22174
    12778 22048 23757 22974 23747 209+2469 23459 24636 22744 24090 11397 26059 24978 25133 20885
    20987 24300 24719 24748 24816 4261 26578 26320 27025 27308 20896 25463 27452 26556 27904 11321
    898+536 898+357 898+519 26987 22823 26811 27650 24274 27096 209+2518 1003+536 27156 1003+519
    27693 209+3072 26782 26793 27640 26593 8003 507+536 507+357 24361 25987 21594 25398 25828 25794
    25312 11776 957+536 19978 957+519 957+591 22464 26937 27181 24151 19479 2382 22772 19818 23330
    26363 23201 24643 26426 23946 460+1298 15239 27278 24837 204+2368 27357 204+1808 27184 204+2517
    204+2606 204+2294 204+1755
"""


class Tokenizer(Protocol):
    """What is asked of a Hugging Face tokenizer. This module needs no transformers."""

    all_special_ids: list[int]
    eos_token_id: int | None
    sep_token_id: int | None
    pad_token_id: int | None
    unk_token_id: int | None

    def __hash__(self) -> int: ...

    def __len__(self) -> int: ...

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Mapping[str, Any]: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]: ...

    def convert_ids_to_tokens(self, token: int) -> str: ...

    def get_added_vocab(self) -> dict[str, int]: ...

    def get_vocab(self) -> dict[str, int]: ...


@dataclass(frozen=True, repr=False)
class Vocabulary:
    """The ids of a task's symbols.

    Make one by `t5()`, `plain(size)` or `from_tokenizer(tokenizer)`.

    Examples:
        >>> vocabulary = Vocabulary.plain(100)
        >>> vocabulary.first_regular, vocabulary.regular_count, vocabulary.special_ids["yes"]
        (2, 85, 95)
    """

    # The number of all ids; every id is below it.
    size: int
    # The ids of padding and of end-of-sequence. Rows have neither: collators add them.
    pad: int
    eos: int
    # The regular tokens are the ids first_regular .. first_regular + regular_count - 1.
    first_regular: int
    regular_count: int
    # The id of every special token by its name in SPECIAL_TOKENS.
    special_ids: Mapping[str, int]
    # Task -> the ids of its name, for tasks whose name the vocabulary has; see `name_ids`.
    names: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    # The ids of the numbers 0, 1, 2, ..., as far as they are known.
    numbers: tuple[tuple[int, ...], ...] = ()
    # It gives the ids of other numbers and of words, if there is one.
    tokenizer: Tokenizer | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        """Return the number of ids, the regular tokens among them, and the control tokens."""
        last = self.first_regular + self.regular_count - 1
        return (
            f"Vocabulary(size={self.size}, pad={self.pad}, eos={self.eos}, "
            f"regular tokens {self.first_regular}..{last}, "
            f"{len(self.special_ids)} special tokens)"
        )

    def __hash__(self) -> int:
        return hash((self.size, self.pad, self.eos, self.first_regular, self.regular_count))

    @property
    def first(self) -> int:
        """The former name of `first_regular`."""
        return self.first_regular

    @property
    def content(self) -> int:
        """The former name of `regular_count`."""
        return self.regular_count

    @property
    def marks(self) -> Mapping[str, int]:
        """The former name of `special_ids`."""
        return self.special_ids

    def spell(self, token: int) -> str:
        """The former name of `decode`."""
        return self.decode(token)

    def name_ids(self, task: str) -> tuple[int, ...]:
        """Return the ids that name a task at the start of its rows.

        A name that the vocabulary does not have is one regular token. Each of the paper's 18
        functions has its own; for other tasks a hash of the name chooses the token.
        """
        if task in self.names:
            return self.names[task]
        number = PAPER_NAMES.index(task) if task in PAPER_NAMES else zlib.crc32(task.encode())
        return (self.first_regular + number % self.regular_count,)

    def number_ids(self, number: int) -> tuple[int, ...]:
        """Return the ids of a number: the known ones, else the tokenizer's, else its digits'."""
        if number < len(self.numbers):
            return self.numbers[number]
        if self.tokenizer is None:
            digits = [self.numbers[int(digit)] for digit in str(number)]
            return tuple(itertools.chain(*digits))

        # SentencePiece may put a bare '▁' before a number; the reference drops it.
        ids = self.tokenizer.encode(str(number), add_special_tokens=False)
        has_bare_space = len(ids) > 1 and self.tokenizer.convert_ids_to_tokens(ids[0]) == "▁"
        return tuple(ids[1:] if has_bare_space else ids)

    def decode(self, token: int) -> str:
        """Return an id as text: a special token's sign, a digit, or letters a, ..., z, aa, ..."""
        signs = {ids[0]: str(number) for number, ids in enumerate(self.numbers[:10])}
        starts_with_digits = self.first_regular in signs
        for name, sign in zip(SPECIAL_TOKENS, SPECIAL_SIGNS, strict=True):
            signs[self.special_ids[name]] = sign
        if token in signs:
            return signs[token]

        # The other regular tokens are counted by letters, from the one after the digits on.
        number = token - self.first_regular
        if starts_with_digits:
            number -= 10
        if number < 0 or token >= self.first_regular + self.regular_count:
            return f"<{token}>"
        letters = ""
        while number >= 0:
            letters = chr(ord("a") + number % 26) + letters
            number = number // 26 - 1
        return letters

    @classmethod
    @functools.cache
    def t5(cls) -> "Vocabulary":
        """Return the ids of the paper: regular tokens 2..31999 (docs/papers.md, "Token ids")."""
        special_ids = {
            "name_divider": 32099,
            "word_divider": 32098,
            "argument_divider": 32097,
            "empty": 32096,
            # The pieces of the words "yes" and "no".
            "yes": 4273,
            "no": 150,
        }
        for i, name in enumerate(LIME_SPECIAL_TOKENS):
            special_ids[name] = 32000 + i
        numbers = tuple(tuple(map(int, ids.split("+"))) for ids in T5_NUMBERS.split())
        return cls(
            size=32100,
            pad=0,
            eos=1,
            first_regular=2,
            regular_count=31998,
            special_ids=special_ids,
            names=T5_NAMES,
            numbers=numbers,
        )

    @classmethod
    def plain(cls, size: int) -> "Vocabulary":
        """Return a vocabulary without text.

        Its ids are, in order: padding, end of sequence, regular tokens (digits first), special
        tokens.

        Args:
            size: the number of ids, SMALLEST_SIZE to 2**31 - 1.

        Raises:
            UsageError: `size` is no such integer.
        """
        given, size = size, as_integer(size) or 0
        if not SMALLEST_SIZE <= size < 2**31:
            raise UsageError(
                f"A vocabulary size is {in_message(given)}; "
                f"give an integer from {SMALLEST_SIZE} to 2**31 - 1."
            )
        special_ids = {name: size - 1 - i for i, name in enumerate(SPECIAL_TOKENS)}
        regular_count = size - CONTROL_TOKENS - len(SPECIAL_TOKENS)
        digits = tuple((CONTROL_TOKENS + digit,) for digit in range(min(10, regular_count)))
        return cls(
            size=size,
            pad=0,
            eos=1,
            first_regular=CONTROL_TOKENS,
            regular_count=regular_count,
            special_ids=special_ids,
            numbers=digits,
        )

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """Return the vocabulary of any Hugging Face tokenizer.

        The size is the largest id + 1: some tokenizers have gaps in their ids. Regular tokens are
        the longest run of ids that are tokens, and neither control tokens nor `<extra_id_*>`
        sentinels (<unk> counts as regular, as in the reference). The last ids of the run become the
        special tokens; for T5's own tokenizer the vocabulary is `t5()`.

        Args:
            tokenizer: a tokenizer with an end-of-sequence or a separator token.

        Raises:
            UsageError: the tokenizer has neither, too few ids, or ids far above their number.
        """
        pad, eos = padding_and_end(tokenizer)
        ids = set(tokenizer.get_vocab().values())
        size = max(ids, default=-1) + 1
        if size > MOST_IDS_PER_TOKEN * len(ids) + FREE_IDS:
            raise UsageError(
                f"The tokenizer has {len(ids)} tokens, and its largest id is {size - 1}: a model "
                "would have as many embeddings. Give its tokens ids without such gaps."
            )

        # The longest run of tokens without a control token or sentinel among them.
        excluded = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        excluded |= {eos, pad}
        for name, token in tokenizer.get_added_vocab().items():
            if name.startswith("<extra_id_"):
                excluded.add(token)
        if len(ids) < size:
            excluded |= set(range(size)) - ids
        first, length = longest_run(size, excluded)

        t5 = cls.t5()
        layout = (size, pad, eos, first, length)
        if layout == (t5.size, t5.pad, t5.eos, t5.first_regular, t5.regular_count):
            return replace(t5, tokenizer=tokenizer)

        # The run's last ids are the special tokens.
        regular_count = length - len(SPECIAL_TOKENS)
        if regular_count < FEWEST_REGULAR_TOKENS:
            fewest = len(SPECIAL_TOKENS) + FEWEST_REGULAR_TOKENS
            raise UsageError(
                f"The tokenizer has only {length} ordinary tokens with ids in a row; at least "
                f"{fewest} are needed."
            )
        special_ids = {name: first + regular_count + i for i, name in enumerate(SPECIAL_TOKENS)}
        return cls(size, pad, eos, first, regular_count, special_ids, tokenizer=tokenizer)


def padding_and_end(tokenizer: Tokenizer) -> tuple[int, int]:
    """Return the ids of padding and of end-of-sequence of a tokenizer.

    The separator stands for a missing end of sequence, and the end for missing padding.

    Args:
        tokenizer: any Hugging Face tokenizer.

    Raises:
        UsageError: it has neither an end-of-sequence nor a separator token.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        eos = tokenizer.sep_token_id
    if eos is None:
        raise UsageError(
            "The tokenizer has neither an end-of-sequence nor a separator token; give another one, "
            "or say which of its tokens ends a text: in Python tokenizer.eos_token = TOKEN, in its "
            'folder a file tokenizer_config.json with {"eos_token": TOKEN}.'
        )
    pad = tokenizer.pad_token_id
    return eos if pad is None else pad, eos


def longest_run(size: int, excluded: set[int]) -> tuple[int, int]:
    """Return (first id, length) of the longest run of ids below `size` without an excluded one."""
    bounds = [-1, *sorted(token for token in excluded if token < size), size]
    best_first, best_length = 0, 0
    for left, right in itertools.pairwise(bounds):
        length = right - left - 1
        if length > best_length:
            best_first, best_length = left + 1, length
    return best_first, best_length


def as_vocabulary(vocabulary: Vocabulary | Tokenizer | int | None = None) -> Vocabulary:
    """Return a Vocabulary: of None the paper's T5 ids, of an integer a plain one of this size.

    Raises:
        UsageError: it is neither None, a size, a tokenizer nor a Vocabulary.
    """
    if vocabulary is None:
        return Vocabulary.t5()
    if isinstance(vocabulary, Vocabulary):
        return vocabulary
    if isinstance(vocabulary, int):
        return Vocabulary.plain(vocabulary)
    of_numpy = as_integer(vocabulary)
    if of_numpy is not None:
        return Vocabulary.plain(of_numpy)
    if hasattr(vocabulary, "all_special_ids"):
        return Vocabulary.from_tokenizer(vocabulary)
    raise UsageError(
        f"vocabulary is {in_message(vocabulary)}; "
        "give None (T5 ids), a size, a tokenizer or a Vocabulary."
    )
