"""Audits of published laws: figures equal small computations that are written another way.

Run: pytest tests/audit/test_law_audits.py
"""

import json
import math
import random

import numpy as np
import pytest

from hf_synpre.audit import audit_laws, audit_rows, findings, laws
from hf_synpre.cli import main


def figures(finding):
    return {figure["what"]: figure for figure in finding["figures"]}


def brackets_match(sentence):
    """Say whether the brackets of structure are balanced, and links close what was opened."""
    depth, opened = 0, set()
    for word in sentence:
        depth += (word == "[") - (word == "]")
        if word.startswith("<"):
            opened.add(word[1])
        elif word.endswith(">") and word[0] not in opened:
            return False
        if depth < 0:
            return False
    return depth == 0


def test_mp_struct_has_24_and_30_sentences_of_the_stated_entropy():
    core, full = laws.core_sentences(), laws.full_sentences()
    assert (len(core), len(full)) == (24, 30)
    assert {len(sentence) for sentence in core} == {37, 41}
    assert sum(core.values()) == pytest.approx(1)
    assert sum(full.values()) == pytest.approx(1)
    assert set(core.values()) == {1 / 24}
    assert all(map(brackets_match, [*core, *full]))

    made = figures(findings.mp_struct())
    loss = made["entropy of a token of the core's sentences"]
    assert loss["value"] == pytest.approx(math.log(24) / 39)
    bits = -sum(share * math.log2(share) for share in full.values())
    assert bits == pytest.approx(4.16, abs=0.005)
    assert loss["standard_error"] is None


def test_the_sentences_of_mp_struct_are_those_of_coins_that_are_thrown():
    """Shares of the full grammar by throwing its five coins, 20,000 times."""
    source = random.Random(0)
    counts = {"moved subject": 0, "moved object": 0}
    for _ in range(20_000):
        subject_asks, object_asks, asks = (source.random() < 0.2 for _ in range(3))
        counts["moved object"] += asks and object_asks
        counts["moved subject"] += asks and subject_asks and not object_asks
    full = laws.full_sentences()
    moved = sum(share for sentence, share in full.items() if "MOV" in sentence)
    assert moved == pytest.approx(sum(counts.values()) / 20_000, abs=0.006)
    # A moved subject is pronounced twice, as it is also in the specifier of TP.
    nouns = {sum(word.startswith("DP") for word in sentence) for sentence in full}
    assert nouns == {2, 3}


@pytest.mark.parametrize(
    ("grammar", "law"), [("core", laws.core_sentences), ("full", laws.full_sentences)]
)
def test_the_task_of_these_sentences_has_as_many_and_is_said_to_have_few(grammar, law):
    """Two programs, written apart from each other, agree on the number and on the lowest loss."""
    audit = audit_rows("mp_struct", rows=4000, parameters={"grammar": grammar})
    assert audit["splits"]["train"]["distinct_rows"] == len(law())
    assert audit["bayes_loss"]["value"] == pytest.approx(laws.sentence_entropy(law())[1], rel=0.01)
    (remark,) = audit["remarks"]
    assert remark["name"] == "few"
    assert f"{len(law())} among the first 4,000" in remark["text"]


def test_distinct_sentences_of_many_draws():
    core = laws.core_sentences()
    draws = np.array([1, 24, 1000])
    expected = [24 * (1 - (23 / 24) ** n) for n in draws]
    assert laws.distinct_of(core, draws) == pytest.approx(expected)


def test_open_brackets_are_those_of_a_plain_walk():
    source = random.Random(0)
    counts = np.zeros(9)
    for _ in range(4000):
        depth = 0
        for _ in range(64):
            opens = depth == 0 or (depth < 8 and source.random() < 0.5)
            depth += 1 if opens else -1
        counts[depth] += 1
    shares = laws.open_brackets(64, 0.5, 8)
    assert shares.sum() == pytest.approx(1)
    assert shares == pytest.approx(counts / 4000, abs=0.03)
    # In the long run 0 and 8 are half as frequent as 2, 4 and 6: a mean of 4.
    assert laws.open_brackets(2048, 0.5, 8) @ np.arange(9) == pytest.approx(4)
    assert laws.open_brackets(2048, 0.5, 16) @ np.arange(17) == pytest.approx(8)


def test_the_same_brackets_stay_open_in_rows_of_ours_that_are_cut():
    from hf_synpre import generate

    rows = generate("k_shuffle_dyck", 0, 300, truncated="yes", vocabulary=200)
    ids = np.array(rows["input_ids"].to_pylist())
    first = ids.min()
    still_open = (ids < first + 64).sum(axis=1) - (ids >= first + 64).sum(axis=1)
    assert still_open.mean() == pytest.approx(4, abs=4 * still_open.std() / 300**0.5)


def test_filler_is_a_key_as_often_as_counted():
    source = np.random.default_rng(0)
    filler = source.integers(256, size=(4000, 64 - 3 * 8))
    share = (filler < 8).any(axis=1).mean()
    assert laws.repeated_key_share(64, 8, vocabulary=256) == pytest.approx(share, abs=0.03)


def test_noise_has_the_stated_gzip_ratios():
    for states, ratio in ((10, 0.669), (8, 0.62), (4, 0.43), (2, 0.245)):
        assert laws.noise_ratios(states, 40).mean() == pytest.approx(ratio, abs=0.006)


# --- the linear RNN, with few ids -----------------------------------------------------------------


@pytest.fixture
def few_ids(monkeypatch):
    """Linear RNNs as released, but for a vocabulary of 500 ids."""
    monkeypatch.setattr(laws, "VOCABULARY", 500)


def test_the_estimate_of_the_radius_is_right_for_real_eigenvalues_alone(few_ids):
    for number in range(12):
        recurrent = laws.corpus_model(number).recurrent
        values = np.linalg.eigvals(recurrent)
        largest = values[np.abs(values).argmax()]
        second = np.sort(np.abs(values))[-2]
        (radius,) = laws.spectral_radii(recurrent[None])
        assert radius == pytest.approx(abs(largest))
        if largest.imag == 0 and second < 0.9 * radius:
            assert radius == pytest.approx(0.9, rel=0.01)


def test_the_variance_of_logits_is_that_of_a_run(few_ids):
    """Of a stable model: half of it is the distance from uniform, as it runs."""
    models = [laws.corpus_model(number) for number in range(6)]
    radii = laws.spectral_radii(np.stack([model.recurrent for model in models]))
    for model, radius in zip(models, radii, strict=True):
        if radius < 0.95:
            (variance,) = laws.logit_variances(model.recurrent[None])
            distances = laws.divergences(model, 16, 160)[:, 60:]
            assert distances.mean() == pytest.approx(variance / 2, rel=0.15)


def test_a_model_of_radius_above_one_ends_in_certain_tokens(few_ids):
    model = laws.corpus_model(0)
    (radius,) = laws.spectral_radii(model.recurrent[None])
    model = model._replace(recurrent=model.recurrent * 1.1 / radius)
    assert laws.divergences(model, 2, 400)[:, -20:].min() > 0.95 * math.log(500)


# --- delete, and rows by seed + index -------------------------------------------------------------


def test_rows_by_seed_and_index_leak_and_half_of_them_delete_nothing(monkeypatch):
    monkeypatch.setattr(findings, "DELETE_ROWS", 2000)
    monkeypatch.setattr(laws, "VALIDATION_SEED", 42 + 1000)
    made = figures(findings.seed_plus_index())
    shares = [figure["value"] for figure in made.values()]
    assert shares == [1, 1, 0]

    # Past the training rows there are others.
    train = {row.tobytes() for row in laws.delete_rows(42, 2000)}
    later = {row.tobytes() for row in laws.delete_rows(42 + 2000, 100)}
    assert not train & later

    made = figures(findings.nothing_to_delete())
    exact, counted = made.values()
    assert exact["value"] == pytest.approx((98 / 99) ** 64)
    assert abs(counted["value"] - exact["value"]) < 4 * counted["standard_error"]
    rows = laws.delete_rows(42, 2000).tolist()
    assert counted["value"] == sum(row[-1] not in row[:-1] for row in rows) / 2000


# --- the verb -------------------------------------------------------------------------------------


def test_the_verb_writes_every_finding_with_the_same_numbers_each_time(
    tmp_path, monkeypatch, capsys, few_ids
):
    monkeypatch.setattr(findings, "MODELS", 40)
    monkeypatch.setattr(findings, "DELETE_ROWS", 1000)
    monkeypatch.setattr(findings, "NOISE_STRINGS", 10)
    monkeypatch.setattr(laws, "ROW_LENGTH", 256)
    output = tmp_path / "laws"
    assert main(["audit", "--output_dir", str(output)]) == 0
    printed = capsys.readouterr().out
    audit = json.loads((output / "audit.json").read_text())
    page = (output / "audit.md").read_text()
    for finding in audit["findings"]:
        assert f"## {finding['title']}" in page
        assert f"({finding['name']}.png)" in page
        assert finding["title"] in printed
        assert (output / f"{finding['name']}.svg").exists()
    assert len(audit["findings"]) == len(findings.FINDINGS) == 7
    assert '<img src="data:image/svg+xml' in (output / "audit.html").read_text()

    laws.delete_rows.cache_clear()
    again = json.dumps(audit_laws(), indent=1) + "\n"
    assert again == (output / "audit.json").read_text()
