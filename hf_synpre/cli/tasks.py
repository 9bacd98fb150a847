"""`synpre tasks` and `synpre generate`: a synthetic task in, its definition or its rows out."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_synpre.cli.options import IMPORT_FLAG, Arguments, FlagSet, Verb
from hf_synpre.cli.tokenizer_flags import read_vocabulary
from hf_synpre.config import option
from hf_synpre.errors import UsageError
from hf_synpre.files import atomic_file

if TYPE_CHECKING:
    import pyarrow


# Of a longer row `synpre tasks` shows so many ids.
MOST_SHOWN = 64


@dataclass
class TasksOptions:
    """What `synpre tasks` takes."""

    task: str | None = option("The task to show; all are listed without it.", None)


def tasks(arguments: Arguments) -> int:
    """Print the first line of every task's definition, or all of one, with an example row."""
    from hf_synpre.tasks import generate as generate_rows
    from hf_synpre.tasks import get_task, list_tasks
    from hf_synpre.tasks.base import describe_loss

    options = arguments.build(TasksOptions)
    if options.task is None:
        for name in list_tasks():
            definition = get_task(name).description
            print(f"{name:18s} {definition.strip().splitlines()[0]}")
        return 0

    task = get_task(options.task)
    row = generate_rows(options.task, 0, 1).to_pylist()[0]
    print(f"{task.name}, version {task.version} ({task.paper})")
    print(task.description)
    print(f"parameters  {dict(task.parameters)}")
    print(f"lowest loss {describe_loss(task.bayes_loss())}")
    print(f"input_ids   {first_ids(row['input_ids'])}")
    print(f"labels      {first_ids(row['labels'])}")
    return 0


def first_ids(ids: list[int]) -> str:
    """Return ids as text; of a long row the first ones and how many there are."""
    if len(ids) <= MOST_SHOWN:
        return str(ids)
    shown = ", ".join(map(str, ids[:MOST_SHOWN]))
    return f"[{shown}, ...], {len(ids):,} ids"


TASKS = Verb(
    name="tasks",
    summary="List the synthetic tasks, or show one.",
    run=tasks,
    flag_sets=lambda: [FlagSet(TasksOptions), IMPORT_FLAG],
    positional="task",
    needs_positional=False,
    examples=("nesting_language", "rotate --import my_tasks.py"),
)


@dataclass
class GenerateOptions:
    """Which rows `synpre generate` writes, and where."""

    task: str = option("The synthetic task.", "set")
    start: int = option("The first row.", 0)
    stop: int = option("One past the last row.", 10)
    split: str = option("train, validation or test.", "train")
    seed: int = option("Seed of the rows.", 0)
    vocabulary: str | None = option(
        "A plain vocabulary size, or a tokenizer's folder or Hub id; the paper's T5 ids without "
        "it.",
        None,
    )
    parameters: dict[str, Any] = option(
        "Parameters of the task, as min_length=4,max_length=24.", default_factory=dict
    )
    output_file: str | None = option(
        "A .parquet or .jsonl file; JSON lines on standard output without it.", None
    )


@dataclass
class RebuildOptions:
    """Which published dataset `synpre generate` makes anew, by the former name of `reproduce`."""

    from_card: str | None = option("The former name of `synpre reproduce DATASET`.", None)
    config: str | None = option("One configuration of that dataset.", None)
    revision: str | None = option("Branch, tag or commit of that dataset on the Hub.", None)
    output_dir: str | None = option("A folder for the rebuilt shards.", None)


def generate(arguments: Arguments) -> int:
    """Write rows as Parquet or JSON lines."""
    # A card has the whole recipe; its options are of no use without it.
    rebuild_options = arguments.build(RebuildOptions)
    if rebuild_options.from_card is not None:
        defaults = GenerateOptions()
        for name, value in arguments.of(GenerateOptions).items():
            if value != getattr(defaults, name):
                raise UsageError(
                    f"--from_card takes the whole recipe from the card; leave --{name} out."
                )
        from hf_synpre.cli.reproduce import ReproduceOptions, rebuild

        published = ReproduceOptions(
            rebuild_options.from_card, rebuild_options.revision, rebuild_options.output_dir
        )
        return rebuild(published, rebuild_options.config)
    for name in arguments.of(RebuildOptions):
        raise UsageError(f"--{name} belongs to --from_card; give both or neither.")

    # Parameters of the task, of which none is an option of the verb.
    options = arguments.build(GenerateOptions)
    option_names = {
        field.name for spec in (GenerateOptions, RebuildOptions) for field in fields(spec)
    }
    for name in options.parameters:
        if name in option_names:
            raise UsageError(
                f"--parameters has {name}, which is no parameter of a task; give it as --{name}."
            )

    from hf_synpre.tasks import iter_rows, open_stream

    stream = open_stream(
        options.task,
        split=options.split,
        seed=options.seed,
        vocabulary=read_vocabulary(options.vocabulary),
        **options.parameters,
    )
    write_rows(iter_rows(stream, options.start, options.stop), options.output_file)
    return 0


def write_rows(batches: Iterator["pyarrow.RecordBatch"], output_file: str | None) -> None:
    """Write rows into a file, or as JSON lines on standard output, one batch after the other.

    Args:
        batches: the rows.
        output_file: a name that ends in .parquet or .jsonl; None for standard output.

    Raises:
        UsageError: the name ends in something else, or the file cannot be written.
    """
    if output_file is None:
        sys.stdout.writelines(json_lines(batches))
        return

    file = Path(output_file)
    if file.suffix == ".parquet":
        from pyarrow.parquet import ParquetWriter

        from hf_synpre.tasks import SCHEMA

        with atomic_file(file) as partial, ParquetWriter(partial, SCHEMA) as writer:
            for batch in batches:
                writer.write_batch(batch)
    elif file.suffix == ".jsonl":
        with atomic_file(file) as partial, partial.open("w", encoding="utf-8") as stream:
            stream.writelines(json_lines(batches))
    else:
        raise UsageError(f"--output_file is {file}; give a name that ends in .parquet or .jsonl.")


def json_lines(batches: Iterator["pyarrow.RecordBatch"]) -> Iterator[str]:
    """Yield rows as JSON, a line each."""
    for batch in batches:
        for row in batch.to_pylist():
            yield json.dumps(row) + "\n"


GENERATE = Verb(
    name="generate",
    summary="Write rows of a synthetic task.",
    run=generate,
    flag_sets=lambda: [
        FlagSet(GenerateOptions, "rows"),
        FlagSet(RebuildOptions, "former names"),
        IMPORT_FLAG,
    ],
    positional="task",
    needs_positional=False,
    examples=(
        "set --stop 1000 --output_file rows.parquet",
        "sort --parameters max_length=24 --vocabulary 128",
    ),
)
