"""The card of a model that `synpre init` made: how its weights were drawn, and from what."""

from pathlib import Path

from huggingface_hub import ModelCardData

from hf_synpre.files import read_object
from hf_synpre.hub.cards import auto_class, cited_papers, linked_papers, render_card

RECORD_FILE = "initialization.json"


def start_card(folder: str | Path, name: str) -> str:
    """Return the card of a model that was started and not trained.

    Args:
        folder: a folder of `synpre init`, with config.json and initialization.json.
        name: the title of the card, and the path by which it says that the model is loaded.

    Raises:
        UsageError: one of the two files is missing or broken.
    """
    folder = Path(folder)
    record = read_object(folder / RECORD_FILE)
    config = read_object(folder / "config.json")
    data = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        tags=["hf_synpre"],
        model_name=name,
    )
    (architecture,) = config["architectures"]
    context = {
        "name": name,
        "record": record,
        "architecture": architecture,
        "auto_class": auto_class(architecture),
        "paper": linked_papers(record["paper"]),
        "papers": cited_papers(record["paper"]),
    }
    return render_card("start_card.md.jinja", data, context)
