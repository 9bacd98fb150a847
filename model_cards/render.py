"""JSON files of the released checkpoints, hf_synpre/statistics/ID/ -> their cards, ID/README.md.

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
        folder / checkpoint.name / "README.md": model_card(checkpoint, f"synpre/{checkpoint.name}")
        for checkpoint in sorted(released)
    }


if __name__ == "__main__":
    rendered = cards()
    for file, text in rendered.items():
        write_text(file, text)
    print(f"{len(rendered)} cards in {CARDS.name}")
