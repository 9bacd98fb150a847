"""JSON files of the released checkpoints, hf_synpre/statistics/ID/ -> their cards, ID/README.md.

A card says whether weights are beside it.

python model_cards/render.py        (make cards)
"""

from pathlib import Path

from hf_synpre.files import write_text
from hf_synpre.hub.cards import model_card

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


if __name__ == "__main__":
    rendered = cards()
    for file, text in rendered.items():
        write_text(file, text)
    print(f"{len(rendered)} cards in {CARDS.name}")
