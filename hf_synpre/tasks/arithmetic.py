"""Arithmetic on signs: expressions modulo 5 that are drawn and valued, binary numbers.

A sign is a number: digits are 0 to 4, the others are named below. Binary numbers are arrays of the
digits 0 and 1.
"""

import numpy as np

from hf_synpre.tasks.rng import below, between, fill_between, kernel

MODULUS = 5
PLUS, MINUS, TIMES, OPEN, CLOSE, EQUALS, HIDDEN = range(MODULUS, MODULUS + 7)

# --- expressions ----------------------------------------------------------------------------------


@kernel
def draw_flat(state, out):
    """Fill `out`, whose length is odd, with digits and operators + - x by turns, all uniform."""
    fill_between(state, out, 0, MODULUS * 3 - 1)
    for i in range(len(out)):
        out[i] = PLUS + out[i] // MODULUS if i % 2 else out[i] % MODULUS


@kernel
def flat_value(x, first):
    """Return the value of digits and operators modulo 5, products before sums.

    Args:
        x: the ids of the signs.
        first: the id of the digit 0.
    """
    total, product = 0, x[0] - first
    for i in range(2, len(x), 2):
        digit, sign = x[i] - first, x[i - 1] - first
        if sign == TIMES:
            product = product * digit % MODULUS
        else:
            total += product
            product = digit if sign == PLUS else MODULUS - digit
    return (total + product) % MODULUS


@kernel
def draw_bracketed(state, out, stack):
    """Fill `out` with an expression in brackets.

    One of up to 4 signs is d, -d, (d) or (-d), with a uniform digit. A longer one of n signs is
    (left + right) or (left - right), its left part of U{1..n-4} signs. What is still to be written
    is on the stack, which needs as much room as `out`: the length of an expression, or a sign as
    -1 - sign.
    """
    stack[0] = len(out)
    depth, i = 1, 0
    while depth > 0:
        depth -= 1
        length = int(stack[depth])

        # A sign, a short expression, or two with a sign between them.
        if length < 0:
            out[i] = -1 - length
            i += 1
        elif length <= 4:
            if length >= 3:
                out[i] = OPEN
                out[i + length - 1] = CLOSE
            if length % 2 == 0:
                out[i + length // 2 - 1] = MINUS
            out[i + length // 2] = below(state, MODULUS)
            i += length
        else:
            left = between(state, 1, length - 4)
            out[i] = OPEN
            stack[depth] = -1 - CLOSE
            stack[depth + 1] = length - 3 - left
            stack[depth + 2] = -1 - (PLUS if below(state, 2) == 0 else MINUS)
            stack[depth + 3] = left
            depth += 4
            i += 1


@kernel
def bracketed_value(x, first, stack):
    """Return the value of an expression in brackets modulo 5, and with what sign it has HIDDEN.

    HIDDEN counts as 0; its sign is 1, -1, or 0 where it is not in the expression. `first` is the id
    of the digit 0. The stack takes the sign of each bracket that is open.
    """
    value = hidden = depth = 0
    sign = outer = 1  # of the next number, and of the bracket that it is in
    is_behind_number = False
    for token in x:
        symbol = token - first

        if symbol == OPEN:
            stack[depth] = outer
            outer = sign
            depth += 1
        elif symbol == CLOSE:
            depth -= 1
            outer = stack[depth]
        elif symbol == PLUS:
            sign = outer
        elif symbol == MINUS:
            sign = -outer if is_behind_number else -sign
        elif symbol == HIDDEN:
            hidden = sign
        else:
            value += sign * symbol
        is_behind_number = symbol < MODULUS or symbol in (HIDDEN, CLOSE)
    return value % MODULUS, hidden


@kernel
def draw_equation(state, out, stack):
    """Fill `out` with an expression in brackets, one of its digits hidden, `=` and its value."""
    n = len(out) - 2
    expression = out[:n]
    draw_bracketed(state, expression, stack)
    out[n] = EQUALS
    out[n + 1] = bracketed_value(expression, 0, stack)[0]

    # The first digit from a uniform position on.
    i = below(state, n)
    while out[i] >= MODULUS:
        i = (i + 1) % n
    out[i] = HIDDEN


@kernel
def solution(x, first, stack):
    """Return the digit that is hidden in an equation."""
    n = len(x)
    value, sign = bracketed_value(x[: n - 2], first, stack)
    return sign * (x[n - 1] - first - value) % MODULUS


# --- binary numbers -------------------------------------------------------------------------------


@kernel
def draw_number(state, out):
    """Fill `out` with the digits of a uniform number that is not 0."""
    is_zero = True
    while is_zero:
        fill_between(state, out, 0, 1)
        for digit in out:
            is_zero &= digit == 0


@kernel
def draw_two_numbers(state, out, operator):
    """Fill `out` with a number, an operator and a number, the first of U{1..n-2} digits."""
    length = between(state, 1, len(out) - 2)
    draw_number(state, out[:length])
    draw_number(state, out[length + 1 :])
    out[length] = operator


@kernel
def significant(y, m):
    """Return how many of m digits, the lowest first, are left without leading zeros."""
    while y[m - 1] == 0:
        m -= 1
    return m


@kernel
def carry(y, m):
    """Carry in m digits, the lowest first, each of which may be more than 1."""
    over = 0
    for i in range(m):
        over += y[i]
        y[i] = over & 1
        over >>= 1


@kernel
def write_sum(x, y, first):
    """Write the sum of two numbers with a sign between them, lowest digits first; return m."""
    m = 0
    at = len(x)  # of the sign between them
    for i in range(len(x)):
        y[i] = 0
    for i in range(len(x)):
        digit = x[i] - first
        if digit > 1:
            at = i
        else:
            place = i if i < at else i - at - 1
            y[place] += digit
            m = max(m, place + 2)
    carry(y, m)
    return significant(y, m)


@kernel
def write_product(x, y, first):
    """Write the product of two numbers with a sign between them, lowest digits first; return m."""
    at = 0
    while x[at] - first <= 1:
        at += 1
    m = len(x) - 1
    for i in range(m):
        y[i] = 0
    for i in range(at):
        if x[i] != first:
            for k in range(at + 1, len(x)):
                y[i + k - at - 1] += x[k] - first
    carry(y, m)
    return significant(y, m)


@kernel
def write_square_root(x, y, first):
    """Write the floor of the square root of a number, highest digits first; return m.

    Digit by digit: `rest` begins as the number. Its first 2 k + 2 digits, from which what was found
    has been taken, are compared with the k digits of the root and 01 behind them.
    """
    m = (len(x) + 1) // 2
    rest = np.zeros(2 * m, np.int8)  # [digits]
    for i in range(len(x)):
        rest[2 * m - len(x) + i] = x[i] - first
    for k in range(m):
        last = 2 * k + 1

        # Whether the rest is at least the root and 01.
        is_more = k > 0 and rest[k - 1] == 1
        if not is_more:
            i = 0
            while i < k and rest[k + i] == y[i]:
                i += 1
            if i < k:
                is_more = rest[k + i] > y[i]
            else:
                is_more = rest[last - 1] + rest[last] > 0

        # If so take them from it.
        if is_more:
            borrow = 1
            for i in range(last, k - 1, -1):
                digit = y[i - k] if i < last - 1 else 0
                difference = rest[i] - digit - borrow
                borrow = 1 if difference < 0 else 0
                rest[i] = difference & 1
            if k > 0:
                rest[k - 1] -= borrow
        y[k] = 1 if is_more else 0
    return m
