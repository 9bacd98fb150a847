"""Layer 6: the command line: each verb is a function of one dataclass; heavy imports happen inside."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from hf_synpre.cli.experiment import (
    FinetuneOptions,
    ReportOptions,
    RunOptions,
    finetune,
    report,
    run,
)
from hf_synpre.cli.options import option_names
from hf_synpre.cli.pretrain import (
    PretrainOptions,
    SelfPretrainOptions,
    StatisticsOptions,
    pretrain,
    self_pretrain,
    statistics,
)
from hf_synpre.cli.push import PushOptions, push
from hf_synpre.cli.tasks import GenerateOptions, TasksOptions, generate, tasks
from hf_synpre.config import Loader
from hf_synpre.errors import UsageError, choose

# verb -> (options, function, the option that a first bare word stands for)
VERBS: dict[str, tuple[type, Callable[[Any], int], str]] = {
    "tasks": (TasksOptions, tasks, "task"),
    "generate": (GenerateOptions, generate, "task"),
    "pretrain": (PretrainOptions, pretrain, "task"),
    "self-pretrain": (SelfPretrainOptions, self_pretrain, "dataset"),
    "statistics": (StatisticsOptions, statistics, "checkpoint"),
    "finetune": (FinetuneOptions, finetune, "task"),
    "run": (RunOptions, run, "config"),
    "report": (ReportOptions, report, "directory"),
    "push": (PushOptions, push, "directory"),
}


def parse(verb: str, words: list[str]) -> Any:
    """Return the verb's options from the words after it. Raises UsageError on an unknown or wrong option."""
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message: str) -> None:
            raise UsageError(f"{message}. See `synpre {verb} --help`.")

    options, _, positional = VERBS[verb]
    parser = Parser(options, prog=f"synpre {verb}", description=options.__doc__, allow_abbrev=False)
    if words and not words[0].startswith("-"):
        words = [f"--{positional}", *words]
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    if twice := next((name for name in given if given.count(name) > 1), None):
        raise UsageError(f"{twice} was given twice; give it once. See `synpre {verb} --help`.")
    parsed, rest = parser.parse_args_into_dataclasses(words, return_remaining_strings=True)
    flags = (
        training_flags()
        if hasattr(parsed, "training") and isinstance(parsed.training, dict)
        else set()
    )
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
            raise UsageError(
                f"synpre {verb}: '{word}' belongs to no option. See `synpre {verb} --help`."
            )
        name, equals, value = word[2:].partition("=")
        if not equals and words and not words[0].startswith("--"):
            value, *words = words
        yield name, value or "true"


def show_traceback() -> None:
    """Print where the error was raised, with its causes, if SYNPRE_TRACEBACK=1 is in the environment."""
    if os.environ.get("SYNPRE_TRACEBACK") == "1":
        traceback.print_exc()


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
        show_traceback()
        print(f"synpre: {error}", file=sys.stderr)
        return 2
    except (NotADirectoryError, PermissionError, FileNotFoundError) as error:
        show_traceback()
        print(
            f"synpre: {error.filename} cannot be used ({error.strerror}); give another place.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("synpre: stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `synpre generate ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
