"""`synpre build`: the recipe of a dataset in, Parquet shards and a card out."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_synpre.cli.options import IMPORT_FLAG, Arguments, FlagSet, Verb
from hf_synpre.config import build_spec, option, read_yaml
from hf_synpre.errors import UsageError, choose, counted
from hf_synpre.files import held

if TYPE_CHECKING:
    from hf_synpre.data.recipes import DatasetRecipe

# Rows of the configuration "small" of a task's dataset; those of "default" are `Recipe`'s own.
SMALL_SPLITS = {"train": 10_000, "validation": 1_000}
# A task that is a mixture -> its parts, which are configurations of its dataset too.
PARTS = {"lime": ("lime_induct", "lime_deduct", "lime_abduct")}
# The parameters of the configuration `procedural`: 64 uniform tokens of 99, as Jiang et al. 2026
# have them (docs/papers.md, "Tasks since 2022"). Dividers and queries count as length.
PROCEDURAL: dict[str, dict[str, int | str]] = {
    "identity": {"min_length": 64, "max_length": 64},
    "reverse": {"min_length": 64, "max_length": 64},
    "sort": {"min_length": 64, "max_length": 64, "law": "uniform"},
    "set": {"min_length": 64, "max_length": 64, "law": "uniform"},
    "union": {"min_length": 65, "max_length": 65, "law": "uniform"},
    "delete": {"min_length": 66, "max_length": 66, "law": "uniform", "hit": 48},
}
PROCEDURAL_VOCABULARY = 114


@dataclass
class BuildOptions:
    """What `synpre build` takes."""

    task: str = option(
        "A synthetic task, whose dataset has the configurations default (1,000,000 rows) and small "
        "(10,000); or a YAML file of your own with `configs:`.",
        "",
    )
    config: str = option("The configuration of the recipe.", "default")
    layout: str = option(
        "What a row holds: seq2seq (the input, and the target) or causal (one sequence for a "
        "decoder: input, end of sequence, target, end of sequence). A YAML file has its own.",
        "seq2seq",
    )
    num_shards: int | None = option("Shards of every split; eight or more without it.", None)
    shard_index: int | None = option(
        "Build this shard of every split alone, from 0: for several machines, with --num_shards.",
        None,
    )
    output_dir: str | None = option("Folder of the dataset; runs/datasets/TASK without it.", None)
    push_to_hub: bool = option("Publish the folder when it is complete; needs --repo_id.", False)
    repo_id: str | None = option(
        "The repository on the Hub, namespace/name, which the card names; synpre/TASK without it.",
        None,
    )
    private: bool = option("A repository that is new becomes a private one.", False)
    backend: str = option(
        "local (this process) or ray (the cluster of RAY_ADDRESS, else a local one), a CPU for "
        "each shard.",
        "local",
    )


def build(arguments: Arguments) -> int:
    """Build one configuration; write the card, and publish, once all of it is there."""
    from tqdm import tqdm

    from hf_synpre import hub
    from hf_synpre.data.shards import build_shards, check_sharding, read_configs
    from hf_synpre.hub import cards

    # Check everything before anything is written.
    options = arguments.build(BuildOptions)
    if not options.task:
        raise UsageError("No task was given; write `synpre build TASK`, or a YAML file.")
    if options.push_to_hub and options.repo_id is None:
        raise UsageError("--push_to_hub was given without --repo_id; give NAMESPACE/NAME.")
    dataset = read_recipe(options.task, options.layout)
    name = Path(options.task).stem
    repo_id = hub.check_repo_id(options.repo_id or f"synpre/{name}")
    folder = Path(options.output_dir or f"runs/datasets/{name}")
    recipe = dataset.configs[choose("configuration", options.config, dataset.configs)]
    check_sharding(options.num_shards, options.shard_index)
    choose("backend", options.backend, ("local", "ray"))

    # Build the shards. Several commands may share a folder, each with a --shard_index of its own.
    rows = count_rows(recipe.splits, options.num_shards, options.shard_index)
    work = options.config
    if options.shard_index is not None:
        work += f"-{options.shard_index}"
    with ExitStack() as stack:
        stack.enter_context(held(folder / work, shown=folder))
        run_jobs = None
        if options.backend == "ray":
            from hf_synpre.experiments.cluster import joined_cluster, run_on_cluster

            stack.enter_context(joined_cluster())
            run_jobs = run_on_cluster
        bar = tqdm(total=rows, unit=" rows", unit_scale=True, desc=options.config)
        stack.enter_context(bar)
        files = build_shards(
            recipe,
            options.config,
            folder,
            progress=bar.update,
            num_shards=options.num_shards,
            shard_index=options.shard_index,
            run_jobs=run_jobs,
        )
    print(f"{counted(len(files), 'shard')} of {options.config} in {folder}")

    # Write the card and push.
    if options.config not in read_configs(folder):
        print("Other shards are still to come; the last one brings the card.")
        return 0
    cards.write_dataset_card(folder, repo_id)
    print(f'from datasets import load_dataset; load_dataset("{folder}")')
    if options.push_to_hub:
        print(hub.push(folder, repo_id, private=options.private or None))
    return 0


def read_recipe(task: str, layout: str = "seq2seq") -> "DatasetRecipe":
    """Return the recipe of a task's dataset, or that of a YAML file.

    Args:
        task: the name of a registered task, or a file that ends in .yaml or .yml.
        layout: what the rows of a task's dataset hold; a file has its own.

    Raises:
        UsageError: there is no such task or layout, the file is no recipe, or a layout is given
            beside it.
    """
    from hf_synpre.data.recipes import DatasetRecipe, Recipe
    from hf_synpre.tasks import list_tasks

    if task.endswith((".yaml", ".yml")):
        if layout != "seq2seq":
            raise UsageError(f"--layout {layout} was given with {task}; write `layout:` in it.")
        return build_spec(DatasetRecipe, read_yaml(task), task)
    choose("dataset", task, list_tasks(), do="Or give a YAML file.")
    configs = {
        "default": Recipe(task, layout=layout),
        "small": Recipe(task, splits=SMALL_SPLITS, layout=layout),
    }
    for part in PARTS.get(task, ()):
        configs[part] = Recipe(part, layout=layout)
    if task in PROCEDURAL:
        configs["procedural"] = Recipe(
            task, parameters=PROCEDURAL[task], vocabulary=PROCEDURAL_VOCABULARY, layout=layout
        )
    return DatasetRecipe(configs)


def count_rows(splits: dict[str, int], num_shards: int | None, shard_index: int | None) -> int:
    """Return how many rows the shards have that a call builds.

    Args:
        splits: split -> number of rows.
        num_shards: shards of every split, as in `shard_ranges`.
        shard_index: the number of the shards that are built; all of them without it.
    """
    from hf_synpre.data.shards import shard_ranges

    count = 0
    for rows in splits.values():
        for shard, (start, stop) in enumerate(shard_ranges(rows, num_shards)):
            if shard_index in (None, shard):
                count += stop - start
    return count


BUILD = Verb(
    name="build",
    summary="Build the dataset of a synthetic task: Parquet shards and a card.",
    run=build,
    flag_sets=lambda: [
        FlagSet(
            BuildOptions,
            "data",
            groups={"output": ("output_dir", "push_to_hub", "repo_id", "private")},
        ),
        IMPORT_FLAG,
    ],
    positional="task",
    needs_positional=True,
    examples=(
        "set --config small --output_dir runs/set-data",
        "my.yaml --num_shards 8 --shard_index 3 --output_dir runs/mine",
    ),
)
