"""Layer 1: sets of ids in compiled code: bits, a small hash table, and the order in which CPython iterates sets of ints."""

import numpy as np

from hf_synpre.tasks.kernels import (
    FIRST_REGULAR,
    REGULAR_COUNT,
)
from hf_synpre.tasks.rng import kernel

FREE = -1
ONE, SIX, LAST_BIT = np.uint64(1), np.uint64(6), np.uint64(63)
LINEAR_PROBES = 9


@kernel
def new_table(n):
    """A hash table for n ids: slots hold 1 + an id, 0 where free."""
    slots = 64
    while slots < 4 * n:
        slots *= 2
    return np.zeros(slots, np.int32)


@kernel
def find_slot(table, token):
    """Return the slot where `token` is, or the free one where it belongs."""
    last = len(table) - 1
    slot = (np.int64(token) * 2654435769 >> 15) & last
    while (table[slot] != 0) & (table[slot] != token + 1):
        slot = (slot + 1) & last
    return slot


@kernel
def new_bits(p):
    """An empty set of ids: one bit for each id up to the last content id. Without branches, it beats hashing fivefold."""
    return np.zeros((p[FIRST_REGULAR] + p[REGULAR_COUNT] >> 6) + 1, np.uint64)


@kernel
def insert(bits, token):
    """Put an id into the set; return True where it was not there."""
    word, bit = np.uint64(token) >> SIX, ONE << (np.uint64(token) & LAST_BIT)
    held = bits[word]
    bits[word] = held | bit
    return (held & bit) == 0


@kernel
def contains(bits, token):
    """Is an id in the set?"""
    return (bits[np.uint64(token) >> SIX] >> (np.uint64(token) & LAST_BIT)) & ONE != 0


@kernel
def add_distinct(x, y, m, bits):
    """Append the ids of x that the set lacks to y[:m] and to the set, in order of first appearance; return the new m."""
    for token in x:
        y[m] = token
        m += insert(bits, token)
    return m


@kernel
def keep_where(y, m, other, inside, p):
    """Keep of y[:m] only what is in `other` (inside = True) or is not (False); return the new m."""
    bits, kept = new_bits(p), 0
    for token in other:
        insert(bits, token)
    for i in range(m):
        y[kept] = y[i]
        kept += contains(bits, y[i]) == inside
    return kept


@kernel
def resized(table, wanted):
    """CPython's set_table_resize: the same keys in a table of more than `wanted` slots (a power of two, at least 8)."""
    slots = 8
    while slots <= wanted:
        slots *= 2
    larger = np.full(slots, FREE, np.int32)
    for token in table:
        if token >= 0:
            larger[probe(larger, token)] = token
    return larger


@kernel
def probe(table, token):
    """CPython's search in a set of small ints (their own hashes): runs of up to ten slots, then a perturbed jump."""
    last = len(table) - 1
    i, perturb = np.int64(token) & last, np.int64(token)
    while True:
        for j in range(i, (i + LINEAR_PROBES if i + LINEAR_PROBES <= last else i) + 1):
            if table[j] == token or table[j] == FREE:
                return j
        perturb >>= 5
        i = (i * 5 + 1 + perturb) & last


@kernel
def add(table, used, token):
    """CPython's set_add_entry: return (table, used) with `token` in it; grows where three fifths are filled."""
    slot = probe(table, token)
    if table[slot] == token:
        return table, used
    table[slot] = token
    used += 1
    if used * 5 >= (len(table) - 1) * 3:
        table = resized(table, used * 2 if used > 50000 else used * 4)
    return table, used


@kernel
def from_list(tokens):
    """CPython's set(list): (table, used)."""
    table, used = np.full(8, FREE, np.int32), np.int64(0)
    for token in tokens:
        table, used = add(table, used, token)
    return table, used


@kernel
def merge(table, used, other, other_used):
    """CPython's set_merge (and set_copy, from an empty set): one resize at the start, then insertion in table order."""
    if other_used == 0:
        return table, used
    if (used + other_used) * 5 >= (len(table) - 1) * 3:
        table = resized(table, (used + other_used) * 2)
    if used == 0 and len(table) == len(other):
        return other.copy(), other_used
    for token in other:
        if token >= 0 and used >= 0:
            table, used = add(table, used, token)
    return table, used


@kernel
def copied(table, used):
    """CPython's set_copy."""
    return merge(np.full(8, FREE, np.int32), np.int64(0), table, used)


@kernel
def filtered(table, other, inside):
    """A new set of the ids of `table`, in table order, that are in `other` (inside = True) or are not."""
    kept, used = np.full(8, FREE, np.int32), np.int64(0)
    for token in table:
        if token >= 0 and (other[probe(other, token)] == token) == inside:
            kept, used = add(kept, used, token)
    return kept, used


@kernel
def write_set(table, y):
    """Write the ids of a table in iteration order; return how many."""
    m = 0
    for token in table:
        if token >= 0:
            y[m] = token
            m += 1
    return m


@kernel
def reference_union(a, b, y):
    """Write list(set(a) | set(b)) as CPython 3.7-3.13 orders it."""
    left, right = from_list(a), from_list(b)
    table, used = copied(left[0], left[1])
    table, used = merge(table, used, right[0], right[1])
    return write_set(table, y)


@kernel
def reference_intersection(a, b, y):
    """Write list(set(a) & set(b)) as CPython orders it: the smaller set is walked, the second one of equals."""
    left, right = from_list(a), from_list(b)
    if right[1] > left[1]:
        left, right = right, left
    return write_set(filtered(right[0], left[0], True)[0], y)


@kernel
def reference_difference(a, b, y):
    """Write list(set(a) - set(b)) as CPython orders it: a copy with holes where b is small beside a, else a new set."""
    left, right = from_list(a), from_list(b)
    if left[1] >> 2 <= right[1]:
        return write_set(filtered(left[0], right[0], False)[0], y)
    table, m = copied(left[0], left[1])[0], 0
    for token in table:
        if token >= 0 and right[0][probe(right[0], token)] != token:
            y[m] = token
            m += 1
    return m
