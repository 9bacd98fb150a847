"""The report: statistics on simulated experiments, the files, the table, the plots and every refusal."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from hf_synpre import report as module
from hf_synpre.errors import UsageError
from hf_synpre.files import pack_fractions, unpack_fractions
from hf_synpre.report import benefit, latex, model_index, read_cells, summarize, table, write_report
from hf_synpre.report.intervals import REFUSED, difference, estimate, t_quantile

MEANS = {"random": 0.12, "synthetic": 0.31, "statistics": 0.22, "natural": 0.5}
HIGHER = {"metric": "exact_match", "higher_is_better": True, "unit": "%"}


def make_cell(task="stdlib_ast", arm="random", seed=0, score=0.2, **changes) -> dict:
    finetuning = {
        "steps": 100,
        "tokens": 2e5,
        "positions": 2.1e5,
        "padding_share": 0.05,
        "flops": 2e12,
        "train_s": 30.0,
    }
    pretraining = finetuning | {
        "name": "set",
        "tokens": 12.3e6,
        "stopped": "competence",
        "accuracy": 0.99,
    }
    curve = [
        {
            "step": step,
            "tokens": 1e3 * step,
            "flops": 1e9 * step,
            "score": (score or 0) * step / 100,
        }
        for step in (0, 50, 100)
    ]
    cell = {
        "format": 1,
        "experiment": "quickstart",
        "task": task,
        "arm": arm,
        "seed": seed,
        "status": "done",
        "error": None,
    }
    cell |= {
        "metric": "exact_match",
        "higher_is_better": True,
        "score": score,
        "validation_score": score,
        "curve": curve,
    }
    cell |= {
        "test_examples": 1000,
        "embeddings": "fresh",
        "config": {},
        "versions": {"torch": "2.6", "hf_synpre": "0.1.0"},
    }
    return (
        cell
        | {
            "phases": {
                "pretraining": None if arm == "random" else pretraining,
                "finetuning": finetuning,
            }
        }
        | changes
    )


def make_experiment(means=MEANS, seeds=3, tasks=("stdlib_ast",), sd=0.02, **changes) -> list[dict]:
    rng = np.random.default_rng(0)
    places = [(task, arm, seed) for task in tasks for arm in means for seed in range(seeds)]
    return [
        make_cell(t, a, s, score=round(means[a] + sd * rng.normal(), 6), **changes)
        for t, a, s in places
    ]


def save(directory, cells):
    directory.mkdir(parents=True, exist_ok=True)
    for cell in cells:
        (directory / f"{cell['task']}--{cell['arm']}--{cell['seed']}.json").write_text(
            json.dumps(cell), encoding="utf-8"
        )
    return directory


def summary(cells) -> dict:
    return summarize([cell | {"file": f"{i}.json", "sha256": ""} for i, cell in enumerate(cells)])


# --- statistics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("df", "expected"),
    [
        (1, 12.7062),
        (2, 4.302653),
        (3, 3.182446),
        (4, 2.776445),
        (10, 2.228139),
        (30, 2.042272),
        (1000, 1.962339),
    ],
)
def test_t_quantile_equals_the_printed_tables(df, expected):
    assert t_quantile(0.975, df) == pytest.approx(expected, rel=1e-6)
    assert t_quantile(0.025, df) == pytest.approx(-expected, rel=1e-6)


def test_t_quantile_is_smooth_in_df():
    assert t_quantile(0.5, 3) == pytest.approx(0, abs=1e-12)
    assert t_quantile(0.95, 5) == pytest.approx(2.015048, rel=1e-6)
    assert t_quantile(0.975, 3) < t_quantile(0.975, 2.5) < t_quantile(0.975, 2)


def test_estimate_by_hand():
    e = estimate([1.0, 2.0, 3.0])
    assert (e["value"], e["n"]) == (2.0, 3)
    assert e["high"] - 2 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert estimate([2.0]) == {
        "value": 2.0,
        "low": None,
        "high": None,
        "se": None,
        "note": "one seed: no interval",
        "n": 1,
    }
    assert estimate([0.1, 0.1, 0.1])["note"] == "the seeds do not differ"


@pytest.mark.parametrize("n", [3, 5])
def test_intervals_of_means_cover(n):
    samples = np.random.default_rng(n).normal(size=(2000, n))
    covered = [e["low"] < 0 < e["high"] for e in map(estimate, samples)]
    assert 0.935 < np.mean(covered) < 0.965


@pytest.mark.parametrize(
    "shift", [0, 100]
)  # the same seeds in both arms: paired; no seed shared: Welch
def test_null_difference_is_rarely_found_and_a_planted_one_is(shift):
    rng = np.random.default_rng(1)
    found = {effect: [] for effect in (0.0, 6.0)}
    for effect, hits in found.items():
        for a, b in rng.normal(size=(600, 2, 4)):
            d = difference({s + shift: x + effect for s, x in enumerate(a)}, dict(enumerate(b)))
            assert d["paired"] == (shift == 0)
            hits.append(d["excludes_zero"])
    assert 0.025 < np.mean(found[0.0]) < 0.07
    assert np.mean(found[6.0]) > 0.95


def test_pairing_takes_the_noise_of_the_seed_out():
    noise = [0.0, 0.3, -0.2]
    reference = dict(enumerate(noise))
    scores = {s: x + 0.1 + 0.001 * s for s, x in reference.items()}
    assert difference(scores, reference)["excludes_zero"]
    assert not difference({s + 10: x for s, x in scores.items()}, reference)["excludes_zero"]
    assert difference({0: 0.5}, reference)["low"] is None
    assert not difference(reference, reference)["excludes_zero"]


def simulate_benefits(seeds, tasks, share=0.5, runs=150, sd=0.02, natural=0.5):
    """Benefits of an arm that truly recovers `share` of natural - random."""
    rng = np.random.default_rng(seeds)
    facts = {f"t{i}": HIGHER for i in range(tasks)}
    means = {"random": 0.1, "natural": natural, "synthetic": 0.1 + share * (natural - 0.1)}
    for _ in range(runs):
        scores = {
            t: {a: estimate(m + sd * rng.normal(size=seeds)) for a, m in means.items()}
            for t in facts
        }
        yield benefit("synthetic", scores, facts)


@pytest.mark.parametrize(("seeds", "tasks"), [(3, 1), (5, 1), (5, 3)])
def test_intervals_of_benefits_cover_and_err_on_the_wide_side(seeds, tasks):
    results = list(simulate_benefits(seeds, tasks))
    for key in ("mean_of_ratios", "ratio_of_means"):
        covered = [r[key]["low"] < 0.5 < r[key]["high"] for r in results]
        assert np.mean(covered) >= 0.95
        assert np.median([r[key]["high"] - r[key]["low"] for r in results]) < (
            0.4 if seeds == 3 else 0.2
        )


def test_a_null_benefit_is_rarely_found():
    results = [r["tasks"]["t0"] for r in simulate_benefits(4, 1, share=0.0)]
    assert np.mean([e["low"] > 0 or e["high"] < 0 for e in results]) < 0.06


def test_benefit_is_refused_where_natural_is_no_better_than_random():
    refused = [r["tasks"]["t0"] for r in simulate_benefits(3, 1, natural=0.1)]
    share = np.mean([e["value"] is None and e["note"] == REFUSED for e in refused])
    assert 0.75 < share < 0.98  # P(|t| < 2) at 4 degrees of freedom is 0.88
    assert (
        np.mean([e["note"] is None for e in refused]) < 0.05
    )  # what is neither refused nor called rough


def test_the_two_aggregates_by_hand():
    scores = {
        "a": {"random": [0.0, 0.002], "synthetic": [0.1, 0.102], "natural": [0.2, 0.202]},
        "b": {"random": [0.2, 0.202], "synthetic": [0.1, 0.102], "natural": [0.6, 0.602]},
        "c": {"random": [0.2, 0.202], "synthetic": [0.3, 0.302], "natural": [0.2, 0.202]},
    }
    scores = {
        task: {arm: estimate(values) for arm, values in row.items()} for task, row in scores.items()
    }
    result = benefit("synthetic", scores, dict.fromkeys(scores, HIGHER))
    assert result["tasks"]["a"]["value"] == pytest.approx(0.5)
    assert result["tasks"]["b"]["value"] == pytest.approx(-0.25)  # signs are kept
    assert result["tasks"]["c"] == {"value": None, "low": None, "high": None, "note": REFUSED}
    assert result["mean_of_ratios"]["value"] == pytest.approx(0.125)
    assert "over 2 of 3 tasks" in result["mean_of_ratios"]["note"]
    assert result["ratio_of_means"]["value"] == pytest.approx(0.1 / 0.6)


def test_lower_is_better_mirrors_the_benefit():
    up = summary(make_experiment())
    down = summary(
        [c | {"score": 1 - c["score"], "higher_is_better": False} for c in make_experiment()]
    )
    for arm in ("synthetic", "statistics"):
        a, b = (r["benefits"][arm]["tasks"]["stdlib_ast"] for r in (up, down))
        assert a["value"] == pytest.approx(b["value"])
        assert (a["low"], a["high"]) == pytest.approx((b["low"], b["high"]), abs=0.03)
    assert down["differences"]["stdlib_ast"]["synthetic"]["value"] < 0


def test_tasks_of_both_directions_pool_and_different_units_do_not():
    error = [
        c | {"task": "e", "score": 1 - c["score"], "higher_is_better": False}
        for c in make_experiment()
    ]
    pooled = summary(make_experiment() + error)["benefits"]["synthetic"]["ratio_of_means"]
    assert pooled["value"] == pytest.approx(0.5, abs=0.1)
    loss = [
        c | {"task": "lm", "metric": "loss", "higher_is_better": False, "score": 3 - c["score"]}
        for c in make_experiment()
    ]
    result = summary(make_experiment() + loss)["benefits"]["synthetic"]
    assert result["ratio_of_means"]["note"] == "the metrics of the tasks have different units"
    assert result["mean_of_ratios"]["value"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("missing", ["random", "natural"])
def test_a_missing_end_is_a_reason_not_a_number(missing):
    result = summary(make_experiment({arm: m for arm, m in MEANS.items() if arm != missing}))
    for e in (
        *result["benefits"]["synthetic"]["tasks"].values(),
        result["benefits"]["synthetic"]["ratio_of_means"],
    ):
        assert (e["value"], e["note"]) == (None, f"no finished cell of the arm '{missing}'")


def test_one_seed_has_values_and_no_interval():
    result = summary(make_experiment(seeds=1))
    share = result["benefits"]["synthetic"]["tasks"]["stdlib_ast"]
    assert share["value"] is not None
    assert share["low"] is None
    assert "one seed" in share["note"]
    assert "one seed" in table(result)
    flat = summary(make_experiment(dict.fromkeys(MEANS, 0.2), seeds=1, sd=0))
    assert flat["benefits"]["synthetic"]["tasks"]["stdlib_ast"]["note"] == REFUSED


# --- seeds and examples --------------------------------------------------------------------------------------------------


def simulate_scores(rng, seeds, means, size=200, seed_sd=0.03, example_sd=0.3, rest_sd=0.3):
    """Return arm -> scores (seeds x examples): a mean, an effect of the seed, one of the example shared by arms, a rest."""
    common = rng.normal(0, example_sd, size)
    return {
        arm: mean
        + rng.normal(0, seed_sd, (seeds, 1))
        + common
        + rng.normal(0, rest_sd, (seeds, size))
        for arm, mean in means.items()
    }


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.03), (5, 0.03), (3, 0.0), (5, 0.1)])
def test_intervals_over_seeds_and_examples_cover(seeds, seed_sd):
    rng = np.random.default_rng(seeds)
    runs = [simulate_scores(rng, seeds, {"a": 0.5}, seed_sd=seed_sd)["a"] for _ in range(800)]
    covered = [e["low"] < 0.5 < e["high"] for e in (estimate([*x.mean(1)], x) for x in runs)]
    assert 0.94 < np.mean(covered) < 0.985
    if seed_sd < 0.1:  # seeds alone leave the draw of the examples out
        assert (
            np.mean([e["low"] < 0.5 < e["high"] for e in (estimate([*x.mean(1)]) for x in runs)])
            < 0.93
        )


def test_the_variance_of_seeds_and_examples_by_hand():
    scores = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    e = estimate([*scores.mean(1)], scores)  # mean squares: seeds 1/6, examples 1/2, rest 1/6
    assert e["se"] == pytest.approx((1 / 6 / 6 + (1 / 2 - 1 / 6) / 6) ** 0.5)
    assert e["se_seeds"] == pytest.approx(1 / 6)


def test_seeds_that_agree_by_chance_have_an_interval():
    scores = np.array(
        [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]
    )  # both seeds have half of the examples right
    e = estimate([0.5, 0.5], scores)  # mean squares: seeds 0, examples 0, rest 2 / 3
    assert e["se_seeds"] == pytest.approx((2 / 3 / 8) ** 0.5)
    assert e["high"] - 0.5 == pytest.approx(t_quantile(0.975, 3) * e["se_seeds"])


def paired(scores):
    a, b = ({s: x.mean() for s, x in enumerate(scores[arm])} for arm in ("a", "b"))
    return difference(a, b, *(dict(enumerate(scores[arm])) for arm in ("a", "b")))


def test_paired_examples_find_planted_effects_and_no_null_ones():
    rng = np.random.default_rng(2)
    found = {
        effect: [
            paired(simulate_scores(rng, 4, {"a": 0.5 + effect, "b": 0.5}))["excludes_zero"]
            for _ in range(500)
        ]
        for effect in (0.0, 0.15)
    }
    assert 0.02 < np.mean(found[0.0]) < 0.07
    assert np.mean(found[0.15]) > 0.9


@pytest.mark.parametrize("seeds", [3, 5])
def test_benefits_over_seeds_and_examples_cover_null_and_planted_shares(seeds):
    rng = np.random.default_rng(seeds)
    for share in (0.0, 0.5):
        means = {"random": 0.1, "natural": 0.5, "synthetic": 0.1 + 0.4 * share}
        covered = []
        for _ in range(200):
            single = simulate_scores(rng, seeds, means)
            scores = {arm: estimate([*x.mean(1)], x) for arm, x in single.items()}
            examples = {"t": {arm: x.mean(0) for arm, x in single.items()}}
            result = benefit("synthetic", {"t": scores}, {"t": HIGHER}, examples)["tasks"]["t"]
            covered.append(result["low"] < share < result["high"])
        assert np.mean(covered) >= 0.945


def with_examples(cells, size=400):
    """Return the cells with 0/1 scores of single examples, their means as scores."""
    hardness = np.random.default_rng(5).random(size)
    for cell in cells:
        hits = (hardness < cell["score"]).astype(float)
        yield cell | {
            "score": hits.mean(),
            "test_examples": size,
            "example_scores": pack_fractions(hits),
        }


def test_cells_with_examples_widen_what_the_report_says_and_old_cells_are_read(tmp_path):
    cells = list(with_examples(make_experiment()))
    new = write_report(save(tmp_path / "new", cells))
    old = write_report(
        save(
            tmp_path / "old", [{k: v for k, v in c.items() if k != "example_scores"} for c in cells]
        )
    )
    assert (
        new["tasks"]["stdlib_ast"]["covers_examples"],
        old["tasks"]["stdlib_ast"]["covers_examples"],
    ) == (True, False)
    for arm in MEANS:
        a, b = (r["scores"]["stdlib_ast"][arm] for r in (new, old))
        assert a["value"] == b["value"]
        assert a["se"] > b["se"]
    assert new["benefits"]["synthetic"]["tasks"]["stdlib_ast"]["value"] == pytest.approx(
        0.5, abs=0.1
    )
    assert (
        "the draw of the test examples of stdlib_ast"
        in (tmp_path / "new" / "report.md").read_text()
    )
    broken = cells[0] | {"example_scores": "AAAA"}
    with pytest.raises(UsageError, match="example_scores that cannot be read"):
        read_cells(save(tmp_path / "broken", [broken]))


@pytest.mark.parametrize("values", [[0.0, 1.0, 1.0], [1 / 3, 0.7058823529411765]])
def test_packed_fractions_come_back(values):
    assert unpack_fractions(pack_fractions(np.array(values))) == pytest.approx(
        np.array(values), abs=1e-5
    )
    assert len(pack_fractions(np.random.default_rng(0).random(1000) < 0.2)) < 400


# --- other forms ---------------------------------------------------------------------------------------------------------


def test_latex_rows_have_the_columns_of_the_head_and_escape_names():
    text = latex(summary(make_experiment(tasks=("stdlib_ast", "mtop"))))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(MEANS)
    assert {row.count(" & ") for row in rows} == {4}
    assert r"stdlib\_ast: exact\_match in \%" in rows[0]
    assert r"\textbf{" in text
    assert r"$\pm$" in text
    assert not any("_" in row.replace(r"\_", "") for row in rows)


def test_model_index_is_what_the_hub_reads():
    from huggingface_hub.repocard_data import model_index_to_eval_results

    cells = [
        c | {"scores": {"exact_match": c["score"], "f1": 0.9}}
        for c in make_experiment(tasks=("mtop",))
    ]
    cells = [c | {"data": {"hub_id": "tasksource/mtop", "splits": {}}} for c in cells]
    report = summary(cells)
    for entry in model_index(report):
        name, results = model_index_to_eval_results([entry])
        assert name.startswith("quickstart-")
        assert {(r.dataset_type, r.metric_type) for r in results} == {
            ("tasksource/mtop", m) for m in ("exact_match", "f1")
        }
    assert report["beside"]["mtop"]["f1"]["random"]["value"] == pytest.approx(0.9)


def test_curves_count_the_flops_of_pretraining():
    curves = summary(make_experiment())["curves"]["stdlib_ast"]
    assert curves["random"]["flops"] == [0.0, 5e10, 1e11]
    assert curves["synthetic"]["flops"] == pytest.approx([2e12, 2e12 + 5e10, 2e12 + 1e11])
    chained = make_experiment()
    for cell in chained:
        if cell["arm"] == "synthetic":
            cell["phases"]["pretraining"]["before"] = {"flops": 1e12, "tokens": 5}
    longer = summary(chained)
    assert longer["curves"]["stdlib_ast"]["synthetic"]["flops"][0] == pytest.approx(3e12)
    both = [
        s["phases"]["synthetic"]["pretraining"]["tokens"]
        for s in (longer, summary(make_experiment()))
    ]
    assert both[0] - both[1] == pytest.approx(5)
    released = summary(
        [c | {"phases": {"pretraining": {"name": "a checkpoint"}}} for c in make_experiment()]
    )
    assert "flops" not in released["curves"]["stdlib_ast"]["natural"]
    assert "| natural | pretraining: a checkpoint | – | – | – | – |" in module.render(
        released, "here"
    )


# --- cells ---------------------------------------------------------------------------------------------------------------


def test_arms_are_ordered_and_failed_cells_are_kept():
    cells = [make_cell(arm=arm) for arm in ("natural", "synthetic", "random", "equal_compute")]
    cells += [
        make_cell(arm="self", status="failed", score=None, error="out of memory"),
        make_cell(arm="natural", seed=1),
    ]
    result = summary(cells)
    assert result["arms"] == ["random", "synthetic", "equal_compute", "self", "natural"]
    assert [(f["arm"], f["error"]) for f in result["failed"]] == [("self", "out of memory")]
    assert result["scores"]["stdlib_ast"]["natural"]["seeds"] == [0, 1]
    assert "self" not in result["scores"]["stdlib_ast"]


def test_curves_keep_the_steps_that_all_seeds_have():
    cells = [make_cell(seed=seed, score=0.1 * (seed + 1)) for seed in range(2)]
    cells[1]["curve"] = [
        *cells[1]["curve"][:2],
        {"step": 100, "score": float("nan")},
        {"step": 150, "score": 0.3},
    ]
    curve = summary(cells)["curves"]["stdlib_ast"]["random"]
    assert curve["step"] == [0, 50]
    assert (curve["low"][1], curve["mean"][1], curve["high"][1]) == pytest.approx(
        (0.05, 0.075, 0.1)
    )


def test_phases_are_the_mean_run():
    cells = [make_cell(arm="synthetic", seed=seed) for seed in range(2)]
    cells[0]["phases"]["pretraining"] |= {"tokens": 10, "stopped": "budget", "accuracy": None}
    cells[1]["phases"]["pretraining"] |= {"tokens": 20}
    run = summary(cells)["phases"]["synthetic"]["pretraining"]
    assert (run["tokens"], run["accuracy"], run["runs"], run["names"]) == (15, 0.99, 2, ["set"])
    assert run["stopped"] == {"budget": 1, "competence": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not readable JSON"),
        ("[]", "is not a cell of format 1"),
        (json.dumps(make_cell(format=2)), "is not a cell of format 1"),
        (json.dumps({k: v for k, v in make_cell().items() if k != "metric"}), "lacks metric"),
        (json.dumps(make_cell(seed=1)), "clash in their cell stdlib_ast, random, seed 1"),
        (json.dumps(make_cell(seed=2, metric="f1")), "clash in their metric of stdlib_ast"),
        (json.dumps(make_cell(seed=2, experiment="other")), "clash in their experiment"),
    ],
)
def test_bad_cells_are_named(tmp_path, content, message):
    save(tmp_path, [make_cell(seed=0), make_cell(seed=1)])
    (tmp_path / "x--y--0.json").write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_cells(tmp_path)
    assert "x--y--0.json" in str(caught.value)


def test_a_directory_without_cells_says_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"holds no cells .*synpre run"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match="is not a directory"):
        write_report(tmp_path / "nowhere")
    save(tmp_path / "cells", make_experiment(seeds=1))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Cannot write "):
        write_report(tmp_path / "cells", tmp_path / "file")


def test_a_diverged_run_is_a_failed_cell(tmp_path):
    result = write_report(
        save(tmp_path, [*make_experiment(), make_cell(arm="self", score=float("nan"))])
    )
    assert [f["error"] for f in result["failed"]] == ["the score is nan"]
    assert "the score is nan" in (tmp_path / "report.md").read_text(encoding="utf-8")


# --- files ---------------------------------------------------------------------------------------------------------------

PLOTS = [f"{name}.{kind}" for name in ("benefit", "compute", "curves") for kind in ("png", "svg")]
FILES = sorted([*PLOTS, "model-index.yaml", "report.json", "report.md", "report.tex"])


def test_the_files_are_complete_and_the_same_again(tmp_path):
    failed = make_cell("mtop", "self", 7, status="failed", score=None, error="CUDA | out of memory")
    cells = [*make_experiment(tasks=("stdlib_ast", "mtop")), failed]
    first, second = save(tmp_path / "first", cells), save(tmp_path / "second", cells[::-1])
    result = write_report(first)
    write_report(second, tmp_path / "out")
    assert sorted(p.name for p in first.iterdir() if "--" not in p.name) == FILES
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == FILES
    for name in set(FILES) - {"report.md"}:  # report.md names the directory
        assert (first / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    assert json.loads((first / "report.json").read_text()) == result
    path = first / result["cells"][0]["file"]
    assert result["cells"][0]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert write_report(first) == result  # its own files are no cells


def test_the_markdown_says_everything(tmp_path):
    save(
        tmp_path,
        [
            *make_experiment(),
            make_cell(arm="self", seed=7, status="failed", score=None, error="a | b\nc"),
        ],
    )
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for part in (
        "`synpre report ",
        "stdlib_ast--self--7.json: a \\| b c",
        "torch: 2.6",
        "competence (3 of 3)",
        "12.3 M",
        "2.00e+12",
    ):
        assert part in text
    for part in (
        "fresh",
        "ratio of the means",
        "parametric bootstrap",
        "](curves.png)",
        "](benefit.png)",
        "13 cells found, 1 of them failed",
    ):
        assert part in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(row.count("|") == row.count("| ") + 1 and row.endswith("|") for row in rows)


def test_the_terminal_table():
    text = table(summary(make_experiment(tasks=("stdlib_ast", "mtop"))))
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert [line.split()[0] for line in text.splitlines()[3:8]] == ["arm", *MEANS]
    assert "mean of the ratios" in text
    assert max(map(len, text.splitlines())) < 120
    assert "[" in rows["synthetic"]
    assert "12.3 M" in text
    assert " *" in text


@pytest.mark.parametrize(
    "cells",
    [
        make_experiment(seeds=1),
        make_experiment({"random": 0.1}),
        make_experiment({"synthetic": 0.1}),
        make_experiment({"random": 0.1, "natural": 0.4}),
        make_experiment(dict.fromkeys(MEANS, 0.0), sd=0),
        make_experiment(metric="loss", higher_is_better=False, curve=[]),
        [make_cell(arm="synthetic", status="failed", score=None, error="x")],
        [make_cell(versions=None, phases=None, curve=None, embeddings=None)],
        make_experiment(
            MEANS | {f"arm {i}": 0.3 for i in range(8)},
            tasks=[f"task {i}" for i in range(2)],
            seeds=2,
        ),
    ],
    ids=["one seed", "random", "synthetic", "no middle", "flat", "loss", "failed", "bare", "many"],
)
def test_odd_experiments_are_reported_too(tmp_path, cells):
    result = write_report(save(tmp_path, cells))
    assert sorted(p.name for p in tmp_path.iterdir() if "--" not in p.name) == FILES
    assert "nan" not in table(result)
    assert "None" not in table(result)


def test_the_benefit_plot_falls_back_to_differences(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(
        "hf_synpre.report.plots.image",
        lambda figure, kind: titles.append(figure.get_suptitle()) or b"",
    )
    for means in (MEANS, {**MEANS, "natural": MEANS["random"]}, {"random": 0.1, "synthetic": 0.3}):
        module.plots(summary(make_experiment(means, sd=0.001)))
    title = [" ".join(t.split()) for t in titles if t][::2]
    assert title[0] == "Benefit of natural pre-training"
    assert title[1] == f"Score difference to random (benefit not shown: {REFUSED})"
    assert title[2] == "Score difference to random (benefit not shown: no arm 'natural')"


def test_importing_the_report_stays_light():
    code = "import sys, hf_synpre.report; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "transformers", "datasets", "matplotlib"} & set(loaded)
