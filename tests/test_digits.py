"""Numbers as text: digits that tell them apart.

Run: pytest tests/test_digits.py
"""

import math

import pytest

from hf_synpre.digits import write_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (1.9671, "1.967"),
        (0.0102, "0.010"),
        (0.00421, "0.00421"),
        (-0.00042, "-0.000420"),
        (1.083e-6, "1.08e-06"),
        (39.31164, "39.312"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_small_numbers_keep_their_digits(value, text):
    assert write_number(value) == text


def test_numbers_that_stand_together_have_the_same_digits():
    numbers = [-1.1e-7, -4.4e-7, 2.2e-7]
    texts = [write_number(number, sign="+", beside=numbers) for number in numbers]
    assert texts == ["-1.10e-07", "-4.40e-07", "+2.20e-07"]
    assert write_number(0.0001, beside=[1.25]) == "0.000"
    assert write_number(1.083e-6, 4) == "1.083e-06"
    assert write_number(0.0054321, 4) == "0.0054"
