"""A dataset's text and a tokenizer trained on it, made once: what a second run finds in the cache.

The rows of a large dataset are read several times to be compared, hashed and trained on, which
takes minutes. What a run needs of them afterwards is little: the figures and digests of the corpus,
by which its token files are found, and the tokenizer. The texts are read again where a run asks for
them: for more tokens than there are yet, or for another tokenizer.
"""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import tokenizers
import transformers
from transformers import PreTrainedTokenizerFast

from hf_synpre import __version__
from hf_synpre.data.cache import cache_folder, changed, folder_digest, recipe_key
from hf_synpre.data.corpora import Corpus
from hf_synpre.data.text_progress import TextProgress
from hf_synpre.data.tokenizers import train_encoder_tokenizer, train_tokenizer
from hf_synpre.files import atomic_folder, lock, read_object, write_json

# The version of how texts are taken from rows and tokenizers are trained; another one makes anew.
FORMAT = 1


def stored_corpus(
    path: Path, description: dict[str, Any], make: Callable[[], tuple[Corpus, list[str]]]
) -> tuple[Corpus, list[str]]:
    """Return a corpus that is made of files, without reading them if it was made before.

    Args:
        path: the folder or file that the corpus is made of, and nothing else is.
        description: all that decides the corpus beside the content of its files, as JSON holds it.
        make: makes the corpus, and what the user is told of it.

    Returns:
        The corpus, and what the user is told of it.

    Raises:
        UsageError: the files change while they are read, or what `make` raises.
    """
    digest = folder_digest(path)
    recipe = {
        "format": FORMAT,
        "files": digest,
        "description": description,
        "versions": [__version__, datasets.__version__, pa.__version__],
    }
    file = cache_folder() / "corpora" / f"{path.name}-{recipe_key(recipe)}.json"

    # One process makes it, and the others wait.
    with lock(file):
        if not file.exists():
            corpus, remarks = make()
            if folder_digest(path) != digest:
                raise changed(path)
            made = {"metadata": corpus.metadata, "source": corpus.source, "remarks": remarks}
            write_json(file, made | {"recipe": recipe})
            return corpus, remarks
    stored = read_object(file)

    @functools.cache
    def made_again() -> Corpus:
        if folder_digest(path) != digest:
            raise changed(path)
        corpus, _ = make()
        if corpus.source != stored["source"]:
            raise changed(path)
        return corpus

    def texts(split: str) -> Iterable[str]:
        return made_again().texts(split)

    return Corpus(texts, stored["metadata"], source=stored["source"]), stored["remarks"]


def stored_tokenizer(
    corpus: Corpus, vocab_size: int, *, encoder: bool, lowercase: bool = False
) -> PreTrainedTokenizerFast:
    """Return a tokenizer trained on the train texts of a corpus, or the one that was before.

    Args:
        corpus: the texts, of which `source` says what decides them.
        vocab_size: ids of the tokenizer.
        encoder: it is that of `train_encoder_tokenizer`, else that of `train_tokenizer`.
        lowercase: whether that of an encoder reads texts in lower case.

    Raises:
        UsageError: vocab_size is too small.
    """
    train: Callable[..., PreTrainedTokenizerFast] = train_tokenizer
    if encoder:
        train = functools.partial(train_encoder_tokenizer, lowercase=lowercase)
    if corpus.source is None:
        return train(corpus.texts("train"), vocab_size)
    recipe = {
        "format": FORMAT,
        "corpus": corpus.source,
        "encoder": encoder,
        "lowercase": encoder and lowercase,
        "vocab_size": vocab_size,
        "versions": [__version__, tokenizers.__version__, transformers.__version__],
    }
    folder = cache_folder() / "tokenizers" / f"{corpus.name}-{recipe_key(recipe)}"
    with lock(folder):
        if not folder.exists():
            progress = TextProgress(f"reading {corpus.name} for a tokenizer", corpus.size("train"))
            tokenizer = train(progress.read(corpus.texts("train")), vocab_size)
            with atomic_folder(folder) as partial:
                tokenizer.save_pretrained(partial)
    return PreTrainedTokenizerFast.from_pretrained(folder)
