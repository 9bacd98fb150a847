"""Flags: the dataclasses of a verb and its command line in, the values that were given out.

A flag is a field of a dataclass, with its type, its default and its help text: what a verb shares
with YAML files comes from the same dataclass as their keys (`PretrainingSpec`, `ModelSpec` ...).
Only what was given is returned, so that it wins over a preset, and the dataclasses check it.
"""

import argparse
import dataclasses
import shutil
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union

from hf_synpre.config import build_spec, option, parse_yaml
from hf_synpre.errors import UsageError, choose

Spec = TypeVar("Spec")

# The heading of flags that are in no group.
PLAIN_GROUP = "options"
# The headings of a verb's help, in their order; others come before them.
GROUP_ORDER = ("data", "model", "training", "output")
HELP_COLUMNS = 100  # the widest help
HELP_POSITION = 30  # the column where help texts begin
METAVARS = {
    int: "INT",
    float: "FLOAT",
    str: "TEXT",
    bool: "BOOL",
    dict: "NAME=VALUE,...",
    list: "A,B,...",
}
TRUE_WORDS = ("true", "t", "yes", "y", "1")
NULL_WORDS = ("null", "none")
FALSE_WORDS = ("false", "f", "no", "n", "0")


@dataclass(frozen=True)
class FlagSet:
    """The flags that one dataclass gives to a verb: one for every field that is not left out."""

    # The dataclass; its fields are made by `config.option`.
    spec: type
    # The heading of the help under which its flags stand.
    group: str = PLAIN_GROUP
    # Other headings -> the fields that stand there.
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Field -> the name of its flag, where that is another.
    names: Mapping[str, str] = field(default_factory=dict)
    # Field -> the value without the flag, as the help shows it, where the verb decides it.
    defaults: Mapping[str, Any] = field(default_factory=dict)
    # Field -> its help, where the verb has another one than the dataclass.
    helps: Mapping[str, str] = field(default_factory=dict)
    # Field -> why it has no flag.
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Flag:
    """One flag of a verb."""

    name: str  # without the two hyphens
    former: str | None  # a name that is understood, but not shown
    group: str
    spec: type  # the dataclass
    field: str  # the field of the dataclass
    kind: type  # int, float, str, bool, dict or list
    is_optional: bool  # whether null may be given too
    help: str
    default: Any  # what the help shows; nothing is shown of None, False and empty values


@dataclass
class ImportOptions:
    """What every verb takes that knows synthetic tasks by name."""

    imports: list[str] = option(
        "Your own Python files that register synthetic tasks, several by commas "
        "(docs/synthetic_tasks.md).",
        default_factory=list,
    )


# `verbs.main` imports the files before the verb runs.
IMPORT_FLAG = FlagSet(ImportOptions, "data", names={"imports": "import"})


@dataclass
class Arguments:
    """What was given on the command line of a verb."""

    # Dataclass -> field -> value.
    values: dict[type, dict[str, Any]]
    # Name of a training argument of transformers -> value.
    training: dict[str, Any] = field(default_factory=dict)

    def of(self, spec: type) -> dict[str, Any]:
        """Return the values that were given for fields of a dataclass; the dict is the caller's."""
        return dict(self.values.get(spec, {}))

    def build(self, spec: type[Spec]) -> Spec:
        """Return a dataclass from what was given. Raises UsageError on a wrong value."""
        return build_spec(spec, self.of(spec), "options")


@dataclass(frozen=True)
class Verb:
    """A verb of `synpre`: what it does, and the flags that it takes."""

    name: str
    summary: str  # one line, which `synpre --help` shows too
    run: Callable[[Arguments], int]  # returns the exit code
    # Called where the verb is parsed, because some dataclasses import torch.
    flag_sets: Callable[[], list[FlagSet]]
    # The flag that a first bare word stands for, and whether the verb needs it.
    positional: str
    needs_positional: bool
    # Two command lines without "synpre VERB".
    examples: tuple[str, str]
    # Whether every training argument of transformers is a flag too.
    takes_training: bool = False
    # Whether several bare words in a row are values of that flag, which is a list then.
    takes_several: bool = False
    # What the same command does after Ctrl-C.
    when_stopped: str = "the same command goes on from here"


# --- from dataclasses to a parser -----------------------------------------------------------------


def verb_flags(verb: Verb) -> list[Flag]:
    """Return the flags of a verb, in the order of its dataclasses and their fields."""
    return [flag for flags in verb.flag_sets() for flag in spec_flags(flags)]


def spec_flags(flags: FlagSet) -> list[Flag]:
    """Return a flag for every field of a dataclass that is not left out."""
    hints = typing.get_type_hints(flags.spec)
    group_of_field = {name: group for group, names in flags.groups.items() for name in names}

    result = []
    for spec_field in dataclasses.fields(flags.spec):
        name = spec_field.name
        if name in flags.left_out:
            continue
        default = None
        if name in flags.defaults:
            default = flags.defaults[name]
        elif spec_field.default is not dataclasses.MISSING:
            default = spec_field.default
        flag = Flag(
            name=flags.names.get(name, name),
            former=spec_field.metadata.get("former"),
            group=group_of_field.get(name, flags.group),
            spec=flags.spec,
            field=name,
            kind=value_type(hints[name]),
            is_optional=type(None) in typing.get_args(hints[name]),
            help=flags.helps.get(name) or spec_field.metadata.get("help", ""),
            default=default,
        )
        result.append(flag)
    return result


def value_type(hint: Any) -> type:
    """Return the plain type of a field's values: int of `int | None`, list of `list[str]`."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    return typing.get_origin(hint) or hint


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UsageErrors."""

    def error(self, message: str) -> typing.NoReturn:
        """Raise UsageError with argparse's message."""
        raise UsageError(f"{message}. See `{self.prog} --help`.")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help in up to 100 columns, broken between words only."""

    def __init__(self, prog: str):
        width = min(HELP_COLUMNS, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=HELP_POSITION, width=width)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def make_parser(verb: Verb, flags: list[Flag]) -> Parser:
    """Return the parser of a verb: usage, named groups of flags, examples."""
    word = verb.positional.upper()
    if verb.takes_several:
        word += " ..."
    positional = word if verb.needs_positional else f"[{word}]"
    examples = "\n".join(f"  synpre {verb.name} {words}".rstrip() for words in verb.examples)
    epilog = f"examples:\n{examples}"
    if verb.takes_training:
        epilog = f"{training_help()}\n\n{epilog}"
    parser = Parser(
        prog=f"synpre {verb.name}",
        usage=f"synpre {verb.name} {positional} [options]",
        description=verb.summary,
        epilog=epilog,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )

    # Groups that only this verb has come before those that verbs share.
    used = list(dict.fromkeys(flag.group for flag in flags))
    titles = [title for title in used if title not in GROUP_ORDER]
    titles += [title for title in GROUP_ORDER if title in used]
    groups: dict[str, argparse._ActionsContainer] = {PLAIN_GROUP: parser}
    for title in titles:
        if title != PLAIN_GROUP:
            groups[title] = parser.add_argument_group(title)
    for flag in flags:
        add_flag(groups[flag.group], flag, is_positional=flag.name == verb.positional)
    return parser


def training_help() -> str:
    """Return what the help says of transformers' training arguments, in its columns."""
    from hf_synpre.training.arguments import TRAINING_DEFAULTS

    shown = ("optim", "learning_rate", "lr_scheduler_type", "per_device_train_batch_size")
    defaults = " ".join(f"--{name} {TRAINING_DEFAULTS[name]}" for name in shown)
    text = (
        "Every flag of transformers' TrainingArguments works too, as --max_steps 2000. Where "
        f"neither a preset nor the verb chooses others: {defaults}."
    )
    return "\n".join(textwrap.wrap(text, HELP_COLUMNS, break_on_hyphens=False))


def add_flag(group: "argparse._ActionsContainer", flag: Flag, is_positional: bool) -> None:
    """Add a flag to a group of a parser.

    Args:
        group: the group.
        flag: the flag.
        is_positional: whether the verb's first bare word stands for the flag, whose name its value
            then has in the help.
    """
    help_text = flag.help
    if flag.default is True:
        help_text += " (default: true)"
    elif flag.default or (flag.kind is int and flag.default is not None):
        # An option that is off, absent or empty needs no words.
        help_text += f" (default: {flag.default})"
    help_text = help_text.replace("%", "%%")

    metavar = flag.name.upper() if is_positional else METAVARS[flag.kind]
    name = f"--{flag.name}"
    if flag.kind is bool:
        group.add_argument(
            name, nargs="?", const=True, type=read_bool, metavar=metavar, help=help_text
        )
    elif flag.kind in (int, float):
        number_type = null_or(flag.kind) if flag.is_optional else flag.kind
        group.add_argument(name, type=number_type, metavar=metavar, help=help_text)
    else:
        group.add_argument(name, metavar=metavar, help=help_text)


# --- from a command line to values ----------------------------------------------------------------


def parse(verb: Verb, argv: list[str]) -> Arguments:
    """Return what was given to a verb.

    Args:
        verb: the verb.
        argv: the words after it on the command line.

    Raises:
        UsageError: an unknown option, one that is given twice, or a value of another type.
    """
    flags = verb_flags(verb)
    several: list[str] = []
    while verb.takes_several and argv and not argv[0].startswith("-"):
        several.append(argv[0])
        argv = argv[1:]
    if argv and not argv[0].startswith("-"):
        argv = [f"--{verb.positional}", *argv]

    # Former names and names with hyphens become today's; then each may stand once.
    argv = ["--output_dir" if word == "-o" else word for word in argv]
    spellings = [word.partition("=")[0] for word in argv if word.startswith("--")]
    argv = with_current_names(argv, flags)
    names = [word.partition("=")[0] for word in argv if word.startswith("--")]
    for name in names:
        if names.count(name) > 1:
            check_spellings(name, spellings, names)
            raise UsageError(
                f"{name} was given twice; give it once. See `synpre {verb.name} --help`."
            )

    # argparse takes this value for its own sign that flags end.
    for word in argv:
        name, _, value = word.partition("=")
        if value == "--":
            raise UsageError(f"{name} is '--'; give a value. See `synpre {verb.name} --help`.")

    given, rest = make_parser(verb, flags).parse_known_args(argv)
    values: dict[type, dict[str, Any]] = {}
    for flag in flags:
        if flag.name in given:
            value = read_value(flag, getattr(given, flag.name))
            values.setdefault(flag.spec, {})[flag.field] = value
        if several and flag.name == verb.positional:
            if flag.name in given:
                raise UsageError(
                    f"--{flag.name} was given beside {several[0]}; give all of them as bare words."
                )
            values.setdefault(flag.spec, {})[flag.field] = several

    # What is left are training arguments of transformers, or mistakes.
    known = [f"--{flag.name}" for flag in flags]
    if verb.takes_training:
        known += [f"--{name}" for name in training_arguments_names()]
    training = {}
    for name, text in remaining_flags(verb, rest):
        choose(
            f"option of synpre {verb.name}",
            f"--{name}",
            known,
            do=f"See `synpre {verb.name} --help`.",
        )
        training[name] = read_value_of_yaml(text, name, text)
    return Arguments(values, training)


def check_spellings(name: str, spellings: list[str], names: list[str]) -> None:
    """Raise UsageError where a flag was given under two names.

    Args:
        name: the flag's name of today.
        spellings: the flags of a command line, as they were given.
        names: the same under their names of today.
    """
    given = [word for word, current in zip(spellings, names, strict=True) if current == name]
    if len(set(given)) > 1:
        raise UsageError(
            f"{' and '.join(dict.fromkeys(given))} are two names of one option; give {name} alone."
        )


def with_current_names(argv: Iterable[str], flags: list[Flag]) -> list[str]:
    """Return a command line in which every flag has its name of today, with underscores."""
    current = {}
    for flag in flags:
        current[f"--{flag.name.replace('_', '-')}"] = f"--{flag.name}"
        if flag.former is not None:
            current[f"--{flag.former}"] = f"--{flag.name}"
            current[f"--{flag.former.replace('_', '-')}"] = f"--{flag.name}"

    renamed = []
    for word in argv:
        name, equals, value = word.partition("=")
        renamed.append(f"{current.get(name, name)}{equals}{value}")
    return renamed


def remaining_flags(verb: Verb, words: list[str]) -> list[tuple[str, str]]:
    """Return (name, value) of the words that are no flags of a verb's dataclasses.

    They are "--name value", "--name=value" or "--name", whose value is true.

    Raises:
        UsageError: a word belongs to no flag.
    """
    pairs = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("--"):
            raise UsageError(
                f"synpre {verb.name}: '{word}' belongs to no option. "
                f"See `synpre {verb.name} --help`."
            )
        name, equals, value = word[2:].partition("=")
        if not equals and position < len(words) and not words[position].startswith("--"):
            value = words[position]
            position += 1
        pairs.append((name, value or "true"))
    return pairs


def training_arguments_names() -> list[str]:
    """Return the names of transformers' training arguments."""
    from transformers import Seq2SeqTrainingArguments

    return list(Seq2SeqTrainingArguments.__dataclass_fields__)


# --- values ---------------------------------------------------------------------------------------


def read_value(flag: Flag, value: Any) -> Any:
    """Return the value of a flag, dicts and lists read from their text."""
    if flag.kind is dict:
        return read_pairs(value, flag.name)
    if flag.kind is list:
        return [part for part in value.split(",") if part]
    return value


def null_or(kind: type) -> Callable[[str], Any]:
    """Return a reader of numbers that also takes YAML's null: for all, or for no limit."""

    def read(text: str) -> Any:
        return None if text.lower() in NULL_WORDS else kind(text)

    read.__name__ = kind.__name__  # argparse names it in its messages
    return read


def read_bool(text: str) -> bool:
    """Return what a word means: true, yes, 1 or false, no, 0."""
    if text.lower() in TRUE_WORDS:
        return True
    if text.lower() in FALSE_WORDS:
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")


def read_pairs(text: str, flag: str) -> dict[str, Any]:
    """Return "a=1,b=x" as a mapping with YAML's types.

    Args:
        text: the pairs.
        flag: the flag that has them, for messages.

    Raises:
        UsageError: a part is no pair, or its value is not YAML.
    """
    pairs = {}
    for part in text.split(","):
        if not part:
            continue
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"--{flag} has '{part}'; write name=value,name=value.")
        if name.strip() in pairs:
            raise UsageError(f"--{flag} has {name.strip()} twice; give it once.")
        pairs[name.strip()] = read_value_of_yaml(value, flag, part)
    return pairs


def read_value_of_yaml(text: str, flag: str, shown: str) -> Any:
    """Return a text as YAML has it: a number, a word, a list ...

    Args:
        text: the text.
        flag: the flag that has it, for messages.
        shown: the part of the flag that messages show.

    Raises:
        UsageError: the text is not YAML.
    """
    try:
        return parse_yaml(text, flag)
    except UsageError as error:
        raise UsageError(
            f"--{flag} has '{shown}', whose value is no number, word or list; "
            "put a text with signs into quotes of its own."
        ) from error
