"""Audits of rows: faults that were planted are named, clean rows have none, figures are right.

Run: pytest tests/audit/test_row_audits.py
"""

import itertools
import json
import math
import random
import zlib
from collections import Counter

import pytest

from hf_synpre import UsageError, get_task
from hf_synpre.audit import audit_rows
from hf_synpre.cli import main

SIZES = {"train": 400, "validation": 100}


def token_row(source):
    """Return a row whose answer is its input in reverse."""
    ids = [source.randrange(10, 60) for _ in range(12)]
    return {"input_ids": ids, "labels": ids[::-1]}


def text_row(source):
    """Return a row of text with the number of its first letter."""
    words = [
        "".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randrange(3, 9)))
        for _ in range(6)
    ]
    return {"question": " ".join(words), "answer": f"the word {words[0]} has {len(words[0])}"}


@pytest.fixture(params=[token_row, text_row], ids=["tokens", "text"])
def splits(request):
    """Rows without a fault."""
    source = random.Random(0)
    return {name: [request.param(source) for _ in range(size)] for name, size in SIZES.items()}


def write(folder, splits):
    folder.mkdir(exist_ok=True)
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder)


def columns(rows):
    """Return the names of input and answer."""
    return list(rows[0])


def remarks(report):
    return {remark["name"]: remark["text"] for remark in report["remarks"]}


def test_clean_rows_have_no_remark(tmp_path, splits):
    report = audit_rows(write(tmp_path / "rows", splits))
    assert report["remarks"] == []
    assert {name: split["distinct_rows"] for name, split in report["splits"].items()} == SIZES
    (overlap,) = report["overlaps"]
    assert overlap == {
        "rows_of": "validation",
        "within": "train",
        "rows": 100,
        "shared": 0,
    }


def repeat(splits):
    splits["train"][300:] = splits["train"][:100]


def leak(splits):
    splits["validation"][:15] = splits["train"][20:35]


def copy_answers(splits):
    source, target = columns(splits["train"])
    for row in splits["train"][:80]:
        row[target] = row[source]


def empty_answers(splits):
    _, target = columns(splits["train"])
    for row in splits["train"][:20]:
        row[target] = row[target][:0]


def same_answers(splits):
    _, target = columns(splits["train"])
    for row in splits["train"][:240]:
        row[target] = splits["train"][0][target]


def contradict(splits):
    source, _ = columns(splits["train"])
    for row, other in zip(splits["train"][:30], splits["train"][30:60], strict=True):
        row[source] = other[source]


PLANTED = {
    "repeats": (repeat, "100 of the 400 rows of train are repeats: 300 are distinct."),
    "leak": (leak, "15 of the 100 rows of validation (15.0 %) also stand in train"),
    "copies": (copy_answers, "In 20.0 % of the rows of train the answer is a copy of the input"),
    "empty": (empty_answers, "In 5.0 % of the rows of train the answer is empty"),
    "same answer": (same_answers, "One answer is that of 60.0 % of the rows of train"),
    "contradictions": (contradict, "60 rows of train have an input that also stands there with"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_named_and_nothing_else(name, tmp_path, splits):
    plant, text = PLANTED[name]
    plant(splits)
    named = remarks(audit_rows(write(tmp_path / "rows", splits)))
    assert set(named) == {name}
    assert named[name].startswith(text)


def test_noise_is_named(tmp_path):
    source = random.Random(0)
    noise = [{"input_ids": [source.randrange(50) for _ in range(64)]} for _ in range(100)]
    assert set(remarks(audit_rows(write(tmp_path / "noise", {"train": noise})))) == {"noise"}
    cycles = [{"input_ids": [(k * row) % 50 for k in range(64)]} for row in range(1, 50)]
    assert remarks(audit_rows(write(tmp_path / "cycles", {"train": cycles}))) == {}


# --- figures --------------------------------------------------------------------------------------


def entropy(counts):
    """Return the entropy of counts in nats, with Miller and Madow's correction."""
    total = sum(counts.values())
    plain = -sum(n / total * math.log(n / total) for n in counts.values())
    return plain + (len(counts) - 1) / (2 * total)


def test_figures_of_a_part_are_those_of_plain_python(tmp_path):
    source = random.Random(1)
    rows = []
    for _ in range(200):
        ids = [7]
        for _ in range(source.randrange(20, 40)):
            ids.append(source.choice([ids[-1] + 1, 7]) if ids[-1] < 20 else 7)
        rows.append({"input_ids": ids})
    report = audit_rows(write(tmp_path / "rows", {"train": rows}))
    part = report["splits"]["train"]["parts"]["sequences"]

    lists = [row["input_ids"] for row in rows]
    tokens = [token for ids in lists for token in ids]
    assert part["tokens"] == len(tokens)
    assert (part["shortest"], part["longest"]) == (min(map(len, lists)), max(map(len, lists)))
    assert part["mean_length"] == pytest.approx(len(tokens) / 200, rel=1e-5)
    assert part["alphabet"] == len(set(tokens))
    assert part["unigram_entropy"] == pytest.approx(entropy(Counter(tokens)), rel=1e-5)
    pairs = Counter(pair for ids in lists for pair in itertools.pairwise(ids))
    firsts = Counter(first for ids in lists for first in ids[:-1])
    assert part["bigram_entropy"] == pytest.approx(entropy(pairs) - entropy(firsts), rel=1e-5)
    ranks = {token: rank for rank, token in enumerate(sorted(set(tokens)))}
    packed = bytes(ranks[token] for token in tokens)
    assert part["compressed"] == pytest.approx(
        len(zlib.compress(packed, 9)) / len(packed), rel=1e-5
    )
    assert part["compressed"] < part["compressed_noise"] < 0.6


def test_entropies_of_few_tokens_are_not_given(tmp_path):
    rows = [{"input_ids": list(range(row, row + 50))} for row in range(20)]
    part = audit_rows(write(tmp_path / "rows", {"train": rows}))["splits"]["train"]["parts"]
    assert part["sequences"]["unigram_entropy"] is not None
    assert part["sequences"]["bigram_entropy"] is not None
    rows = [{"input_ids": list(range(50 * row, 50 * row + 50))} for row in range(20)]
    part = audit_rows(write(tmp_path / "wide", {"train": rows}))["splits"]["train"]["parts"]
    assert part["sequences"]["unigram_entropy"] is None
    assert part["sequences"]["bigram_entropy"] is None


def test_the_entropy_of_a_law_is_its_bayes_loss():
    """Of independent tokens the entropy of one is the lowest loss; of rings it is far above."""
    report = audit_rows("zipf", rows=2000, vocabulary=64)
    part = report["splits"]["train"]["parts"]["sequences"]
    assert part["unigram_entropy"] == pytest.approx(report["bayes_loss"]["value"], rel=0.01)
    assert part["bigram_entropy"] == pytest.approx(part["unigram_entropy"], rel=0.02)


# --- what is audited ------------------------------------------------------------------------------


def test_a_task_of_ours_leaks_nothing(tmp_path):
    report = audit_rows("reverse", rows=1000, vocabulary=128, seed=3, parameters={"min_length": 8})
    assert report["kind"] == "task"
    assert report["read"]["seed"] == 3
    assert report["read"]["parameters"]["min_length"] == 8
    assert [(o["rows_of"], o["within"], o["rows"], o["shared"]) for o in report["overlaps"]] == [
        ("validation", "train", 100, 0),
        ("test", "train", 100, 0),
        ("test", "validation", 100, 0),
        ("train of seed 4", "train", 100, 0),
        ("train of seed 4", "validation", 100, 0),
        ("train of seed 4", "test", 100, 0),
    ]
    assert report["splits"]["train"]["distinct_rows"] == 1000
    assert report["bayes_loss"] == {"value": 0.0, "standard_error": 0.0}
    assert report["remarks"] == []


def test_identity_is_said_to_copy_and_mixtures_are_read():
    assert set(remarks(audit_rows("identity", rows=200))) == {"copies"}
    named = remarks(audit_rows("identity:1,reverse:1", rows=400))
    assert set(named) == {"copies"}
    assert named["copies"].startswith("In 5")


def test_a_language_has_no_answers():
    split = audit_rows("k_dyck", rows=20)["splits"]["train"]
    assert list(split["parts"]) == ["sequences"]
    assert split["with_answer"] == split["copied"] == split["contradicted"] == 0


def test_noise_is_named_of_a_task_by_its_law_too():
    """zlib sees nothing in brackets that cross; their lowest loss is known to be far below ln V."""
    assert set(remarks(audit_rows("uniform", rows=200, vocabulary=64))) == {"noise"}
    report = audit_rows("k_shuffle_dyck", rows=20)
    part = report["splits"]["train"]["parts"]["sequences"]
    assert part["compressed"] > 0.98 * part["compressed_noise"]
    assert report["remarks"] == []


def test_rows_for_a_decoder_are_read_by_their_labels(tmp_path):
    rows = [
        {"input_ids": [*range(n, n + 8), 1, 2], "labels": [-100] * 8 + [1, 2]} for n in range(50)
    ]
    split = audit_rows(write(tmp_path / "rows", {"train": rows}))["splits"]["train"]
    assert list(split["parts"]) == ["sequences"]
    assert (split["with_answer"], split["commonest"]) == (50, 50)


def test_columns_may_be_named(tmp_path):
    rows = [{"a": f"x{n} y{n}", "b": f"z{n} w{n}", "c": f"q{n} r{n}"} for n in range(40)]
    folder = write(tmp_path / "rows", {"train": rows})
    report = audit_rows(folder, source=["c"], target=["a"])
    assert report["read"] == {"inputs": ["c"], "answers": ["a"]}
    assert list(report["splits"]["train"]["parts"]) == ["inputs", "answers"]


def test_the_rest_of_a_split_is_said_not_to_be_read(tmp_path, splits):
    report = audit_rows(write(tmp_path / "rows", splits), rows=150)
    assert report["splits"]["train"]["rows"] == 150
    assert report["splits"]["train"]["all_rows"] == 400
    (unread,) = report["remarks"]
    assert unread["name"] == "unread"
    assert unread["text"].startswith("Only the first 150 of the 400 rows of train were read")


REFUSED = {
    "no-such-task": "Unknown task 'no-such-task'.",
    "./missing": "There is no file or folder ./missing.",
}


@pytest.mark.parametrize("source", REFUSED)
def test_what_is_neither_a_task_nor_rows_is_refused(source):
    with pytest.raises(UsageError) as refusal:
        audit_rows(source)
    assert str(refusal.value).startswith(REFUSED[source])


def test_options_that_do_not_fit_the_source_are_refused(tmp_path, splits):
    folder = write(tmp_path / "rows", splits)
    with pytest.raises(
        UsageError, match=r"vocabulary was given for .*, and belongs to a synthetic task; leave"
    ):
        audit_rows(folder, vocabulary=64)
    with pytest.raises(
        UsageError, match="source was given for set, and belongs to a dataset; leave it out"
    ):
        audit_rows("set", source=["a"])
    with pytest.raises(UsageError, match=r"rows is 0; give an integer >= 1."):
        audit_rows("set", rows=0)
    with pytest.raises(UsageError, match=r"Unknown column of .* 'input'"):
        audit_rows(folder, source=["input"])


def test_columns_of_other_kinds_are_refused(tmp_path):
    rows = [{"a": [1, n], "b": [2, n], "c": f"word {n}"} for n in range(20)]
    folder = write(tmp_path / "rows", {"train": rows})
    with pytest.raises(UsageError, match="a, b were given as columns; of token ids give one"):
        audit_rows(folder, source=["a", "b"])
    with pytest.raises(UsageError, match="the column c holds string, and no integer in some place"):
        audit_rows(folder, source=["a"], target=["c"])
    with pytest.raises(
        UsageError, match=r"which are meant is not clear\. Give those of the inputs"
    ):
        audit_rows(write(tmp_path / "numbers", {"train": [{"n": 0.5}, {"n": 1.5}]}))


def test_rows_that_are_missing_are_empty(tmp_path):
    rows = [{"input_ids": [5, 6, n], "labels": [n] if n % 2 else None} for n in range(40)]
    report = audit_rows(write(tmp_path / "rows", {"train": rows}))
    assert report["splits"]["train"]["empty"] == 20
    assert set(remarks(report)) == {"empty", "same answer"}


TASK = '''
from hf_synpre.tasks import register_task, samplers

@register_task(samplers.uniform, paper="mine", named=False)
def audited_constant(x, y, p):
    """Return the same.

    input   a b
    target  c
    """
    y[0] = p[0]
    return 1
'''


def test_a_task_of_a_file_is_audited(tmp_path, capsys, forgotten_tasks):
    (tmp_path / "mine.py").write_text(TASK)
    words = ["audit", "audited_constant", "--import", str(tmp_path / "mine.py"), "--rows", "100"]
    assert main([*words, "--output_dir", str(tmp_path / "page")]) == 0
    assert "One answer is that of 100.0 % of the rows of train" in capsys.readouterr().out


def test_the_verb_writes_the_page_and_prints_what_is_wrong(tmp_path, splits, capsys):
    leak(splits)
    folder, output = write(tmp_path / "rows", splits), tmp_path / "audit"
    words = ["audit", folder, "--output_dir", str(output)]
    assert main(words) == 0
    assert (
        "15 of the 100 rows of validation (15.0 %) also stand in train" in capsys.readouterr().out
    )
    written = {file.name: file.read_bytes() for file in output.iterdir()}
    assert set(written) == {"audit.json", "audit.md", "audit.html", "rows.png", "rows.svg"}
    assert b"data:image/svg+xml" in written["audit.html"]
    assert main(words) == 0
    assert written == {file.name: file.read_bytes() for file in output.iterdir()}
    assert get_task("set")  # the registry is untouched by an audit of a folder


def test_the_verb_refuses_options_without_rows(capsys):
    assert main(["audit", "--rows", "5"]) == 2
    assert "--rows was given without rows to audit" in capsys.readouterr().err
