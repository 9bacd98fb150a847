"""Whether an arm and random were fine-tuned alike: learning rates, schedules, other options.

A start looks better than it is beside a random start whose learning rate is too low, or whose
schedule was cut short. Cells say how they were fine-tuned; what differs between an arm and random
is either a reason to refuse a claim, or a caveat beside it. What is the same for both is none: a
rate that was tuned for nobody is stated, not doubted.
"""

from typing import Any

from hf_synpre.config import PLACE
from hf_synpre.report.cells import arm_option, finetuning_budget, matched_run
from hf_synpre.report.costs import distinct
from hf_synpre.report.exchange import is_control
from hf_synpre.report.schema import RANDOM, ByArm, CellResult, Fairness, Recipe, Report

# Schedules whose rate does not fall.
CONSTANT = ("constant", "constant_with_warmup")
# Options of a recipe that are compared as rates and schedules, not by name.
OF_SCHEDULES = ("learning_rate", "lr_scheduler_type", "max_steps", "num_train_epochs")
# What the notes of a cell have whose model predicts the same for all test rows.
CONSTANT_NOTE = "all predictions of test are the same"
# A text names no more options than this.
MOST_OPTIONS = 4


# --- How an arm was fine-tuned --------------------------------------------------------------------


def recipe_of(cells: list[CellResult]) -> Recipe:
    """Return the learning rates and the schedules of an arm's cells on a task."""
    schedules = [schedule_of(cell) for cell in cells]
    rates = distinct(schedule["learning_rate"] for schedule in schedules)
    tried = distinct(
        one["learning_rate"] for cell in cells for one in cell.get("learning_rates") or ()
    )
    recipe: Recipe = {
        "rates": rates,
        "tried": tried,
        "edge": edge_of(rates, tried),
        "schedules": distinct(schedule["type"] for schedule in schedules),
        "steps": distinct(schedule["steps"] for schedule in schedules),
        "cut_short": sum(map(is_cut_short, cells)),
        "matches_flops": matched_run(cells[0]) is not None,
    }

    budget = finetuning_budget(cells[0])
    if budget != 1:
        recipe["budget"] = budget
    if cells[0]["arm"] != RANDOM and arm_option(cells[0], "init") == RANDOM:
        recipe["is_random_too"] = True

    # The factor of random weights, where the arm has one.
    scales = distinct(cell.get("initial_scale") for cell in cells)
    if scales:
        recipe["scale"] = scales[0]
        tried_scales = distinct(
            one.get("initial_scale") for cell in cells for one in cell.get("learning_rates") or ()
        )
        scale_edge = edge_of(scales, tried_scales)
        if scale_edge is not None:
            recipe["scale_edge"] = scale_edge
    return recipe


def edge_of(chosen: list[float], tried: list[float]) -> str | None:
    """Return at which end of a grid the chosen values are: highest, lowest, or None for neither.

    Args:
        chosen: the distinct values of an arm's cells, rising.
        tried: the grid, rising; there is none with less than two values.
    """
    if len(tried) < 2 or not chosen:
        return None
    if chosen[-1] == tried[-1]:
        return "highest"
    return "lowest" if chosen[0] == tried[0] else None


def schedule_of(cell: CellResult) -> dict[str, Any]:
    """Return the highest learning rate of a cell, the type and the steps of its schedule.

    What a cell does not say, as before schedules were written down, is None. So are the rate and
    the type of a cell that was not trained.
    """
    schedule = cell.get("schedule")
    if schedule and not schedule["steps"]:
        return {"learning_rate": None, "type": None, "steps": 0}
    if schedule:
        return dict(schedule)
    training = finetuning_options(cell).get("training") or {}
    run = (cell.get("phases") or {}).get("finetuning") or {}
    steps = run.get("steps")
    if run.get("stopped") == "patience":
        steps = training.get("max_steps")
    return {
        "learning_rate": training.get("learning_rate"),
        "type": training.get("lr_scheduler_type"),
        "steps": steps,
    }


def is_cut_short(cell: CellResult) -> bool:
    """Say whether a cell was evaluated last before its schedule ended."""
    steps = schedule_of(cell)["steps"]
    curve = cell.get("curve") or []
    return bool(curve and steps) and max(point["step"] for point in curve) < steps


def finetuning_options(cell: CellResult) -> dict[str, Any]:
    """Return the recipe of fine-tuning that a cell holds, {} where it holds none."""
    return (cell.get("config") or {}).get("finetuning") or {}


def is_longer_random(recipe: Recipe) -> bool:
    """Say whether an arm has random weights and, on purpose, another number of steps."""
    return "is_random_too" in recipe and "budget" in recipe


# --- An arm beside random -------------------------------------------------------------------------


def fairness(by_arm: ByArm, recipes: dict[str, Recipe]) -> dict[str, Fairness]:
    """Return for each arm of a task what speaks against its comparison with random.

    The controls that an arm has to beat must have been fine-tuned as it was, too.

    Args:
        by_arm: the finished cells of the task.
        recipes: the recipe of each arm.

    Returns:
        Only arms of which there is something to say.
    """
    found: dict[str, Fairness] = {}
    for arm, recipe in recipes.items():
        refused: list[str] = []
        caveats: list[str] = []
        for other, baseline in recipes.items():
            if other == arm or not (other == RANDOM or is_beside(arm, other, recipes)):
                continue

            # Learning rates, scales, schedules, and what else the recipes have.
            more_refused, more_caveats = doubts_of_rates(recipe, baseline, other)
            caveats += doubts_of_scale(baseline, other)
            if not recipe["matches_flops"] and not baseline["matches_flops"]:
                of_schedules = doubts_of_schedules(recipe, baseline, other)
                more_refused += of_schedules[0]
                more_caveats += of_schedules[1]
            options = other_options(by_arm[arm][0], by_arm[other][0])
            if options:
                names = ", ".join(options[:MOST_OPTIONS])
                more_refused.append(f"its fine-tuning differs from that of {other} in {names}")

            if baseline["matches_flops"]:  # no claim rests on it
                caveats += more_refused
            else:
                refused += more_refused
            if other == RANDOM:
                caveats += more_caveats
        if refused or caveats:
            found[arm] = {"refused": refused, "caveats": caveats}
    return found


def constant_cells(by_arm: ByArm) -> dict[str, int]:
    """Return how many cells of an arm predict the same for all test rows; arms with none are out.

    Args:
        by_arm: the finished cells of a task.
    """
    counts = {}
    for arm, cells in by_arm.items():
        notes = [" ".join(cell.get("notes") or ()) for cell in cells]
        counts[arm] = sum(CONSTANT_NOTE in text for text in notes)
    return {arm: count for arm, count in counts.items() if count}


def unlearnt_runs(by_arm: ByArm) -> dict[str, str]:
    """Return the run of pre-training of each arm whose run did not learn its task.

    Args:
        by_arm: the finished cells of a task.
    """
    runs = {}
    for arm, cells in by_arm.items():
        phases = [(cell.get("phases") or {}).get("pretraining") or {} for cell in cells]
        names = distinct(str(run.get("name")) for run in phases if run.get("learnt") is False)
        if names:
            runs[arm] = ", ".join(names)
    return runs


def is_beside(arm: str, other: str, recipes: dict[str, Recipe]) -> bool:
    """Say whether an arm, which is no control, is compared with a control."""
    controls = [name for name in recipes if is_control(name) or recipes[name]["matches_flops"]]
    return other in controls and arm not in (*controls, RANDOM)


def doubts_of_rates(
    recipe: Recipe, baseline: Recipe, other: str = RANDOM
) -> tuple[list[str], list[str]]:
    """Return what is unfair in the learning rates of an arm and another, and caveats.

    Args:
        recipe: that of the arm that is said to be better.
        baseline: that of the other arm.
        other: the name of the other arm.
    """
    rates, other_rates = recipe["rates"], baseline["rates"]
    if len(baseline["tried"]) < 2:
        if len(recipe["tried"]) > 1:
            return [f"its learning rate was tuned, and that of {other} was not"], []
        if rates and other_rates and rates != other_rates:
            return [
                f"its learning rate is {listed(rates)} and that of {other} {listed(other_rates)}, "
                "which was not tuned"
            ], []
        return [], []

    # The other's rate was tuned. At an end of its grid a rate beyond may be better.
    edge = baseline["edge"]
    if edge is None:
        return [], []
    comparative = "higher" if edge == "highest" else "lower"
    own = [*recipe["tried"], *rates]
    is_tried_beyond = max(own, default=0.0) > baseline["tried"][-1]
    if edge == "lowest":
        is_tried_beyond = bool(own) and min(own) < baseline["tried"][0]
    at_end = f"{other} has the {edge} learning rate of its grid"
    if is_tried_beyond:
        return [f"{at_end}, and this arm was tried at {comparative} ones"], []
    return [], [f"{at_end}, and may be better with a {comparative} one"]


def doubts_of_scale(baseline: Recipe, other: str) -> list[str]:
    """Return the caveat of an arm whose random weights may be better with another factor, if any.

    Args:
        baseline: the recipe of the arm that is compared with.
        other: the name of that arm.
    """
    edge = baseline.get("scale_edge")
    if edge is None:
        return []
    comparative = "larger" if edge == "highest" else "smaller"
    return [
        f"{other} has the {edge} of its initial_scales, {baseline['scale']}, and may be better "
        f"with a {comparative} one"
    ]


def doubts_of_schedules(
    recipe: Recipe, baseline: Recipe, other: str = RANDOM
) -> tuple[list[str], list[str]]:
    """Return what is unfair in the schedules of an arm and another, and caveats.

    The arguments are those of `doubts_of_rates`. Random weights with another budget have other
    steps by their purpose, which is no doubt.
    """
    refused = []
    types, other_types = recipe["schedules"], baseline["schedules"]
    if types and other_types and types != other_types:
        refused.append(f"its schedule is {listed(types)} and that of {other} {listed(other_types)}")

    steps, other_steps = recipe["steps"], baseline["steps"]
    if steps and other_steps and steps != other_steps and not is_longer_random(recipe):
        refused.append(
            f"its schedule has {listed(steps)} steps and that of {other} {listed(other_steps)}"
        )

    if not baseline["cut_short"]:
        return refused, []
    if all(name in CONSTANT for name in other_types):
        return refused, [f"{other} was stopped early, and may have got further"]
    return [*refused, f"{other} was stopped before its {listed(other_types)} schedule ended"], []


def other_options(cell: CellResult, baseline: CellResult) -> list[str]:
    """Return the options of fine-tuning in which two cells differ, beside those of schedules."""
    options, random_options = finetuning_options(cell), finetuning_options(baseline)
    names = [
        name
        for name in options.keys() & random_options.keys() - {"training", "learning_rates"}
        if options[name] != random_options[name]
    ]
    if "training" in options and "training" in random_options:
        training, random_training = options["training"], random_options["training"]
        names += [
            name
            for name in training.keys() | random_training.keys()
            if name not in (*OF_SCHEDULES, PLACE)
            and training.get(name) != random_training.get(name)
        ]
    return sorted(names)


def listed(values: list[Any]) -> str:
    """Return values as a list in a text: 0.001 or 0.01."""
    return " or ".join(str(value) for value in values)


# --- In words -------------------------------------------------------------------------------------


def untuned_rates(report: Report) -> str | None:
    """Return a sentence on the learning rate that all arms have on a task.

    Return None where arms were tuned or differ, "" where no cell says its rate.
    """
    tasks_by_rate: dict[str, list[str]] = {}
    for task, recipes in report["recipes"].items():
        if any(len(recipe["tried"]) > 1 for recipe in recipes.values()):
            return None
        rates = {rate for recipe in recipes.values() for rate in recipe["rates"]}
        if len(rates) > 1:
            return None
        for rate in rates:
            tasks_by_rate.setdefault(str(rate), []).append(task)
    if not tasks_by_rate:
        return ""
    parts = [f"{rate} on {', '.join(tasks)}" for rate, tasks in tasks_by_rate.items()]
    return (
        f"Learning rates were not tuned: every arm has {', '.join(parts)}. Another rate may suit "
        "one arm better than another."
    )


def doubt_lines(report: Report) -> list[str]:
    """Return a line for each doubt of a task: the arms that it is about, and what it is.

    Last come the arms whose models predict the same for all rows.
    """
    lines = []
    for task, doubts in report["fairness"].items():
        arms_by_text: dict[str, list[str]] = {}
        for arm, doubt in doubts.items():
            texts = [f"no fair comparison, because {reason}" for reason in doubt["refused"]]
            for text in texts + doubt["caveats"]:
                arms_by_text.setdefault(text, []).append(arm)
        lines += [
            f"On {task}, for {', '.join(arms)}: {text}" for text, arms in arms_by_text.items()
        ]
    for task, counts in report.get("constant", {}).items():
        arms = [f"{arm} ({count})" for arm, count in counts.items()]
        lines.append(
            f"On {task} these arms have models that predict the same for every test row, and so "
            f"have learnt nothing that tells rows apart (number of cells): {', '.join(arms)}"
        )
    for task, runs in report.get("unlearnt", {}).items():
        arms = [f"{arm} ({run})" for arm, run in runs.items()]
        lines.append(
            f"On {task} these arms start from a pre-training that had not learnt its task, so they "
            f"do not say what that task gives (name of the run): {', '.join(arms)}"
        )
    return lines


def schedule_sentence(recipes: dict[str, Recipe]) -> str:
    """Return what the schedules of a task mean for rates that are read off its curves.

    Return "" where they are not known, or not the same: then `doubt_lines` says so.
    """
    alike = [
        recipe
        for recipe in recipes.values()
        if not recipe["matches_flops"] and not is_longer_random(recipe)
    ]
    types = distinct(name for recipe in alike for name in recipe["schedules"])
    steps = distinct(count for recipe in alike for count in recipe["steps"])
    if len(types) != 1 or len(steps) != 1:
        return ""
    if types[0] in CONSTANT:
        return (
            f"All learning rates are {types[0]}, so every curve is read at an undecayed rate; how "
            "the arms compare after a decay is not measured."
        )
    return (
        f"All schedules are {types[0]} over {steps[0]} steps. The loss of random is that of its "
        "end; an arm is read before, at a higher learning rate, so it may need fewer tokens with "
        "a schedule that ends there."
    )
