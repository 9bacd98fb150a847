"""Specs from YAML and from flags: keys and values -> a checked dataclass."""

import dataclasses
import math
import re
import sys
import types
import typing
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union

import yaml

from hf_synpre.errors import MOST_DIGITS, UsageError, choose, in_message

Spec = TypeVar("Spec")

# A message on two recipes lists so many options in which they differ.
MOST_DIFFERENCES = 4
# The training argument that says where a run is computed, and decides nothing else.
PLACE = "use_cpu"

YAML_TAG = "tag:yaml.org,2002:"
# The YAML at the top of a README.md.
HEADER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\n---\s*(\n|\Z)", re.S)
NUMBER_TAGS = (f"{YAML_TAG}int", f"{YAML_TAG}float")
# What a value of YAML may be; no dates, sets, pairs or bytes.
JSON_TYPES = ("null", "bool", "int", "float", "str", "seq", "map")

# Bounds of a text of YAML. What an alias stands for counts as often as the alias stands there.
MOST_YAML_LETTERS = 2**20
MOST_YAML_VALUES = 50_000
MOST_YAML_LEVELS = 50
# Letters of a library's words that a message shows.
MOST_SHOWN = 300


class Loader(yaml.SafeLoader):
    """The safe YAML loader.

    It reads 1e-3 as a number (YAML 1.1 asks for 1.0e-3) and a date as text, so that a value is what
    JSON can hold. It refuses a key that is given twice, and what unfolds to more values or levels
    than a file of this project can have.
    """

    def __init__(self, text: str):
        super().__init__(text)
        self.levels = 0
        # The id of a node -> how many values it stands for; a node being read has none yet.
        self.sizes: dict[int, int] = {}
        self.total = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Return the next node. Raises ComposerError where there are too many, or too deep."""
        mark = self.peek_event().start_mark
        self.levels += 1
        if self.levels > MOST_YAML_LEVELS:
            raise refused(f"more than {MOST_YAML_LEVELS} lists or mappings inside each other", mark)
        is_alias = bool(self.check_event(yaml.AliasEvent))
        node = super().compose_node(parent, index)
        assert node is not None  # there is an event, so there is a node
        self.levels -= 1

        if is_alias:
            # The whole is read already, unless the alias stands inside of what it stands for.
            if id(node) not in self.sizes:
                raise refused("an alias stands inside of what it stands for", mark)
        elif isinstance(node, yaml.ScalarNode):
            self.sizes[id(node)] = 1
            if node.tag in NUMBER_TAGS and len(node.value) > MOST_DIGITS:
                raise refused(f"a number has more than {MOST_DIGITS} digits", mark)
        elif isinstance(node, yaml.CollectionNode):
            self.sizes[id(node)] = 1 + sum(self.sizes[id(part)] for part in parts_of(node))
        self.total += self.sizes[id(node)] if is_alias else 1
        if self.total > MOST_YAML_VALUES:
            raise refused(f"it has more than {MOST_YAML_VALUES:,} values", mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Return a mapping. Raises ConstructorError if a key is given twice."""
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name, count in names.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{name}' is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def parts_of(node: yaml.CollectionNode) -> list[yaml.Node]:
    """Return the values of a list, or the keys and values of a mapping."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value


def refused(reason: str, mark: yaml.Mark) -> yaml.composer.ComposerError:
    """Return the error of a text of YAML that is out of bounds."""
    return yaml.composer.ComposerError(None, None, reason, mark)


Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(YAML_TAG) in JSON_TYPES
}
Loader.yaml_implicit_resolvers = {
    letter: [entry for entry in entries if entry[0] != f"{YAML_TAG}timestamp"]
    for letter, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    f"{YAML_TAG}float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, where: str) -> Any:
    """Return the value of a text of YAML. It is the one reader of all YAML, wherever it is from.

    Args:
        text: the text.
        where: what it is, for messages: a file's name.

    Raises:
        UsageError: it is no YAML, it gives a key twice, or it is out of bounds: more than
            MOST_YAML_VALUES values when its aliases are replaced by what they stand for, more than
            MOST_YAML_LEVELS levels, or a number of more than MOST_DIGITS digits.
    """
    if len(text) > MOST_YAML_LETTERS:
        raise UsageError(f"{where} has more than {MOST_YAML_LETTERS:,} letters of YAML.")
    try:
        return yaml.load(text, Loader)
    except Exception as error:  # what the library raises on odd dates, numbers and tags
        cause = " ".join(str(error).replace('"<unicode string>", ', "").split())
        cause = cause[:MOST_SHOWN] or type(error).__name__
        raise UsageError(f"{where} is not valid YAML: {cause}") from None


def read_yaml(file: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises UsageError if the file is missing, is no YAML, is out of the bounds of `parse_yaml`, or
    holds no mapping.
    """
    try:
        with Path(file).open(encoding="utf-8") as stream:
            text = stream.read(MOST_YAML_LETTERS + 1)
    except OSError as error:
        raise UsageError(
            f"There is no file {file} to read ({error.strerror}); give the path of a YAML file."
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not valid YAML: {error}") from None
    value = parse_yaml(text, str(file))
    if not isinstance(value, dict):
        held = in_words(type(value))
        raise UsageError(f"{file} holds {held}; write keys and their values.")
    return value


def read_header(readme: str | Path) -> Any:
    """Return the value of the YAML at the top of a README.md, None where it has none.

    Raises UsageError if it is no YAML, or out of the bounds of `parse_yaml`.
    """
    file = Path(readme)
    if not file.is_file():
        return None
    with file.open("rb") as content:
        text = content.read(MOST_YAML_LETTERS).decode("utf-8", errors="ignore")
    header = HEADER.match(text)
    return None if header is None else parse_yaml(header[1], f"The header of {file}")


def option(
    help: str,
    default: Any = dataclasses.MISSING,
    *,
    default_factory: Any = dataclasses.MISSING,
    former: str | None = None,
    read_with: str | None = None,
    is_added: bool = False,
    is_stored: bool = True,
) -> Any:
    """Return a dataclass field that carries its help, the text of flags, YAML errors and documents.

    Args:
        help: what the option means, its unit and its allowed values, in one or two sentences.
        default: the default value. Without this and `default_factory` the option is required.
        default_factory: a function that makes the default, for dicts and lists.
        former: the name that the option had before. YAML files may still use it, and `stored_form`
            writes it, so that folders and results with that name are still found.
        read_with: what a run must have so that it reads the option, in words, as "text";
            `check_read` refuses the option elsewhere. Without it every run reads the option.
        is_added: the option is younger than stored recipes. `stored_form` leaves it out at its
            default, so that they and their hashes stay as they are.
        is_stored: False for an option that decides no result, as how much is computed at once: no
            recipe or hash has it, and it may change when a run goes on.
    """
    metadata = {
        "help": help,
        "former": former,
        "read_with": read_with,
        "is_added": is_added,
        "is_stored": is_stored,
    }
    return dataclasses.field(default=default, default_factory=default_factory, metadata=metadata)


def check_read(
    spec: Any,
    has: Mapping[str, bool | None],
    usual: Mapping[str, Any] | None = None,
    what: str = "this run",
) -> None:
    """Raise UsageError on an option that is given and not read.

    Args:
        spec: the dataclass of the options of a run, an arm, a task ...
        has: for each `read_with` of its options whether the run has it; None where that is not
            known yet, and nothing is refused.
        usual: the values of a preset by name. They are taken, because a flag that makes them
            needless does not make them wrong.
        what: what does not read the option, for the message.
    """
    usual = usual or {}
    for field in dataclasses.fields(spec):
        read_with = field.metadata.get("read_with")
        if read_with is None or has[read_with] in (True, None):
            continue

        # An option that is off asks for nothing.
        value = getattr(spec, field.name)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        is_given = value != default and (field.name not in usual or value != usual[field.name])
        if is_given:
            raise UsageError(
                f"The option {field.name} is read with {read_with} only, which {what} does not "
                f"have; leave {field.name} out."
            )


def stored_form(spec: Any) -> dict[str, Any]:
    """Return a dataclass as nested dicts, under the names of recipes, results and hashes.

    Options that decide no result are left out.
    """
    stored = {}
    for field in dataclasses.fields(spec):
        is_at_default = getattr(spec, field.name) == field.default
        if field.metadata.get("is_added") and is_at_default:
            continue
        if not field.metadata.get("is_stored", True):
            continue
        name = field.metadata.get("former") or field.name
        stored[name] = _stored_value(getattr(spec, field.name))
    return stored


def _stored_value(value: Any) -> Any:
    """Return a copy of a field's value with every dataclass inside it in its stored form."""
    if dataclasses.is_dataclass(value):
        return stored_form(value)
    if isinstance(value, dict):
        return {name: _stored_value(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_stored_value(part) for part in value)
    return value


def without_place(recipe: Any) -> Any:
    """Return a recipe without the training argument that says where it is computed.

    Results of a CPU and of a GPU are results of the same recipe, and may stand in one folder. Each
    result names its device.
    """
    if isinstance(recipe, dict):
        return {name: without_place(part) for name, part in recipe.items() if name != PLACE}
    return recipe


def differences(stored: Any, wanted: Any) -> str:
    """Return in which options two recipes differ, the first few of them with both values.

    Args:
        stored: the one that a folder was begun with, as JSON holds it.
        wanted: the one that is asked for now.

    Examples:
        >>> differences({"task": "set", "training": {"max_steps": 2}}, {"task": "sort"})
        'task: set before, sort now; training.max_steps: 2 before, absent now'
    """
    before, now = _flat(stored), _flat(wanted)
    shared = [name for name in before if name in now]
    changed = [name for name in shared if before[name] != now[name]]
    changed += [name for name in {**before, **now} if name not in shared]
    parts = []
    for name in changed[:MOST_DIFFERENCES]:
        old, new = (values.get(name, "absent") for values in (before, now))
        parts.append(f"{name}: {old} before, {new} now")
    if len(changed) > MOST_DIFFERENCES:
        parts.append(f"and {len(changed) - MOST_DIFFERENCES} more")
    return "; ".join(parts)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the values inside nested dicts by their joined names: {"training.max_steps": 2}."""
    if not isinstance(value, Mapping):
        return {name: value}
    flat = {}
    for key, part in value.items():
        flat.update(_flat(part, f"{name}.{key}" if name else str(key)))
    return flat


def current_names(spec: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a mapping with former names of fields replaced by their present names.

    Raises UsageError if both are given.
    """
    renamed = dict(values)
    for field in dataclasses.fields(spec):
        former = field.metadata.get("former")
        if former is None or former not in renamed:
            continue
        if field.name in renamed:
            raise UsageError(
                f"{where} has {field.name} and {former}, which is its former name; "
                f"leave {former} out."
            )
        renamed[field.name] = renamed.pop(former)
    return renamed


def build_spec(spec: type[Spec], values: Any, where: str) -> Spec:
    """Return a dataclass made from a mapping, dataclasses inside it included.

    Args:
        spec: the dataclass. Its classmethod `defaults`, if it has one, may add a preset's values.
        values: the mapping, from YAML or flags; former names of fields are allowed.
        where: the name of the mapping in messages, such as the YAML file or a key in it.

    Raises:
        UsageError: a key is unknown or missing, or a value is of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(spec)}  # type: ignore[arg-type]
    if not isinstance(values, Mapping):
        raise UsageError(
            f"{where} is {in_message(values)}; give keys and values: {', '.join(fields)}."
        )

    values = current_names(spec, values, where)
    add_defaults = getattr(spec, "defaults", None)
    if add_defaults is not None:
        values = add_defaults(values)

    for key in values:
        choose(f"key in {where}", str(key), fields)
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise UsageError(f"{where} lacks the key '{name}'.")

    hints = typing.get_type_hints(spec)
    converted = {}
    for key, value in values.items():
        meaning = fields[key].metadata.get("help", "")
        converted[key] = convert(hints[key], value, f"{where}.{key}", meaning)
    return spec(**converted)


def convert(hint: Any, value: Any, where: str, meaning: str = "") -> Any:
    """Return a value from YAML as the type of its field.

    Args:
        hint: the type of a dataclass's field: a plain type, a union, a list, a dict, a dataclass,
            or Any.
        value: the value.
        where: the name of the value in messages.
        meaning: the help text of the field, which messages repeat.

    Raises:
        UsageError: the value is of another type, or out of the bounds of `check_storable`.
    """
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if hint is Any:
        return check_storable(value, where)

    # For a union, take the first of its types that fits.
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        fitting = [argument for argument in arguments if fits(argument, value)]
        return convert(fitting[0] if fitting else arguments[0], value, where, meaning)

    # Convert dataclasses, dicts and lists part by part.
    if dataclasses.is_dataclass(hint):
        return build_spec(hint, {} if value is None else value, where)  # type: ignore[arg-type]
    if origin is dict and isinstance(value, dict):
        return {str(k): convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is list and isinstance(value, list):
        return [convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value)]

    if origin is not None or not fits(hint, value):
        message = f"{where} is {in_message(value)}; give {in_words(origin or hint)}."
        if meaning:
            message += f" It means: {meaning}"
        raise UsageError(message)
    if hint is float and abs(value) <= sys.float_info.max:
        return float(value)
    return check_storable(value, where)


# The types of YAML in plain words.
TYPES_IN_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "keys and values",
    type(None): "nothing",
}


def in_words(hint: Any) -> str:
    """Return a type in plain words, as "an integer"."""
    return TYPES_IN_WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def check_storable(value: Any, where: str) -> Any:
    """Return a value of any type, unchanged.

    Raises UsageError if it is or contains what files and arrays cannot hold: a number that is not
    finite, an integer of more than 64 bits, a text that UTF-8 does not have or with the character
    0, at which the system's names end.
    """
    if isinstance(value, dict):
        for key, part in value.items():
            check_storable(part, f"{where}.{key}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            check_storable(part, f"{where}.{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where} is {value}; give a finite number.")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UsageError(
            f"{where} is {in_message(value)}; give a number of at most 64 bits, below 2**63."
        )
    elif isinstance(value, str) and ("\0" in value or any(map(is_surrogate, value))):
        raise UsageError(
            f"{where} is {in_message(value)}; give a text without the character 0 and without "
            "halves of characters (surrogates)."
        )
    return value


def is_surrogate(letter: str) -> bool:
    """Say whether a letter is half of a character of UTF-16, which UTF-8 does not have."""
    return "\ud800" <= letter <= "\udfff"


def fits(hint: Any, value: Any) -> bool:
    """Say whether a value may be of a type; True for types that only `convert` can check."""
    if not isinstance(hint, type) or dataclasses.is_dataclass(hint):
        return True
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, hint)
