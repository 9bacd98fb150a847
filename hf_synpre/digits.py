"""Numbers -> text with the digits that tell them apart."""

import math
from collections.abc import Iterable

# Numbers below it are written with a power of ten.
SMALLEST = 1e-4


def write_number(
    value: float, decimals: int = 3, sign: str = "", beside: Iterable[float] = ()
) -> str:
    """Write a number with so many decimals; a small one with as many significant digits.

    Args:
        value: the number.
        decimals: digits behind the point.
        sign: "+" to write the sign of positive numbers too.
        beside: numbers that it is shown with, such as the ends of its interval; the largest of all
            decides the digits.

    Examples:
        >>> write_number(39.31164), write_number(0.0042), write_number(1.083e-6)
        ('39.312', '0.00420', '1.08e-06')
        >>> write_number(-1e-7, sign="+", beside=[-4.4e-7, 2.2e-7])
        '-1.00e-07'
    """
    largest = max(map(abs, (value, *beside)))
    is_small = 0 < largest < 10.0 ** (1 - decimals)
    if not is_small:
        return f"{value:{sign}z.{decimals}f}"
    if largest < SMALLEST:
        return f"{value:{sign}z.{decimals - 1}e}"

    # As many more decimals as there are zeros before the first digit.
    decimals -= 1 + math.floor(math.log10(largest))
    return f"{value:{sign}z.{decimals}f}"
