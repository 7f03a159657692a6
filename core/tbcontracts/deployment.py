"""What counts where a manager is made for a user: code, then the environment, then the file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from tbcontracts import env
from tbcontracts.config import Configuration, examine, load, wrong
from tbcontracts.config_sources import Source
from tbcontracts.config_values import Problem
from tbcontracts.errors import ConfigurationError

T = TypeVar("T")


def load_any(source: Source | None) -> Configuration:
    """Read a contract file; where none is given, the one that the environment names.

    Raises:
        ConfigurationError: There is none, or it is wrong as for `load`.
    """
    if source is None:
        source = env.value_of(env.CONFIG)
    if source is None:
        msg = f"No contract file was given, and {env.CONFIG.name} names none."
        raise ConfigurationError(msg, remedy='What helps: from_config("budget.toml").')
    return load(source)


def make(manager: Callable[..., T], settings: Mapping[str, Any], changes: Mapping[str, Any]) -> T:
    """Return a manager: arguments in code first, then the environment, then a file's settings.

    Raises:
        ConfigurationError: A setting cannot be; where the environment had a part, it is named.
    """
    checked, problems = examine_environment(env.settings_given())
    if problems:
        where = "The environment"
        raise wrong(where, problems)
    given = {name: value for name, value in checked.items() if name.key not in changes}
    try:
        return manager(**merged(settings, given, changes))
    except ConfigurationError as error:
        if not given:
            raise
        names = ", ".join(variable.name for variable in given)
        msg = f"{error.message} (The environment says {names}.)"
        raise ConfigurationError(msg, remedy=error.remedy) from None


def merged(
    settings: Mapping[str, Any], given: Mapping[env.Variable, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what counts: what code changes, else what the environment gives, else a file's."""
    said = {str(variable.key): value for variable, value in given.items()}
    return {**settings, **said, **changes}


class Environment(NamedTuple):
    """What the environment says, each variable looked at as a file's key is."""

    settings: dict[env.Variable, Any]
    """Those that are right."""
    problems: tuple[Problem, ...]
    """What is wrong with the others, by the variable's name."""


def examine_environment(given: Mapping[env.Variable, str]) -> Environment:
    """Look at settings that stand in the environment, as text, one by one."""
    checked: dict[env.Variable, Any] = {}
    problems: list[Problem] = []
    for variable, text in given.items():
        key = str(variable.key)
        value: Any = [_number(part) for part in text.split(",")] if variable.is_list else text
        found = examine({key: value})
        if isinstance(found, Configuration):
            checked[variable] = found.settings[key]
        else:
            # An element of a list is named by its value: in a variable nobody counts from 0.
            problems += [problem._replace(place=(variable.name,)) for problem in found]
    return Environment(checked, tuple(problems))


def _number(text: str) -> float | str:
    """Return a number that stands in a text; the text where it is none, for the error."""
    try:
        number = float(text) if text.isascii() else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        return text.strip()
    return int(number) if number.is_integer() else number
