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
            raise yaml.constructor.ConstructorError(None, None, f"the key '{twice.pop()}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def read_yaml(file: str | Path) -> dict[str, Any]:
    """Read a YAML mapping. Raises UsageError where the file is missing, is no YAML, or holds no mapping."""
    try:
        value = yaml.load(Path(file).read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UsageError(f"There is no file {file} to read ({error.strerror}); give the path of a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{file} holds {type(value).__name__}, not keys and values.")
    return value


def build_spec(spec: type[Spec], given: Any, where: str) -> Spec:
    """Return the dataclass `spec` from a mapping, nested dataclasses included. Raises UsageError naming the wrong key."""
    if not isinstance(given, Mapping):
        raise UsageError(
            f"{where} is {given!r}; give keys and values: {', '.join(f.name for f in dataclasses.fields(spec))}."
        )
    given = spec.defaults(given) if hasattr(spec, "defaults") else given
    fields = {f.name: f for f in dataclasses.fields(spec)}
    hints = typing.get_type_hints(spec)
    for key in given:
        choose(f"key in {where}", str(key), fields)
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING and n not in given]
    if required:
        raise UsageError(f"{where} lacks the key '{required[0]}'.")
    return spec(**{key: convert(hints[key], value, f"{where}.{key}") for key, value in given.items()})


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
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
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
