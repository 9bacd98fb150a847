"""Layer 6: the verbs of rows: tasks, generate."""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from hf_synpre.cli.options import option, option_names, pairs, vocabulary_of
from hf_synpre.cli.push import attempt
from hf_synpre.errors import UsageError
from hf_synpre.files import write_bytes, write_text


@dataclass
class TasksOptions:
    """List the synthetic tasks, or show one."""

    task: str | None = option("the task to show; all are listed without it")


def tasks(options: TasksOptions) -> int:
    """Print the tasks with the first line of their definitions, or one whole, with an example row."""
    from hf_synpre.tasks import generate as generate_rows
    from hf_synpre.tasks import get_task, list_tasks

    if options.task is None:
        for name in list_tasks():
            print(f"{name:18s} {(get_task(name).function.__doc__ or '').strip().splitlines()[0]}")
        return 0
    task = get_task(options.task)
    row = generate_rows(options.task, 0, 1).to_pylist()[0]
    print(f"{task.name}, version {task.version} ({task.paper})\n{task.function.__doc__}")
    print(
        f"parameters  {dict(task.parameters)}\ninput_ids   {row['input_ids']}\nlabels      {row['labels']}"
    )
    return 0


@dataclass
class GenerateOptions:
    """Write rows of a synthetic task."""

    task: str = option("the task", "set")
    start: int = option("first row", 0)
    stop: int = option("one past the last row", 10)
    split: str = option("train, validation or test", "train")
    seed: int = option("seed of the stream", 0)
    vocabulary: str | None = option(
        "a plain vocabulary size, or a tokenizer's folder or Hub id; the paper's T5 ids without it"
    )
    parameters: str | None = option("parameters of the task, as min_length=4,max_length=24")
    output_file: str | None = option(
        "a .parquet or .jsonl file; JSON lines on standard output without it"
    )
    from_card: str | None = option(
        "a published dataset, folder or Hub id: generate its rows anew and compare; alone, but for"
    )
    config: str | None = option(
        "with --from_card: one configuration of the dataset; all without it"
    )
    revision: str | None = option(
        "with --from_card: branch, tag or commit of the dataset on the Hub"
    )
    output_dir: str | None = option(
        "with --from_card: folder for the rebuilt shards; nothing is written without it"
    )


FROM_CARD = ("config", "revision", "output_dir")


def generate(options: GenerateOptions) -> int:
    """Write rows as Parquet or JSON lines, or those of a published dataset anew."""
    if options.from_card is not None:
        return from_card(options)
    for name in FROM_CARD:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} belongs to --from_card; give both or neither.")
    import pyarrow as pa
    import pyarrow.parquet as pq

    from hf_synpre.tasks import generate as generate_rows

    parameters = pairs(options.parameters, "parameters")
    for name in parameters:
        if f"--{name}" in option_names(GenerateOptions):
            raise UsageError(
                f"--parameters has {name}, which is no parameter of a task; give it as --{name}."
            )
    stream = {
        "split": options.split,
        "seed": options.seed,
        "vocabulary": vocabulary_of(options.vocabulary),
    }
    table = generate_rows(options.task, options.start, options.stop, **stream, **parameters)
    lines = (json.dumps(row) + "\n" for batch in table.to_batches() for row in batch.to_pylist())
    if options.output_file is None:
        sys.stdout.writelines(lines)
        return 0
    file = Path(options.output_file)
    if file.suffix not in (".parquet", ".jsonl"):
        raise UsageError(f"--output_file is {file}; give a name that ends in .parquet or .jsonl.")
    if file.suffix == ".parquet":
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        write_bytes(file, buffer.getvalue())
    else:
        write_text(file, "".join(lines))
    return 0


def from_card(options: GenerateOptions) -> int:
    """Rebuild a dataset from its card; 1 where rows differ."""
    from hf_synpre import hub

    for field_ in dataclasses.fields(options):
        if (
            field_.name not in ("from_card", *FROM_CARD)
            and getattr(options, field_.name) != field_.default
        ):
            raise UsageError(
                f"--from_card takes the whole recipe from the card; leave --{field_.name} out."
            )
    more = {name: getattr(options, name) for name in FROM_CARD}
    return attempt(lambda: 0 if hub.rebuild(options.from_card, **more) else 1)
