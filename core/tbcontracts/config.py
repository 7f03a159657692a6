"""Contract files: budgets written down in TOML, YAML or JSON, or in a mapping of the same keys.

pydantic stands behind this door only: it says what is wrong in words that name the place, and it
makes the JSON Schema by which editors complete and check such files. What a contract may be is
decided by `BudgetContract` and `Settings`, here as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tbcontracts.attribution import nearest
from tbcontracts.config_sources import GivenTwiceError, Source, open_source
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError
from tbcontracts.file_lines import Key, line_of

try:
    from pydantic import BaseModel, ValidationError
except ImportError as _missing:
    _msg = (
        "Contract files need pydantic, which is not installed. What helps: "
        'pip install "tbcontracts[cli]" (from a checkout: pip install ".[cli]").'
    )
    raise ImportError(_msg, name="pydantic") from _missing

from tbcontracts.config_dollars import PriceOfModel
from tbcontracts.config_tables import (
    TABLE,
    WORD,
    AgentTable,
    BudgetFile,
    Fallback,
    UnattributedTable,
)
from tbcontracts.config_values import Place, Problem, Values

_NESTED = ("agents", "prices")
"""Tables of tables."""
_DEPTH = len(("agents", "name", "key"))
_TABLE_OF_KEYS = "must be a table of keys"
_SAID = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "list_type": "must be a list of shares, such as [0.8, 0.95]",
    "dict_type": _TABLE_OF_KEYS,
    "model_type": _TABLE_OF_KEYS,
}
"""Where pydantic's words speak of Python and not of a file."""


class Configuration(NamedTuple):
    """A contract file that was read and found right."""

    settings: dict[str, Any]
    """The keyword arguments of `BudgetManager`."""
    contracts: tuple[BudgetContract, ...]
    """Those by pattern are a `ContractPattern`."""


def load(source: Source) -> Configuration:
    """Read a contract file.

    Args:
        source: A path ending in .toml, .yaml, .yml or .json, or a mapping of the same keys.

    Raises:
        ConfigurationError: The file cannot be read, or something in it cannot be; the text names
            the file, the place in it, the value, and the nearest key where one was misspelt.
        ImportError: The file's format needs a package that is not installed.
    """
    found = examine(source)
    if isinstance(found, Configuration):
        return found
    where = "The configuration" if isinstance(source, Mapping) else str(Path(source))
    raise wrong(where, found)


def examine(source: Source) -> Configuration | tuple[Problem, ...]:
    """Read a contract file; return what it says, or all that is wrong with it.

    Raises:
        ConfigurationError: It is no contract file, or cannot be read at all.
        ImportError: The file's format needs a package that is not installed.
    """
    file = open_source(source)
    keys = file.keys()
    found = _given_twice(keys)
    try:
        examined = _examined(file.content(), file.shown)
    except ValueError as error:
        if not (found and isinstance(error, GivenTwiceError)):
            found.append(Problem((), " ".join(str(error).split())))
    else:
        if isinstance(examined, Configuration) and not found:
            return examined
        if not isinstance(examined, Configuration):
            found += [problem._replace(line=line_of(keys, problem.place)) for problem in examined]
    return tuple(sorted(found, key=lambda problem: problem.line or 0))


def _given_twice(keys: Sequence[Key]) -> list[Problem]:
    """Return the keys of a file that stand there twice, where only one of them would count."""
    return [
        Problem(
            key.place,
            f"line {key.before} has this key already, and only one can count. "
            "What helps: one of them, with all that is meant.",
            key.line,
        )
        for key in keys
        if key.before is not None
    ]


def _examined(
    content: Mapping[str, Any], shown: Callable[[object], str]
) -> Configuration | list[Problem]:
    """Look at what stands in a contract file."""
    problems: list[Problem] = []
    bad: set[Place] = set()
    try:
        file = BudgetFile.model_validate(content)
    except ValidationError as error:
        problems = _problems(error, shown)
        bad = {_part(problem.place) for problem in problems}
        file = BudgetFile.model_validate(_without(content, bad))
    values = Values(bad)
    settings = values.settings(file)
    agents = content.get("agents")
    names = values.names(agents) if isinstance(agents, Mapping) else {}
    contracts = values.contracts(file, names)
    problems += values.problems
    return problems or Configuration(settings, contracts)


def _part(place: Place) -> Place:
    """Return the part of a file that is left out if this is wrong: a key, of an agent or not."""
    return place[:3] if place[0] in _NESTED else place[:1]


def _without(content: Mapping[Any, Any], bad: Collection[Place], place: Place = ()) -> Any:
    """Return what stands in a file without the parts whose shape is wrong."""
    sound: dict[Any, Any] = {}
    for key, value in content.items():
        inner = (*place, str(key))
        if isinstance(key, str) and inner not in bad:
            nested = isinstance(value, Mapping) and inner[0] in _NESTED and len(inner) < _DEPTH
            sound[key] = _without(value, bad, inner) if nested else value
    return sound


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of contract files, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **BudgetFile.model_json_schema(by_alias=True),
    }


def wrong(where: str, found: Sequence[Problem]) -> ConfigurationError:
    """Return the error that says all that is wrong with a source at once."""
    if len(found) == 1:
        return ConfigurationError(f"{where}: {found[0]}")
    listed = "".join(f"\n  {line}" for line in found)
    return ConfigurationError(f"{where}: {len(found)} things are wrong.{listed}")


def _problems(error: ValidationError, shown: Callable[[object], str]) -> list[Problem]:
    """Return what is wrong, each with its place."""
    problems: list[Problem] = []
    for item in error.errors(include_url=False):
        parts = [str(part) for part in item["loc"] if part not in (WORD, TABLE, "[key]")]
        place = tuple(parts)
        if item["type"] == "extra_forbidden":
            keys = _keys_beside(parts)
            near = nearest(parts[-1], keys)
            hint = f"Did you mean {near!r}?" if near else f"The keys are {', '.join(keys)}."
            problems.append(Problem(place, f"there is no such key. {hint}"))
        elif item["type"] == "missing":
            problems.append(Problem(place, "this key is missing."))
        else:
            said = item["msg"].replace("Input should be", "must be")
            said = _SAID.get(item["type"], said[:1].lower() + said[1:])
            meant = _meant(item) if item["type"] == "literal_error" else ""
            problems.append(Problem(place, f"{said}, not {shown(item['input'])}.{meant}"))
    return problems


def _meant(item: Mapping[str, Any]) -> str:
    """Ask for the word that looks most like one that is none of those that can be."""
    choices = re.findall(r"'([^']+)'", item["ctx"]["expected"])
    near = nearest(item["input"], choices) if isinstance(item["input"], str) else None
    return f" Did you mean {near!r}?" if near else ""


def _keys_beside(place: list[str]) -> list[str]:
    """Return the keys that may stand where a key stands that is none."""
    table: type[BaseModel] = BudgetFile
    if place[0] == "prices":
        table = PriceOfModel
    elif place[0] == "agents":
        table = AgentTable if len(place) == _DEPTH else Fallback
    elif place[0] == "unattributed" and len(place) > 1:
        table = UnattributedTable
    return [field.alias or name for name, field in table.model_fields.items()]
