"""Tokenise a corpus with datatrove's executors: on this machine, or on a cluster with Slurm or Ray.

    pip install hf-synpre[datatrove]
    python examples/tokenize_corpus.py --texts FOLDER --tokenizer t5-small --output runs/tokens
    synpre pretrain --corpus runs/tokens --tokenizer_name t5-small

FOLDER has train*.parquet and validation*.parquet with a column text. Every task of the executor
tokenises some of the files and writes one token file; a task that was done is not done again. On a
cluster LocalPipelineExecutor becomes SlurmPipelineExecutor or RayPipelineExecutor of datatrove,
with the same pipeline. Special tokens that a text spells out become these tokens, as under
--special_tokens of `synpre pretrain`.
"""

import argparse
from pathlib import Path

from hf_synpre.data.tokenizers import read_tokenizer
from hf_synpre.vocabulary import padding_and_end


def tokenize(texts: Path, tokenizer_name: str, output: Path, tasks: int, workers: int) -> None:
    """Write the token files of both splits.

    Args:
        texts: the folder of Parquet files.
        tokenizer_name: a folder or Hub id.
        output: the folder of token files.
        tasks: into how many parts a split is divided.
        workers: how many of them are done at once.
    """
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    tokenizer = read_tokenizer(tokenizer_name)
    _, eos = padding_and_end(tokenizer)
    output.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(output / "tokenizer.json"))

    for split in ("train", "validation"):
        pipeline = [
            ParquetReader(str(texts), glob_pattern=f"**/{split}*.parquet"),
            DocumentTokenizer(
                str(output),
                tokenizer_name_or_path=str(output / "tokenizer.json"),
                save_filename=split,
                eos_token=tokenizer.convert_ids_to_tokens(eos),
                shuffle_documents=False,
            ),
        ]
        logs = str(output / "logs" / split)
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=workers, logging_dir=logs).run()


def main() -> None:
    """Read the flags, and tokenise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/tokens"))
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    tokenize(given.texts, given.tokenizer, given.output, given.tasks, given.workers)


if __name__ == "__main__":
    main()
