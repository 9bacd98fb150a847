"""Layer 1: sets of ids in compiled code: a small hash table, and the order in which CPython iterates sets of ints."""

import numpy as np
from numba import njit

FREE = -1
LINEAR_PROBES = 9


@njit(cache=True)
def new_table(n):
    """A hash table for n keys: slots hold 1 + the place of a key in an array of keys, 0 where free."""
    slots = 64
    while slots < 2 * n:
        slots *= 2
    return np.zeros(slots, np.int32)


@njit(cache=True)
def find_slot(table, keys, token):
    """Return the slot where `token` is, or the free one where it belongs."""
    last = len(table) - 1
    slot = (np.int64(token) * 2654435769 >> 15) & last
    while table[slot] != 0 and keys[table[slot] - 1] != token:
        slot = (slot + 1) & last
    return slot


@njit(cache=True)
def add_distinct(x, y, m, table):
    """Append the ids of x that y[:m] lacks, in order of first appearance; return the new m. `table` indexes y."""
    for token in x:
        slot = find_slot(table, y, token)
        if table[slot] == 0:
            y[m] = token
            m += 1
            table[slot] = m
    return m


@njit(cache=True)
def keep_where(y, m, other, inside):
    """Keep of y[:m] only what is in `other` (inside = True) or is not (False); return the new m."""
    table = new_table(len(other))
    for i in range(len(other)):
        table[find_slot(table, other, other[i])] = i + 1
    kept = 0
    for i in range(m):
        if (table[find_slot(table, other, y[i])] != 0) == inside:
            y[kept] = y[i]
            kept += 1
    return kept


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def from_list(tokens):
    """CPython's set(list): (table, used)."""
    table, used = np.full(8, FREE, np.int32), 0
    for token in tokens:
        table, used = add(table, used, token)
    return table, used


@njit(cache=True)
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


@njit(cache=True)
def copied(table, used):
    """CPython's set_copy."""
    return merge(np.full(8, FREE, np.int32), 0, table, used)


@njit(cache=True)
def filtered(table, other, inside):
    """A new set of the ids of `table`, in table order, that are in `other` (inside = True) or are not."""
    kept, used = np.full(8, FREE, np.int32), 0
    for token in table:
        if token >= 0 and (other[probe(other, token)] == token) == inside:
            kept, used = add(kept, used, token)
    return kept, used


@njit(cache=True)
def write_set(table, y):
    """Write the ids of a table in iteration order; return how many."""
    m = 0
    for token in table:
        if token >= 0:
            y[m] = token
            m += 1
    return m


@njit(cache=True)
def reference_union(a, b, y):
    """Write list(set(a) | set(b)) as CPython 3.7-3.13 orders it."""
    left, right = from_list(a), from_list(b)
    table, used = copied(left[0], left[1])
    table, used = merge(table, used, right[0], right[1])
    return write_set(table, y)


@njit(cache=True)
def reference_intersection(a, b, y):
    """Write list(set(a) & set(b)) as CPython orders it: the smaller set is walked, the second one of equals."""
    left, right = from_list(a), from_list(b)
    if right[1] > left[1]:
        left, right = right, left
    return write_set(filtered(right[0], left[0], True)[0], y)


@njit(cache=True)
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
