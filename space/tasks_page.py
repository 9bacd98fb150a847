"""Synthetic tasks for the page: what was chosen -> rows in colours, and a verdict on an answer."""

import functools
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import numpy as np

from hf_synpre.errors import UsageError, choose, in_message
from hf_synpre.tasks import RowStream, get_task, list_tasks, open_stream
from hf_synpre.tasks.kernels import IGNORED
from hf_synpre.tasks.task import Task
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

# What the page shows at most: rows, the tokens of one with its answer, the letters of an answer.
MOST_ROWS = 10
LONGEST_ROW = 5000
LONGEST_ANSWER = 20_000

# Sizes at which a row fits a line: parameters, and the number of ids of a plain vocabulary.
SMALL_LIME = {"lower": 4, "math": 3, "max_math": 6, "max_string": 3, "min_math": 3}
SMALL = {
    **dict.fromkeys(("lime", "lime_induct", "lime_deduct", "lime_abduct"), (SMALL_LIME, 100)),
    "k_shuffle_dyck": ({"length": 14, "types": 3}, 30),
    "k_dyck": ({"length": 14, "types": 3}, 30),
    "eca": ({"width": 24, "steps": 5}, 40),
    "nca": ({"grid": 4, "states": 4, "frames": 4, "min_complexity": 500}, 300),
    "brainfuck": ({"min_length": 8, "max_length": 20, "values": 10, "max_output": 8}, 40),
    "linear_rnn": ({"length": 16, "tokens": 12, "hidden": 8}, 40),
    "random_lstm": ({"length": 24, "tokens": 12}, 40),
    "copy": ({"min_length": 4, "max_length": 7}, 51),
    "needle": ({"pairs": 6}, 51),
    "mqar": ({"length": 24, "keys": 3}, 51),
    "verbatim": ({"min_items": 2, "max_items": 5, "gap": 6}, 51),
    "stack": ({"steps": 14}, 51),
    "mp_struct": ({}, 51),
    "chomsky": ({"min_length": 5, "max_length": 14}, 51),
    "depo": ({"max_nodes": 4, "queries": 2, "max_hops": 3, "letters": 6}, 51),
    "brevo": ({"max_nodes": 6, "letters": 8}, 51),
    "mano": ({"max_operations": 5}, 55),
    "lano": ({"levels": 4}, 51),
    "nonsense_summary": ({"min_sentences": 5, "max_sentences": 5, "max_words": 6}, 6000),
}
OTHER_SMALL = ({"min_length": 4, "max_length": 14}, 51)

# Parameter -> what it is, for people who do not know the task.
MEANINGS = {
    "min_length": "shortest input, tokens",
    "max_length": "longest input, tokens",
    "order": "order of the answer's tokens",
    "min_symbols": "fewest symbols of a rule",
    "max_symbols": "most symbols of a rule",
    "min_math": "shortest rule, tokens",
    "max_math": "longest rule, tokens",
    "min_string": "shortest string of a symbol, tokens",
    "max_string": "longest string of a symbol, tokens",
    "lower": "lower symbols in the alphabet",
    "math": "math symbols in the alphabet",
    "words": "made-up words",
    "min_sentences": "fewest sentences",
    "max_sentences": "most sentences",
    "min_words": "fewest words of a sentence",
    "max_words": "most words of a sentence",
    "operations": "operations of a summary",
    "open_percent": "chance of an opening token, %",
    "distribution": "how tokens are drawn",
    "length": "tokens of a row",
    "types": "kinds of brackets",
    "max_depth": "most open brackets; 0: no limit",
    "truncated": "whether brackets may stay open",
    "width": "cells of the ring",
    "steps": "steps of a row",
    "rule": "number of the rule; 256 draws one",
    "pairs": "most pairs of key and value",
    "keys": "keys of a row",
    "min_items": "shortest list, tokens",
    "max_items": "longest list, tokens",
    "gap": "most filler on each side, tokens",
    "grid": "cells of a side of the torus",
    "states": "states of a cell",
    "patch": "cells of a side of a patch, which is a token",
    "frames": "steps of a row",
    "burn_in": "steps before the first that is shown",
    "min_complexity": "fewest phrases in 1000 tokens; 0: all rules",
    "max_complexity": "most phrases in 1000 tokens; 1000: all rules",
    "channel_padding": "whether channels wrap, as in the published code",
    "tokens": "different tokens",
    "hidden": "entries of a network's state",
    "models": "networks, of which a row draws one",
    "logit_sd": "spread of the logits, in 1/100",
    "weights": "scaled, or as published",
    "law": "whose inputs: of Wu et al. 2022, or uniform",
    "mean_depth": "networks that a row passes, in the mean",
    "input_sd": "how much a token adds to the gates, in 1/100",
    "recurrent_sd": "how much the state adds to the gates, in 1/100",
    "hit": "rows that have the token, %",
    "language": "which language",
    "complex": "whether sentences have up to two objects",
    "recursion": "chance of a clause inside a clause, %",
    "cells": "cells of the tape",
    "values": "values of a cell",
    "max_steps": "most instructions that are run",
    "max_output": "most values that are printed",
    "letters": "letters that words are made of",
    "min_word_length": "shortest word, tokens",
    "max_word_length": "longest word, tokens",
    "min_nodes": "fewest nodes",
    "max_nodes": "most nodes",
    "min_hops": "fewest steps of a question",
    "max_hops": "most steps of a question",
    "queries": "most questions of a row",
    "modulus": "numbers; values are modulo this",
    "min_operations": "fewest operations of an expression",
    "max_operations": "most operations of an expression",
    "levels": "levels of the grammar",
    "grammar": "which grammar",
    "grammar_seed": "number by which the rules are drawn",
    "min_rules": "fewest rules of a symbol",
    "max_rules": "most rules of a symbol",
}


@dataclass(frozen=True)
class Choice:
    """Which rows the page shows."""

    task: str
    parameters: dict[str, int | str] = field(default_factory=dict)
    ids: int = 0  # of the vocabulary; 0 for the paper's T5 ids
    layout: str = "seq2seq"
    split: str = "train"
    seed: int = 0

    @property
    def has_answers(self) -> bool:
        """Whether rows have an input and an answer; the others are one sequence."""
        return not get_task(self.task).is_sequence

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the rows."""
        return as_vocabulary(self.ids or None)

    def stream(self, layout: str = "seq2seq") -> RowStream:
        """Return the stream of the rows. Raises UsageError where they are too long for a page."""
        options: dict[str, Any] = {"split": self.split, "seed": self.seed, **self.parameters}
        stream = open_stream(self.task, layout=layout, vocabulary=self.vocabulary, **options)
        longest = max(stream.bounds)
        if longest > LONGEST_ROW:
            raise UsageError(
                f"Such rows may have {longest:,} tokens, and this page shows {LONGEST_ROW:,}; give "
                "smaller parameters."
            )
        return stream

    def row(self, number: int, layout: str = "seq2seq") -> tuple[list[int], list[int]]:
        """Return the ids and the labels of one row."""
        if not 0 <= number < 2**53:
            raise UsageError(f"The row is {in_message(number)}; give a number from 0.")
        ids, _, labels, _ = self.stream(layout).rows(np.array([number]))
        return ids.tolist(), labels.tolist()

    def texts(self, ids: list[int], row: list[int]) -> list[str]:
        """Return ids of a row, or of its answer, as people read them; one text for each."""
        words = [token for token in ids if token != self.vocabulary.eos]
        text = self.task_text(words, row)
        texts = text.split()
        if len(texts) != len(words):  # cells of an automaton, a letter each; a space ends a state
            texts = list(text.replace(" ", "/"))
        if len(texts) != len(words):  # words of nonsense may take several ids
            texts = [f"<{token}>" for token in words]
        of_words = iter(texts)
        return ["end" if token == self.vocabulary.eos else next(of_words) for token in ids]

    def task_text(self, ids: list[int], row: list[int]) -> str:
        """Return ids as the task shows them; "" where they are none of its words."""
        options: dict[str, Any] = {"vocabulary": self.vocabulary, **self.parameters}
        try:
            return get_task(self.task).text(ids, row=row, **options)
        except UsageError:
            return ""


@functools.lru_cache(maxsize=8)
def tokens_by_text(vocabulary: Vocabulary) -> dict[str, int]:
    """Return the text of every id of a vocabulary -> the id."""
    return {vocabulary.decode(token): token for token in range(vocabulary.size)}


def small_sizes(task: str) -> tuple[dict[str, int | str], int]:
    """Return parameters for rows that fit a line, and the ids that their vocabulary has."""
    sizes, ids = SMALL.get(choose("task", task, list_tasks()), OTHER_SMALL)
    return get_task(task).resolve(sizes), ids


def describe(task: str) -> str:
    """Return the definition of a task as HTML: its sentences, its example, where it is from."""
    definition, _, example = get_task(task).description.partition("\n\n")
    lines = "\n".join(line.strip() for line in example.strip().splitlines())
    sample = f"<pre>{escape(lines)}</pre>" if lines else ""
    paper = f'<p class="paper">{escape(get_task(task).paper)}</p>'
    return f"<p>{escape(' '.join(definition.split()))}</p>{sample}{paper}"


# --- Rows -----------------------------------------------------------------------------------------


class Token(NamedTuple):
    """One position of a row."""

    token: int  # its id
    text: str
    role: str  # "name" (of the task), "input", "end" (of a sequence) or "answer"
    counted: bool  # whether the loss counts it


def show_rows(choice: Choice, start: int, count: int, hidden: bool = False) -> str:
    """Return rows as HTML, one below the other, each token in the colour of its role.

    Args:
        choice: which rows.
        start: the number of the first one.
        count: how many.
        hidden: whether answers are left out, for a reader who wants to find them.
    """
    if not 1 <= count <= MOST_ROWS:
        raise UsageError(f"{in_message(count)} rows were asked for; give 1 to {MOST_ROWS}.")
    blocks = []
    for number in range(start, start + count):
        lines = "".join(map(show_line, read_row(choice, number, hidden)))
        blocks.append(f'<div class="task-row"><div class="number">row {number}</div>{lines}</div>')
    rows = f'<div class="rows">{"".join(blocks)}</div>'
    return legend(choice) + rows + snippet(choice, start, count)


def read_row(choice: Choice, number: int, hidden: bool = False) -> list[tuple[str, list[Token]]]:
    """Return the lines of a row with their names: two for an encoder-decoder, one for a decoder."""
    ids, target = choice.row(number)
    eos = choice.vocabulary.eos

    def tokens(some: list[int], role: str, counted: bool) -> list[Token]:
        texts = choice.texts(some, ids)
        roles = ["end" if token == eos else role for token in some]
        return [Token(i, t, r, counted) for i, t, r in zip(some, texts, roles, strict=True)]

    # A sequence, whose labels lie beside its tokens.
    if not choice.has_answers:
        _, labels = choice.row(number, choice.layout)
        line = []
        for token, label in zip(tokens(ids, "input", False), labels, strict=True):
            counted = label != IGNORED
            role = "answer" if counted else token.role
            line.append(token._replace(role=role, counted=counted))
        return [("sequence", line)]

    named = name_length(choice)
    row = tokens(ids[:named], "name", False) + tokens(ids[named:], "input", False)
    unknown = [Token(-1, "?", "answer", True)]

    # Two lines; collators append an end of sequence to both.
    row += tokens([eos], "end", False)
    answer = tokens([*target, eos], "answer", True)
    if choice.layout == "seq2seq":
        return [("input", row), ("answer", unknown if hidden else answer)]

    # One line; which of its positions count, its labels say.
    _, labels = choice.row(number, choice.layout)
    pairs = zip(row + answer, labels, strict=True)
    row = [token._replace(counted=label != IGNORED) for token, label in pairs]
    if hidden:
        row = row[: len(ids) + 1] + unknown
    return [("sequence", row)]


def name_length(choice: Choice) -> int:
    """Return how many tokens at the start of a row name its task; 0 where none do."""
    task = get_task(choice.task)
    return len(task.prefix(choice.vocabulary)) if isinstance(task, Task) else 0


def show_line(line: tuple[str, list[Token]]) -> str:
    """Return a line of a row as HTML."""
    name, tokens = line
    chips = []
    for token in tokens:
        role = f"{token.role} counted" if token.counted else token.role
        title = f"id {token.token}" if token.token >= 0 else "to be found"
        chips.append(f'<span class="token {role}" title="{title}">{escape(token.text)}</span>')
    return f'<div class="line"><span class="what">{name}</span><div>{"".join(chips)}</div></div>'


def legend(choice: Choice) -> str:
    """Return what the colours mean, as HTML."""
    entries = [("input", "input"), ("answer", "answer"), ("end", "end of sequence")]
    if not choice.has_answers:
        entries = [("input", "token of a sequence"), ("answer", "what is learnt of it")]
    elif name_length(choice):
        entries.insert(0, ("name", "name of the task"))
    entries.append(("counted", "the loss counts it"))
    shown = "".join(f'<span><i class="token {role}"></i>{text}</span>' for role, text in entries)
    return f'<div class="legend">{shown}</div>'


def snippet(choice: Choice, start: int, count: int) -> str:
    """Return the call that gives the same rows in Python, as HTML."""
    defaults = get_task(choice.task).resolve({})
    options = {
        name: value for name, value in choice.parameters.items() if value != defaults.get(name)
    }
    if choice.ids:
        options["vocabulary"] = choice.ids
    usual = Choice(choice.task)
    for name in ("layout", "split", "seed"):
        if getattr(choice, name) != getattr(usual, name):
            options[name] = getattr(choice, name)
    words = [repr(choice.task), str(start), str(start + count)]
    words += [f"{name}={value!r}" for name, value in options.items()]
    return f'<pre class="call">generate({escape(", ".join(words), quote=False)})</pre>'


# --- Answers --------------------------------------------------------------------------------------


def judge(choice: Choice, number: int, answer: str) -> str:
    """Return as HTML whether an answer to a row is right, and where it begins to be wrong.

    Args:
        choice: which rows.
        number: the row that was answered.
        answer: the tokens as the page shows them, with spaces between them.

    Raises:
        UsageError: the rows have no answers, or a word of the answer is no token.
    """
    if not choice.has_answers:
        raise UsageError(f"The rows of {choice.task} are sequences without an answer beside them.")
    ids, target = choice.row(number)
    given = read_answer(choice, ids, target, answer)
    is_right = get_task(choice.task).score(
        ids, given, vocabulary=choice.vocabulary, **choice.parameters
    )
    if is_right:
        other = "" if given == target else " It differs from the one of the row, and is as good."
        return f'<p class="verdict right">Right: row {number}.{other}</p>'
    difference = escape(first_difference(choice.texts(target, ids), answer.split()))
    return f'<p class="verdict wrong">Not right: {difference}</p>'


def read_answer(choice: Choice, row: list[int], target: list[int], answer: str) -> list[int]:
    """Return the ids of an answer that is written as the page shows tokens."""
    words = answer.split()
    if not words:
        raise UsageError("There is no answer yet; write its tokens with spaces between them.")
    if len(answer) > LONGEST_ANSWER:
        raise UsageError(f"The answer has more than {LONGEST_ANSWER:,} letters.")
    if words[-1] == "end":
        words.pop()

    # Tokens of the row first; other words are those of the vocabulary.
    own = [*row, *target]
    known = dict(zip(choice.texts(row, row) + choice.texts(target, row), own, strict=True))
    if not known.keys() >= set(words):
        known = tokens_by_text(choice.vocabulary) | known
    for word in words:
        if word not in known:
            raise UsageError(
                f"{in_message(word)} is no token of this row or its vocabulary; write tokens as "
                "the rows show them, with spaces between them."
            )
    return [known[word] for word in words]


def first_difference(right: list[str], written: list[str]) -> str:
    """Return where an answer leaves the right one; both are tokens as people read them."""
    if written[-1] == "end":
        written = written[:-1]
    for place, (expected, given) in enumerate(zip(right, written, strict=False), start=1):
        if expected != given:
            return f"token {place} is {given}, and should be {expected}."
    return f"it has {len(written)} tokens, and should have {len(right)}."
