"""Render README.md of every folder here from its JSON: pretraining, parameter_statistics, config, results/.

python model_cards/render.py        (make cards)
"""

from pathlib import Path

from hf_synpre.files import write_text
from hf_synpre.hub.cards import model_card

HERE = Path(__file__).parent


def cards(home: Path = HERE) -> dict[Path, str]:
    """Return README.md -> what belongs in it, for every folder with released JSON."""
    folders = sorted(
        {
            file.parent
            for name in ("pretraining", "parameter_statistics")
            for file in home.glob(f"*/{name}.json")
        }
    )
    return {folder / "README.md": model_card(folder, f"synpre/{folder.name}") for folder in folders}


if __name__ == "__main__":
    rendered = cards()
    for file, text in rendered.items():
        write_text(file, text)
    print(f"{len(rendered)} cards in {HERE.name}")
