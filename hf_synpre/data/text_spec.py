"""What is taken from a dataset's text: keys of a YAML or flags -> a checked TextSpec."""

import math
from dataclasses import dataclass

from hf_synpre.config import check_read, option
from hf_synpre.errors import UsageError, choose

# The corpus of Python's own sources.
STDLIB = "stdlib"
ORDERS = ("natural", "shuffled_rows", "shuffled_sentences")
# What a corpus has so that it reads an option: `read_with` of the fields below.
ROWS = "the rows of a dataset"
SHUFFLED = "a shuffled order of the rows of a dataset"
OTHER_SPLITS = "a dataset that has further splits"
CONFIGS = "a dataset that has several configurations"


@dataclass
class TextSpec:
    """What is taken from the train split of a dataset, and in which order.

    Raises:
        UsageError: an order that does not exist, or a share or limit outside its bounds.
    """

    columns: list[str] | None = option(
        "Columns that hold the text, as premise,hypothesis; guessed without it.",
        None,
        read_with=ROWS,
    )
    order: str = option("natural, shuffled_rows or shuffled_sentences.", "natural", read_with=ROWS)
    deduplicate: bool = option(
        "Keep each text once, whatever column it is in.", False, read_with=ROWS
    )
    held_out: float = option(
        "Share of the rows held out for a validation loss.", 0.02, read_with=ROWS
    )
    limit_mb: float | None = option(
        "End the corpus after so many million bytes.", None, read_with=ROWS
    )
    with_test: bool = option(
        "Add the text of the other splits: an ablation, which the result names.",
        False,
        read_with=OTHER_SPLITS,
    )
    config: str | None = option(
        "Configuration of a dataset that has several.", None, read_with=CONFIGS
    )
    seed: int = option("Seed of the shuffled orders.", 0, read_with=SHUFFLED)

    def __post_init__(self) -> None:
        choose("order of text", self.order, ORDERS)
        if not 0 < self.held_out < 1:
            raise UsageError(
                f"text: held_out is {self.held_out}; give the share of the rows, between 0 and 1."
            )
        if self.columns and len(set(self.columns)) != len(self.columns):
            raise UsageError(f"text: columns is {self.columns}; name every column once.")
        if self.limit_mb is not None and not 0 < self.limit_mb < math.inf:
            raise UsageError(f"text: limit_mb is {self.limit_mb}; give a number > 0.")
        self.check_options("the corpus")

    def check_options(
        self,
        corpus: str,
        *,
        has_rows: bool = True,
        has_splits: bool | None = None,
        has_configs: bool | None = None,
    ) -> None:
        """Raise UsageError on an option that a corpus does not read.

        Args:
            corpus: the name of the corpus, for the message.
            has_rows: whether it is made of the rows of a dataset.
            has_splits: whether the dataset has other splits than train; None if not known yet.
            has_configs: whether a configuration can be chosen; None if not known yet.
        """
        has = {
            ROWS: has_rows,
            SHUFFLED: has_rows and self.order != "natural",
            OTHER_SPLITS: has_splits,
            CONFIGS: has_configs,
        }
        check_read(self, has, what=corpus)


def check_stdlib(text: TextSpec | None) -> None:
    """Raise UsageError on an option of text that Python's own sources do not read."""
    if text is not None:
        text.check_options(STDLIB, has_rows=False, has_splits=False, has_configs=False)
