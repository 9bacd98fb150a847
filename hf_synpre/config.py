"""Layer 0: dataclasses from YAML and from the command line, with every key and type checked."""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union

import yaml

from hf_synpre.errors import UsageError, choose

Spec = TypeVar("Spec")


class Loader(yaml.SafeLoader):
    """The safe YAML loader, reading 1e-3 as a number (YAML 1.1 alone wants 1.0e-3) and refusing a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value]
        if twice := {name for name in names if names.count(name) > 1}:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{twice.pop()}' stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_yaml(file: str | Path) -> dict[str, Any]:
    """Read a YAML mapping. Raises UsageError where the file is missing, is no YAML, or holds no mapping."""
    try:
        value = yaml.load(Path(file).read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UsageError(
            f"There is no file {file} to read ({error.strerror}); give the path of a YAML file."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{file} holds {type(value).__name__}, not keys and values.")
    return value


def option(
    help: str,
    default: Any = dataclasses.MISSING,
    *,
    default_factory: Any = dataclasses.MISSING,
    former: str | None = None,
) -> Any:
    """Return a dataclass field that carries its help text, the one text that flags, YAML errors and documents show.

    Args:
        help: what the option means, its unit and its allowed values, in one or two sentences.
        default: the value without it. Neither this nor `default_factory`: the option is required.
        default_factory: a function that makes the default, for dicts and lists.
        former: the name that the option had before. YAML files may still use it, and `stored_form` writes it,
            so that folders and results made under it are found again.
    """
    metadata = {"help": help, "former": former}
    return dataclasses.field(default=default, default_factory=default_factory, metadata=metadata)


def stored_form(spec: Any) -> dict[str, Any]:
    """Return a dataclass as nested dicts under the names that recipes and results are stored by: the former ones."""
    stored = {}
    for field in dataclasses.fields(spec):
        name = field.metadata.get("former") or field.name
        stored[name] = _stored_value(getattr(spec, field.name))
    return stored


def _stored_value(value: Any) -> Any:
    """Return a field's value with every dataclass inside it in its stored form, and every container copied."""
    if dataclasses.is_dataclass(value):
        return stored_form(value)
    if isinstance(value, dict):
        return {name: _stored_value(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_stored_value(part) for part in value)
    return value


def current_names(spec: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a mapping with former names of fields replaced by today's. Raises UsageError where both are given."""
    renamed = dict(values)
    for field in dataclasses.fields(spec):
        former = field.metadata.get("former")
        if former not in renamed:
            continue
        if field.name in renamed:
            raise UsageError(
                f"{where} has {field.name} and {former}, which is its former name; leave {former} out."
            )
        renamed[field.name] = renamed.pop(former)
    return renamed


def build_spec(spec: type[Spec], given: Any, where: str) -> Spec:
    """Return the dataclass `spec` from a mapping, nested dataclasses included. Raises UsageError naming the wrong key."""
    if not isinstance(given, Mapping):
        raise UsageError(
            f"{where} is {given!r}; give keys and values: {', '.join(f.name for f in dataclasses.fields(spec))}."
        )
    given = current_names(spec, given, where)
    given = spec.defaults(given) if hasattr(spec, "defaults") else given
    fields = {f.name: f for f in dataclasses.fields(spec)}
    hints = typing.get_type_hints(spec)
    for key in given:
        choose(f"key in {where}", str(key), fields)
    required = [
        n
        for n, f in fields.items()
        if f.default is f.default_factory is dataclasses.MISSING and n not in given
    ]
    if required:
        raise UsageError(f"{where} lacks the key '{required[0]}'.")
    return spec(
        **{key: convert(hints[key], value, f"{where}.{key}") for key, value in given.items()}
    )


def convert(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the type `hint`. Raises UsageError on a value of another type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return finite(value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return convert(next((a for a in arguments if fits(a, value)), arguments[0]), value, where)
    if dataclasses.is_dataclass(hint):
        return build_spec(hint, {} if value is None else value, where)
    if origin is dict and isinstance(value, dict):
        return {str(k): convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is list and isinstance(value, list):
        return [convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not fits(hint, value) or origin is not None:
        raise UsageError(f"{where} is {value!r}; give {getattr(origin or hint, '__name__', hint)}.")
    return finite(value, where)


def finite(value: Any, where: str) -> Any:
    """Return a value of any type. Raises UsageError on a number, at any depth, that JSON cannot hold."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in inner:
        finite(part, f"{where}.{key}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where} is {value}; give a finite number.")
    return value


def fits(hint: Any, value: Any) -> bool:
    """Say whether a value may be meant for a type; True for types that only `convert` can judge."""
    if not isinstance(hint, type) or dataclasses.is_dataclass(hint):
        return True
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)
