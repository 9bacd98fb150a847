"""Layer 6: the verbs. Each is a function of one dataclass; heavy imports happen inside."""

import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hf_synpre.config import Loader, build_spec, read_yaml
from hf_synpre.errors import UsageError, choose
from hf_synpre.files import write_bytes, write_text


def option(help_text: str, default: Any = None) -> Any:
    """Return a dataclass field with a help text."""
    return field(default=default, metadata={"help": help_text})


def pairs(text: str | None, what: str) -> dict[str, Any]:
    """Read "a=1,b=x" as a mapping with YAML's types. Raises UsageError on anything else."""
    found = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"--{what} has '{part}'; write name=value,name=value.")
        try:
            found[name.strip()] = yaml.load(value, Loader)
        except yaml.YAMLError:
            raise UsageError(f"--{what} has '{part}', whose value is no number, word or list.") from None
    return found


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
    print(f"parameters  {dict(task.parameters)}\ninput_ids   {row['input_ids']}\nlabels      {row['labels']}")
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
    output_file: str | None = option("a .parquet or .jsonl file; JSON lines on standard output without it")
    from_card: str | None = option(
        "a published dataset, folder or Hub id: generate its rows anew and compare; alone, but for"
    )
    config: str | None = option("with --from_card: one configuration of the dataset; all without it")
    revision: str | None = option("with --from_card: branch, tag or commit of the dataset on the Hub")
    output_dir: str | None = option("with --from_card: folder for the rebuilt shards; nothing is written without it")


FROM_CARD = ("config", "revision", "output_dir")


def from_card(options: GenerateOptions) -> int:
    """Rebuild a dataset from its card; 1 where rows differ."""
    from hf_synpre import hub

    for field_ in dataclasses.fields(options):
        if field_.name not in ("from_card", *FROM_CARD) and getattr(options, field_.name) != field_.default:
            raise UsageError(f"--from_card takes the whole recipe from the card; leave --{field_.name} out.")
    more = {name: getattr(options, name) for name in FROM_CARD}
    return attempt(lambda: 0 if hub.rebuild(options.from_card, **more) else 1)


def attempt(work: Callable[[], int]) -> int:
    """Return what a transfer returns, 1 with one line on standard error where it broke off."""
    from hf_synpre.hub import PushError

    try:
        return work()
    except PushError as error:
        print(f"synpre: {error}", file=sys.stderr)
        return 1


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
            raise UsageError(f"--parameters has {name}, which is no parameter of a task; give it as --{name}.")
    stream = {"split": options.split, "seed": options.seed, "vocabulary": vocabulary_of(options.vocabulary)}
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


def vocabulary_of(text: str | None, name: str = "vocabulary") -> Any:
    """Return what --vocabulary means: None, a size, or a tokenizer."""
    if text is None or (text.isascii() and text.isdecimal()):
        return text and int(text)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(text)
    except (OSError, ValueError) as error:
        size, cause = "a size, or " if name == "vocabulary" else "", " ".join(str(error).split())[:160]
        raise UsageError(f"--{name} is '{text}'; give {size}the folder or Hub id of a tokenizer ({cause}).") from None


@dataclass
class PretrainOptions:
    """Pre-train a fresh model on a synthetic task or on text. Every TrainingArguments flag of transformers works too."""

    output_dir: str = option("folder of the model, its statistics and pretraining.json", "runs/pretrained")
    task: str | None = option("the synthetic task; set without --corpus")
    corpus: str | None = option(
        "text instead of a task: stdlib, a Hub id, or a folder with train and validation, data/train*.parquet or train*.txt"
    )
    preset: str | None = option("paper or fast; every other flag overrides it")
    parameters: str | None = option("parameters of the task, as min_length=4,max_length=24")
    vocabulary: int | None = option("size of a plain vocabulary; the paper's T5 ids without it")
    tokenizer_name: str | None = option("folder or Hub id of a tokenizer whose ids are used, instead of --vocabulary")
    model_type: str = option("architecture, as in transformers", "t5")
    config_name: str | None = option("folder, file or Hub id of a config, instead of --model_type")
    config_overrides: str | None = option("fields of the config, as d_model=128,num_layers=2")
    attention: str | None = option("eager or sdpa; without it eager on a CPU, transformers' choice on a GPU")
    objective: str | None = option("seq2seq, span_corruption, causal or mlm; the model's usual one without it")
    loss_on: str | None = option("loss of a decoder-only model: targets (the default) or all")
    schedule: str | None = option("rsqrt: 1/sqrt(max(step, 10000)) times the learning rate; --lr_scheduler_type without it")
    initial_weights: str | None = option("transformers (the default) or t5x")
    batching: str | None = option("padded, bucketed (the default) or packed")
    row_length: int | None = option("input positions of a packed row; four mean examples without it")
    batch_size: int | None = option("examples of a step over all processes, instead of --per_device_train_batch_size")
    window: int | None = option("ids of a window of text")
    ramp_steps: int | None = option("steps of the curriculum by length")
    competence: float | None = option("validation token accuracy that ends the run")
    evaluations: int | None = option("evaluations in the whole run")
    validation_examples: int | None = option("examples of an evaluation")
    seed: int = option("seed of weights and data", 0)
    push_to_hub: bool = option("publish the folder when the run is done; needs --hub_model_id", False)
    hub_model_id: str | None = option("namespace/name on the Hub")
    training: dict[str, Any] = field(default_factory=dict, init=False)


RUN_FLAGS = set(PretrainOptions.__dataclass_fields__) - {
    *("output_dir", "tokenizer_name", "model_type", "config_name", "config_overrides", "attention"),
    *("push_to_hub", "hub_model_id"),
}


def pretrain(options: PretrainOptions) -> int:
    """Pre-train into a folder and print what it took."""
    from hf_synpre import pretraining
    from hf_synpre.hub import check_repo_id, push

    if options.push_to_hub or options.hub_model_id is not None:
        check_repo_id(options.hub_model_id or "")
    if options.hub_model_id is not None and not options.push_to_hub:
        raise UsageError("--hub_model_id was given without --push_to_hub; give both or none.")
    if options.tokenizer_name is not None and options.vocabulary is not None:
        raise UsageError("--tokenizer_name and --vocabulary were given; the ids come from one of them, leave the other out.")
    given = {k: v for k, v in vars(options).items() if v is not None and k in RUN_FLAGS}
    given |= {"parameters": pairs(options.parameters, "parameters")}
    if options.corpus is None:
        given = {"task": "set"} | given
    if "max_steps" not in options.training and options.preset is None:
        given["training"] = {"max_steps": 1000} | options.training
    spec = build_spec(pretraining.PretrainingSpec, given, "options")
    overrides = pairs(options.config_overrides, "config_overrides")
    model = pretraining.ModelSpec(options.model_type, options.config_name, overrides, options.attention)
    folder = Path(options.output_dir)
    if folder.exists() and not (folder / pretraining.RESULT_FILE).exists():
        raise UsageError(f"{folder} exists and holds no finished pre-training; choose another --output_dir.")
    tokenizer = vocabulary_of(options.tokenizer_name, "tokenizer_name")
    try:
        facts = pretraining.pretrain(spec, model, folder, tokenizer=tokenizer, quiet=False)
    except FloatingPointError as error:
        print(f"synpre: {error}", file=sys.stderr)
        return 1
    if int(os.environ.get("RANK", 0)) == 0:
        print(json.dumps({k: v for k, v in facts.items() if k not in ("curve", "recipe", "versions")}, indent=1))
        if options.push_to_hub:
            return attempt(lambda: print(push(folder, options.hub_model_id)) or 0)
    return 0


@dataclass
class StatisticsOptions:
    """Measure a checkpoint's parameter statistics."""

    checkpoint: str = option("folder or Hub id of a checkpoint with safetensors", "")
    output_file: str | None = option(
        "where to write parameter_statistics.json; into the checkpoint's folder, or here, without it"
    )
    output_dir: str | None = option("a folder for the file and the config: all that StatisticsInit.from_pretrained needs")


def statistics(options: StatisticsOptions) -> int:
    """Write the statistics file of a checkpoint."""
    from hf_synpre import initialization

    if not options.checkpoint:
        raise UsageError("No checkpoint was given; write `synpre statistics FOLDER_OR_HUB_ID`.")
    try:
        stats = initialization.ParameterStatistics.from_pretrained(options.checkpoint)
    except OSError as error:  # from the Hub
        raise UsageError(str(error)) from None
    if options.output_dir and Path(options.output_dir).is_file():
        raise UsageError(f"--output_dir is {options.output_dir}, a file; give a folder.")
    folder = options.output_dir or (options.checkpoint if Path(options.checkpoint).is_dir() else ".")
    if options.output_dir:
        initialization.read_config(initialization.find_config(options.checkpoint), {})[0].save_pretrained(folder)
    file = Path(options.output_file or Path(folder) / initialization.STATISTICS_FILE)
    stats.save(file)
    print(f"{file}: {len(stats.parameters)} parameters of {stats.source}")
    return 0


@dataclass
class FinetuneOptions:
    """Fine-tune one start on one downstream task."""

    task: str = option("the downstream task, or a YAML file: its name and the fields of its definition", "stdlib_ast")
    output_dir: str = option("folder of the result", "runs/finetuned")
    init: str = option("random, weights or statistics", "random")
    checkpoint: str | None = option("folder or Hub id of the checkpoint for weights and statistics")
    scheme: str = option("scheme of init statistics", "per_param_mean_sd")
    embeddings: str = option("token embeddings: fresh or kept", "fresh")
    lora: str | None = option("train LoRA adapters only: fields of peft's LoraConfig, as r=8,lora_alpha=16")
    data_dir: str | None = option("folder of a local copy of the dataset in Hub layout")
    tokenizer: str | None = option("folder or Hub id of a tokenizer; one is trained on the train split without it")
    vocab_size: int = option("ids of the tokenizer trained on the train split", 1024)
    preset: str | None = option("the task's recipe and lengths: small or paper; every other flag overrides it")
    model_type: str = option("architecture, as in transformers", "t5")
    config_name: str | None = option("folder or Hub id of a config, instead of --model_type")
    config_overrides: str | None = option("fields of the config, as d_model=128,num_layers=2")
    seed: int = option("seed of fresh weights and of the order of the rows", 0)
    training: dict[str, Any] = field(default_factory=dict, init=False)


def finetune(options: FinetuneOptions) -> int:
    """Compute one cell of an experiment and print its score."""
    from hf_synpre import experiment

    arm = {name: getattr(options, name) for name in ("init", "checkpoint", "scheme", "embeddings")}
    arm["lora"] = None if options.lora is None else pairs(options.lora, "lora")
    model = {name: getattr(options, name) for name in ("model_type", "config_name")}
    training = ({} if options.preset else {"max_steps": 1000}) | options.training
    task = {name: getattr(options, name) for name in ("data_dir", "tokenizer", "vocab_size")}
    name, defined = defined_task(options.task)
    given = {
        "name": "finetune",
        "tasks": {name: task | defined | {"finetuning": {"training": training}}},
        "arms": {options.init: arm},
        "model": model | {"overrides": pairs(options.config_overrides, "config_overrides")},
        "preset": options.preset,
        "seeds": [options.seed],
        "jobs": 1,
    }
    run_of = experiment.Experiment(build_spec(experiment.ExperimentSpec, given, "options"), options.output_dir)
    failures = run_of.run(retry=True)
    for line in failures:
        print(line, file=sys.stderr)
    for cell in run_of.cells() if not failures else ():
        result = json.loads((run_of.folder / cell.file_name).read_text())
        beside = "".join(f", {k} {v:.4f}" for k, v in result["scores"].items() if k != result["metric"])
        where = f"on {result['test_examples']} test examples"
        print(f"{result['metric']} {result['score']:.4f} {where}{beside}, {cell.file_name}")
    return 1 if failures else 0


def defined_task(task: str) -> tuple[str, dict[str, Any]]:
    """Return a task's name and, where `task` is a YAML file, its definition. Raises UsageError on a file without a name."""
    if not task.endswith((".yaml", ".yml")):
        return task, {}
    fields = read_yaml(task)
    if not isinstance(fields.get("name"), str):
        raise UsageError(f"{task} lacks the key 'name'; give the task a name.")
    return fields.pop("name"), {"define": fields}


@dataclass
class RunOptions:
    """Run an experiment: arms x tasks x seeds -> one JSON a cell, report and plots."""

    config: str = option("the YAML file of the experiment", "")
    output_dir: str | None = option("folder of the results; runs/NAME without it")
    work_dir: str | None = option(
        "folder of data and checkpoints, may be shared by experiments; work/ of the results' without it"
    )
    data_dir: str | None = option("folder of local copies of the datasets in Hub layout, corpora too")
    jobs: int | None = option("parallel jobs, 0 for one a core; the YAML's without it")
    only: str | None = option("compute these cells alone: TASK--ARM--SEED with * and ?, several by commas")
    list: bool = option("print one self-contained command a missing cell and stop: for Slurm arrays or GNU parallel", False)
    retry: bool = option("compute the failed cells again", False)
    backend: str = option("loky (processes of this machine) or ray (the cluster of RAY_ADDRESS, else a local one)", "loky")


def run(options: RunOptions) -> int:
    """Compute the missing cells, write the report, print the table."""
    if not options.config:
        raise UsageError("No experiment was given; write `synpre run CONFIG.yaml`, for instance examples/quickstart.yaml.")
    from hf_synpre import experiment

    given = read_yaml(options.config)
    given |= {name: value for name in ("jobs", "data_dir") if (value := getattr(options, name)) is not None}
    spec = build_spec(experiment.ExperimentSpec, given, options.config)
    one = experiment.Experiment(spec, options.output_dir or Path("runs") / spec.name, options.work_dir)
    only = [pattern for pattern in (options.only or "").split(",") if pattern]
    if options.list:
        for cell in one.missing(one.cells(only), options.retry):
            print(command_of(options, one.folder, cell.name))
        return 0
    failures = one.run(only, retry=options.retry, backend=options.backend)
    if not only or not one.missing(one.cells()):
        print_report(one.folder)
    for line in failures:
        print(line, file=sys.stderr)
    if failures:
        print("The failed cells are kept; the same command with --retry computes them again.", file=sys.stderr)
    return 1 if failures else 0


def command_of(options: RunOptions, folder: Path, cell: str) -> str:
    """Return the shell command that computes one cell and nothing else."""
    kept = {name: value for name in ("work_dir", "data_dir") if (value := getattr(options, name)) is not None}
    words = [word for name, value in kept.items() for word in (f"--{name}", value)] + ["--retry"] * options.retry
    first = [sys.executable, "-m", "hf_synpre", "run", options.config, "--output_dir", str(folder), *words]
    return shlex.join([*first, "--jobs", "1", "--only", cell])


def print_report(folder: Path) -> None:
    """Write the report of a folder and print its table."""
    from hf_synpre.report import table, write_report

    print(table(write_report(folder)))
    print(f"\nReport: {folder / 'report.md'}")


@dataclass
class ReportOptions:
    """Render the report of an experiment's folder again."""

    directory: str = option("the folder of the cells", "")
    output_dir: str | None = option("where the report goes; the folder itself without it")


def report(options: ReportOptions) -> int:
    """Write report.md, report.json and the plots; print the table."""
    from hf_synpre.report import table, write_report

    if not options.directory:
        raise UsageError("No folder was given; write `synpre report DIR`, the output folder of `synpre run`.")
    print(table(write_report(options.directory, options.output_dir)))
    return 0


@dataclass
class PushOptions:
    """Publish a folder on the Hub: a pre-trained model, statistics, or a built dataset."""

    directory: str = option("what `synpre pretrain` or dataset_scripts/build.py made", "")
    repo_id: str = option("namespace/name on the Hub", "")
    private: bool = option("a repository that is new becomes a private one", False)
    tag: str | None = option("a tag for the commit")
    dry_run: bool = option("print what would be published, and do nothing", False)


def push(options: PushOptions) -> int:
    """Publish a folder in one commit and print its URL, or print what that would be."""
    from hf_synpre import hub

    if not options.directory or not options.repo_id:
        raise UsageError("push needs a folder and a repository; write `synpre push DIR --repo_id NAMESPACE/NAME`.")
    if options.dry_run:
        print("\n".join(hub.plan_push(options.directory, options.repo_id).lines()))
        return 0
    more = {"private": options.private or None, "tag": options.tag}
    return attempt(lambda: print(hub.push(options.directory, options.repo_id, **more)) or 0)


# verb -> (options, function, the option that a first bare word stands for)
VERBS: dict[str, tuple[type, Callable[[Any], int], str]] = {
    "tasks": (TasksOptions, tasks, "task"),
    "generate": (GenerateOptions, generate, "task"),
    "pretrain": (PretrainOptions, pretrain, "task"),
    "statistics": (StatisticsOptions, statistics, "checkpoint"),
    "finetune": (FinetuneOptions, finetune, "task"),
    "run": (RunOptions, run, "config"),
    "report": (ReportOptions, report, "directory"),
    "push": (PushOptions, push, "directory"),
}


def option_names(options: type) -> list[str]:
    """Return the options of a verb as they are written."""
    return [f"--{f.name}" for f in dataclasses.fields(options) if f.init]


def parse(verb: str, words: list[str]) -> Any:
    """Return the verb's options from the words after it. Raises UsageError on an unknown or wrong option."""
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message: str) -> None:
            raise UsageError(f"synpre {verb}: {message}. See `synpre {verb} --help`.")

    options, _, positional = VERBS[verb]
    parser = Parser(options, prog=f"synpre {verb}", description=options.__doc__, allow_abbrev=False)
    if words and not words[0].startswith("-"):
        words = [f"--{positional}", *words]
    parsed, rest = parser.parse_args_into_dataclasses(words, return_remaining_strings=True)
    flags = training_flags() if hasattr(parsed, "training") and isinstance(parsed.training, dict) else set()
    for name, value in flag_values(verb, rest):
        known = {*option_names(options), *(f"--{flag}" for flag in flags)}
        choose(f"option of synpre {verb}", f"--{name}", known, do=f"See `synpre {verb} --help`.")
        parsed.training[name] = yaml.load(value, Loader)
    return parsed


def training_flags() -> set[str]:
    """Return the names of transformers' training arguments, but for those that a verb decides."""
    from transformers import Seq2SeqTrainingArguments

    return set(Seq2SeqTrainingArguments.__dataclass_fields__)


def flag_values(verb: str, words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of "--name value", "--name=value" and "--name" (true). Raises UsageError on anything else."""
    while words:
        word, *words = words
        if not word.startswith("--"):
            raise UsageError(f"synpre {verb}: '{word}' belongs to no option. See `synpre {verb} --help`.")
        name, equals, value = word[2:].partition("=")
        if not equals and words and not words[0].startswith("--"):
            value, *words = words
        yield name, value or "true"


def main(words: list[str] | None = None) -> int:
    """Run one verb; return the exit code: 0 done, 1 a run failed, 2 bad input (one line on standard error)."""
    words = sys.argv[1:] if words is None else words
    if not words or words[0] in ("-h", "--help"):
        lines = [f"  {name:12s} {options.__doc__}" for name, (options, _, _) in VERBS.items()]
        print("synpre VERB [options]; see synpre VERB --help\n" + "\n".join(lines))
        return 0 if words else 2
    try:
        verb = choose("verb", words[0], VERBS, do="See `synpre --help`.")
        return VERBS[verb][1](parse(verb, words[1:]))
    except UsageError as error:
        print(f"synpre: {error}", file=sys.stderr)
        return 2
    except (NotADirectoryError, PermissionError, FileNotFoundError) as error:
        print(f"synpre: {error.filename} cannot be used ({error.strerror}); give another place.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("synpre: stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `synpre generate ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
