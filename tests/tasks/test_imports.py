"""Tasks of one's own from a file: imported by name, known to workers, refused in one line.

Run: pytest tests/tasks/test_imports.py
"""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hf_synpre import (
    UsageError,
    generate,
    get_task,
    import_tasks,
    list_tasks,
    load_synthetic,
)
from hf_synpre.cli import main
from hf_synpre.data.recipes import Recipe
from hf_synpre.data.shards import build_shards, read_configs
from hf_synpre.hub import cards, rebuild
from hf_synpre.tasks import imports, streams

ROOT = Path(__file__).parents[2]
ROTATE = '''from hf_synpre.tasks import register_mixture, register_task, samplers


@register_task(samplers.uniform, paper="mine", min_length=3, max_length=6)
def rotate(x, y, p):
    """Return the input rotated by one.

    input   a b c
    target  b c a
    """
    n = len(x)
    for i in range(n):
        y[i] = x[(i + 1) % n]
    return n
'''
IN_PROCESS = """
from hf_synpre import generate
print(generate("rotate", 0, 1, vocabulary=64).to_pylist()[0]["labels"])
"""


@pytest.fixture
def write(tmp_path, forgotten_tasks):
    """Return the function that writes a file of tasks; what was imported is forgotten later."""

    def write_file(source, name="my_tasks.py"):
        (tmp_path / name).write_text(source)
        return tmp_path / name

    return write_file


def test_an_imported_task_is_a_task_as_any_other(write):
    assert import_tasks(write(ROTATE)) == ["rotate"]
    assert list_tasks()[-1] == "rotate"
    row = generate("rotate", 0, 1, vocabulary=64).to_pylist()[0]
    _, _, first, *others = row["input_ids"]
    assert row["labels"] == [*others, first]


def test_a_file_that_changed_replaces_its_tasks_and_one_that_did_not_does_nothing(write):
    import_tasks(write(ROTATE))
    task = get_task("rotate")
    assert import_tasks(write(ROTATE)) == ["rotate"]
    assert get_task("rotate") is task
    assert import_tasks(write(ROTATE.replace("rotate", "turn"))) == ["turn"]
    assert "rotate" not in list_tasks()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "it registers no task; decorate a function by @register_task"),
        ("\n1 / 0", "line 2 raised ZeroDivisionError: division by zero; mend the file"),
        ("\n\ndef f(:", "line 3 raised SyntaxError"),
        ("import sys\nsys.exit(3)", "line 2 raised SystemExit: 3"),
        ("import nothing_of_this_name", "line 1 raised ModuleNotFoundError: No module named"),
        (ROTATE.replace("rotate", "reverse"), "A task 'reverse' is registered already; choose"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_and_leaves_nothing(source, message, write):
    import_tasks(write(ROTATE))
    tasks = list_tasks()
    with pytest.raises(UsageError, match=f"my_tasks.py cannot be imported: {message}") as error:
        import_tasks(write(source))
    assert "\n" not in str(error.value)
    assert list_tasks() == tasks, "the tasks of the version before are back"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no file .*none.py to import .* registers your tasks"):
        import_tasks(tmp_path / "none.py")


def test_a_pickled_task_brings_its_file_and_refuses_a_changed_one(write):
    file = write(
        ROTATE + '\n\n@register_mixture({"set": 1, "rotate": 1}, paper="mine")\n'
        'def mixed():\n    """Of both."""\n'
    )
    import_tasks(file)
    kept = pickle.dumps([get_task(name).open_stream() for name in ("rotate", "mixed")])
    mixed = pickle.dumps(get_task("set:1,rotate:2"))
    code = (
        "import pickle, sys, numpy; first, second = pickle.loads(sys.stdin.buffer.read()); "
        "print(first.rows(numpy.array([3]))[2].tolist(), second.task.name)"
    )
    worker = [sys.executable, "-c", code]
    done = subprocess.run(worker, input=kept, capture_output=True)
    expected = f"{generate('rotate', 3, 4)['labels'][0].as_py()} mixed"
    assert done.stdout.decode().strip() == expected
    assert pickle.loads(mixed).components[1] is get_task("rotate")

    file.write_text(file.read_text() + "\n")
    done = subprocess.run(worker, input=kept, capture_output=True)
    assert b"was changed while a run that had imported it was going on" in done.stderr


def test_a_task_may_come_from_standard_input(tmp_path):
    done = subprocess.run(
        [sys.executable, "-"], input=ROTATE + IN_PROCESS, capture_output=True, text=True
    )
    assert (done.stderr, done.stdout[0]) == ("", "[")


@pytest.mark.parametrize("names", [{"__name__": "__main__"}, {}], ids=["notebook", "exec"])
def test_a_notebook_may_define_its_task_again(names, write):
    exec(ROTATE, names)
    assert generate("rotate", 0, 1, vocabulary=64).num_rows == 1
    exec(ROTATE.replace("Return the", "Give the"), names)
    assert get_task("rotate").description.startswith("Give the")


def test_a_function_that_cannot_be_compiled_is_named_with_its_line(write):
    import_tasks(write(ROTATE.replace("n = len(x)", "n = x.count")))
    with pytest.raises(UsageError, match=r"rotate .* cannot be compiled: Unknown .*py, line 11\)"):
        generate("rotate", 0, 1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y[n + i] = x[i]", r"leaves its arrays on an input of \d ids \(index 6 .* room for 6 ids"),
        ("y[i] = x[i + 1]", r"leaves its arrays on an input of \d ids \(index \d is out of bounds"),
        ("y[0] = x[0]", r"y\[1\] is not written on an input of \d ids"),
        ("y[i] = x[i] - 9999", r"y\[0\] is -\d+ on an input of \d ids, .*; write ids of 0..63"),
    ],
)
def test_a_function_that_would_write_over_other_memory_is_stopped(body, message, write):
    import_tasks(write(ROTATE.replace("y[i] = x[(i + 1) % n]", body)))
    with pytest.raises(UsageError, match=f"rotate: .*{message}"):
        generate("rotate", 0, 50, vocabulary=64)


def test_a_row_that_is_longer_than_its_bounds_is_stopped(write, monkeypatch):
    monkeypatch.setattr(streams, "LONGEST_TRIAL", 0)
    import_tasks(write(ROTATE.replace("return n", "return 7")))
    with pytest.raises(
        UsageError, match=r"row 0 is longer than register_task says .* give bounds="
    ):
        generate("rotate", 0, 50, vocabulary=64)


def test_the_command_line_imports_the_file_that_it_names(write, capsys):
    file = str(write(ROTATE))
    assert main(["generate", "rotate", "--import", file, "--stop", "2"]) == 0
    assert capsys.readouterr().out.count("input_ids") == 2
    assert main(["tasks", "rotated", "--import", file]) == 2
    assert "Did you mean 'rotate'?" in capsys.readouterr().err
    assert main(["tasks", "--import", f"{file},none.py"]) == 2
    assert "There is no file none.py to import" in capsys.readouterr().err


def test_a_dataset_names_the_file_that_defines_its_task(write, tmp_path):
    import_tasks(write(ROTATE))
    recipe = Recipe("rotate", vocabulary=64, splits={"train": 20})
    build_shards(recipe, "default", tmp_path / "rotate")
    (definition,) = [config["task_files"] for config in read_configs(tmp_path / "rotate").values()]
    assert definition == imports.task_files("rotate")
    cards.write_dataset_card(tmp_path / "rotate", "me/rotate")
    assert "--import my_tasks.py" in (tmp_path / "rotate" / "README.md").read_text()
    assert rebuild(tmp_path / "rotate", say=str)

    import_tasks(write(ROTATE.replace("(i + 1)", "(i + 2)")))
    recipe = Recipe("rotate", vocabulary=64, splits={"train": 20})
    with pytest.raises(UsageError, match="was built with another task_files; choose another"):
        build_shards(recipe, "default", tmp_path / "rotate")
    assert not rebuild(tmp_path / "rotate", say=str)


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "notebook"])
def test_the_cache_never_serves_the_rows_of_another_definition(is_file, write, tmp_path):
    def labels(source):
        if is_file:
            import_tasks(write(source))
        else:
            exec(source, {"__name__": "__main__"})
        rows = load_synthetic("rotate", size=2, vocabulary=64, cache_dir=str(tmp_path))
        return rows["labels"][0], imports.task_files("set:1,rotate:1")

    first, second = labels(ROTATE), labels(ROTATE.replace("(i + 1)", "(i + 2)"))
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert labels(ROTATE) == first


def python_blocks(page):
    text = (ROOT / page).read_text()
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)


def test_the_example_of_contributing_runs_as_pasted(write):
    example, oracle = (block for block in python_blocks("CONTRIBUTING.md") if "rotate" in block)
    import_tasks(write(example))
    solve = eval(f"{{{oracle}}}")["rotate"]
    row = generate("rotate", 0, 1).to_pylist()[0]
    assert solve(row["input_ids"][2:], None) == row["labels"]


def test_the_file_and_the_commands_of_the_page_of_tasks_run(write, monkeypatch, capsys):
    page = "docs/synthetic_tasks.md"
    (source,) = (block for block in python_blocks(page) if "def rotate" in block)
    monkeypatch.chdir(write(source).parent)
    commands = re.findall(r"^synpre (.*--import.*)$", (ROOT / page).read_text(), flags=re.M)
    assert [command.split()[0] for command in commands] == ["tasks", "generate", "pretrain"]
    runs = []
    monkeypatch.setattr(
        "hf_synpre.training.pretraining.pretrain", lambda spec, *_, **__: runs.append(spec) or {}
    )
    for command in commands:
        assert main(command.split()) == 0, capsys.readouterr().err
    (spec,) = runs
    spec.validate()
    assert (spec.task, spec.training["max_steps"]) == ("rotate", 200)
