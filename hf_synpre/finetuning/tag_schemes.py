"""Tag schemes: the names of tags -> how they mark entities; the tags of a text -> its entities."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

OUTSIDE = ("O", "o")  # the tag of a word that is in no entity

# What the letter of a tag says: the word begins an entity, is inside of it, ends it, or is all of
# it. BILOU calls the end last and a single word unit; BMES calls the inside middle; BMEWO calls a
# single word whole.
BEGIN, INSIDE, END, SINGLE = "B", "I", "E", "S"
LETTERS = {
    "B": BEGIN,
    "I": INSIDE,
    "M": INSIDE,
    "E": END,
    "L": END,
    "S": SINGLE,
    "U": SINGLE,
    "W": SINGLE,
}

# Schemes in which every entity is closed: by a tag of its end, or as a single word.
CLOSED_SCHEMES = (
    ("IOBES", frozenset("BIES")),
    ("BILOU", frozenset("BILU")),
    ("BMES", frozenset("BMES")),
    ("BMEWO", frozenset("BMEW")),
)

Entity = tuple[str, int, int]  # its type, its first and its last word


def letter_first(tag: str, separator: str) -> tuple[str, str]:
    """Return (letter, type) of a tag such as B-PER."""
    letter, _, kind = tag.partition(separator)
    return letter, kind


def letter_last(tag: str, separator: str) -> tuple[str, str]:
    """Return (letter, type) of a tag such as PER-B."""
    kind, _, letter = tag.rpartition(separator)
    return letter, kind


def letter_alone(tag: str, separator: str) -> tuple[str, str]:
    """Return (letter, type) of a tag without a type, such as B."""
    return tag, ""


# What stands between the letter of a tag and the type.
SEPARATORS = ("-", "_", ":", "/", ".")
# How tags are written: a function that splits them, and the separator.
Writing = tuple[Callable[[str, str], tuple[str, str]], str]
WRITINGS: tuple[Writing, ...] = (
    *((letter_first, separator) for separator in SEPARATORS),
    *((letter_last, separator) for separator in SEPARATORS),
    (letter_alone, ""),
)


@dataclass(frozen=True)
class TagScheme:
    """How tags mark entities."""

    # The name of the scheme.
    name: str
    # How tags are written; None where a tag is the type of an entity, without a letter.
    writing: Writing | None
    # Whether an entity counts only with all its tags, from a begin to an end or as a single word.
    is_closed: bool = False
    # Tags that mark no entity, although they are not O.
    ignored: tuple[str, ...] = field(default=())

    def read(self, tag: str) -> tuple[str, str] | None:
        """Return what a tag says (BEGIN, INSIDE, END or SINGLE) and the type; None outside."""
        if tag in OUTSIDE or tag in self.ignored:
            return None
        if self.writing is None:
            return INSIDE, tag
        split, separator = self.writing
        letter, kind = split(tag, separator)
        part = LETTERS.get(letter.upper())
        return None if part is None else (part, kind)

    def entities(self, tags: Iterable[str]) -> set[Entity]:
        """Return (type, first word, last word) of the entities of a text's tags."""
        parts = [self.read(tag) for tag in tags]
        return closed_entities(parts) if self.is_closed else open_entities(parts)

    def description(self) -> str:
        """Return how entities are read, in words."""
        if self.is_closed:
            reading = "an entity counts only if it is begun and ended"
        elif self.writing is None:
            reading = "an entity is a run of one tag"
        else:
            reading = "read as conlleval does"
        text = f"{self.name}, {reading}"
        if self.ignored:
            text += f"; outside of entities: {', '.join(self.ignored)}"
        return text


def find_scheme(names: Iterable[str]) -> TagScheme | None:
    """Return the scheme of tags by their names; None if they mark no entities.

    Args:
        names: the distinct tags of a dataset.

    Examples:
        >>> find_scheme(["O", "B-PER", "E-PER", "S-PER"]).name
        'IOBES'
    """
    tags = sorted({name for name in names if name not in OUTSIDE})
    for writing in WRITINGS:
        letters, others = read_letters(tags, writing)
        if not others and letters & set("BISUW"):
            return scheme_of_letters(letters, writing)

    # Most tags have a letter; some say something else, such as X for the rest of a word.
    letters, others = read_letters(tags, WRITINGS[0])
    if letters & set("BI"):
        scheme = scheme_of_letters(letters, WRITINGS[0])
        return TagScheme(scheme.name, scheme.writing, scheme.is_closed, tuple(others))

    # Types without letters. Without O every word would be in an entity, as with parts of speech.
    has_outside = any(name in OUTSIDE for name in names)
    are_types = all(len(tag) > 1 and not tag.lstrip("-").isdigit() for tag in tags)
    if tags and has_outside and are_types:
        return TagScheme("types without a prefix", None)
    return None


def read_letters(tags: Sequence[str], writing: Writing) -> tuple[set[str], list[str]]:
    """Return the letters of tags that are written in this way, and the tags that are not."""
    split, separator = writing
    letters, others = set(), []
    for tag in tags:
        letter, kind = split(tag, separator)
        has_type = bool(kind) or not separator
        if letter.upper() in LETTERS and len(letter) == 1 and has_type:
            letters.add(letter.upper())
        else:
            others.append(tag)
    return letters, others


def scheme_of_letters(letters: set[str], writing: Writing) -> TagScheme:
    """Return the scheme whose tags have these letters."""
    if letters == {"I"}:
        return TagScheme("IO", writing)
    if letters <= {"B", "I"}:
        return TagScheme("IOB (IOB1 and IOB2 alike)", writing)

    # Only with a sign of the end can entities be closed.
    has_end = bool(letters & {"E", "L"}) and "B" in letters
    are_single = letters <= {"S", "U", "W"}
    if has_end or are_single:
        for name, allowed in CLOSED_SCHEMES:
            if letters <= allowed:
                return TagScheme(name, writing, is_closed=True)
    return TagScheme(f"tags with {', '.join(sorted(letters))}", writing)


def open_entities(parts: Iterable[tuple[str, str] | None]) -> set[Entity]:
    """Return the entities of tags as conlleval reads them.

    A tag that continues nothing begins an entity, and a tag of another type ends one.
    """
    spans = set()
    kind, first = "", 0  # the type and first word of the open entity
    previous: str | None = None  # what the last tag said; None: no entity is open
    for position, part in enumerate([*parts, None]):
        continues = (
            part is not None
            and previous in (BEGIN, INSIDE)
            and part[0] in (INSIDE, END)
            and part[1] == kind
        )
        if previous is not None and not continues:
            spans.add((kind, first, position - 1))
        if part is not None and not continues:
            kind, first = part[1], position
        previous = None if part is None else part[0]
    return spans


def closed_entities(parts: Iterable[tuple[str, str] | None]) -> set[Entity]:
    """Return the entities of tags that are whole: begun and ended, or a single word."""
    spans = set()
    kind: str | None = None  # the type of the open entity
    first = 0
    for position, part in enumerate(parts):
        if part is None:
            kind = None
            continue

        said, tag_kind = part
        if said == SINGLE:
            spans.add((tag_kind, position, position))
        if said == BEGIN:
            kind, first = tag_kind, position
        elif said == END and tag_kind == kind:
            spans.add((tag_kind, first, position))
            kind = None
        elif said != INSIDE or tag_kind != kind:
            kind = None
    return spans
