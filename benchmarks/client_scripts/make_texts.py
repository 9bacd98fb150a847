"""Write a tokenizer trained on Python's standard library, and texts of it for language modelling.

    python make_texts.py

makes tokenizer/ and texts/{train,validation,test}.jsonl. Every test document with its end has whole
windows of WINDOW ids. So each window has the same ids before it wherever it is scored: of a last
window that is short, lm-evaluation-harness reads more text before it than `synpre finetune` does.
"""

import itertools
import json
from pathlib import Path

from hf_synpre.data.stdlib import texts
from hf_synpre.data.tokenizers import train_tokenizer

WINDOW = 64
DOCUMENTS = {"train": 200, "validation": 20, "test": 12}
CHARACTERS = 2000


def cut_to_windows(text: str, tokenizer: object) -> str:
    """Return the beginning of a text whose ids, and one for its end, fill whole windows."""
    while len(tokenizer.encode(text)) % WINDOW != WINDOW - 1:
        text = text[:-1]
    return text


def main() -> None:
    """Train the tokenizer and write the texts."""
    tokenizer = train_tokenizer(texts("train"), 1024)
    tokenizer.save_pretrained("tokenizer")

    folder = Path("texts")
    folder.mkdir(exist_ok=True)
    for split, count in DOCUMENTS.items():
        long_ones = (text for text in texts(split) if len(text) > CHARACTERS)
        lines = []
        for number, text in enumerate(itertools.islice(long_ones, count)):
            text = text[: CHARACTERS // (1 + number % 3)]
            if split == "test":
                text = cut_to_windows(text, tokenizer)
            lines.append(json.dumps({"text": text}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
