"""Checkpoints and results that anybody may have made: what the page shows, and its one line.

Run: pytest tests/space/test_space_files.py
"""

import base64
import json
import pickle
import re
import shutil
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import bounded_calls
import hub_files
import interface
import limits
import pytest
import results_page
import statistics_page
from results_page import report_of_folder, report_of_zip
from statistics_page import CheckpointPage, read_folder, read_upload

from hf_synpre import UsageError
from hf_synpre.initialization import bundled_checkpoints

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "results" / "quickstart"
T5 = bundled_checkpoints()["synpre/t5-mini-set"]
HOSTILE = "<img src=x onerror=alert(1)>"


def refused(function, *arguments):
    """Return the line that a call ends with."""
    with pytest.raises(UsageError) as caught:
        function(*arguments)
    (line,) = str(caught.value).splitlines()
    return line


def write(folder, name, content):
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


# --- Statistics -----------------------------------------------------------------------------------


def test_a_released_checkpoint_has_roles_layers_and_plots(folder):
    page = read_folder(folder, T5, "synpre/t5-mini-set")
    assert "<b>synpre/t5-mini-set</b>: 47 tensors, 935,936 numbers" in page.summary
    assert "Roles are those of T5ForConditionalGeneration." in page.summary
    assert page.plots.count("data:image/svg+xml;base64,") == 2
    by_name = {row[0]: row for row in page.rows}
    query = by_name["encoder.block.1.layer.0.SelfAttention.q.weight"]
    assert query[1:4] == ["query", "1", "128 × 128"]
    assert by_name["decoder.final_layer_norm.weight"][1:3] == ["final_norm", "–"]


def test_uploads_of_statistics_and_of_weights_say_the_same(folder, tmp_path, saved_t5):
    names = ("model.safetensors", "config.json")
    page = read_upload(folder, [str(saved_t5 / name) for name in names])
    rows = {row[0]: row for row in page.rows}
    assert rows["encoder.block.1.layer.0.SelfAttention.q.weight"][1:3] == ["query", "1"]

    from hf_synpre.initialization import ParameterStatistics

    measured = ParameterStatistics.measured(saved_t5, "mine")
    measured.save(tmp_path / "my statistics.json")
    other = tmp_path / "other"
    other.mkdir()
    files = [str(tmp_path / "my statistics.json"), str(saved_t5 / "config.json")]
    assert read_upload(other, files).rows == page.rows


def test_without_a_config_names_tell_the_groups(folder):
    page = read_upload(folder, [str(T5 / "parameter_statistics.json")])
    assert "No config.json, so tensors are grouped by the ends of their names." in page.summary
    row = next(row for row in page.rows if row[0] == "encoder.block.1.layer.0.layer_norm.weight")
    assert row[1:3] == ["layer_norm", "1"]


def entry(name="a.weight", **fields):
    return {"name": name, "shape": [2], "numel": 2, "mean": 0.0, "sd": 1.0, **fields}


def statistics(*entries, source="me"):
    return {"format": 1, "source": source, "parameters": list(entries)}


def test_names_from_a_file_are_text(folder, tmp_path):
    content = statistics(entry(HOSTILE), entry("$\\frac$.1.x"), source=HOSTILE)
    page = read_upload(folder, [write(tmp_path, "s.json", content)])
    assert "&lt;img src=x onerror=alert(1)&gt;" in page.summary
    assert "<img src=x" not in page.summary + page.plots
    assert page.rows[0][0] == HOSTILE  # a table of texts; the browser's test looks at it


NOT_RUN = "raise SystemExit('this must not run')"
REMOTE = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.M"}}


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"s.json": "{"}, "parameter_statistics.json is not valid JSON"),
        ({"s.json": [1]}, "parameter_statistics.json is not a statistics file"),
        ({"s.json": "[" * 100_000}, "nested too deep"),
        ({"s.json": " " * 9 * 2**20}, "s.json is larger than 8 MB"),
        ({"s.json": statistics(entry(sd=-1))}, "both must be finite, sd >= 0"),
        ({"s.json": statistics()}, "holds no parameters"),
        ({"a.json": statistics(), "b.json": "{}"}, "Two files are parameter_statistics.json"),
        ({"model.bin": pickle.dumps({})}, "model.bin is neither JSON nor safetensors"),
        ({"mine.py": NOT_RUN}, "mine.py is neither JSON nor safetensors"),
        ({"config.json": "{}"}, "holds neither parameter_statistics.json nor *.safetensors"),
        ({"m.safetensors": struct.pack("<Q", 2**40)}, "its header is larger than 8 MB"),
        ({"m.safetensors": struct.pack("<Q", 99) + b"{}"}, "not a complete safetensors file"),
        ({"m.safetensors": b""}, "not a complete safetensors file"),
        (
            {"model.safetensors.index.json": {"weight_map": {"a": "../../x.safetensors"}}},
            "a file outside of its folder",
        ),
        (
            {"s.json": statistics(entry()), "config.json": REMOTE},
            "no config.json of a transformers",
        ),
        (
            {
                "s.json": statistics(entry()),
                "config.json": {"model_type": "t5", "num_layers": 10**9},
            },
            "num_layers of a config is 1000000000",
        ),
    ],
)
def test_bad_checkpoints_get_one_line(folder, tmp_path, files, text):
    paths = [write(tmp_path / "uploads", name, content) for name, content in files.items()]
    line = limits.without_folder(refused(read_upload, folder, paths), str(folder))
    assert text.removeprefix("s.json ") in line
    assert str(tmp_path) not in line


@pytest.mark.parametrize("name", ["/etc", "../x", "a/b/c", "", "a b", "tests", "x/../y", "~"])
def test_only_hub_ids_are_asked_of_the_hub(folder, name, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(hub_files.HfApi, "model_info", lambda *_, **__: pytest.fail("asked"))
    assert "is no Hub id; write one as google-t5/t5-small." in refused(
        hub_files.download, name, folder
    )


def test_large_weights_are_not_downloaded(folder, monkeypatch):
    files = [SimpleNamespace(rfilename="model.safetensors", size=7 * 10**9)]
    info = SimpleNamespace(siblings=files, sha="0")
    monkeypatch.setattr(hub_files.HfApi, "model_info", lambda *_, **__: info)
    line = refused(hub_files.download, "me/large", folder)
    assert "The weights of me/large have 7.0 GB" in line
    assert "run `synpre statistics me/large`" in line


# --- Results --------------------------------------------------------------------------------------


def zip_of(file, entries):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return str(file)


def cells(prefix=""):
    files = sorted(QUICKSTART.glob("*--*--*.json"))
    return {prefix + file.name: file.read_bytes() for file in files}


def saved_page(page):
    """Return what the link of a report saves."""
    content = re.search(r'download="report.html" href="data:text/html;base64,([^"]+)"', page)[1]
    return base64.b64decode(content).decode()


def test_a_report_has_tables_curves_and_benefits(folder, tmp_path):
    entries = cells("runs/quickstart/") | {"runs/quickstart/mine.py": NOT_RUN}
    page = report_of_zip(folder, zip_of(tmp_path / "r.zip", entries))
    assert sorted(file.name for file in folder.iterdir()) == sorted(cells())
    for part in ("<h2>Scores</h2>", "29.0 [22.2, 35.9] (3)", "fine-tuning step", "Benefit of nat"):
        assert part in page
    assert page.count("data:image/svg+xml;base64,") == 3
    assert saved_page(page).startswith("<!doctype html>")


def test_entries_of_a_zip_file_stay_in_the_folder(folder, tmp_path):
    name, content = next(iter(cells().items()))
    for path in (f"../../{name}", f"/tmp/{name}"):
        report_of_zip(folder, zip_of(tmp_path / "r.zip", {path: content}))
        assert [file.name for file in folder.iterdir()] == [name]
        assert not (tmp_path.parent / name).exists()
        assert not Path("/tmp", name).exists()


def test_names_in_cells_are_text(folder, tmp_path):
    entries = {}
    for name, content in cells().items():
        cell = json.loads(content) | {"experiment": HOSTILE}
        cell["task"] += HOSTILE
        entries[name] = json.dumps(cell)
    page = report_of_zip(folder, zip_of(tmp_path / "r.zip", entries))
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<img src=x" not in page + saved_page(page)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"readme.md": "x"}, "The zip file holds no cells <task>--<arm>--<seed>.json"),
        ({"a/t--a--0.json": "{}", "b/t--a--0.json": "{}"}, "cells in several folders"),
        ({"t--a--0.json": "{"}, "'t--a--0.json' is not readable JSON"),
        ({"t--a--0.json": "{}"}, "'t--a--0.json' is not a cell of format 1"),
        ({"t--a--0.json": "[" * 100_000}, "nested too deep"),
        ({f"t--a--{i}.json": b"0" * 2**20 for i in range(3)}, "unpacks to more than 2 MB"),
        ({f"t--a--{i}.json": "" for i in range(9)}, "holds 9 cells; give up to 5"),
    ],
)
def test_bad_zip_files_get_one_line(folder, tmp_path, monkeypatch, entries, text):
    monkeypatch.setattr(results_page, "MOST_BYTES", 2 * 2**20)
    monkeypatch.setattr(results_page, "MOST_CELLS", 5)
    line = refused(report_of_zip, folder, zip_of(tmp_path / "r.zip", entries))
    assert text in limits.without_folder(line, str(folder))


def test_what_is_no_zip_file_gets_one_line(folder, tmp_path):
    assert "r.zip is no zip file that can be read" in refused(
        report_of_zip, folder, write(tmp_path, "r.zip", b"PK\x03\x04 and no more")
    )
    content = bytearray(Path(zip_of(tmp_path / "e.zip", cells())).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the bit "encrypted"
        at = content.find(signature)
        content[at + offset] |= 1
    line = refused(report_of_zip, folder, write(tmp_path, "e.zip", bytes(content)))
    assert "e.zip cannot be unpacked" in line


def test_a_folder_without_cells_gets_one_line(folder):
    line = refused(report_of_folder, folder, folder, "mine")
    assert "holds no cells <task>--<arm>--<seed>.json" in line


# --- Time, memory, faults -------------------------------------------------------------------------


@pytest.fixture
def plain_server(monkeypatch):
    """The server of processes imports no libraries first, which these tests do not need."""
    limits.CONTEXT.set_forkserver_preload([])


@pytest.mark.usefixtures("plain_server")
def test_a_process_has_limits_and_leaves_no_files():
    folder, (seconds, memory, written) = limits.bounded(bounded_calls.own_limits)
    assert not folder.exists()
    assert seconds == limits.MOST_SECONDS
    assert 0 < memory < limits.MOST_MEMORY + 2**35
    assert written == limits.MOST_WRITTEN


@pytest.mark.usefixtures("plain_server")
@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("refuses", "cell.json is broken; the upload is empty."),
        ("takes_memory", limits.TOO_MUCH_MEMORY),
        ("is_killed", limits.TOO_MUCH_MEMORY),
        ("takes_time", limits.TOO_MUCH_TIME),
        ("fails", "could not read that (ZeroDivisionError), which is a fault of ours"),
    ],
)
def test_whatever_happens_is_one_line(function, text):
    line = refused(limits.bounded, getattr(bounded_calls, function))
    assert text in line
    assert "Traceback" not in line


# --- The functions behind the page ----------------------------------------------------------------


def test_the_page_shows_the_line_and_nothing_else():
    def broken():
        raise UsageError(f"{HOSTILE} is broken.")

    summary, plots, table = interface.checkpoint(broken)
    assert summary == (
        '<p class="problem" role="alert">&lt;img src=x onerror=alert(1)&gt; is broken.</p>'
    )
    assert plots == ""
    assert table["visible"] is False
    page = interface.checkpoint(lambda: CheckpointPage("s", "p", [["a"] * 6]))
    assert page[:2] == ("s", "p")
    assert page[2]["visible"] is True


def test_a_fault_of_ours_is_a_line_too(caplog):
    told = interface.rows(False, 0, 4, "set", "seq2seq", 51, "train", 0, "too few")
    assert "which is a fault of ours" in told
    assert "Traceback" not in told
    assert "ValueError" in caplog.text


def test_a_public_page_reads_no_folders(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "me/page")
    told = interface.folder_of_results(str(QUICKSTART))
    assert "This page reads no folders; upload a zip file." in told


def test_what_a_space_needs_is_in_one_folder(tmp_path):
    import bundle

    target = tmp_path / "space"
    bundle.bundle(target)
    for name in ("README.md", "app.py", "requirements.txt", "hf_synpre/tasks/functions.py"):
        assert (target / name).is_file()
    assert len(list((target / "results" / "quickstart").iterdir())) == len(cells())
    assert not list(target.rglob("*.pyc"))
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    assert size < 10 * 2**20
    shutil.rmtree(target)


def test_versions_of_the_space_are_those_that_are_tested():
    import yaml

    pinned = set((ROOT / "constraints.txt").read_text().split())
    _, header, _ = (ROOT / "space" / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(header)
    assert f"gradio=={front['sdk_version']}" in pinned
    assert front["sdk"] == "gradio"
    assert (ROOT / "space" / front["app_file"]).is_file()
    lines = (ROOT / "space" / "requirements.txt").read_text().splitlines()
    required = [line for line in lines if not line.startswith("#")]
    assert len(required) > 10
    assert set(required) <= pinned


def test_the_limits_of_uploads_are_those_that_the_page_names():
    assert statistics_page.MOST_JSON == 8 * 2**20
    assert interface.LARGEST_UPLOAD == "200mb"
