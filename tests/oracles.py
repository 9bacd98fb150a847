"""Oracles: every task in plain Python, from the papers' definitions and not from the compiled code.

ORACLES: (body, vocabulary) -> the target; [] where it is empty.
ACCEPTS: (body, target, vocabulary) -> whether the target is right, for tasks with several.
SAMPLES: (random.Random) -> (sequence length, query length, hits), for distributions to compare
with.
"""

import itertools
import re

import sequence_oracles


def halves(body, v):
    """Return what stands before and behind the argument divider."""
    at = body.index(v.special_ids["argument_divider"])
    return body[:at], body[at + 1 :]


def first_seen(ids):
    """Return the distinct ids in order of first appearance."""
    return list(dict.fromkeys(ids))


def number(n, v):
    """Return the ids of a number: its own, else those of its digits."""
    if n < len(v.numbers):
        return list(v.numbers[n])
    return [i for digit in str(n) for i in v.numbers[int(digit)]]


def positions(seq, query):
    """Return where a query occurs in a sequence."""
    return [i for i in range(len(seq)) if seq[i : i + len(query)] == query]


def delete(body, v):
    seq, query = halves(body, v)
    at = positions(seq, query)
    return seq[: at[0]] + seq[at[0] + len(query) :] if at else seq


def sort(body, v):
    seq, order = halves(body, v)
    position = {token: i for i, token in enumerate(order)}
    return sorted(seq, key=position.__getitem__)


def replace(body, v):
    seq, (old, new) = halves(body, v)
    return [new if token == old else token for token in seq]


def longest_word(body, v):
    words = [[]]
    for token in body:
        if token == v.special_ids["word_divider"]:
            words.append([])
        else:
            words[-1].append(token)
    return max(words, key=len)


def search(body, v):
    return [v.special_ids["yes" if positions(*halves(body, v)) else "no"]]


def set_operation(keep):
    """Return the oracle of (left ids, right ids) -> ids."""

    def oracle(body, v):
        a, b = halves(body, v)
        return keep(a, b)

    return oracle


def nested(body, v):
    half, stack = v.regular_count // 2, []
    for token in body:
        if token - v.first_regular < half:
            stack.append(token)
        else:
            assert stack.pop() + half == token
    assert not stack
    return body


ORACLES = {
    "identity": lambda body, v: body,
    "set": lambda body, v: first_seen(body),
    "delete": delete,
    "sort": sort,
    "union": set_operation(lambda a, b: first_seen(a + b)),
    "replace": replace,
    "duplicate": lambda body, v: [token for token in body for _ in "ab"],
    "intersect": set_operation(lambda a, b: [token for token in first_seen(a) if token in b]),
    "reverse": lambda body, v: body[::-1],
    "deduplicate": lambda body, v: [token for token, _ in itertools.groupby(body)],
    "search": search,
    "longest_word": longest_word,
    "length": lambda body, v: number(len(body), v),
    "count": lambda body, v: number(body[:-1].count(body[-1]), v),
    "first_token": lambda body, v: body[:1],
    "last_token": lambda body, v: body[-1:],
    "set1_minus_set2": set_operation(
        lambda a, b: [token for token in first_seen(a) if token not in b]
    ),
    "set2_minus_set1": set_operation(
        lambda a, b: [token for token in first_seen(b) if token not in a]
    ),
    "nesting_language": nested,
    "uniform": lambda body, v: body,
    **sequence_oracles.ORACLES,
}

# The same with CPython's sets: what order="reference" promises.
REFERENCE_ORDER = {
    "union": set_operation(lambda a, b: list(set(a).union(set(b)))),
    "intersect": set_operation(lambda a, b: list(set(a).intersection(set(b)))),
    "set1_minus_set2": set_operation(lambda a, b: list(set(a).difference(set(b)))),
    "set2_minus_set1": set_operation(lambda a, b: list(set(b).difference(set(a)))),
}


def lime_text(ids, v):
    """Return ids as text: names of special tokens, numbers of others."""
    signs = {
        v.special_ids[name]: name
        for name in ("colon", "separator", "upper", "open", "lower", "math", "close")
    }
    return " ".join(signs.get(i, str(i)) for i in ids)


def lime_parts(body, v):
    """Return (uppers, first part shown, second part shown) of a row, as text."""
    match = re.fullmatch(
        "upper ([^a-z]+) lower ([^a-z]+) math ([^a-z]+) separator (.+) separator (.+)",
        lime_text(body, v),
    )
    uppers, lowers, maths = (part.split() for part in match.groups()[:3])
    assert len(set(uppers + lowers + maths)) == len(uppers) + 24 + 20
    return uppers, match[4], match[5]


def lime_result(rule, case):
    """Return the result of a rule under a case, as text."""
    strings = dict(re.findall(r"(\d+) colon open ([\d ]+) close", case))
    return " ".join(strings.get(token, token) for token in rule.split())


def lime_induct(body, target, v):
    _, result, case = lime_parts(body, v)
    return lime_result(lime_text(target, v), case) == result


def lime_deduct(body, target, v):
    _, rule, case = lime_parts(body, v)
    return lime_result(rule, case) == lime_text(target, v)


def lime_abduct(body, target, v):
    uppers, rule, result = lime_parts(body, v)
    case = lime_text(target, v)
    assert re.findall(r"(\d+) colon", case) == uppers
    return lime_result(rule, case) == result


def lime(body, target, v):
    uppers, first, _ = lime_parts(body, v)
    if "colon" in lime_text(target, v):
        return lime_abduct(body, target, v)
    if set(first.split()) & set(uppers):
        return lime_deduct(body, target, v)
    return lime_induct(body, target, v)


def summary_outputs(op, sentences):
    """Every right output, as text, of one operation of nonsense summarisation."""
    key = re.compile(rf"__d{op}__(\w+?)__(?= |$)")
    marked = [s for s in sentences if key.search(s)]
    names = [key.search(s)[1] for s in marked]
    first, name = marked[0], names[0]
    word = f"__d{op}__{name}__"
    if op in (3, 4):
        return [" ".join(marked)]
    if op == 5:
        return [" ".join(order) for order in itertools.permutations(marked)]
    if op == 6:
        return [" ".join(s for _, s in sorted(zip(names, marked, strict=True)))]
    if op == 7:
        inside = re.search("__d7__begin_quote__ (.+) __d7__end_quote__", first)[1]
        return [inside if inside.endswith(".") else inside + " ."]
    if op == 8:
        return [first.removeprefix(word + " ")]
    if op == 10:
        is_positive = name in [f"keyword_{i}" for i in range(5)]
        return [f"the keyword was {'positive' if is_positive else 'negative'} ."]
    if op == 11:
        return [first.replace(word, f"__d11__{name.split('_kw')[0]}__")]
    if op == 12:
        more = 2 if names.count("keyword_2") > names.count("keyword_1") else 1
        return [f"The keyword {more} occurred more number of times ."]
    if op == 13:
        sections = []
        for c in range(3):
            sections.append(f"section __d13__class_{c}__")
            for sentence, keyword in zip(marked, names, strict=True):
                if keyword.startswith(f"class_{c}_"):
                    sections.append(sentence)
        return [" ".join(sections)]
    if op == 14:
        compared = "above or equal to" if int(name) >= 50 else "below"
        return [f"the number was {compared} threshold ."]
    if op == 16:
        return [f"The largest number is {max(map(int, names))} ."]
    if op == 18:
        return [first.replace(word, f"__d18__target_{name.split('_')[1]}_{k}__") for k in range(3)]
    if op == 19:
        joined = ["The combined sentence is"]
        for sentence, joiner in zip(marked, names, strict=True):
            clause_words = sentence.split()
            joined += clause_words[clause_words.index(f"__d19__{joiner}__") : -1]
        return [" ".join([*joined, "."])]
    words = first.split()
    at = [i for i, w in enumerate(words) if key.fullmatch(w)]
    if op == 20:
        return [" ".join([*words[: at[1]], ".", *words[: at[0]], *words[at[1] : -1], "."])]
    assert op == 21
    return [" ".join([*words[: at[0]], "."])]


def summaries(document, operations=3):
    """Every right summary, as text, of a document as text."""
    sentences = re.findall(r"\S.*?(?<= )\.(?: __d7__end_quote__)?(?= |$)", document)
    assert " ".join(sentences) == document
    ops = sorted({int(op) for op in re.findall(r"__d(\d+)__", document)})
    assert len(ops) == operations
    for order in itertools.permutations(ops):
        for outputs in itertools.product(*(summary_outputs(op, sentences) for op in order)):
            yield " ".join(outputs)


ACCEPTS = {
    "lime_induct": lime_induct,
    "lime_deduct": lime_deduct,
    "lime_abduct": lime_abduct,
    "lime": lime,
    **sequence_oracles.ACCEPTS,
}


def hit(rng):
    """Return (sequence length, query length, hits) of a sequence that holds the query."""
    q = rng.randint(1, 73)
    s = rng.randint(2 * q, 219 - q)
    return s, q, rng.randint(1, s // q)


def miss(rng):
    """Return the same of a sequence that does not."""
    if rng.random() < 0.01:
        q = rng.randint(11, 220)
        return rng.randint(0, q - 1), q, 0
    s = rng.randint(10, 220)
    return s, rng.randint(10, s), 0


def sequence_and_query(rng, probability):
    """Return the same of a hit with this probability, else of a miss, of a length that fits."""
    while True:
        s, q, hits = hit(rng) if rng.random() < probability else miss(rng)
        if 10 <= s + 1 + q <= 220:
            return s, q, hits


SAMPLES = {
    "delete": lambda rng: sequence_and_query(rng, 0.75),
    "search": lambda rng: sequence_and_query(rng, 0.5),
}
