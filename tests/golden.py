"""golden.json: the sha256 of the first 1,000 rows of every task and version, default settings.

`python -m tests.golden` rewrites it. A hash may only change together with the task's version.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from hf_synpre.tasks import get_task, list_tasks, open_stream

FILE = Path(__file__).with_name("golden.json")


def digest(task: str, rows: int = 1000, **parameters: int | str) -> str:
    """Return the sha256 of the first rows of a task: ids and offsets, inputs and targets."""
    parts = open_stream(task, **parameters).rows(np.arange(rows, dtype=np.int64))
    return hashlib.sha256(b"".join(part.astype("<i4").tobytes() for part in parts)).hexdigest()


def main() -> int:
    """Rewrite golden.json; refuse to change a hash whose version has stayed."""
    old = json.loads(FILE.read_text()) if FILE.exists() else {}
    new = {f"{name} v{get_task(name).version}": digest(name) for name in list_tasks()}
    changed = [key for key in new if key in old and old[key] != new[key]]
    if changed:
        print(
            f"The rows of {', '.join(changed)} changed: raise the version in register_task.",
            file=sys.stderr,
        )
        return 1
    FILE.write_text(json.dumps(old | new, indent=1) + "\n")
    print(f"{len(new)} tasks in {FILE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
