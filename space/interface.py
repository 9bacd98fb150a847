"""The page: three tabs of Gradio around tasks_page, statistics_page and results_page."""

import os
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import limits
import statistics_page
from hub_files import download
from results_page import EXAMPLES, report_of_folder, report_of_zip
from tasks_page import MEANINGS, MOST_ROWS, Choice, describe, judge, show_rows, small_sizes

from hf_synpre.errors import UsageError
from hf_synpre.initialization import bundled_checkpoints
from hf_synpre.tasks import get_task, list_tasks

HERE = Path(__file__).parent
# Beside this file in a Space, above it in the repository.
RESULTS = next((p / "results" for p in (HERE, HERE.parent) if (p / "results").is_dir()), HERE)
LARGEST_UPLOAD = "200mb"
HOUR = 3600

FIRST_TASK, FIRST_CHECKPOINT, FIRST_RESULTS = "set", "synpre/t5-mini-set", EXAMPLES[0]
# Files are read by two processes at most, whoever asks.
READING: dict[str, Any] = {"concurrency_id": "files", "concurrency_limit": 2}

# Every parameter that a task has -> its default, or the words to choose from.
PARAMETERS: dict[str, int | tuple[str, ...]] = {}
for _name in list_tasks():
    PARAMETERS |= get_task(_name).parameters

LAYOUTS = [("encoder-decoder: input and answer", "seq2seq"), ("decoder: one sequence", "causal")]
WELCOME = """# Pre-training without a natural corpus

See the synthetic tasks that a model can learn instead of text, the statistics of the parameters \
that it ends with, and what both were worth after fine-tuning."""


def problem(error: Exception) -> str:
    """Return what the page shows instead of a result: one line."""
    text = str(error) if isinstance(error, UsageError) else limits.unexpected(error)
    return f'<p class="problem" role="alert">{escape(text)}</p>'


def html_or_problem(function: Callable[..., str], *arguments: Any) -> str:
    """Return what a function returns, or the line that says why it does not."""
    try:
        return function(*arguments)
    except Exception as error:
        return problem(error)


# --- Tasks ----------------------------------------------------------------------------------------


def choice_of(
    task: str, layout: str, ids: float, split: str, seed: float, *values: float | str | None
) -> Choice:
    """Return what was chosen. A field that was emptied has its default."""
    parameters = {}
    for name, value in zip(PARAMETERS, values, strict=True):
        if name in get_task(task).parameters and value not in (None, ""):
            parameters[name] = value if isinstance(value, str) else int(value)
    return Choice(task, parameters, int(ids or 0), layout, split, int(seed or 0))


def rows(hidden: bool, start: float, count: float, *chosen: Any) -> str:
    """Return the rows that were chosen as HTML."""
    return html_or_problem(
        lambda: show_rows(choice_of(*chosen), int(start or 0), int(count), hidden)
    )


def verdict(answer: str, number: float, *chosen: Any) -> str:
    """Return whether an answer to a row is right, as HTML."""
    return html_or_problem(lambda: judge(choice_of(*chosen), int(number or 0), answer or ""))


def task_fields(task: str) -> tuple[Any, ...]:
    """Return what changes with the task: description, vocabulary, answer, verdict, parameters."""
    sizes, ids = small_sizes(task)
    fields = [gr.update(value=sizes.get(name), visible=name in sizes) for name in PARAMETERS]
    return describe(task), ids, "", "", *fields


def tasks_tab(demo: gr.Blocks) -> None:
    """Build the tab of the synthetic tasks."""
    sizes, ids = small_sizes(FIRST_TASK)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            task = gr.Dropdown(list_tasks(), value=FIRST_TASK, label="Task", elem_id="task")
            about = gr.HTML(describe(FIRST_TASK), elem_classes="about")
            with gr.Row(elem_classes="fields"):
                fields = [parameter_field(name, sizes) for name in PARAMETERS]
            with gr.Accordion("Model, vocabulary and which rows", open=False):
                layout = gr.Radio(LAYOUTS, value="seq2seq", label="Rows for", elem_id="layout")
                with gr.Row(elem_classes="fields"):
                    vocabulary = number_field(
                        "Vocabulary, ids", ids, "0: the 32,100 ids of T5, as in the papers"
                    )
                    split = gr.Dropdown(
                        ["train", "validation", "test"],
                        value="train",
                        label="Split",
                        info="their rows are independent",
                        min_width=130,
                    )
                    seed = number_field("Seed", 0, "each is another stream")
                    start = number_field("First row", 0, "any row, at once")
        with gr.Column(scale=5, min_width=320):
            with gr.Row(elem_classes="fields"):
                count = gr.Slider(1, MOST_ROWS, value=4, step=1, label="Rows", min_width=200)
                hidden = gr.Checkbox(label="Hide the answers, to find them", min_width=200)
            shown = gr.HTML(elem_id="rows")
            with gr.Row(elem_classes="try"):
                number = gr.Number(
                    0, label="Answer to row", precision=0, minimum=0, min_width=120, scale=1
                )
                answer = gr.Textbox(
                    label="Your answer",
                    placeholder="tokens as they are shown, with spaces between them",
                    elem_id="answer",
                    max_length=20_000,
                    scale=5,
                )
                button = gr.Button("Judge", variant="primary", min_width=110, scale=1)
            told = gr.HTML(elem_id="verdict")

    chosen = [task, layout, vocabulary, split, seed, *fields]
    drawn: dict[str, Any] = {
        "fn": rows,
        "inputs": [hidden, start, count, *chosen],
        "outputs": shown,
        "show_progress": "hidden",
        "trigger_mode": "always_last",
    }
    demo.load(**drawn, api_name="rows")
    changing = [hidden, start, count, layout, vocabulary, split, seed, *fields]
    gr.on([field.input for field in changing], **drawn, api_visibility="private")
    others = [about, vocabulary, answer, told, *fields]
    change = task.change(task_fields, task, others, show_progress="hidden", api_name="task")
    change.then(**drawn, api_visibility="private")
    judged: dict[str, Any] = {"inputs": [answer, number, *chosen], "outputs": told}
    gr.on([button.click, answer.submit], verdict, **judged, api_name="judge")


def parameter_field(name: str, sizes: dict[str, Any]) -> gr.Number | gr.Dropdown:
    """Return the field of a parameter, which is shown with the tasks that have it."""
    default = PARAMETERS[name]
    options: dict[str, Any] = {
        "label": name,
        "info": MEANINGS.get(name),
        "visible": name in sizes,
        "min_width": 130,
        "elem_id": f"parameter-{name}",
    }
    if isinstance(default, tuple):
        return gr.Dropdown(list(default), value=sizes.get(name, default[0]), **options)
    return gr.Number(sizes.get(name), precision=0, minimum=0, **options)


def number_field(label: str, value: int, info: str) -> gr.Number:
    """Return a field of a whole number."""
    return gr.Number(value, label=label, info=info, precision=0, minimum=0, min_width=130)


# --- Statistics -----------------------------------------------------------------------------------


def checkpoint(read: Callable[[], statistics_page.CheckpointPage]) -> tuple[Any, ...]:
    """Return summary, plots and table of a checkpoint; or one line, and nothing below it."""
    try:
        page = read()
    except Exception as error:
        return problem(error), "", gr.update(value=[], visible=False)
    return page.summary, page.plots, gr.update(value=page.rows, visible=True)


def released_checkpoint(name: str) -> tuple[Any, ...]:
    """Show one of the checkpoints that the package has."""
    folder = bundled_checkpoints()[name]
    return checkpoint(lambda: limits.bounded(statistics_page.read_folder, folder, name))


def uploaded_checkpoint(files: list[str] | None) -> tuple[Any, ...]:
    """Show uploaded files."""
    if not files:
        return gr.skip(), gr.skip(), gr.skip()
    return checkpoint(lambda: limits.bounded(statistics_page.read_upload, list(files)))


def hub_checkpoint(repository: str) -> tuple[Any, ...]:
    """Show a checkpoint of the Hub."""

    def read() -> statistics_page.CheckpointPage:
        with tempfile.TemporaryDirectory(prefix="synpre-space-") as folder:
            files = download(repository or "", Path(folder))
            return limits.bounded(statistics_page.read_folder, files, repository.strip())

    return checkpoint(read)


def statistics_tab(tab: gr.Tab) -> None:
    """Build the tab of parameter statistics."""
    with gr.Row(elem_classes="sources"):
        with gr.Column(min_width=280):
            released = gr.Dropdown(
                sorted(bundled_checkpoints(), reverse=True),
                value=FIRST_CHECKPOINT,
                label="A released checkpoint",
                info="pre-trained on one synthetic task",
                elem_id="released",
            )
        with gr.Column(min_width=280):
            name = gr.Textbox(
                label="A checkpoint of the Hub",
                info="its safetensors, up to 1 GB, are read once and not kept",
                placeholder="google-t5/t5-small",
                max_length=200,
                elem_id="hub-id",
            )
            fetch = gr.Button("Measure", size="sm")
        with gr.Column(min_width=280):
            upload = gr.File(
                label="Your files",
                file_count="multiple",
                file_types=[".json", ".safetensors"],
                height=130,
                elem_id="statistics-upload",
            )
            gr.HTML(
                "parameter_statistics.json or *.safetensors; config.json with them tells the roles",
                elem_classes="note",
            )
    about = gr.HTML(elem_id="checkpoint")
    plots = gr.HTML(elem_id="plots")
    table = gr.Dataframe(
        headers=statistics_page.HEAD,
        datatype="str",
        interactive=False,
        visible=False,
        label="Every tensor",
        max_height=420,
        column_widths=["420px", "190px", "80px", "140px", "120px", "140px"],
        elem_id="tensors",
    )

    outputs = [about, plots, table]
    opened = gr.State(False)
    tab.select(
        first_view(released_checkpoint, 3),
        [opened, released],
        [*outputs, opened],
        api_visibility="private",
        **READING,
    )
    released.input(released_checkpoint, released, outputs, api_name="released", **READING)
    upload.upload(uploaded_checkpoint, upload, outputs, api_name="statistics", **READING)
    hub: dict[str, Any] = {"inputs": name, "outputs": outputs, **READING}
    gr.on([fetch.click, name.submit], hub_checkpoint, api_name="hub", **hub)


def first_view(show: Callable[[str], tuple[Any, ...]], outputs: int) -> Callable:
    """Return a function that shows something when a tab is opened for the first time."""

    def view(opened: bool, name: str) -> tuple[Any, ...]:
        shown = [gr.skip()] * outputs if opened else show(name)
        return *shown, True

    return view


# --- Results --------------------------------------------------------------------------------------


def example_results(name: str) -> str:
    """Show one of the experiments that come with the page."""
    return html_or_problem(limits.bounded, report_of_folder, RESULTS / name, name)


def folder_of_results(folder: str) -> str:
    """Show a folder of this machine; a public page does not read any."""
    if is_public():
        return problem(UsageError("This page reads no folders; upload a zip file."))
    path = Path((folder or "").strip()).expanduser()
    return html_or_problem(limits.bounded, report_of_folder, path, path.name)


def uploaded_results(file: str | None) -> Any:
    """Show the results in an uploaded zip file."""
    return html_or_problem(limits.bounded, report_of_zip, file) if file else gr.skip()


def is_public() -> bool:
    """Say whether this is a Space on the Hub, whose visitors may not read its machine."""
    return "SPACE_ID" in os.environ


def results_tab(tab: gr.Tab) -> None:
    """Build the tab of results."""
    with gr.Row(elem_classes="sources"):
        with gr.Column(min_width=280):
            example = gr.Dropdown(
                [name for name in EXAMPLES if (RESULTS / name).is_dir()],
                value=FIRST_RESULTS,
                label="An experiment of this project",
                info="its tables and plots are made anew from its cells",
                elem_id="example",
            )
        with gr.Column(min_width=280, visible=not is_public()):
            folder = gr.Textbox(
                label="A folder of this machine",
                info="the output folder of `synpre run`",
                placeholder="runs/quickstart",
                elem_id="folder",
            )
            show = gr.Button("Open", size="sm")
        with gr.Column(min_width=280):
            upload = gr.File(
                label="A zip file",
                file_types=[".zip"],
                height=130,
                elem_id="results-upload",
            )
            gr.HTML("of the output folder of <code>synpre run</code>", elem_classes="note")
    report = gr.HTML(elem_id="report")

    opened = gr.State(False)
    tab.select(
        first_view(lambda name: (example_results(name),), 1),
        [opened, example],
        [report, opened],
        api_visibility="private",
        **READING,
    )
    example.input(example_results, example, report, api_name="example", **READING)
    upload.upload(uploaded_results, upload, report, api_name="results", **READING)
    of_folder: dict[str, Any] = {"inputs": folder, "outputs": report, **READING}
    gr.on([show.click, folder.submit], folder_of_results, api_name="folder", **of_folder)


# --- The page -------------------------------------------------------------------------------------


def build() -> gr.Blocks:
    """Return the page. What is uploaded is deleted after an hour."""
    title = "hf_synpre: pre-training without a natural corpus"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(HOUR, HOUR)) as demo:
        gr.Markdown(WELCOME)
        with gr.Tab("Tasks"):
            tasks_tab(demo)
        with gr.Tab("Statistics") as tab:
            statistics_tab(tab)
        with gr.Tab("Results") as tab:
            results_tab(tab)
    return demo


def start(**options: Any) -> str:
    """Serve the page: on this machine alone, or where a Space says.

    Args:
        options: further arguments of Gradio's `launch`.

    Returns:
        The address, where `launch` returns.
    """
    limits.start_server()
    font = ["system-ui", "sans-serif"]
    _, address, _ = (
        build()
        .queue(max_size=32)
        .launch(
            theme=gr.themes.Default(primary_hue="teal", font=font, font_mono=["monospace"]),
            css_paths=HERE / "style.css",
            max_file_size=LARGEST_UPLOAD,
            footer_links=["gradio"],
            ssr_mode=False,
            share=False,
            **options,
        )
    )
    return address
