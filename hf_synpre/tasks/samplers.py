"""Layer 1: the input laws of Wu, Li, Liang 2022 (spec, section 2.1), each once; U{a..b} is uniform, both ends included.

Lengths outside min_length..max_length are rejected and drawn again before any id is, which is the same law.
"""

from hf_synpre.tasks.id_sets import insert, new_bits
from hf_synpre.tasks.kernels import (
    ARGUMENT_DIVIDER,
    FIRST_REGULAR,
    MAX_LENGTH,
    MIN_LENGTH,
    REGULAR_COUNT,
    WORD_DIVIDER,
)
from hf_synpre.tasks.rng import below, between, copy, fill_between, kernel, shuffle


@kernel
def fill_content(state, x, p):
    """Fill x with content ids, uniform and independent."""
    fill_between(state, x, p[FIRST_REGULAR], p[FIRST_REGULAR] + p[REGULAR_COUNT] - 1)


@kernel
def fill_distinct(state, x, p):
    """Fill x with different content ids: a uniform sample without replacement, in random order."""
    fill_content(state, x, p)
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
def split(state, total, parts, smallest, sizes, scratch):
    """sizes[:parts] = smallest + Multinomial(total - parts * smallest, uniform); scratch holds the draws."""
    rest = total - parts * smallest
    fill_between(state, scratch[:rest], 0, parts - 1)
    sizes[:parts] = smallest
    for i in range(rest):
        sizes[scratch[i]] += 1


def uniform(state, x, y, p):
    """n = U{min..max}; n uniform content ids."""
    n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
    fill_content(state, x[:n], p)
    return n, -1


def runs(state, x, y, p):
    """RUNS: n = U{min..max}; k = U{1..n} parts, each an independent uniform id; part sizes 1 + Multinomial(n - k)."""
    n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
    k = between(state, 1, n)
    split(state, n, k, 1, y, x)
    fill_content(state, x[n - k : n], p)
    end = 0
    for part in range(k):
        token, start = x[n - k + part], end
        end += y[part]
        x[start:end] = token
    return n, -1


def shuffled_runs(state, x, y, p):
    """RUNS, shuffled: then the parts' sizes are k tokens followed by n - k uniform choices among them."""
    n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
    k = between(state, 1, n)
    fill_content(state, x[:k], p)
    fill_choices(state, x, n, k)
    shuffle(state, x[:n], y)
    return n, -1


def words(state, x, y, p):
    """w = U{1..max/2} words; m = U{max(min-(w-1), w)..max-(w-1)} ids in them; sizes 1 + Multinomial; dividers between."""
    w = between(state, 1, p[MAX_LENGTH] // 2)
    m = between(state, max(p[MIN_LENGTH] - (w - 1), w), p[MAX_LENGTH] - (w - 1))
    split(state, m, w, 1, y, x)
    n = m + w - 1
    fill_content(state, x[:n], p)
    end = -1
    for word in range(w - 1):
        end += y[word] + 1
        x[end] = p[WORD_DIVIDER]
    return n, -1


def sequence_and_one(state, x, y, p):
    """s = U{min-2..max-2}; a query id; c = U{0..s} copies of it and s-c uniform ids, shuffled; divider, query."""
    s = between(state, p[MIN_LENGTH] - 2, p[MAX_LENGTH] - 2)
    query = p[FIRST_REGULAR] + below(state, p[REGULAR_COUNT])
    c = between(state, 0, s)
    x[:c] = query
    fill_content(state, x[c:s], p)
    shuffle(state, x[:s], y)
    x[s], x[s + 1] = p[ARGUMENT_DIVIDER], query
    return s + 2, -1


def sequence_and_order(state, x, y, p):
    """o = U{min/2..(max-1)/2} uniform ids are the order; s = U{o..max-1-o} ids in o parts drawn from it, shuffled."""
    o = s = 0
    while not p[MIN_LENGTH] <= s + 1 + o:
        o = between(state, max(p[MIN_LENGTH] // 2, 1), (p[MAX_LENGTH] - 1) // 2)
        s = between(state, o, p[MAX_LENGTH] - 1 - o)
    order = x[s + 1 : s + 1 + o]
    fill_content(state, order, p)
    fill_between(state, x[:o], 0, o - 1)
    for i in range(o):
        x[i] = order[x[i]]
    fill_choices(state, x, s, o)
    shuffle(state, x[:s], y)
    x[s] = p[ARGUMENT_DIVIDER]
    return s + 1 + o, -1


def sequence_and_pair(state, x, y, p):
    """s = U{min-3..max-3} uniform ids; k uniform among the distinct ones, v uniform; sequence, divider, k, v."""
    s = between(state, p[MIN_LENGTH] - 3, p[MAX_LENGTH] - 3)
    fill_content(state, x[:s], p)
    i = below(state, s)
    while repeated(x, i):
        i = below(state, s)
    x[s], x[s + 1] = p[ARGUMENT_DIVIDER], x[i]
    x[s + 2] = p[FIRST_REGULAR] + below(state, p[REGULAR_COUNT])
    return s + 3, -1


@kernel
def repeated(x, i):
    """Is x[i] in x[:i]? Uniform places where it is not are uniform distinct ids."""
    for j in range(i):  # noqa: SIM110 - compiled code
        if x[j] == x[i]:
            return True
    return False


def two_sequences(state, x, y, p):
    """t = U{min-1..max-1}; n1 = U{0..t}; a pool of t/2 different ids; n1 and t-n1 uniform choices from the pool."""
    t = between(state, p[MIN_LENGTH] - 1, p[MAX_LENGTH] - 1)
    n1 = between(state, 0, t)
    pool = y[: t // 2]
    fill_distinct(state, pool, p)
    fill_between(state, x[:t], 0, len(pool) - 1)
    for i in range(t, n1, -1):
        x[i] = pool[x[i - 1]]
    for i in range(n1):
        x[i] = pool[x[i]]
    x[n1] = p[ARGUMENT_DIVIDER]
    return t + 1, -1


def query_in_three_quarters(state, x, y, p):
    """HIT with probability 0.75, else MISS."""
    return sequence_and_query(state, x, y, p, 3), -1


def query_in_half(state, x, y, p):
    """HIT with probability 0.5, else MISS."""
    return sequence_and_query(state, x, y, p, 2), -1


@kernel
def sequence_and_query(state, x, y, p, quarters):
    """Draw HIT (quarters in four) or MISS until the body fits; return its length."""
    s = q = 0
    done = False
    while not done:
        hit = below(state, 4) < quarters
        s, q = (
            hit_lengths(state, p[MAX_LENGTH])
            if hit
            else miss_lengths(state, p[MIN_LENGTH], p[MAX_LENGTH])
        )
        if p[MIN_LENGTH] <= s + 1 + q <= p[MAX_LENGTH]:
            seq, query = x[:s], x[s + 1 : s + 1 + q]
            done = fill_hit(state, seq, query, y, p) if hit else fill_miss(state, seq, query, p)
    x[s] = p[ARGUMENT_DIVIDER]
    return s + 1 + q


@kernel
def hit_lengths(state, longest):
    """HIT: query length q = U{1..(max-1)/3}, sequence length s = U{2q..max-1-q}."""
    q = between(state, 1, (longest - 1) // 3)
    return between(state, 2 * q, longest - 1 - q), q


@kernel
def miss_lengths(state, shortest, longest):
    """MISS: in one of 100 q = U{min+1..max}, s = U{0..q-1}; else s = U{min..max}, q = U{min..s}."""
    if below(state, 100) == 0:
        q = between(state, shortest + 1, longest)
        return below(state, q), q
    s = between(state, shortest, longest)
    return s, between(state, shortest, s)


@kernel
def fill_hit(state, x, query, y, p):
    """HIT: m = U{1..s/q} queries in s - mq uniform ids, split by Multinomial into the m + 1 gaps (zeros allowed)."""
    s, q = len(x), len(query)
    fill_content(state, query, p)
    m = between(state, 1, s // q)
    split(state, s - m * q, m + 1, 0, y, x)
    fill_content(state, x, p)
    end = 0
    for gap in range(m):
        end += y[gap] + q
        copy(query, x[end - q : end])
    return True


@kernel
def fill_miss(state, x, query, p):
    """MISS: uniform ids, drawn again while the query is in x; False after 100 times (small vocabularies, short queries)."""
    for _ in range(100):
        fill_content(state, query, p)
        fill_content(state, x, p)
        if find(x, query) < 0:
            return True
    return False


@kernel
def find(x, query):
    """Return the place of the first occurrence of `query` in x, -1 where there is none."""
    q = len(query)
    for start in range(len(x) - q + 1):
        n = 0
        while n < q and x[start + n] == query[n]:
            n += 1
        if n == q:
            return start
    return -1
