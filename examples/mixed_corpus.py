"""Write novels and source code as one corpus of natural text, on which the campaign pre-trains.

    python examples/mixed_corpus.py path/to/data

The folder holds the dataset eltec_eng (99 English novels); the source code is Python's own standard
library, without the modules that `stdlib_ast` tests on. The corpus is its folder novels_and_source:
train.parquet and validation.parquet, whose rows are documents in an order that mixes both.
"""

import argparse
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_synpre.data import stdlib
from hf_synpre.data.corpora import open_corpus

NOVELS = "eltec_eng"
MIXED = "novels_and_source"


def write_mixed_corpus(data_dir: Path) -> Path:
    """Write the corpus into `data_dir`, where the novels are, and return its folder."""
    novels = open_corpus(NOVELS, str(data_dir))
    folder = data_dir / MIXED
    folder.mkdir(exist_ok=True)
    for split in ("train", "validation"):
        texts = list(chain(novels.texts(split), stdlib.texts(split)))
        order = np.random.default_rng(0).permutation(len(texts))
        table = pa.table({"text": [texts[number] for number in order]})
        file = folder / f"{split}.parquet"
        pq.write_table(table, file, compression="zstd", compression_level=19)
        print(f"{split}: {len(texts)} documents, {sum(map(len, texts)):,} characters")
    return folder


def main() -> None:
    """Read the folder's name, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", type=Path, help="the folder that holds eltec_eng")
    print(write_mixed_corpus(parser.parse_args().data_dir))


if __name__ == "__main__":
    main()
