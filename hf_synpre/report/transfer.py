"""Layer 5: corpora x tasks as a matrix of gains with its heat map; ensembles of arms and the overlap of their errors."""

import itertools

import numpy as np

from hf_synpre.report.plots import NATURAL, RANDOM, STYLE, image

SAME = "two seeds"  # the pair of one arm with itself: what an ensemble gains without another start


def transfer(cells: list[dict], report: dict) -> dict:
    """Return {"transfer": matrix and ensembles} for a report of labelled tasks, {} where no cell is of one."""
    labelled = any("labels" in (cell.get("data") or {}) for cell in cells)
    return (
        {"transfer": {"matrix": gain_matrix(report), "ensembles": ensembles(cells)}}
        if labelled
        else {}
    )


def transfer_plots(report: dict) -> dict[str, bytes]:
    """Return the heat map's files, none for a report without a matrix."""
    return heat_map(report["transfer"]["matrix"]) if "transfer" in report else {}


def gain_matrix(report: dict) -> dict:
    """Return arm -> task -> estimate of what the arm's pre-training gives, and each arm's mean over tasks.

    The gain is the share of natural's gain over random (100 % is natural, 0 random; Krishna et al. 2022); without the arm
    natural, and where that share is refused for most of the matrix, it is the difference to random in the metric's unit,
    and only arms with every task have a mean.
    """
    arms = [arm for arm in report["arms"] if arm != RANDOM]
    differences = {
        arm: {task: row.get(arm) for task, row in report["differences"].items()} for arm in arms
    }
    shares = {arm: report["benefits"][arm]["tasks"] for arm in arms if arm != NATURAL}
    if 2 * known_values(shares) >= max(known_values({arm: differences[arm] for arm in shares}), 1):
        means = {arm: report["benefits"][arm]["mean_of_ratios"]["value"] for arm in shares}
        return {"unit": "% of natural's gain", "scale": 100, "gains": shares, "means": means}
    known = {
        arm: [e["value"] for e in row.values() if e and e["value"] is not None]
        for arm, row in differences.items()
    }
    means = {
        arm: float(np.mean(values)) if len(values) == len(report["tasks"]) else None
        for arm, values in known.items()
    }
    return {"unit": "points over random", "scale": 100, "gains": differences, "means": means}


def known_values(table: dict[str, dict]) -> int:
    """Return how many estimates of a table have a value."""
    return sum(
        estimate is not None and estimate["value"] is not None
        for row in table.values()
        for estimate in row.values()
    )


def heat_map(matrix: dict) -> dict[str, bytes]:
    """Return the matrix as {gains.png and gains.svg: bytes}: arms down, tasks across, the mean last; {} without arms."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    arms, tasks = list(matrix["gains"]), list(next(iter(matrix["gains"].values()), {}))
    if not arms:
        return {}
    values = np.array(
        [
            [*(value_of(matrix["gains"][a].get(t)) for t in tasks), number(matrix["means"][a])]
            for a in arms
        ]
    )
    values = values * matrix["scale"]
    reach = min(max(float(np.nanmax(np.abs(values), initial=1.0)), 1.0), 200.0)
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(1.6 + 0.62 * (len(tasks) + 1), 1.1 + 0.3 * len(arms)), layout="constrained"
        )
        panel = figure.subplots()
        panel.imshow(values, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
        panel.set_xticks(range(len(tasks) + 1), [*tasks, "mean"], rotation=40, ha="right")
        panel.set_yticks(range(len(arms)), arms)
        for (row, column), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{value:.0f}"
            panel.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                color="white" if abs(value) > 0.6 * reach else "black",
            )
        panel.set_title(f"Gain, {matrix['unit']}")
        return {f"gains.{kind}": image(figure, kind) for kind in ("png", "svg")}


def value_of(estimate: dict | None) -> float:
    """Return an estimate's value, NaN where it is refused or absent."""
    return number(estimate and estimate["value"])


def number(value: float | None) -> float:
    """Return a number, NaN for None."""
    return np.nan if value is None else float(value)


def ensembles(cells: list[dict]) -> dict[str, list[dict]]:
    """Return task -> pairs of arms: the accuracy of their averaged probabilities, and how their errors overlap.

    For every seed that both arms have; an arm's pair with itself takes its first two seeds. `both_wrong` is the share of
    examples that neither has right, `one_right` that exactly one has (error inconsistency).
    """
    known = [cell for cell in cells if cell["status"] == "done" and "probabilities" in cell]
    tasks = {
        task: [c for c in known if c["task"] == task]
        for task in dict.fromkeys(c["task"] for c in known)
    }
    return {task: list(pairs(found)) for task, found in tasks.items() if found}


def pairs(cells: list[dict]):
    """Yield the facts of every pair of arms of one task."""
    runs: dict[str, dict[int, dict]] = {}
    for cell in cells:
        runs.setdefault(cell["arm"], {})[cell["seed"]] = cell
    for one, other in itertools.combinations_with_replacement(runs, 2):
        if one == other:
            couples = [tuple(runs[one].values())[:2]] if len(runs[one]) > 1 else []
        else:
            couples = [
                (runs[one][seed], runs[other][seed])
                for seed in sorted(runs[one].keys() & runs[other].keys())
            ]
        if couples:
            facts = [couple(*both) for both in couples]
            means = {name: float(np.mean([fact[name] for fact in facts])) for name in facts[0]}
            yield {"arms": [one, SAME if one == other else other], "seeds": len(couples)} | means


def couple(one: dict, other: dict) -> dict[str, float]:
    """Return the accuracy of two cells' averaged probabilities, that of the better one, and the overlap of their errors."""
    truths = np.array(one["truths"])
    probabilities = [cell["probabilities"].reshape(len(truths), -1) for cell in (one, other)]
    right = [p.argmax(1) == truths for p in probabilities]
    together = (sum(probabilities).argmax(1) == truths).mean()
    wrong = (~right[0] & ~right[1]).mean()
    return {
        "ensemble": float(together),
        "better": float(max(r.mean() for r in right)),
        "both_wrong": float(wrong),
        "one_right": float((right[0] != right[1]).mean()),
    }


def transfer_text(report: dict) -> str:
    """Return the matrix and the ensembles as Markdown; nothing where there is neither."""
    if "transfer" not in report:
        return ""
    found = report["transfer"]
    text = matrix_text(found["matrix"]) if found["matrix"]["gains"] else ""
    for task, rows in found["ensembles"].items():
        if rows:
            text += f"\n### Pairs on {task}\n\n| arms | ensemble, % | better one, % | both wrong, % | exactly one right, % |\n"
            text += "| --- | --- | --- | --- | --- |\n" + "".join(map(pair_row, rows))
    return text


def matrix_text(matrix: dict) -> str:
    """Return the matrix of gains as a Markdown table, with its heat map."""
    tasks = list(next(iter(matrix["gains"].values())))
    lines = ["", f"## Gain by start and task, {matrix['unit']}", "", "![Gains](gains.png)", ""]
    lines += [
        "| start | " + " | ".join([*tasks, "mean"]) + " |",
        "| --- |" + " --- |" * (len(tasks) + 1),
    ]
    for arm, row in matrix["gains"].items():
        values = [*(value_of(row.get(task)) for task in tasks), number(matrix["means"][arm])]
        shown = ["–" if np.isnan(value) else f"{matrix['scale'] * value:.1f}" for value in values]
        lines.append("| " + " | ".join([arm, *shown]) + " |")
    return "\n".join([*lines, ""])


def pair_row(row: dict) -> str:
    """Return one pair as a line of the table."""
    shown = [f"{100 * row[name]:.1f}" for name in ("ensemble", "better", "both_wrong", "one_right")]
    return "| " + " | ".join([" + ".join(row["arms"]), *shown]) + " |\n"
