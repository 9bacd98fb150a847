"""Check that every published row of the reference system follows from its input.

`--data_dir` holds the `published_samples` (ten rows a task; docs/papers.md, "Simple tasks") and,
optionally, `tokenizers/t5-small`, against which the stored ids of T5 are checked too.

    python benchmarks/published_rows.py --data_dir DIR

The result is benchmarks/results/published_rows.json.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from hf_synpre.tasks import get_task, nonsense
from hf_synpre.vocabulary import Vocabulary

RESULT = Path(__file__).parent / "results" / "published_rows.json"


def check_task(path: Path) -> tuple[int, int]:
    """Return (rows that derive, rows) of one file of `[input]<TAB>[target]` lines."""
    task = get_task(path.stem)
    settings = {"order": "reference"} if "order" in task.parameters else {}
    rows = [
        [json.loads(ids) for ids in line.split("\t")]
        for line in path.read_text().splitlines()
        if line.strip()
    ]
    good = sum(
        task.solve(x, **settings).tolist() == y and task.score(x, y, **settings) for x, y in rows
    )
    return good, len(rows)


def check_facts(folder: Path) -> dict[str, bool]:
    """Return which of the stored T5 facts the real tokenizer confirms."""
    from transformers import PreTrainedTokenizerFast

    special_tokens = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    file = str(folder / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, **special_tokens)
    stored, asked = Vocabulary.t5(), Vocabulary.from_tokenizer(tokenizer)
    without_numbers = replace(asked, numbers=())
    return {
        "same_vocabulary": stored == asked,
        "numbers_0_220": all(
            ids == without_numbers.number_ids(number) for number, ids in enumerate(stored.numbers)
        ),
        "nonsense_words": nonsense.t5_pieces()
        == nonsense.tokenizer_pieces(tokenizer, nonsense.STORED_WORDS),
    }


def main() -> int:
    """Check, print the count, write the JSON; exit code 1 where a row or a fact fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", type=Path)
    folder = parser.parse_args().data_dir
    if folder is None:
        print("Skipped: give --data_dir, the folder with the published samples.")
        return 0
    samples = folder / "published_samples" if (folder / "published_samples").is_dir() else folder
    counts = {path.stem: check_task(path) for path in sorted(samples.glob("*.txt"))}
    good, rows = (
        (sum(column) for column in zip(*counts.values(), strict=True)) if counts else (0, 0)
    )
    if not rows:
        print(
            f"No *.txt rows in {samples}; give the folder with the published samples.",
            file=sys.stderr,
        )
        return 2
    tokenizer = samples.parent / "tokenizers" / "t5-small"
    facts = check_facts(tokenizer) if tokenizer.is_dir() else {}
    RESULT.parent.mkdir(exist_ok=True)
    tasks = {name: {"derived": a, "rows": b} for name, (a, b) in counts.items()}
    RESULT.write_text(
        json.dumps({"derived": good, "rows": rows, "tasks": tasks, "t5_facts": facts}, indent=2)
        + "\n"
    )
    print(
        f"{good} of {rows} published rows follow from their inputs; "
        f"stored ids of T5: {facts or 'no tokenizer at hand'}"
    )
    return 0 if good == rows and all(facts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
