"""Write GALLERY.md: every registered task with its definition, paper, parameters and three rows.

gallery_pictures.py draws its pictures.

python examples/gallery.py        (make gallery)
"""

from pathlib import Path

from gallery_pictures import PICTURES

from hf_synpre.tasks import SyntheticTask, generate, get_task, list_tasks
from hf_synpre.vocabulary import Vocabulary

TARGET = Path(__file__).with_name("GALLERY.md")
HEAD = """# The tasks

Generated from the registry by `make gallery`; do not edit. Rows are three of each task at small
sizes: letters and digits for regular tokens, `||` behind the task's name, `|` between arguments,
`/` between words, `nothing` for an empty target. Parameters are the papers' by default and keywords
of `generate`; `order` and the like take one of the words listed. The lowest loss is that of a
perfect model in nats per scored token, with its 95 % interval where it was estimated on rows; 0:
what is scored follows from what is read before. Labels that are not scored are dots.
"""

# Sizes at which a row fits a line: parameters, and the number of ids of a plain vocabulary.
LIME = {"lower": 4, "math": 3, "max_math": 6, "max_string": 3, "min_math": 3}
SMALL_SIZES = {
    "lime": (LIME, 100),
    "lime_induct": (LIME, 100),
    "lime_deduct": (LIME, 100),
    "lime_abduct": (LIME, 100),
    "k_shuffle_dyck": ({"length": 14, "types": 3}, 30),
    "k_dyck": ({"length": 14, "types": 3}, 30),
    "eca": ({"width": 24, "steps": 5}, 40),
    "nca": ({"grid": 4, "states": 4, "frames": 4, "min_complexity": 500}, 300),
    "brainfuck": ({"min_length": 8, "max_length": 20, "values": 10, "max_output": 8}, 40),
    "linear_rnn": ({"length": 16, "tokens": 12, "hidden": 8}, 40),
    "random_lstm": ({"length": 24, "tokens": 12}, 40),
    "copy": ({"min_length": 4, "max_length": 7}, 51),
    "needle": ({"pairs": 6}, 51),
    "mqar": ({"length": 24, "keys": 3}, 51),
    "verbatim": ({"min_items": 2, "max_items": 5, "gap": 6}, 51),
    "stack": ({"steps": 14}, 51),
    "mp_struct": ({}, 51),
    "chomsky": ({"min_length": 5, "max_length": 14}, 51),
    "depo": ({"max_nodes": 4, "queries": 2, "max_hops": 3, "letters": 6}, 51),
    "brevo": ({"max_nodes": 6, "letters": 8}, 51),
    "mano": ({"max_operations": 5}, 55),
    "lano": ({"levels": 4}, 51),
    "nonsense_summary": ({"min_sentences": 5, "max_sentences": 5, "max_words": 6}, 6000),
}
OTHER_SIZES = ({"min_length": 4, "max_length": 14}, 51)


def row_lines(name: str, count: int = 3) -> list[str]:
    """Return the first rows of a task as lines of text: input, target, an empty line."""
    task = get_task(name)
    parameters, size = SMALL_SIZES.get(name, OTHER_SIZES)
    settings = {"vocabulary": Vocabulary.plain(size), **parameters}

    lines = []
    for row in generate(name, 0, count, **settings).to_pylist():
        input_text = task.text(row["input_ids"], **settings)
        target_text = task.text(row["labels"], row=row["input_ids"], **settings)
        lines += [f"input   {input_text}", f"target  {target_text}", ""]
    return lines


def stripped(text: str) -> str:
    """Return a text without the indentation of its lines."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def lowest_loss(task: SyntheticTask) -> str:
    """Return the lowest loss that a model can have on a task's rows, as text."""
    loss = task.bayes_loss()
    if loss is None:
        return "not known"
    if loss.value == 0:
        return "0"
    error = f" ± {1.96 * loss.standard_error:.3f}" if loss.standard_error > 1e-9 else ""
    return f"{loss.value:.3f}{error} nats"


def task_section(name: str) -> str:
    """Return the section of one task: its description, its example, its facts, its rows."""
    task = get_task(name)
    definition, _, example = task.description.partition("\n\n")
    defaults = []
    for parameter, default in task.parameters.items():
        choices = " | ".join(default) if isinstance(default, tuple) else default
        defaults.append(f"{parameter}={choices}")

    rows = "\n".join(row_lines(name)).strip()
    picture = ""
    if name in PICTURES:
        file, caption = PICTURES[name]
        picture = f"\n![{caption}](pictures/{file})\n\n{caption}.\n"
    return (
        f"## {name}\n\n"
        f"{stripped(definition)}\n\n"
        f"```\n{stripped(example)}\n```\n\n"
        f"{task.paper} · version {task.version} · `{', '.join(defaults)}` · "
        f"lowest loss {lowest_loss(task)}\n\n"
        f"```\n{rows}\n```\n"
        f"{picture}"
    )


def render() -> str:
    """Return the gallery as Markdown."""
    return "\n".join([HEAD, *map(task_section, list_tasks())])


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(f"{len(list_tasks())} tasks in {TARGET.name}")
