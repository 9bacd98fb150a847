"""The page itself, served as `make space` serves it: over HTTP, and in Chromium where there is one.

Run: pytest tests/space/test_space_page.py
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from http.server import ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
from hub_server import File, Handler, Hub, Repo

ROOT = Path(__file__).parents[2]
T5 = ROOT / "hf_synpre" / "statistics" / "t5-mini-set"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<img src=x onerror=\"document.title='obeyed'\">"
SMALL_ROWS = ["seq2seq", 51, "train", 0]  # layout, vocabulary, split, seed


def ask(address, body=None, **headers):
    """Return the body of an answer, as text."""
    request = urllib.request.Request(address, body, headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read().decode()


class Space:
    """The page in a process of its own, and a client of its HTTP API."""

    def __init__(self, folder, hub):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        own = {
            "GRADIO_SERVER_PORT": str(self.port),
            "GRADIO_TEMP_DIR": str(folder / "uploads"),
            "HF_ENDPOINT": hub,
            "HF_HOME": str(folder / "home"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "space" / "app.py"],
                env=os.environ | own | {"PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        self.wait()

    def wait(self):
        """Wait until the page answers."""
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()
            try:
                ask(self.address)
                return
            except urllib.error.URLError:
                time.sleep(0.2)
        pytest.fail(self.log.read_text())

    def call(self, name, *values):
        """Return what a function of the page gives."""
        address = f"{self.address}/gradio_api/call/{name}"
        body = json.dumps({"data": values}).encode()
        event = json.loads(ask(address, body, **{"Content-Type": "application/json"}))["event_id"]
        said = ask(f"{address}/{event}")
        assert "event: complete" in said, said
        return json.loads(said.rpartition("data: ")[2])

    def upload(self, file):
        """Upload a file; return it as a value for `call`."""
        mark = uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{file.name}"'
        body = f"{head}\r\n\r\n".encode() + file.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        kind = f"multipart/form-data; boundary={mark}"
        (path,) = json.loads(
            ask(f"{self.address}/gradio_api/upload", body, **{"Content-Type": kind})
        )
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    def close(self):
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def hub():
    """The address of a stand-in of the Hub with one checkpoint, of statistics and config."""
    repository = Repo("models", "me/measured", False)
    files = [T5 / "parameter_statistics.json", T5 / "config.json"]
    repository.commit({file.name: File(file.read_bytes(), False) for file in files}, "first")
    handler = type("Handler", (Handler,), {"hub": Hub()})
    handler.hub.repos["models", "me/measured"] = repository
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def space(tmp_path_factory, hub):
    space = Space(tmp_path_factory.mktemp("space"), hub)
    yield space
    space.close()
    assert "A request failed" not in space.log.read_text()  # what limits.py calls our faults


@pytest.fixture(scope="module")
def parameters(space):
    """The number of the parameters' fields, in the order of the page."""
    info = json.loads(ask(f"{space.address}/gradio_api/info"))["named_endpoints"]["/rows"]
    labels = [field["label"] for field in info["parameters"]]
    return labels[labels.index("min_length") :]


@pytest.fixture(scope="module")
def results_zip(tmp_path_factory):
    file = tmp_path_factory.mktemp("results") / "quickstart.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for cell in (ROOT / "results" / "quickstart").glob("*--*--*.json"):
            archive.write(cell, cell.name)
    return file


@pytest.fixture(scope="module")
def bad_zip(tmp_path_factory):
    file = tmp_path_factory.mktemp("bad") / "bad.zip"
    file.write_bytes(b"PK no zip file")
    return file


# --- Over HTTP ------------------------------------------------------------------------------------


def test_it_listens_on_this_machine_alone(space):
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    local = [words[1] for words in listening if words[1].endswith(f":{space.port:04X}")]
    assert set(local) == {f"0100007F:{space.port:04X}"}  # 127.0.0.1


def test_rows_and_verdicts_over_http(space, parameters):
    sizes = {"min_length": 4, "max_length": 6}
    values = [sizes.get(name) for name in parameters]
    (rows,) = space.call("rows", False, 0, 2, "set", *SMALL_ROWS, *values)
    assert rows.count('class="task-row"') == 2
    assert "max_length=6" in rows
    answer = re.findall(r'answer counted" title="id \d+">(.)<', rows)
    first = " ".join(answer[: rows[: rows.find("row 1")].count('answer counted" title="id')])
    assert "Right: row 0" in space.call("judge", first, 0, "set", *SMALL_ROWS, *values)[0]
    assert "Not right" in space.call("judge", "no", 0, "set", *SMALL_ROWS, *values)[0]
    bad = [9, 4, *values[2:]]
    assert 'role="alert"' in space.call("rows", False, 0, 2, "set", *SMALL_ROWS, *bad)[0]


def test_uploads_over_http(space, results_zip, bad_zip):
    files = [space.upload(T5 / name) for name in ("parameter_statistics.json", "config.json")]
    summary, plots, table = space.call("statistics", files)
    assert "Roles are those of T5ForConditionalGeneration." in summary
    assert plots.count("<img") == 2
    assert len(table["value"]["data"]) == 47

    (body,) = space.call("results", space.upload(results_zip))
    assert "29.0 [22.2, 35.9] (3)" in body
    (body,) = space.call("results", space.upload(bad_zip))
    assert re.fullmatch(r'<p class="problem" role="alert">bad.zip is no zip file[^\n]*</p>', body)


def test_files_of_the_machine_are_not_given_out(space):
    for path in ("/etc/passwd", str(ROOT / "setup.py"), f"{ROOT}/space/../setup.py"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(f"{space.address}/gradio_api/file={path}")
        assert caught.value.code in (403, 404)
        caught.value.close()
    with pytest.raises(AssertionError, match="event: error"):
        space.call("results", {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}})


def test_checkpoints_of_the_hub(space):
    summary, plots, _ = space.call("hub", "me/measured")
    assert "<b>me/measured</b>: 47 tensors" in summary
    assert plots.count("<img") == 2
    summary, plots, _ = space.call("hub", "me/nothing")
    assert re.fullmatch(r'<p class="problem" role="alert">The Hub does not show [^\n]+', summary)
    assert plots == ""
    assert "is no Hub id" in space.call("hub", "../etc")[0]


# --- In the browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    with sync_playwright() as tool:
        program = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield program
        program.close()


@pytest.fixture
def page(browser, space):
    """The page, opened; it may speak to nobody else."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    requests, faults = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.goto(space.address)
    page.locator("#rows .task-row").first.wait_for()
    yield page
    others = [url for url in requests if not url.startswith((space.address, "data:", "blob:"))]
    assert others == []
    assert faults == []
    page.close()


def fits(page):
    """Say whether nothing makes the page wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def color(locator):
    return locator.evaluate("element => getComputedStyle(element).backgroundColor")


def test_tasks_in_the_browser(page):
    # Rows in colours; a line below what the loss counts.
    rows = page.locator("#rows .task-row")
    assert rows.count() == 4
    first = rows.nth(0)
    answer, source = first.locator(".token.answer"), first.locator(".token.input")
    assert answer.all_inner_texts() == ["h", "k", "d", "p", "3"]
    assert color(answer.first) != color(source.first)
    line = "element => getComputedStyle(element, '::after').height"
    assert answer.first.evaluate(line) == "2px"
    assert source.first.evaluate(line) == "auto"

    # Another parameter, another task: rows follow.
    longest = page.locator("#parameter-max_length input")
    longest.fill("5")
    page.get_by_text("max_length=5").wait_for()
    page.locator("#task input").click()
    page.get_by_role("option", name="reverse", exact=True).click()
    page.get_by_text("generate('reverse'").wait_for()
    tokens = [token.split() for token in rows.nth(1).locator(".line").all_inner_texts()]
    assert tokens[0][3:-1] == tokens[1][1:-1][::-1]

    # A right answer and a wrong one.
    right = " ".join(rows.nth(0).locator(".token.answer").all_inner_texts())
    for given, verdict in ((right, "right"), (right + " no", "wrong")):
        page.locator("#answer textarea, #answer input").fill(given)
        page.get_by_role("button", name="Judge").click()
        page.locator(f"#verdict .{verdict}").wait_for()
    assert fits(page)


def open_tab(page, name, first):
    """Open a tab anew, and wait for what it shows first."""
    page.reload()
    page.get_by_role("tab", name=name).click()
    page.locator(first).wait_for()


def test_statistics_in_the_browser(page, tmp_path):
    open_tab(page, "Statistics", "#plots img >> nth=1")
    width = "element => element.complete && element.naturalWidth > 100"
    assert page.locator("#plots img").first.evaluate(width)
    about, upload = page.locator("#checkpoint"), page.locator("#statistics-upload input[type=file]")
    assert "synpre/t5-mini-set" in about.inner_text()

    # A name in a file is text, wherever it stands.
    entry = {"name": HOSTILE, "shape": [1], "numel": 1, "mean": 0, "sd": 1}
    hostile = {"format": 1, "source": HOSTILE, "parameters": [entry]}
    file = tmp_path / "statistics.json"
    file.write_text(json.dumps(hostile))
    upload.set_input_files(file)
    about.get_by_text("1 tensor,").wait_for()
    page.wait_for_function("document.querySelector('#tensors').innerText.includes('<img')")
    assert page.locator("img[src=x]").count() == 0
    assert page.title() != "obeyed"

    # A broken file is one line.
    open_tab(page, "Statistics", "#plots img >> nth=1")
    file.write_text("{")
    upload.set_input_files(file)
    about.locator(".problem").get_by_text("is not valid JSON").wait_for()
    assert page.locator("#plots img").count() == 0


def test_results_in_the_browser(page, bad_zip):
    page.set_viewport_size({"width": 390, "height": 844})  # a phone
    open_tab(page, "Results", "#report img >> nth=2")
    report, upload = page.locator("#report"), page.locator("#results-upload input[type=file]")
    assert report.get_by_role("heading", name="Scores").count() == 1
    assert "29.0 [22.2, 35.9] (3)" in report.locator("table").first.inner_text()
    assert fits(page)
    with page.expect_download() as saved:
        page.get_by_text("Save as one HTML file").click()
    assert Path(saved.value.path()).read_text().startswith("<!doctype html>")

    upload.set_input_files(bad_zip)
    report.locator(".problem").wait_for()
    assert "bad.zip is no zip file" in report.inner_text()
    assert "Traceback" not in page.content()
