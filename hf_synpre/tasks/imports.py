"""Tasks of one's own: a Python file that a person names -> the tasks that it registers.

A file is only ever imported because somebody named it: on the command line (`--import`), in the
YAML file of an experiment (`imports:`), or by a call of `import_tasks`. What comes from the Hub, a
card or a checkpoint never names one. Worker processes import the files of the process that started
them, and check that these have not changed since.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from hf_synpre.errors import UsageError
from hf_synpre.tasks.registry import REGISTRY, load_families

# A library's or a file's own error is quoted up to so many characters.
LONGEST_CAUSE = 200


@dataclass(frozen=True)
class TaskFile:
    """A file of tasks as it was when this process imported it."""

    # Absolute, so that a worker finds it from any folder.
    path: Path
    # The digest of its bytes.
    digest: str
    # The tasks and mixtures that it registered.
    names: tuple[str, ...]


# Every file that this process has imported, in order.
IMPORTED: dict[Path, TaskFile] = {}


def import_tasks(*files: str | Path) -> list[str]:
    """Import Python files that register tasks; `get_task`, `generate` and all others know them.

    A file that is imported a second time is read again only where it has changed, and its tasks
    then replace those of the first time. A file stands for itself: helpers that it needs stand in
    it, because the digest of this file alone says whether a task has changed.

    Args:
        files: the names of the files. They run as any Python code does: name your own.

    Returns:
        The names of the tasks and mixtures that the files register.

    Raises:
        UsageError: there is no such file, it raises an error, it registers no task, or a task whose
            name is taken. Nothing of that file stays registered.

    Examples:
        >>> import_tasks("my_tasks.py")  # doctest: +SKIP
        ['rotate']
    """
    names: list[str] = []
    for file in files:
        names += _import_file(Path(file)).names
    return names


def import_tasks_of(values: Mapping[str, Any], yaml_file: str | Path) -> None:
    """Import the files that an experiment's YAML has under `imports`.

    Args:
        values: the content of the YAML file.
        yaml_file: the YAML file; names of files are relative to its folder.

    Raises:
        UsageError: `imports` is no list of file names, or a file cannot be imported.
    """
    files = values.get("imports") or []
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise UsageError(
            f"{yaml_file}.imports is {files!r}; give a list of Python files, as [my_tasks.py]."
        )
    import_tasks(*(Path(yaml_file).parent / file for file in files))


def imported_files() -> list[TaskFile]:
    """Return the files that this process has imported, for `import_again` in its workers."""
    return list(IMPORTED.values())


def import_again(files: Iterable[TaskFile]) -> None:
    """Import in a worker the files that the process which started it had imported.

    Raises:
        UsageError: a file is gone, or has changed since.
    """
    for file in files:
        known = IMPORTED.get(file.path)
        if known is None:
            known = _import_file(file.path)
        if known.digest != file.digest:
            raise UsageError(
                f"{file.path} was changed while a run that had imported it was going on; "
                "start the run again."
            )


def task_files(task: str | None) -> dict[str, str]:
    """Return what defines a task of one's own, or the tasks of a mixture.

    Recipes hold it, so that a run is not continued with another definition.

    Args:
        task: a task's name, or a mixture as "set:2,identity:1"; None for no task.

    Returns:
        The name of each file, without its folder -> the digest of its bytes; for a task of a
        notebook or script its own name -> the digest of its function. Empty for the tasks of
        hf_synpre.
    """
    if task is None:
        return {}
    digests = {file.path.name: file.digest for file in files_of_task(task)}
    for name in names_in(task):
        if name in REGISTRY and REGISTRY[name].is_interactive:
            digests[name] = code_digest(REGISTRY[name].function)
    return digests


def names_in(task: str) -> set[str]:
    """Return the names in a task's name: its own, those of a mixture, those of its components."""
    names = {part.strip().partition(":")[0] for part in task.split(",")}
    names = {name.removeprefix("shuffled-") for name in names}
    for name in list(names):
        if name in REGISTRY:
            names |= {component.name for component in REGISTRY[name].components}
    return names


def code_digest(function: Callable) -> str:
    """Return a digest of a Python function's code and constants."""
    code = getattr(function, "py_func", function).__code__
    constants = [constant for constant in code.co_consts if not isinstance(constant, CodeType)]
    text = f"{code.co_code.hex()} {constants} {code.co_names}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


def files_of_task(task: str) -> list[TaskFile]:
    """Return the imported files that define a task, or the tasks of a mixture by name."""
    names = names_in(task)
    return [file for file in IMPORTED.values() if names & set(file.names)]


def restored_task(name: str, files: list[TaskFile]) -> Any:
    """Return a pickled task: the one of this process by its name.

    Args:
        name: the name of the task or mixture.
        files: the imported files that define it.

    Raises:
        UsageError: this process has no such task, or a file has changed.
    """
    from hf_synpre.tasks import get_task

    import_again(files)
    return get_task(name)


def check_workers_know(task: str | None) -> None:
    """Raise UsageError on a task that a notebook defines, where worker processes would need it.

    They import a file or a script again, but not the cells of a notebook.

    Args:
        task: a task's name, or a mixture as "set:2,identity:1"; None for no task.
    """
    from hf_synpre.tasks import get_task

    if task is None or hasattr(sys.modules["__main__"], "__file__"):
        return
    whole = get_task(task)
    for part in whole.components or (whole,):
        if part.is_interactive:
            raise UsageError(
                f"The task '{part.name}' is defined in a notebook, whose worker processes do not "
                'know it; put it into a file and call import_tasks("my_tasks.py"), or give jobs 1.'
            )


def _import_file(file: Path) -> TaskFile:
    """Import one file; return it as it was before where it has not changed."""
    try:
        path = file.resolve()
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"There is no file {file} to import ({error.strerror}); give the Python file that "
            "registers your tasks."
        ) from None
    digest = blake2b(source, digest_size=16).hexdigest()
    known = IMPORTED.get(path)
    if known is not None and known.digest == digest:
        return known

    # The tasks of an earlier version make way; they come back if this version cannot be imported.
    load_families()
    earlier = {name: REGISTRY.pop(name) for name in (known.names if known else ())}
    before = set(REGISTRY)
    try:
        _run(path, source, digest)
        names = tuple(name for name in REGISTRY if name not in before)
        if not names:
            raise UsageError(
                "it registers no task; decorate a function by @register_task "
                "(docs/synthetic_tasks.md)."
            )
    except UsageError as error:
        for name in REGISTRY.keys() - before:
            del REGISTRY[name]
        REGISTRY.update(earlier)
        raise UsageError(f"{file} cannot be imported: {error}") from error

    IMPORTED[path] = TaskFile(path, digest, names)
    return IMPORTED[path]


def _run(path: Path, source: bytes, digest: str) -> None:
    """Run the source of a file as a module of its own.

    The bytes are those of the digest, whatever Python's cache of compiled modules holds.

    Raises:
        UsageError: the code cannot be read as Python, or raises an error.
    """
    module = ModuleType(f"synpre_import_{path.stem}_{digest}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        line = _line_in(path, error)
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_CAUSE]
        raise UsageError(f"line {line} raised {cause}; mend the file.") from error


def _line_in(path: Path, error: BaseException) -> int:
    """Return the last line of a file that was running when an error was raised."""
    line = getattr(error, "lineno", None) or 1
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
