"""Columns of numbers in data of one's own: when they are predicted as numbers, and what is refused.

Run: pytest tests/finetuning/test_number_guesses.py
"""

import csv

import pytest
from datasets import Dataset

from hf_synpre.errors import UsageError
from hf_synpre.finetuning import LabelTask
from hf_synpre.finetuning.guess import guess_fields
from hf_synpre.finetuning.label_names import texts_among_numbers, unit_of_numbers
from hf_synpre.finetuning.own_data import choose_task

ROWS = 400
CHAINS = ["C" * (i % 7) + "O" * (i // 7 % 8) + "N" * (i // 56) + "F" for i in range(ROWS)]
COUNTS = [i % 9 for i in range(ROWS)]
BOILING = [300 + i % 199 for i in range(ROWS)]  # whole numbers, each of them twice
MELTING = [i / 7 for i in range(ROWS)]


def guess(columns, **given):
    return guess_fields(Dataset.from_dict({"smiles": CHAINS} | columns), given, "r.csv")


@pytest.mark.parametrize("asked", [{"head": "number"}, {"metric": "rmse"}, {"metric": "mae"}])
def test_whole_numbers_are_predicted_as_numbers_where_that_is_asked(asked):
    expected = {"head": "number", "text": ["smiles"], "label": ["bp"]}
    assert guess({"bp": BOILING}, **asked) == expected | asked
    assert guess({"bp": BOILING, "id": list(range(ROWS))}, **asked) == expected | asked
    assert guess({"bp": [300] * ROWS}, **asked)["label"] == ["bp"]
    assert guess({"bp": BOILING})["head"] == "classes"


def test_the_only_numbers_beside_texts_are_predicted():
    texts = [f"row {i} of this file" for i in range(ROWS)]
    assert guess({"mp": MELTING}) == {"head": "number", "text": ["smiles"], "label": ["mp"]}
    assert guess({"note": texts, "mp": MELTING})["text"] == ["smiles", "note"]


@pytest.mark.parametrize("asked", [{}, {"head": "number"}])
@pytest.mark.parametrize("columns", [{"bp": COUNTS, "mp": MELTING}, {"a": MELTING, "b": MELTING}])
def test_two_columns_of_numbers_are_not_chosen_between(columns, asked):
    with pytest.raises(UsageError, match="which are meant is not clear"):
        guess(columns, **asked)
    (first, _) = columns
    assert guess(columns, label=[first], **asked)["label"] == [first]


def write(path, values):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["smiles", "bp"])
        rows.writerows(zip(CHAINS, values, strict=True))
    return str(path)


def test_classes_that_may_be_counts_are_said(tmp_path):
    remarks = choose_task(write(tmp_path / "a.csv", COUNTS), {}).remarks
    said = "bp holds whole numbers, which are taken for classes; --head number predicts a number."
    assert said in remarks
    binary = [i % 2 for i in range(ROWS)]
    assert said not in choose_task(write(tmp_path / "b.csv", binary), {}).remarks
    given = {"head": "classes"}
    assert said not in choose_task(write(tmp_path / "c.csv", COUNTS), given).remarks


@pytest.mark.parametrize(
    ("values", "unit", "taken"),
    [
        ([f"{number} K" for number in COUNTS], "K", "classes"),
        ([f"{number:.2f} °C" for number in MELTING], "°C", "a text to generate"),
        ([f"${number},000" for number in COUNTS], "$", "classes"),
    ],
)
def test_numbers_with_a_unit_are_said(tmp_path, values, unit, taken):
    assert unit_of_numbers(values) == unit
    (said,) = [r for r in choose_task(write(tmp_path / "a.csv", values), {}).remarks if unit in r]
    assert said.startswith(f"bp holds numbers with '{unit}', such as '{values[0]}', which are")
    assert f"taken for {taken}; --head number predicts a number, from a column without it." in said


@pytest.mark.parametrize("values", [["1", "2", "3"], ["1 star", "2 stars", "3 stars"], ["b12"] * 3])
def test_other_texts_have_no_unit(values):
    assert unit_of_numbers([*values, None]) is None
    assert unit_of_numbers(values) is None


def with_slips(numbers):
    return [*map(str, numbers[:-2]), "decomposes", ">300"]


def test_texts_among_numbers_are_named(tmp_path):
    assert texts_among_numbers(with_slips(BOILING)) == ["decomposes", ">300"]
    assert texts_among_numbers(["a", "b", "1"]) == []
    assert texts_among_numbers([1, 2, 3]) == []
    named = "the 2 cells that hold text, such as 'decomposes'"

    # Guessed as classes, as text to generate, and given as numbers.
    repeated, single = (write(tmp_path / f"{i}.csv", with_slips(BOILING)) for i in range(2))
    task = LabelTask("bp", "classes", [["smiles"]], [["bp"]])
    with pytest.raises(UsageError, match=f"or mend {named}, and give --head number"):
        task_names(task, repeated)
    write(tmp_path / "1.csv", with_slips(MELTING))
    with pytest.raises(UsageError, match="bp has numbers but for the 1 cell that holds text, such"):
        choose_task(single, {})
    number = LabelTask("bp", "number", [["smiles"]], [["bp"]], hold_out=True)
    with pytest.raises(UsageError, match="holds text, no labels of the head number; mend or empty"):
        number.load(repeated)
    assert choose_task(repeated, {"head": "number"}).definition["label"] == ["bp"]


def task_names(task, file):
    from hf_synpre.finetuning import find_head

    rows = Dataset.from_csv(file)
    return find_head(task.head).label_names(task, rows)


def test_one_number_is_predicted():
    with pytest.raises(UsageError, match=r"the label bp \+ mp; a model predicts one number, name"):
        LabelTask("two", "number", [["smiles"]], [["bp", "mp"]])
