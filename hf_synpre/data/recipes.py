"""Recipes of published datasets: the fields of YAML, a card or a footer -> checked rows.

`Recipe` is one configuration of a dataset, `DatasetRecipe` all of them.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

from hf_synpre import __version__
from hf_synpre.data.rows import RowsConfig
from hf_synpre.errors import UsageError, choose
from hf_synpre.tasks import get_task

CONFIG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")
# The fields of a recipe as cards list them; the usual layout is not listed.
RECIPE_KEYS = ("task", "version", "parameters", "vocabulary", "seed", "splits", "layout")


@dataclass
class Recipe(RowsConfig):
    """All that decides the rows of a published dataset's configuration, the task's version too.

    `parameters` are completed with the task's defaults.

    Raises:
        UsageError: what cannot be built.
    """

    # "t5" (the paper's ids) or a plain size.
    vocabulary: int | str = "t5"
    # May be left out; where it is given it must be the task's.
    version: int | None = None

    def check_fields(self) -> None:
        """Check version, vocabulary and splits; complete version and parameters."""
        version = self.opened_task.version
        if self.version not in (None, version):
            raise UsageError(
                f"The recipe wants {self.task} version {self.version}, hf_synpre {__version__} "
                f"makes version {version}; install the version of hf_synpre that the card names."
            )

        # The card names both in full, so that another version's defaults do not matter.
        self.version = version
        self.parameters = dict(self.opened_task.resolve(self.parameters))

        if isinstance(self.vocabulary, str):
            choose("vocabulary", self.vocabulary, ("t5",), do="Or give a plain size.")
        if not self.splits:
            raise UsageError(
                f"The recipe of {self.task} has no splits; give splits: {{train: 1000}}."
            )

    def stream_vocabulary(self) -> int | None:
        """Return the vocabulary as `open_stream` takes it: None are the paper's ids."""
        return None if isinstance(self.vocabulary, str) else self.vocabulary

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as footers and cards hold them."""
        fields = asdict(self)
        if self.layout == "seq2seq":
            del fields["layout"]
        return {key: fields[key] for key in RECIPE_KEYS if key in fields}


@dataclass
class DatasetRecipe:
    """The recipes of one published dataset."""

    # Name of a configuration -> its recipe; load_dataset without a name takes `default`.
    configs: dict[str, Recipe]

    def __post_init__(self) -> None:
        for name in self.configs:
            config_folder(name)
        layouts = {recipe.layout for recipe in self.configs.values()}
        if len(layouts) > 1:
            raise UsageError(
                f"The configurations have the layouts {' and '.join(sorted(layouts))}; give one "
                "layout, since a card describes one."
            )
        kinds = {get_task(recipe.task).is_sequence for recipe in self.configs.values()}
        if len(kinds) > 1:
            raise UsageError(
                "Some configurations have rows with a target, others sequences; give tasks of one "
                "kind, since a card describes one."
            )


def config_folder(name: str) -> str:
    """Return the folder of a configuration inside a dataset: `data` for default.

    Raises UsageError on what is no plain name.
    """
    if not isinstance(name, str) or not CONFIG_NAME.fullmatch(name) or name == "data":
        raise UsageError(
            f"The configuration {name!r} becomes a folder's name; "
            "use letters, digits and _, and not data."
        )
    return "data" if name == "default" else name
