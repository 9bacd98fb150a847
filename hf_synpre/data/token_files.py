"""Token files: a corpus and a tokenizer -> ids in memory-mapped files, made once and used again.

1. `corpus_tokens` returns the ids of a split as `Tokens`. A folder of the cache holds them; its
   name is a hash of what decides the ids: the corpus' files, the tokenizer, the end of sequence.
2. A folder holds pieces `SPLIT_00000.ds`, `SPLIT_00001.ds` ...: ids one after the other, uint16 or
   uint32, in the format of datatrove, which nanotron reads as well. `.ds.index` says where each
   document ends, uint64 in ids; a piece without a whole index does not exist. `SPLIT.json` says
   that the pieces are the whole split.
3. Pieces are made as far as a run reads them. One process makes them and the others wait for its
   lock. A run that was killed, or one that reads further, goes on after the last piece.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers
import transformers

from hf_synpre import __version__
from hf_synpre.data.cache import cache_folder, changed, folder_digest, recipe_key
from hf_synpre.data.encoding import encoded_documents, special_ids
from hf_synpre.data.text_progress import TextProgress
from hf_synpre.data.windows import encode_corpus
from hf_synpre.errors import UsageError
from hf_synpre.files import (
    atomic_file,
    lock,
    read_json,
    write_bytes,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_synpre.data.corpora import Corpus

logger = logging.getLogger(__name__)

# The version of how documents are cut and encoded; another one has other folders.
FORMAT = 1
# Ids of a piece: what a killed process may have to make again.
PIECE_IDS = 2**25
# Where the documents of a piece end.
ENDS = np.dtype("<u8")
RECIPE_FILE = "recipe.json"


@dataclass(frozen=True)
class Piece:
    """A token file that is whole."""

    file: Path
    ids: int
    documents: int


class Tokens:
    """The ids of token files, one file after the other; only what is read comes into memory.

    It is indexed as an array is: `tokens[begin:end]`, `tokens.take(positions)` are int32 arrays.

    Args:
        pieces: the files in order.
        dtype: the type of their ids.
        most: ids that are used, the first ones.
        limit: one more than the largest id that the model's tokenizer has.
    """

    def __init__(self, pieces: list[Piece], dtype: np.dtype, most: int, limit: int):
        self.pieces, self.dtype, self.limit = pieces, dtype, limit
        self._maps = [np.memmap(piece.file, dtype, "r", shape=(piece.ids,)) for piece in pieces]
        # Where each file begins, and where the last one ends.
        self._offsets = np.cumsum([0, *(piece.ids for piece in pieces)])
        self._size = min(int(self._offsets[-1]), most)

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers that are not forked open the files again.
        return Tokens, (self.pieces, self.dtype, self._size, self.limit)

    def __getitem__(self, positions: slice) -> np.ndarray:
        begin, end, _ = positions.indices(self._size)
        first, last = np.searchsorted(self._offsets, [begin, end - 1], "right") - 1
        parts = []
        for number in range(first, last + 1):
            offset = int(self._offsets[number])
            parts.append(self._maps[number][max(begin - offset, 0) : end - offset])
        return self._checked(np.concatenate(parts) if parts else np.empty(0, np.int32))

    def take(self, positions: np.ndarray, mode: str = "wrap") -> np.ndarray:
        """Return the ids at consecutive positions, which may run on over the end to the beginning.

        Args:
            positions: consecutive integers, int64[n].
            mode: "wrap", as numpy calls it.
        """
        begin = int(positions[0]) % self._size
        end = begin + len(positions)
        if end <= self._size:
            return self[begin:end]
        return np.concatenate([self[begin : self._size], self[: end - self._size]])

    def _checked(self, ids: np.ndarray) -> np.ndarray:
        """Return ids as int32. Raises UsageError where one is none of the tokenizer's."""
        if len(ids) and ids.max() >= self.limit:
            raise UsageError(
                f"{self.pieces[0].file.parent} has the id {ids.max()}, and the tokenizer has ids "
                f"below {self.limit}; give the tokenizer that made these files."
            )
        return ids.astype(np.int32)


# --- from a corpus to its ids ---------------------------------------------------------------------


def corpus_tokens(
    corpus: "Corpus",
    split: str,
    tokenizer: "PreTrainedTokenizerBase",
    eos: int,
    enough: int,
    *,
    special_tokens: bool = False,
) -> Tokens | np.ndarray:
    """Return the ids of a corpus, an end-of-sequence id after each document.

    Those that are not in the cache yet are made, as far as they are read. A corpus whose `source`
    is not known is encoded into memory.

    Args:
        corpus: the documents.
        split: "train" or "validation".
        tokenizer: what turns a text into ids.
        eos: the end-of-sequence id.
        enough: how many ids are read at the most, the first ones.
        special_tokens: as for `encode_texts`.

    Raises:
        UsageError: the corpus has no such split or no text, or changes while it is read.
        TemporaryError: the disk is full; what was made is kept.
    """
    limit = max(eos, *tokenizer.get_vocab().values()) + 1
    dtype = np.dtype("<u2" if limit <= 2**16 else "<u4")
    if corpus.token_files is not None:
        pieces = [given_piece(file, dtype) for file in corpus.token_files(split)]
        return Tokens(pieces, dtype, enough, limit)
    if corpus.source is None:
        return encode_corpus(
            corpus.texts(split), tokenizer, enough, eos, special_tokens=special_tokens
        )

    # The name of the folder says all that decides the ids.
    recipe = {
        "format": FORMAT,
        "corpus": corpus.source,
        "tokenizer": tokenizer_digest(tokenizer),
        "eos": eos,
        "special_tokens": special_tokens,
        "versions": [__version__, tokenizers.__version__, transformers.__version__],
    }
    folder = cache_folder() / "tokens" / f"{corpus.name}-{recipe_key(recipe)}"

    # What is there may be enough.
    stored = StoredSplit(folder, split, dtype)
    pieces = stored.whole_pieces()
    if stored.is_enough(pieces, enough):
        return Tokens(pieces, dtype, enough, limit)

    # One process makes more, while the others wait and then find it.
    with lock(folder):
        pieces = stored.whole_pieces()
        if stored.is_enough(pieces, enough):
            return Tokens(pieces, dtype, enough, limit)
        say_changed(folder, corpus, recipe)
        stored.delete_pieces(len(pieces))
        progress = TextProgress(f"tokenising {corpus.name}", corpus.size(split))
        batches = encoded_documents(
            progress.read(corpus.texts(split)),
            tokenizer,
            eos,
            special_tokens=special_tokens,
            skip=sum(piece.documents for piece in pieces),
        )
        about = f"{tokenizer.name_or_path}|{dtype.itemsize}"
        add_pieces(stored, pieces, batches, enough, corpus, about, progress)
    return Tokens(pieces, dtype, enough, limit)


def add_pieces(
    stored: "StoredSplit",
    pieces: list[Piece],
    batches: Iterator[tuple[np.ndarray, np.ndarray]],
    enough: int,
    corpus: "Corpus",
    about: str,
    progress: TextProgress,
) -> None:
    """Make pieces after those that are there, until there is enough or the corpus ends.

    Each appears as a whole. Errors as for `corpus_tokens`.

    Args:
        stored: where they go.
        pieces: those that are there; it gets the new ones.
        batches: the documents after them, as `encoded_documents` yields them.
        enough: how many ids are read at the most.
        corpus: whose files must not change meanwhile.
        about: the first line of the files .metadata.
        progress: it is told how much of `enough` there is.
    """
    count = sum(piece.ids for piece in pieces)
    batch = next(batches, None)
    while batch is not None and count < enough:
        # The ids of some documents, in a file that appears when it is whole.
        file = stored.file(len(pieces))
        lengths = []
        ids = 0
        with atomic_file(file) as partial, partial.open("wb") as stream:
            while batch is not None and ids < PIECE_IDS and count + ids < enough:
                stream.write(batch[0].astype(stored.dtype).data)
                ids += len(batch[0])
                lengths.append(batch[1])
                progress.reach((count + ids) / enough)
                batch = next(batches, None)
            check_unchanged(corpus)

        # With its index the piece exists.
        ends = np.cumsum(np.concatenate(lengths)).astype(ENDS)
        write_text(Path(f"{file}.metadata"), f"{about}\n{ids}\n")
        write_bytes(Path(f"{file}.index"), ends.tobytes())
        pieces.append(Piece(file, ids, len(ends)))
        count += ids
    if batch is None:
        write_json(stored.total_file, totals(pieces))
    if progress.was_shown:
        logger.warning(
            "%s: %.1f million tokens are in %s, for later runs too",
            corpus.name,
            count / 1e6,
            stored.folder,
        )


# --- pieces ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredSplit:
    """The pieces of a split in a folder of the cache."""

    folder: Path
    split: str
    # The type of the ids.
    dtype: np.dtype

    def file(self, number: int) -> Path:
        """Return the token file of a piece."""
        return self.folder / f"{self.split}_{number:05d}.ds"

    @property
    def total_file(self) -> Path:
        """The file that says that the pieces are the whole split."""
        return self.folder / f"{self.split}.json"

    def whole_pieces(self) -> list[Piece]:
        """Return the pieces that are whole, up to the first that is not."""
        pieces: list[Piece] = []
        while Path(f"{self.file(len(pieces))}.index").exists():
            file = self.file(len(pieces))
            piece = read_piece(file, self.dtype)
            if piece is None:
                logger.warning(
                    "%s is cut short or lost; it is made again, and those after it", file
                )
                break
            pieces.append(piece)
        return pieces

    def is_enough(self, pieces: list[Piece], enough: int) -> bool:
        """Say whether pieces have enough ids, or are the whole split."""
        if sum(piece.ids for piece in pieces) >= enough:
            return True
        try:
            return bool(read_json(self.total_file) == totals(pieces))
        except UsageError:  # there is none, or another process has just deleted it
            return False

    def delete_pieces(self, first: int) -> None:
        """Delete the pieces from a number on, and what says that they are the whole split.

        A piece that is made again may end at another document, so that those after it do not fit.
        What a killed process was writing goes too. The caller holds the lock of the folder.
        """
        for partial in self.folder.glob(f".{self.split}_*.partial"):
            partial.unlink()
        self.total_file.unlink(missing_ok=True)
        for index in self.folder.glob(f"{self.split}_*.ds.index"):
            file = index.with_suffix("")
            if file.name >= self.file(first).name:
                index.unlink()
                file.unlink(missing_ok=True)


def read_piece(file: Path, dtype: np.dtype) -> Piece | None:
    """Return a piece; None where its files are missing or their sizes do not fit each other."""
    index = Path(f"{file}.index")
    # Another process may delete them at any moment, so that none is asked for first.
    try:
        documents, rest = divmod(index.stat().st_size, ENDS.itemsize)
        if rest or not documents:
            return None
        ids = int(np.fromfile(index, ENDS, offset=(documents - 1) * ENDS.itemsize)[0])
        if file.stat().st_size != ids * dtype.itemsize:
            return None
    except FileNotFoundError:
        return None
    return Piece(file, ids, documents)


def given_piece(file: Path, dtype: np.dtype) -> Piece:
    """Return a token file that the user gave. UsageError: it is not whole, or of another type."""
    piece = read_piece(file, dtype)
    if piece is None:
        raise UsageError(
            f"{file} is no whole token file of this tokenizer: {file.name}.index is missing or its "
            f"last entry does not say the size of {file.name} in ids of {dtype.itemsize} bytes; "
            "make it again."
        )
    return piece


def totals(pieces: list[Piece]) -> dict[str, int]:
    """Return the numbers of pieces, documents and ids."""
    documents = sum(piece.documents for piece in pieces)
    ids = sum(piece.ids for piece in pieces)
    return {"pieces": len(pieces), "documents": documents, "ids": ids}


# --- what decides the ids -------------------------------------------------------------------------


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a digest of all that decides the ids that a tokenizer gives to a text."""
    if tokenizer.is_fast:
        # Truncation and padding come before this key; they are set at every call.
        text = tokenizer.backend_tokenizer.to_str()
        rules = text[text.index('"added_tokens"') :]
    else:
        options = {name: str(value) for name, value in tokenizer.init_kwargs.items()}
        rules = json.dumps([sorted(tokenizer.get_vocab().items()), options], sort_keys=True)
    special = [type(tokenizer).__name__, sorted(special_ids(tokenizer)), tokenizer.unk_token]
    return hashlib.blake2b(f"{special} {rules}".encode(), digest_size=16).hexdigest()


def check_unchanged(corpus: "Corpus") -> None:
    """Raise UsageError where the files of a corpus are no longer those that its digest is of."""
    if corpus.path is None or corpus.source is None:
        return
    if folder_digest(corpus.path) != corpus.source["digest"]:
        raise changed(corpus.path)


def say_changed(folder: Path, corpus: "Corpus", recipe: dict[str, Any]) -> None:
    """Write what decides the ids of a folder; say where there are ids of former files of a corpus.

    Args:
        folder: the folder of the cache that gets token files.
        corpus: the documents.
        recipe: what decides the ids.
    """
    if (folder / RECIPE_FILE).exists():
        return
    place = None if corpus.path is None else str(corpus.path.resolve())
    for file in folder.parent.glob(f"*/{RECIPE_FILE}"):
        other = read_json(file)
        was_here = place is not None and other.get("path") == place
        if was_here and other.get("recipe", {}) | {"corpus": 0} == recipe | {"corpus": 0}:
            logger.warning(
                "%s has changed, so it is tokenised again; the tokens of its former files are in "
                "%s, which may be deleted",
                corpus.path,
                file.parent,
            )
    write_json(folder / RECIPE_FILE, {"recipe": recipe, "path": place})
