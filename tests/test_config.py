"""Dataclasses from YAML and flags: types, former names of fields, the form that is stored.

Run: pytest tests/test_config.py
"""

from dataclasses import dataclass
from typing import Any

import pytest

from hf_synpre.config import build_spec, current_names, differences, option, read_yaml, stored_form
from hf_synpre.errors import UsageError


@dataclass
class Inner:
    rate: float = option("The learning rate.", 0.1, former="speed")


@dataclass
class Outer:
    steps: int = option("Steps of the run.")
    inner: Inner = option("What is inside.", default_factory=Inner)
    parts: dict[str, Inner] = option("Named parts.", default_factory=dict)
    names: list[str] | None = option("Names.", None)
    anything: Any = option("Anything.", None)


def test_a_mapping_becomes_a_dataclass_with_those_inside_it():
    values = {"steps": 3, "inner": {"rate": 1}, "parts": {"a": {"rate": 2e-3}}, "names": ["x"]}
    spec = build_spec(Outer, values, "file")
    assert spec == Outer(3, Inner(1.0), {"a": Inner(2e-3)}, ["x"])
    assert isinstance(spec.inner.rate, float)


def test_a_former_name_is_read_and_is_what_is_stored():
    spec = build_spec(Outer, {"steps": 3, "inner": {"speed": 2}}, "file")
    assert spec.inner.rate == 2.0
    stored = stored_form(spec)
    assert stored["inner"] == {"speed": 2.0}
    assert build_spec(Outer, stored, "file") == spec


def test_a_number_of_floating_point_may_be_written_as_a_long_integer():
    assert build_spec(Inner, {"rate": 10**300}, "file") == Inner(1e300)


def test_a_stored_form_shares_nothing_with_its_dataclass():
    spec = Outer(3, names=["x"], anything={"a": [1]})
    stored = stored_form(spec)
    stored["names"].append("y")
    stored["anything"]["a"].append(2)
    assert (spec.names, spec.anything) == (["x"], {"a": [1]})


def test_a_name_beside_its_former_name_is_refused():
    with pytest.raises(UsageError, match="file has rate and speed, which is its former name"):
        current_names(Inner, {"rate": 1, "speed": 2}, "file")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (3, "file is 3; give keys and values: steps, inner, parts, names, anything."),
        ({}, "file lacks the key 'steps'."),
        ({"steps": 1, "step": 2}, "Unknown key in file 'step'. Did you mean 'steps'?"),
        ({"steps": "x"}, "file.steps is 'x'; give an integer. It means: Steps of the run."),
        ({"steps": True}, "file.steps is True; give an integer."),
        ({"steps": 1, "inner": {"rate": "fast"}}, "file.inner.rate is 'fast'; give a number."),
        ({"steps": 1, "names": [3]}, r"file.names\[0\] is 3; give a text."),
        ({"steps": 1, "inner": {"rate": float("nan")}}, "file.inner.rate is nan; give a finite"),
        ({"steps": 1, "anything": {"a": [float("inf")]}}, "file.anything.a.0 is inf; give a fin"),
        ({"steps": 1, None: 2}, "Unknown key in file 'None'"),
        ({"steps": 2**63}, "file.steps is 9223372036854775808; give a number of at most 64 bits"),
        ({"steps": -(10**5000)}, "an integer of more than 4,300 digits; give a number of at most"),
        ({"steps": 1, "anything": [2**64]}, "file.anything.0 is 18446744073709551616; give a num"),
        ({"steps": 1, "inner": {"rate": 10**309}}, "file.inner.rate is 1000.* give a number of"),
        ({"steps": 1, "names": ["a\0"]}, r"file.names\[0\] is 'a\\x00'; give a text without"),
        ({"steps": 1, "anything": {"a": "\ud800"}}, r"file.anything.a is '\\ud800'; give a text"),
        ({"steps": "x" * 10_000}, r"file.steps is 'x{299} \.\.\.; give an integer"),
    ],
)
def test_bad_values_are_one_clear_line(values, message):
    with pytest.raises(UsageError, match=message):
        build_spec(Outer, values, "file")


def test_two_recipes_differ_in_named_options():
    stored = {"task": "set", "training": {"max_steps": 2, "seed": 1}, "window": 64}
    wanted = {"task": "sort", "training": {"max_steps": 3, "optim": "adamw"}, "window": 64}
    assert differences(stored, wanted) == (
        "task: set before, sort now; training.max_steps: 2 before, 3 now; "
        "training.seed: 1 before, absent now; training.optim: absent before, adamw now"
    )
    many = {str(number): number for number in range(9)}
    assert differences(many, {}).endswith("3: 3 before, absent now; and 5 more")


ALIASES = "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a0: &a0 [1, 2]\n{ALIASES}", "it has more than 50,000 values"),
        ("x: &x {a: 1, b: 2}\n" + f"y: {{<<: [{'*x, ' * 20_000}]}}", "more than 50,000 values"),
        ("a: &a [*a]", "an alias stands inside of what it stands for"),
        ("[" * 100_000, "more than 50 lists or mappings inside each other"),
        ("a: " + "9" * 10_000, "a number has more than 400 digits"),
        ("a: 1" + ":1" * 10_000, "a number has more than 400 digits"),
        ("a: 1\nb: 2\na: 3", "the key 'a' is given twice in line 1, column 1"),
        ("a: !!timestamp x", "could not determine a constructor for the tag"),
        ("a: !!int ''", "string index out of range"),
        ("[1]: 2", "unhashable key"),
        ("x" * 2**21, "has more than 1,048,576 letters of YAML"),
    ],
    ids=lambda value: value[:20],
)
def test_yaml_out_of_bounds_is_refused(text, message, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_yaml(file)
    assert len(str(caught.value)) < 600


def test_yaml_values_are_those_of_json(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {b: 1e-3}\nc: {<<: *a, d: 2001-01-01}\n")
    expected = {"a": {"b": 0.001}, "c": {"b": 0.001, "d": "2001-01-01"}}
    assert read_yaml(tmp_path / "a.yaml") == expected
