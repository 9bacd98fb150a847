"""A downstream task of an experiment: its rows, their token ids, its own fine-tuning."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_synpre.config import check_read, option
from hf_synpre.data.tokenizers import check_vocab_size
from hf_synpre.errors import UsageError

# What a task has so that it reads an option: `read_with` of the fields of TaskSpec.
TRAINED_TOKENIZER = "a tokenizer that is trained"
GIVEN_TOKENIZER = "a tokenizer that is given"


@dataclass
class TaskSpec:
    """A downstream task of an experiment: its rows, their token ids, its own fine-tuning.

    Raises:
        UsageError: a value that is not allowed, or two that exclude each other.
    """

    data_dir: str | None = option(
        "The folder of a local copy of the dataset in Hub layout, or one file of rows, relative to "
        "where the command runs; without it the experiment's, else the Hub.",
        None,
    )
    tokenizer: str | None = option(
        "The folder or Hub id of a tokenizer; one is trained on the train split without it.", None
    )
    vocab_size: int = option(
        "Ids of the tokenizer that is trained: at least 300, or 291 for an encoder-decoder.",
        1024,
        read_with=TRAINED_TOKENIZER,
    )
    tokenizer_corpora: list[str] | None = option(
        "The tasks and corpora on whose text the tokenizer is trained, instead of the task's own. "
        "With one tokenizer, one pre-training on a corpus serves several tasks.",
        None,
        read_with=TRAINED_TOKENIZER,
    )
    max_source: int | None = option(
        "The most ids of an input, which is cut there; without it the preset's or the task's.", None
    )
    max_target: int | None = option(
        "The most ids of a target, which is cut there; without it the preset's or the task's.", None
    )
    chat_template: bool = option(
        "Write rows as chats by the tokenizer's chat template, for a decoder: the source is the "
        "user's turn, the target the assistant's.",
        False,
        read_with=GIVEN_TOKENIZER,
        is_added=True,
    )
    define: dict[str, Any] | None = option(
        "The definition of a task that is not one of hf_synpre's.", None
    )
    finetuning: dict[str, Any] = option(
        "Keys of finetuning that override the experiment's and the preset's.", default_factory=dict
    )
    seeds: list[int] | None = option("The seeds of this task, instead of the experiment's.", None)

    def __post_init__(self) -> None:
        is_file = self.data_dir is not None and Path(self.data_dir).is_file()
        if not is_file:
            remedy = "give the folder of a dataset in Hub layout, or a file of rows"
            check_folder(self.data_dir, "folder or file", remedy)

        # The tokenizer: given, or trained.
        has = {
            TRAINED_TOKENIZER: self.tokenizer is None,
            GIVEN_TOKENIZER: self.tokenizer is not None,
        }
        what = "a task without one"
        if self.tokenizer is not None:
            what = f"a task with the tokenizer {self.tokenizer}"
        check_read(self, has, what=what)
        if self.tokenizer is None:
            check_vocab_size(self.vocab_size)
        if self.tokenizer_corpora == []:
            raise UsageError(
                "tokenizer_corpora is empty; name a task or a corpus, or leave it out."
            )

        for name in ("max_source", "max_target"):
            length = getattr(self, name)
            if length is not None and length < 1:
                raise UsageError(f"A downstream task has {name} {length}; give an integer >= 1.")


def check_folder(data_dir: str | None, kind: str, remedy: str) -> None:
    """Raise UsageError where a folder of data is named and missing.

    Args:
        data_dir: what was given; a path that is not absolute begins at the current folder.
        kind: what may be given.
        remedy: what to do, in words.
    """
    if data_dir is None or Path(data_dir).is_dir():
        return
    where = "" if Path(data_dir).is_absolute() else f" in {Path.cwd()}, where the command runs"
    raise UsageError(f"There is no {kind} {data_dir}{where}; {remedy}.")
