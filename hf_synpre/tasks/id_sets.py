"""Sets of ids in compiled code: bits, a small hash table, and CPython's own set.

Three kinds of set, for three needs: bits (`new_bits`, `insert`, `contains`) say whether an id is
there; a hash table (`new_table`, `find_slot`) gives every id a slot for a value beside it; a copy
of CPython's set of small integers (`set_from_list` and what follows) has the iteration order of the
reference, which order="reference" of the set operations promises.
"""

import numpy as np

from hf_synpre.tasks.kernels import FIRST_REGULAR, REGULAR_COUNT
from hf_synpre.tasks.rng import kernel

# --- bits -----------------------------------------------------------------------------------------

# A word has 64 bits: the id's upper bits find the word, its lower six the bit.
ONE, SIX, LAST_BIT = np.uint64(1), np.uint64(6), np.uint64(63)


@kernel
def new_bits(p):
    """Return an empty set, uint64[words]: one bit for each id up to the last regular token.

    Without branches, it is five times as fast as hashing.
    """
    return np.zeros((p[FIRST_REGULAR] + p[REGULAR_COUNT] >> 6) + 1, np.uint64)


@kernel
def insert(bits, token):
    """Put an id into the set; return True where it was not there."""
    word, bit = np.uint64(token) >> SIX, ONE << (np.uint64(token) & LAST_BIT)
    before = bits[word]
    bits[word] = before | bit
    return (before & bit) == 0


@kernel
def contains(bits, token):
    """Return whether an id is in the set."""
    return (bits[np.uint64(token) >> SIX] >> (np.uint64(token) & LAST_BIT)) & ONE != 0


@kernel
def add_distinct(x, y, m, bits):
    """Append the ids of x that the set lacks to y[:m] and to the set; return the new m."""
    for token in x:
        y[m] = token
        m += insert(bits, token)  # the next id is written over one that was there
    return m


@kernel
def keep_where(y, m, other, inside, p):
    """Keep of y[:m] only what is in `other` (inside = True) or is not (False); return the new m."""
    bits = new_bits(p)
    for token in other:
        insert(bits, token)
    new_m = 0
    for i in range(m):
        y[new_m] = y[i]
        new_m += contains(bits, y[i]) == inside
    return new_m


# --- a hash table ---------------------------------------------------------------------------------


@kernel
def new_table(n):
    """Return an empty hash table for n ids, int32[slots]: slots hold 1 + an id, 0 where free.

    It is at most a quarter full, so that searches are short.
    """
    slots = 64
    while slots < 4 * n:
        slots *= 2
    return np.zeros(slots, np.int32)


@kernel
def find_slot(table, token):
    """Return the slot where an id is, or the free one where it belongs."""
    last = len(table) - 1
    slot = (np.int64(token) * 2654435769 >> 15) & last  # Knuth's multiplicative hash
    while (table[slot] != 0) & (table[slot] != token + 1):
        slot = (slot + 1) & last
    return slot


# --- CPython's set of small integers: Objects/setobject.c, the same in 3.7 to 3.13 ----------------

# A set is a pair: its table, int32[slots] with FREE in free slots, and the number of ids in it.
FREE = -1
SMALLEST_TABLE = 8  # PySet_MINSIZE
LINEAR_PROBES = 9
LARGE_SET = 50_000  # ids: above, a table grows to twice its ids, below to four times


@kernel
def resized_set(table, more_than):
    """Return the same ids in a table of more slots, a power of two (set_table_resize)."""
    slots = SMALLEST_TABLE
    while slots <= more_than:
        slots *= 2
    larger = np.full(slots, FREE, np.int32)
    for token in table:
        if token >= 0:
            larger[set_slot(larger, token)] = token
    return larger


@kernel
def set_slot(table, token):
    """Return the slot of an id, or the free one where it belongs.

    The search takes runs of up to ten slots, then a perturbed jump. Small integers are their own
    hashes.
    """
    last = len(table) - 1
    i, perturb = np.int64(token) & last, np.int64(token)
    while True:
        end = i + LINEAR_PROBES if i + LINEAR_PROBES <= last else i
        for j in range(i, end + 1):
            if table[j] == token or table[j] == FREE:
                return j
        perturb >>= 5
        i = (i * 5 + 1 + perturb) & last


@kernel
def set_add(table, used, token):
    """Return the set with an id in it; tables three fifths full grow (set_add_entry)."""
    slot = set_slot(table, token)
    if table[slot] == token:
        return table, used
    table[slot] = token
    used += 1
    if used * 5 >= (len(table) - 1) * 3:
        table = resized_set(table, used * 2 if used > LARGE_SET else used * 4)
    return table, used


@kernel
def set_from_list(tokens):
    """Return the set of a list of ids: set(list)."""
    table, used = np.full(SMALLEST_TABLE, FREE, np.int32), np.int64(0)
    for token in tokens:
        table, used = set_add(table, used, token)
    return table, used


@kernel
def merged_set(table, used, other, other_used):
    """Return the union of two sets (set_merge): one resize, then insertion in table order."""
    if other_used == 0:
        return table, used
    if (used + other_used) * 5 >= (len(table) - 1) * 3:
        table = resized_set(table, (used + other_used) * 2)
    if used == 0 and len(table) == len(other):
        return other.copy(), other_used
    for token in other:
        if token >= 0 and used >= 0:
            table, used = set_add(table, used, token)
    return table, used


@kernel
def copied_set(table, used):
    """Return a copy of a set, which may have another order (set_copy)."""
    return merged_set(np.full(SMALLEST_TABLE, FREE, np.int32), np.int64(0), table, used)


@kernel
def filtered_set(table, other, inside):
    """Return a new set of the ids of `table` that are in `other` (inside = True) or are not."""
    result, used = np.full(SMALLEST_TABLE, FREE, np.int32), np.int64(0)
    for token in table:
        if token >= 0 and (other[set_slot(other, token)] == token) == inside:
            result, used = set_add(result, used, token)
    return result, used


@kernel
def write_set(table, y):
    """Write the ids of a table to y in iteration order; return how many."""
    m = 0
    for token in table:
        if token >= 0:
            y[m] = token
            m += 1
    return m


@kernel
def reference_union(left, right, y):
    """Write list(set(left) | set(right)) to y in CPython's order; return how many."""
    left_table, left_used = set_from_list(left)
    right_table, right_used = set_from_list(right)
    table, used = copied_set(left_table, left_used)
    table, used = merged_set(table, used, right_table, right_used)
    return write_set(table, y)


@kernel
def reference_intersection(left, right, y):
    """Write list(set(left) & set(right)) to y in CPython's order; return how many.

    The smaller set is walked, the right one of equals.
    """
    left_table, left_used = set_from_list(left)
    right_table, right_used = set_from_list(right)
    if right_used > left_used:
        table, _ = filtered_set(left_table, right_table, True)
    else:
        table, _ = filtered_set(right_table, left_table, True)
    return write_set(table, y)


@kernel
def reference_difference(left, right, y):
    """Write list(set(left) - set(right)) to y in CPython's order; return how many."""
    left_table, left_used = set_from_list(left)
    right_table, right_used = set_from_list(right)

    # A new set, unless the right one is small beside the left one (set_difference).
    if left_used >> 2 <= right_used:
        table, _ = filtered_set(left_table, right_table, False)
        return write_set(table, y)

    # A copy of the left one, whose table keeps holes where ids were taken out.
    table, _ = copied_set(left_table, left_used)
    m = 0
    for token in table:
        if token >= 0 and right_table[set_slot(right_table, token)] != token:
            y[m] = token
            m += 1
    return m
