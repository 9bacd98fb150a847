"""A surface: what kind of input it is, and helpers that write files and run commands."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import yaml
from hypothesis import strategies as st
from inputs import as_json

from hf_synpre.cli import main
from hf_synpre.errors import UsageError


class StartedError(Exception):
    """Nothing was refused, and the work of a command would begin."""


class Surface(NamedTuple):
    """A kind of input from outside."""

    values: st.SearchStrategy[Any]
    # Called with a folder and an input: writes the input's files.
    write: Callable[[Path, Any], Any]
    # Called with the same, in the folder: reads them.
    read: Callable[[Path, Any], Any]
    # What may be written begins with this name, as seen from the folder above.
    target: str = "input/output"
    # The share of the examples, where reading one takes long.
    share: float = 1.0
    # A file of the folder that the command keeps for itself, and may write anew.
    own_file: str = ""


def text_file(name: str, reader: Callable[[Path], Any], values: st.SearchStrategy) -> Surface:
    """Return the surface of a file of text or bytes."""

    def write(folder: Path, content: str | bytes) -> None:
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        (folder / name).write_bytes(content)

    return Surface(values, write, lambda folder, _: reader(folder / name))


def write_json(name: str) -> Callable[[Path, Any], None]:
    """Return a function that writes a value as a JSON file of this name."""

    def write(folder: Path, value: Any) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(as_json(value))

    return write


def write_readme(folder: Path, value: Any) -> None:
    """Write a value as the header of a README."""
    text = yaml.safe_dump(value)
    (folder / "README.md").write_text(f"---\n{text}---\n")


def nothing(folder: Path, _: Any) -> None:
    """Write nothing: the input is given as it is."""


# Where the work of commands begins. The first one is a name of the second, and its module must be
# imported before that is replaced.
WORK = (
    "hub.reproduce.pretrain",
    "training.warm_up.WarmUp",
    *("training.pretraining.pretrain", "experiments.Experiment.run", "data.shards.build_shards"),
    "hub.push",
)


def run_command(*words: str) -> None:
    """Run a command up to where its work would begin. Raises UsageError as it is said."""

    def start(*arguments: Any, **keywords: Any) -> Any:
        raise StartedError

    said = io.StringIO()
    with contextlib.ExitStack() as stack:
        for name in WORK:
            stack.enter_context(mock.patch(f"hf_synpre.{name}", start))
        stack.enter_context(contextlib.redirect_stderr(said))
        code = main([*words])
    assert code in (0, 2), f"exit code {code}: {said.getvalue()[-500:]}"
    if code == 2:
        last = said.getvalue().splitlines()[-1]
        assert last.startswith("synpre: "), f"no message: {said.getvalue()[-500:]}"
        raise UsageError(last.removeprefix("synpre: "))


def list_cells(folder: Path, _: Any) -> None:
    """List the cells of an experiment."""
    run_command("run", "e.yaml", "--list", "--output_dir", "output")
