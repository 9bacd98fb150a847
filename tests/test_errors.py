"""The one-line messages for bad input: a guess where it is close, ten names at the most.

Run: pytest tests/test_errors.py
"""

import numpy as np
import pytest

from hf_synpre.cli import main
from hf_synpre.errors import UsageError, as_integer, choose, counted, printable, read_integer


def message(value, allowed, do=""):
    with pytest.raises(UsageError) as caught:
        choose("task", value, allowed, do=do)
    return str(caught.value)


def test_one_is_counted_in_the_singular():
    assert [counted(n, "cell") for n in (0, 1, 1200)] == ["0 cells", "1 cell", "1,200 cells"]
    assert [counted(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]


def test_a_name_that_is_allowed_comes_back():
    assert choose("task", "set", ["set", "sort"]) == "set"


def test_a_close_name_is_guessed_and_a_far_one_is_not():
    assert message("sett", ["set", "sort"]) == (
        "Unknown task 'sett'. Did you mean 'set'? Allowed: set, sort."
    )
    assert message("--foo", ["--stop", "--start"]) == (
        "Unknown task '--foo'. Allowed: --start, --stop."
    )
    assert message("set", []) == "Unknown task 'set'. Allowed: none."


def test_of_many_names_the_ten_most_like_it_are_listed_and_the_others_counted():
    names = ["_private", "zebra", *(f"name_{i:02}" for i in range(33))]
    text = message("zebrafish", names, do="See `synpre tasks`.")
    assert "Allowed: name_00, name_01," in text
    assert text.endswith("zebra and 24 more. See `synpre tasks`.")
    assert text.count("name_") == 9
    assert "_private" not in text


@pytest.mark.parametrize(
    ("value", "integer"),
    [(3, 3), (np.int64(3), 3), (True, None), (3.0, None), ("3", None), (np.array([1, 2]), None)],
)
def test_integers_are_told_from_what_looks_like_them(value, integer):
    assert as_integer(value) == integer


@pytest.mark.parametrize(
    ("text", "integer"), [("12", 12), ("-1", None), ("²", None), ("", None), ("9" * 401, None)]
)
def test_digits_of_bounded_number_are_an_integer(text, integer):
    assert read_integer(text) == integer


def test_an_error_is_one_printable_line_of_bounded_length():
    text = str(UsageError(f"a\nb\x1b[2J{'x' * 10_000}; leave it out."))
    assert text.startswith("a b\\x1b[2Jxxx")
    assert text.endswith("xx; leave it out.")
    assert len(text) <= 2000


def test_control_sequences_are_shown_as_text():
    assert printable("a\x1b[31m\u202eb\ud800\n c") == "a\\x1b[31m\\u202eb\\ud800  c"


def test_a_message_is_one_printable_line_of_bounded_length(capsys):
    assert main([f"\x1b]0;title\x07{'x' * 10_000}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("synpre: Unknown verb '\\x1b]0;title\\x07xxx")
    assert len(error) < 2100
