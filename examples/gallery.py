"""Write GALLERY.md: every registered task with its definition, paper, parameters and three short rows, readable.

python examples/gallery.py        (make gallery)
"""

from pathlib import Path

from hf_synpre.tasks import generate, get_task, list_tasks
from hf_synpre.vocabulary import Vocabulary

TARGET = Path(__file__).with_name("GALLERY.md")
HEAD = """# The tasks

Generated from the registry by `make gallery`; do not edit. Rows are three of each task at small sizes: letters and digits
for content ids, `||` behind the task's name, `|` between arguments, `/` between words, `nothing` for an empty target.
Parameters are the papers' by default and keywords of `generate`; `order` and the like take one of the words listed.
"""
# Sizes at which a row fits a line: parameters and the number of ids of a plain vocabulary.
LIME = {"lower": 4, "math": 3, "max_math": 6, "max_string": 3, "min_math": 3}
SMALL = {
    "lime": (LIME, 100),
    "lime_induct": (LIME, 100),
    "lime_deduct": (LIME, 100),
    "lime_abduct": (LIME, 100),
    "nonsense_summary": ({"min_sentences": 5, "max_sentences": 5, "max_words": 6}, 6000),
}
OTHERS = ({"min_length": 4, "max_length": 14}, 51)


def rows_of(name: str, count: int = 3) -> list[str]:
    """Return rows of a task as lines of text."""
    task, (parameters, size) = get_task(name), SMALL.get(name, OTHERS)
    words, lines = Vocabulary.plain(size), []
    for row in generate(name, 0, count, vocabulary=words, **parameters).to_pylist():
        known = {"vocabulary": words, **parameters}
        lines.append(f"input   {task.text(row['input_ids'], **known)}")
        lines.append(f"target  {task.text(row['labels'], row=row['input_ids'], **known)}\n")
    return lines


def section(name: str) -> str:
    """Return the section of one task."""
    task = get_task(name)
    line, _, drawn = task.function.__doc__.partition("\n\n")
    line = "\n".join(part.strip() for part in line.splitlines())
    drawn = "\n".join(part.strip() for part in drawn.strip().splitlines())
    defaults = (
        f"{k}={' | '.join(v) if isinstance(v, tuple) else v}" for k, v in task.parameters.items()
    )
    body = "\n".join(rows_of(name)).strip()
    facts = f"{task.paper} · version {task.version} · `{', '.join(defaults)}`"
    return f"## {name}\n\n{line}\n\n```\n{drawn}\n```\n\n{facts}\n\n```\n{body}\n```\n"


def render() -> str:
    """Return the gallery as Markdown."""
    return "\n".join([HEAD, *map(section, list_tasks())])


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(f"{len(list_tasks())} tasks in {TARGET.name}")
