"""Which parameters of a model a scheme fills, under `include` and `exclude`."""

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

from hf_synpre.errors import UsageError
from hf_synpre.initialization.parameters import PARTS, ROLES, Parameter, require_roles
from hf_synpre.initialization.schemes import Scheme


def select_parameters(
    parameters: Mapping[str, Parameter],
    name: str,
    scheme: Scheme,
    include: tuple[str, ...] | None,
    exclude: tuple[str, ...],
) -> list[Parameter]:
    """Return the parameters that a scheme fills.

    Args:
        parameters: name -> parameter of the model.
        name: the name of the scheme, for messages.
        scheme: the scheme.
        include: parts, roles or patterns of names; None takes all but token embeddings.
        exclude: the same, of those that are left out.

    Raises:
        UsageError: a role is needed and not known, or a rule fits nothing.
    """
    rules = (*(include or ()), *exclude)
    names_roles = any(rule in PARTS or rule in ROLES for rule in rules)
    if scheme.by_role or names_roles:
        require_roles(parameters, f"Scheme {name}")
    for rule in rules:
        is_pattern = rule not in PARTS and rule not in ROLES
        if is_pattern and not any(fnmatchcase(each, rule) for each in parameters):
            raise UsageError(
                f"'{rule}' in include or exclude is no part ({', '.join(PARTS)}), no role "
                f"({', '.join(ROLES)}) and no pattern that fits a parameter's name."
            )

    selected = []
    for parameter in parameters.values():
        # Tables that are computed are copied with the weights, but never drawn.
        if parameter.fixed and not scheme.copies:
            continue
        if any(rule_fits(rule, parameter) for rule in exclude):
            continue
        if include is not None:
            is_included = any(rule_fits(rule, parameter) for rule in include)
        else:
            is_included = scheme.embeddings or parameter.part != "embedding"
        if is_included and scheme.group(parameter) is not None:
            selected.append(parameter)
    return selected


def rule_fits(rule: str, parameter: Parameter) -> bool:
    """Say whether a parameter is of a part or role, or its name fits a pattern."""
    if rule in (parameter.part, parameter.role):
        return True
    return rule not in PARTS and fnmatchcase(parameter.name, rule)


def check_number(argument: str, number: object) -> Any:
    """Return a finite number of Python or NumPy. Raises UsageError for anything else."""
    if isinstance(number, bool) or not isinstance(number, Real) or not math.isfinite(number):
        raise UsageError(f"{argument} is {number!r}; give a finite number.")
    return number


def check_rules(argument: str, rules: Iterable[str]) -> tuple[str, ...]:
    """Return the rules of include or exclude as a tuple.

    Raises UsageError where they are a single string, which would be read letter by letter, or hold
    something else.
    """
    if isinstance(rules, str):
        raise UsageError(f"{argument} is '{rules}'; give a list, as ['{rules}'].")
    rules = tuple(rules)
    for rule in rules:
        if not isinstance(rule, str):
            raise UsageError(
                f"{argument} holds {rule!r}; give names of parts, roles or parameters."
            )
    return rules
