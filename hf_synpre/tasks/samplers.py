"""The input distributions of Wu, Li, Liang 2022: random bits come in, bodies go out.

They are described in docs/papers.md, "Simple tasks".

Each sampler is compiled and called as sampler(state, x, y, p) -> (n, -1): it fills x[:n] with the
body of an input, using y as scratch space, and leaves the target to the task's function
(kernels.py). U{a..b} is uniform, both ends included.

Lengths outside min_length..max_length are rejected and drawn again before any token is, which is
the same distribution.

Where a task has the parameter `law`, its second word gives the inputs of Jiang et al. 2026 instead:
independent uniform tokens (docs/papers.md, "Tasks since 2022").
"""

from hf_synpre.tasks.id_sets import insert, new_bits
from hf_synpre.tasks.kernels import (
    ARGUMENT_DIVIDER,
    ARGUMENTS,
    FIRST_REGULAR,
    MAX_LENGTH,
    MIN_LENGTH,
    REGULAR_COUNT,
    WORD_DIVIDER,
)
from hf_synpre.tasks.rng import below, between, copy, fill_between, kernel, shuffle

# The function writes the target, not the sampler.
NO_TARGET = -1

# The choices of the parameter `law`, and the number of the second.
LAWS = ("wu", "uniform")
UNIFORM = 1
# Where compiled code finds the parameters in `p`: of set, sort and delete, and of set operations.
LAW, HIT = ARGUMENTS, ARGUMENTS + 1
LAW_OF_SETS = ARGUMENTS + 1


@kernel
def fill_tokens(state, x, p):
    """Fill x with regular tokens, uniform and independent."""
    fill_between(state, x, p[FIRST_REGULAR], p[FIRST_REGULAR] + p[REGULAR_COUNT] - 1)


@kernel
def fill_distinct(state, x, p):
    """Fill x with different regular tokens: a uniform sample in random order."""
    fill_tokens(state, x, p)
    bits = new_bits(p)
    for i in range(len(x)):
        while not insert(bits, x[i]):
            x[i] = p[FIRST_REGULAR] + below(state, p[REGULAR_COUNT])


@kernel
def fill_choices(state, x, n, k):
    """Fill x[k:n] with uniform choices among x[:k]."""
    fill_between(state, x[k:n], 0, k - 1)
    for i in range(k, n):
        x[i] = x[x[i]]


@kernel
def draw_by_weight(state, cumulative):
    """Return a number 0..n-1 by the weights whose cumulative sums are given, int64[n]."""
    ticket = below(state, cumulative[-1])
    low, high = 0, len(cumulative) - 1
    while low < high:
        middle = (low + high) // 2
        if ticket < cumulative[middle]:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def split(state, total, parts, smallest, sizes, scratch):
    """Split a total at random into parts of at least `smallest`, with a uniform multinomial.

    `scratch` takes the draws, one for each unit that is given out.
    """
    rest = total - parts * smallest
    fill_between(state, scratch[:rest], 0, parts - 1)
    sizes[:parts] = smallest
    for i in range(rest):
        sizes[scratch[i]] += 1


def uniform(state, x, y, p):
    """Draw uniform tokens.

    Length n = U{min..max}; n uniform regular tokens.
    """
    n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
    fill_tokens(state, x[:n], p)
    return n, NO_TARGET


def runs(state, x, y, p):
    """Draw runs of equal tokens.

    Length n = U{min..max}; k = U{1..n} runs, each of an independent uniform token; sizes 1 +
    Multinomial(n - k).
    """
    n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
    k = between(state, 1, n)
    split(state, n, k, 1, y, x)  # y[:k]: the runs' sizes

    # The runs' tokens wait in x[n - k:]: run i ends before n - k + i + 1, so none is overwritten
    # before it is read.
    fill_tokens(state, x[n - k : n], p)
    end = 0
    for run in range(k):
        token, start = x[n - k + run], end
        end += y[run]
        x[start:end] = token
    return n, NO_TARGET


def shuffled_runs(state, x, y, p):
    """Draw the tokens of `runs` in random order, or uniform tokens.

    The sizes of the runs are k tokens followed by n - k uniform choices among them, which is the
    same distribution.
    """
    n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
    if p[LAW] == UNIFORM:
        fill_tokens(state, x[:n], p)
        return n, NO_TARGET
    k = between(state, 1, n)
    fill_tokens(state, x[:k], p)
    fill_choices(state, x, n, k)
    shuffle(state, x[:n], y)
    return n, NO_TARGET


def words(state, x, y, p):
    """Draw words with dividers between them.

    w = U{1..max/2} words; m = U{max(min-(w-1), w)..max-(w-1)} tokens in them; sizes 1 +
    Multinomial(m - w).
    """
    w = between(state, 1, p[MAX_LENGTH] // 2)
    m = between(state, max(p[MIN_LENGTH] - (w - 1), w), p[MAX_LENGTH] - (w - 1))
    split(state, m, w, 1, y, x)  # y[:w]: the words' sizes

    # Tokens everywhere, then a divider behind every word but the last.
    n = m + w - 1
    fill_tokens(state, x[:n], p)
    end = -1
    for word in range(w - 1):
        end += y[word] + 1
        x[end] = p[WORD_DIVIDER]
    return n, NO_TARGET


def sequence_and_one(state, x, y, p):
    """Draw a sequence, the divider and a query token.

    s = U{min-2..max-2} tokens in the sequence: c = U{0..s} copies of the query and s - c uniform
    tokens, shuffled.
    """
    s = between(state, p[MIN_LENGTH] - 2, p[MAX_LENGTH] - 2)
    query = p[FIRST_REGULAR] + below(state, p[REGULAR_COUNT])
    c = between(state, 0, s)
    x[:c] = query
    fill_tokens(state, x[c:s], p)
    shuffle(state, x[:s], y)
    x[s] = p[ARGUMENT_DIVIDER]
    x[s + 1] = query
    return s + 2, NO_TARGET


def sequence_and_order(state, x, y, p):
    """Draw a sequence, the divider and an order of its tokens; or uniform tokens alone.

    o = U{min/2..(max-1)/2} uniform tokens are the order; s = U{o..max-1-o} tokens of the sequence
    come from the order, o of them and s - o copies of those, shuffled.
    """
    if p[LAW] == UNIFORM:
        n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
        fill_tokens(state, x[:n], p)
        return n, NO_TARGET
    o = s = 0
    while s + 1 + o < p[MIN_LENGTH]:
        o = between(state, max(p[MIN_LENGTH] // 2, 1), (p[MAX_LENGTH] - 1) // 2)
        s = between(state, o, p[MAX_LENGTH] - 1 - o)
    order = x[s + 1 : s + 1 + o]
    fill_tokens(state, order, p)

    # o choices from the order, s - o choices among these.
    fill_between(state, x[:o], 0, o - 1)
    for i in range(o):
        x[i] = order[x[i]]
    fill_choices(state, x, s, o)
    shuffle(state, x[:s], y)
    x[s] = p[ARGUMENT_DIVIDER]
    return s + 1 + o, NO_TARGET


def sequence_and_pair(state, x, y, p):
    """Draw a sequence, the divider, a token to replace and its replacement.

    s = U{min-3..max-3} uniform tokens; the first of the pair is uniform among their distinct ones,
    the second uniform.
    """
    s = between(state, p[MIN_LENGTH] - 3, p[MAX_LENGTH] - 3)
    fill_tokens(state, x[:s], p)
    i = below(state, s)
    while is_repeated(x, i):
        i = below(state, s)
    x[s] = p[ARGUMENT_DIVIDER]
    x[s + 1] = x[i]
    x[s + 2] = p[FIRST_REGULAR] + below(state, p[REGULAR_COUNT])
    return s + 3, NO_TARGET


@kernel
def is_repeated(x, i):
    """Return whether x[i] is in x[:i].

    Uniform positions where it is not are uniform distinct tokens.
    """
    for j in range(i):  # noqa: SIM110 - compiled code
        if x[j] == x[i]:
            return True
    return False


def two_sequences(state, x, y, p):
    """Draw two sequences with a divider between them, their tokens from one small pool.

    t = U{min-1..max-1} tokens in both, n1 = U{0..t} in the first; a pool of t/2 different tokens;
    uniform choices from it. By the second law n1 = t/2, and the tokens are uniform.
    """
    t = between(state, p[MIN_LENGTH] - 1, p[MAX_LENGTH] - 1)
    if p[LAW_OF_SETS] == UNIFORM:
        fill_tokens(state, x[: t + 1], p)
        x[t // 2] = p[ARGUMENT_DIVIDER]
        return t + 1, NO_TARGET
    n1 = between(state, 0, t)
    pool = y[: t // 2]
    fill_distinct(state, pool, p)

    # Numbers of the pool become its tokens; those of the second sequence move by one for the
    # divider.
    fill_between(state, x[:t], 0, len(pool) - 1)
    for i in range(t, n1, -1):
        x[i] = pool[x[i - 1]]
    for i in range(n1):
        x[i] = pool[x[i]]
    x[n1] = p[ARGUMENT_DIVIDER]
    return t + 1, NO_TARGET


def sequence_and_deleted(state, x, y, p):
    """Draw a sequence, the divider and a query, or one token, for `delete`."""
    if p[LAW] == UNIFORM:
        return sequence_and_token(state, x, p), NO_TARGET
    return sequence_and_query(state, x, y, p, p[HIT]), NO_TARGET


def sequence_and_searched(state, x, y, p):
    """Draw a sequence, the divider and a query: a hit with probability 0.5, else a miss."""
    return sequence_and_query(state, x, y, p, 50), NO_TARGET


@kernel
def sequence_and_token(state, x, p):
    """Draw a sequence, the divider and a token; return the length of the body.

    s = U{min-2..max-2} tokens in the sequence. All sequences that hold the token are equally
    likely, and together as likely as p[HIT] says; all that lack it are equally likely too.
    """
    s = between(state, p[MIN_LENGTH] - 2, p[MAX_LENGTH] - 2)
    count = p[REGULAR_COUNT]
    token = below(state, count)
    first = s
    if below(state, 100) < p[HIT]:
        first = first_occurrence(state, s, count)

    # Other tokens stand before the first occurrence, any tokens behind it.
    fill_between(state, x[:first], 0, count - 2)
    fill_between(state, x[first:s], 0, count - 1)
    for i in range(first):
        x[i] += x[i] >= token
    if first < s:
        x[first] = token
    for i in range(s):
        x[i] += p[FIRST_REGULAR]
    x[s] = p[ARGUMENT_DIVIDER]
    x[s + 1] = p[FIRST_REGULAR] + token
    return s + 2


@kernel
def first_occurrence(state, s, count):
    """Draw where a token stands first among s uniform tokens of `count`, given that it does.

    The probability of position i is in proportion to (1 - 1 / count) ** i.
    """
    others = 1.0 - 1.0 / count
    none = 1.0
    for _ in range(s):
        none *= others
    ticket = below(state, 2**31) / 2**31 * (1.0 - none)

    position, none = 0, others
    while 1.0 - none <= ticket and position < s - 1:
        none *= others
        position += 1
    return position


@kernel
def sequence_and_query(state, x, y, p, hit):
    """Draw hits (`hit` of 100) or misses until the body fits; return its length."""
    s = q = 0
    done = False
    while not done:
        is_hit = below(state, 100) < hit
        if is_hit:
            s, q = hit_lengths(state, p[MAX_LENGTH])
        else:
            s, q = miss_lengths(state, p[MIN_LENGTH], p[MAX_LENGTH])
        if s + 1 + q < p[MIN_LENGTH] or s + 1 + q > p[MAX_LENGTH]:
            continue

        sequence = x[:s]
        query = x[s + 1 : s + 1 + q]
        if is_hit:
            done = fill_hit(state, sequence, query, y, p)
        else:
            done = fill_miss(state, sequence, query, p)
    x[s] = p[ARGUMENT_DIVIDER]
    return s + 1 + q


@kernel
def hit_lengths(state, longest):
    """Draw the lengths of a hit; return (s, q).

    Query q = U{1..(max-1)/3}, sequence s = U{2q..max-1-q}.
    """
    q = between(state, 1, (longest - 1) // 3)
    return between(state, 2 * q, longest - 1 - q), q


@kernel
def miss_lengths(state, shortest, longest):
    """Draw the lengths of a miss; return (s, q).

    In one of 100 the query is longer: q = U{min+1..max}, s = U{0..q-1}; else s = U{min..max}, q =
    U{min..s}.
    """
    if below(state, 100) == 0:
        q = between(state, shortest + 1, longest)
        return below(state, q), q
    s = between(state, shortest, longest)
    return s, between(state, shortest, s)


@kernel
def fill_hit(state, x, query, y, p):
    """Fill x with m = U{1..s/q} copies of a uniform query in s - mq uniform tokens; return True.

    The uniform tokens are split by Multinomial into the m + 1 gaps (zeros allowed), whose sizes are
    drawn to y.
    """
    s, q = len(x), len(query)
    fill_tokens(state, query, p)
    m = between(state, 1, s // q)
    split(state, s - m * q, m + 1, 0, y, x)
    fill_tokens(state, x, p)
    end = 0
    for gap in range(m):
        end += y[gap] + q
        copy(query, x[end - q : end])
    return True


@kernel
def fill_miss(state, x, query, p):
    """Fill x and the query with uniform tokens until the query is not in x; return True.

    False after 100 times, which happens in small vocabularies with short queries.
    """
    for _ in range(100):
        fill_tokens(state, query, p)
        fill_tokens(state, x, p)
        if find(x, query) < 0:
            return True
    return False


@kernel
def find(x, query):
    """Return the index of the first occurrence of `query` in x, -1 where there is none."""
    q = len(query)
    for start in range(len(x) - q + 1):
        n = 0
        while n < q and x[start + n] == query[n]:
            n += 1
        if n == q:
            return start
    return -1
