"""What counts where a manager is made for a user: code, then the environment, then the file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tbcontracts import env
from tbcontracts.config import Configuration, examine, load, wrong
from tbcontracts.config_sources import Source
from tbcontracts.config_values import Problem, SharesOfAgents
from tbcontracts.errors import ConfigurationError
from tbcontracts.settings import check_shares

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
    given = {name: value for name, value in _from_environment().items() if name.key not in changes}
    said = {str(variable.key): value for variable, value in given.items()}
    merged = {**settings, **said, **changes}
    filed = settings.get("warn_at")
    if isinstance(filed, SharesOfAgents) and not isinstance(
        merged["warn_at"], (Mapping, type(None))
    ):
        merged["warn_at"] = filed.with_others_for_all(check_shares(merged["warn_at"], "warn_at"))
    try:
        return manager(**merged)
    except ConfigurationError as error:
        if not given:
            raise
        names = ", ".join(variable.name for variable in given)
        msg = f"{error.message} (The environment says {names}.)"
        raise ConfigurationError(msg, remedy=error.remedy) from None


def _from_environment() -> dict[env.Variable, Any]:
    """Return the settings that stand in the environment, checked one by one as a file's are.

    Raises:
        ConfigurationError: One of them cannot be; the text names the variable.
    """
    checked: dict[env.Variable, Any] = {}
    problems: list[Problem] = []
    for variable, text in env.settings_given().items():
        key = str(variable.key)
        value: Any = [_number(part) for part in text.split(",")] if variable.is_list else text
        found = examine({key: value})
        if isinstance(found, Configuration):
            checked[variable] = found.settings[key]
        else:
            # An element of a list is named by its value: in a variable nobody counts from 0.
            problems += [problem._replace(place=(variable.name,)) for problem in found]
    if problems:
        where = "The environment"
        raise wrong(where, problems)
    return checked


def _number(text: str) -> float | str:
    """Return a number that stands in a text; the text where it is none, for the error."""
    try:
        number = float(text) if text.isascii() else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        return text.strip()
    return int(number) if number.is_integer() else number
