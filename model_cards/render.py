"""JSON files of the released checkpoints, hf_synpre/statistics/ID/ -> their cards, ID/README.md.

A card says whether weights are beside it, and the weights say what they were trained on.

python model_cards/render.py        (make cards)
"""

from pathlib import Path

from hf_synpre.files import read_json, write_text
from hf_synpre.hub.cards import model_card
from hf_synpre.provenance import write_facts
from hf_synpre.training.weight_facts import pretraining_facts

CARDS = Path(__file__).parent
STATISTICS = CARDS.parent / "hf_synpre" / "statistics"


def cards(statistics: Path = STATISTICS, folder: Path = CARDS) -> dict[Path, str]:
    """Return the card of every released checkpoint.

    Args:
        statistics: the folder with ID/pretraining.json, parameter_statistics.json, config.json and
            results/.
        folder: where the cards belong.

    Returns:
        ID/README.md in `folder` -> its text.
    """
    released = set()
    for name in ("pretraining.json", "parameter_statistics.json"):
        released |= {file.parent for file in statistics.glob(f"*/{name}")}

    return {
        folder / checkpoint.name / "README.md": card_of(checkpoint, folder)
        for checkpoint in sorted(released)
    }


def card_of(checkpoint: Path, folder: Path) -> str:
    """Return the card of a released checkpoint; it says whether the weights are here.

    Args:
        checkpoint: the folder of its JSON files, ID.
        folder: where its weights are, in ID/, if they are released.
    """
    weights = folder / checkpoint.name
    repo_id = f"synpre/{checkpoint.name}"
    return model_card(checkpoint, repo_id, weights_folder=weights)


def say_facts(checkpoint: Path, weights: Path) -> None:
    """Write into the header of released weights what they were trained on, and at which commit.

    Args:
        checkpoint: the folder of the JSON files that are released.
        weights: the folder of its weights; without any, nothing is done.
    """
    file = checkpoint / "pretraining.json"
    if file.exists():
        run = read_json(file)
        facts = pretraining_facts(run["recipe"], run["tokens"])
        write_facts(weights, facts | {"commit": run["versions"]["commit"]})


if __name__ == "__main__":
    rendered = cards()
    for file, text in rendered.items():
        write_text(file, text)
        say_facts(STATISTICS / file.parent.name, file.parent)
    print(f"{len(rendered)} cards in {CARDS.name}")
