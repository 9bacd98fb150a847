"""parameter_statistics.json: what is refused in it, and where `synpre statistics` writes it.

Run: pytest tests/initialization/test_statistics_files.py
"""

import json

import pytest
from small_models import query_sd

from hf_synpre import ParameterStatistics, UsageError
from hf_synpre.cli import main
from hf_synpre.initialization import STATISTICS_FILE, statistics


def entry(**changes):
    return {"name": "w", "shape": [2, 3], "numel": 6, "mean": 0.0, "sd": 1.0} | changes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "has format 9"),
        ({"parameters": [entry(sd=-1.0)]}, "w has mean 0.0, sd -1.0; both must be finite, sd >= 0"),
        ({"parameters": [entry(mean=float("nan"))]}, "w has mean nan, sd 1.0; both must be finite"),
        ({"parameters": [entry(numel=5)]}, r"w has shape \[2, 3\], which does not hold numel 5"),
        ({"parameters": [entry(shape=[-2, -3])]}, r"w has shape \[-2, -3\]"),
        ({"parameters": [entry(), entry()]}, "holds w twice"),
        ({"parameters": [{"name": "w"}]}, "is not a statistics file"),
        (
            {"parameters": [{k: v for k, v in entry().items() if k != "name"}]},
            r"is not a statistics file \('name'\)",
        ),
        ({"parameters": [3]}, "is not a statistics file"),
        ({"parameters": [entry(mean="x")]}, "is not a statistics file"),
        ({"parameters": None}, "is not a statistics file"),
        (None, "is not valid JSON"),
    ],
)
def test_broken_statistics_files_are_named(tmp_path, change, message):
    content = "{"
    if change is not None:
        content = json.dumps({"format": 1, "source": "x", "parameters": []} | change)
    (tmp_path / STATISTICS_FILE).write_text(content)
    with pytest.raises(UsageError, match=message):
        ParameterStatistics.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": 10**400}, "numbers that no parameter has"),
        ({"sd": 1e308}, "numbers that no parameter has"),
        ({"shape": [1.5, 1280]}, "numbers that no parameter has"),
        ({"shape": [1] * 65}, "numbers that no parameter has"),
        ({"shape": [2**127 - 1] * 100_000}, "numbers that no parameter has"),
        ({"name": ""}, "holds a parameter without a name"),
        ({"name": None}, "is not a statistics file"),
        (None, "holds no parameters in floating point"),
    ],
)
def test_statistics_that_no_model_has_are_refused(change, message, tmp_path):
    entries = [] if change is None else [entry(**change)]
    content = {"format": 1, "source": "x", "parameters": entries}
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=message):
        ParameterStatistics.load(tmp_path / "s.json")


def test_a_file_of_brackets_is_one_line(tmp_path):
    (tmp_path / "s.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match=r"is not valid JSON .it is nested too deep"):
        ParameterStatistics.load(tmp_path / "s.json")


def test_a_file_that_no_statistics_are_as_large_as_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "s.json").write_text("{" + " " * 100)
    monkeypatch.setattr(statistics, "LARGEST_FILE", 64)
    with pytest.raises(UsageError, match="is larger than 0 MB, which no statistics file is"):
        ParameterStatistics.load(tmp_path / "s.json")


def test_a_statistics_file_replaces_the_weights_of_its_checkpoint(t5_checkpoint, tmp_path):
    stats = ParameterStatistics.from_pretrained(t5_checkpoint)
    stats.save(tmp_path / "mine.json")
    assert ParameterStatistics.from_pretrained(tmp_path / "mine.json") == stats


def test_the_verb_measures_again_where_there_are_weights(llama_checkpoint, capsys):
    (llama_checkpoint / "parameter_statistics.json").write_text("{broken")
    assert main(["statistics", str(llama_checkpoint)]) == 0
    assert query_sd(llama_checkpoint) > 0


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_the_verb_replaces_no_other_file(llama_checkpoint, name, capsys):
    before = (llama_checkpoint / name).read_bytes()
    arguments = ["--output_file", str(llama_checkpoint / name)]
    assert main(["statistics", str(llama_checkpoint), *arguments]) == 2
    error = capsys.readouterr().err
    assert "is there and holds something else; give another --output_file" in error
    assert (llama_checkpoint / name).read_bytes() == before


def test_statistics_of_another_model_are_not_put_beside_weights(
    llama_checkpoint, monkeypatch, capsys
):
    monkeypatch.chdir(llama_checkpoint)
    assert main(["statistics", "synpre/t5-mini-set"]) == 2
    assert "holds the weights of another model" in capsys.readouterr().err
    assert not (llama_checkpoint / "parameter_statistics.json").exists()
