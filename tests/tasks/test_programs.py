"""Programs that print: what each instruction does, limits, how programs are drawn.

Run: pytest tests/tasks/test_programs.py
"""

from collections import Counter

import pytest
from task_rows import pairs

from hf_synpre import UsageError
from hf_synpre.tasks import get_task

FIRST = 2  # regular tokens of a plain vocabulary begin here
SETTINGS = {"vocabulary": 60, "values": 10, "cells": 3, "max_output": 4, "max_steps": 40}

# Program -> the values that it prints.
RUNS = {
    "++.[-.]!.": [2, 1, 0],
    "-.": [9],
    "<+.<<<.": [1, 1],  # the tape is a ring of three cells
    "[.].": [0],
    ".[.": [0],  # a loop without an end, at a cell of 0
    "].": [0],
    ".]+].": [0, 1],  # an end without an opening does nothing
    "+[[-]]>.": [0],
    "+[>]..": [0, 0],
    ".+[+-].": [0],  # 40 steps
    "+[.]": [1, 1, 1, 1],  # four values
}


@pytest.mark.parametrize("program", RUNS)
def test_programs_print_what_their_instructions_say(program):
    row = [FIRST + "><+-[].!".index(sign) for sign in program]
    task = get_task("brainfuck")
    printed = task.solve(row, **SETTINGS).tolist()
    assert printed == [FIRST + 8 + value for value in RUNS[program]]
    assert task.text(printed, row=row, **SETTINGS).split() == list(map(str, RUNS[program]))
    assert task.text(row, **SETTINGS) == " ".join(program)


def test_programs_are_uniform_among_those_that_print():
    """Of the strings of two instructions those that print are .x, x. but for !. and [."""
    rows = pairs("brainfuck", stop=6000, min_length=2, max_length=2, **SETTINGS)
    strings = Counter(get_task("brainfuck").text(row, **SETTINGS) for row, _ in rows)
    expected = {f". {sign}" for sign in "><+-[].!"} | {f"{sign} ." for sign in "><+-]."}
    assert strings.keys() == expected
    share = 6000 / len(expected)
    assert all(abs(count - share) < 4.5 * share**0.5 for count in strings.values())


def test_what_cannot_be_is_refused():
    errors = [
        ({"cells": 0}, "cells is 0; give 1 to 4096"),
        ({"values": 1}, "values is 1; give an integer >= 2"),
        ({"max_steps": 0}, "max_steps is 0; give 1 to 1048576"),
        ({"vocabulary": 50}, "draws from 72 regular tokens and the vocabulary has 35"),
    ]
    for settings, message in errors:
        with pytest.raises(UsageError, match=message):
            pairs("brainfuck", stop=1, **settings)
    with pytest.raises(UsageError, match=r"id 10 is no instruction \(2\.\.9\)"):
        get_task("brainfuck").solve([2, 10], **SETTINGS)
