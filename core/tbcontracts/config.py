"""Contract files: budgets written down in TOML, YAML or JSON, or in a mapping of the same keys.

pydantic stands behind this door only: it says what is wrong in words that name the place, and it
makes the JSON Schema by which editors complete and check such files. What a contract may be is
decided by `BudgetContract` and `Settings`, here as everywhere.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from tbcontracts.attribution import nearest
from tbcontracts.checks import AMOUNT_MAX
from tbcontracts.contract import PRIORITY_MAX, BudgetContract, contract_fields
from tbcontracts.errors import ConfigurationError
from tbcontracts.settings import check_scope
from tbcontracts.usage import check_count

try:
    from pydantic import (
        BaseModel,
        Discriminator,
        Field,
        Tag,
        ValidationError,
    )
except ImportError as _missing:
    _msg = (
        "Contract files need pydantic, which is not installed. What helps: "
        'pip install "tbcontracts[cli]" (from a checkout: pip install ".[cli]").'
    )
    raise ImportError(_msg, name="pydantic") from _missing

from tbcontracts.config_dollars import Dollars, PriceOfModel, Table

T = TypeVar("T")
Source = str | os.PathLike[str] | Mapping[str, Any]
"""A file's path, or what stands in such a file."""

_SHOWN_MAX = 60
_WORD, _TABLE = "<word>", "<table>"
_TABLE_OF_KEYS = "must be a table of keys"
_SAID = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "dict_type": _TABLE_OF_KEYS,
    "model_type": _TABLE_OF_KEYS,
}
"""Where pydantic's words speak of Python and not of a file."""


def _kind(value: object) -> str:
    """Tell the two shapes apart that some keys can have, so that errors speak of the one meant."""
    return _TABLE if isinstance(value, (Mapping, BaseModel)) else _WORD


class Fallback(Table):
    """What an agent does instead when its budget is used up."""

    fallback: str = Field(description="A node of the graph, or the name of a cheaper model.")


class AgentTable(Table):
    """The contract of one agent; `BudgetContract` describes the fields."""

    priority: int = Field(default=1, ge=1, le=PRIORITY_MAX, description="Higher is more important.")
    max_tokens: int | None = Field(
        default=None,
        ge=0,
        le=AMOUNT_MAX,
        description="The whole budget of the agent in a scope, not the length of one answer: 1000.",
    )
    max_usd: Dollars = Field(
        default=None, description='The same in dollars, where unit is "usd": "2.50".'
    )
    min_reserve: int | None = Field(
        default=None,
        ge=0,
        le=AMOUNT_MAX,
        description="What no transfer may take; a tenth of max_tokens.",
    )
    min_reserve_usd: Dollars = Field(
        default=None, description="The same in dollars; a tenth of max_usd."
    )
    confidence_threshold: float | None = Field(
        default=None, ge=0, le=1, description="At or above this score the next call is refused."
    )
    max_output_tokens: int | None = Field(
        default=None, ge=1, le=AMOUNT_MAX, description="The longest answer to expect of one call."
    )
    on_exceeded: Annotated[
        Annotated[Literal["raise", "end", "ask"], Tag(_WORD)] | Annotated[Fallback, Tag(_TABLE)],
        Discriminator(_kind),
    ] = Field(default="raise", description="What happens when the budget is used up.")

    def contract(self, name: str, unit: str) -> BudgetContract:
        """Return the contract for an agent of this name."""
        return _contract(name, self.model_dump(), unit)


class UnattributedTable(AgentTable):
    """The contract that pays for calls which no other contract answers for."""

    agent: str = Field(description="The name of its line in the report.")

    def as_contract(self, unit: str) -> BudgetContract:
        """Return the contract."""
        fields = self.model_dump()
        return _contract(fields.pop("agent"), fields, unit)


def _contract(name: str, fields: dict[str, Any], unit: str) -> BudgetContract:
    """Return a contract from a table of a file."""
    if unit == "usd" and fields["max_usd"] is None and fields["max_tokens"] is None:
        msg = f'Agent {name!r} needs a budget in dollars: max_usd = "2.50".'
        raise ValueError(msg)
    given = {key: value for key, value in fields.items() if value is not None}
    return BudgetContract(name, **contract_fields(given, unit, name, as_written=True))


class BudgetFile(Table):
    """A whole contract file; `BudgetManager` describes the settings."""

    schema_: str | None = Field(
        default=None, alias="$schema", description="Where editors find this schema."
    )
    store: str = Field(default="memory://", description="Where the books are, as a URL.")
    scope: str = Field(
        default="default", description="The name of the books; may hold {utc:%Y-%m}."
    )
    enforcement: Literal["observe", "expected", "strict"] = Field(
        default="expected", description="How strictly contracts are kept."
    )
    unit: Literal["tokens", "usd"] = Field(
        default="tokens", description="What budgets are counted in; usd is US dollars."
    )
    count: Annotated[
        Annotated[Literal["total", "uncached"], Tag(_WORD)]
        | Annotated[dict[str, float], Tag(_TABLE)],
        Discriminator(_kind),
    ] = Field(default="total", description="How much of a budget a usage takes.")
    policy: Literal["priority"] = Field(default="priority", description="Who gives, and when.")
    unattributed: Annotated[
        Annotated[Literal["track", "deny"], Tag(_WORD)] | Annotated[UnattributedTable, Tag(_TABLE)],
        Discriminator(_kind),
    ] = Field(default="track", description="What happens to calls that no contract answers for.")
    on_contract_change: Literal["keep", "apply", "raise"] = Field(
        default="keep", description="What happens when the books have another contract."
    )
    on_store_error: Literal["deny", "allow"] = Field(
        default="deny", description="What happens to calls when the store does not answer."
    )
    outbox: str | None = Field(
        default=None, description="A file in which this process notes what was used."
    )
    prices: (
        Annotated[
            Annotated[Literal["genai-prices"], Tag(_WORD)]
            | Annotated[dict[str, PriceOfModel], Tag(_TABLE)],
            Discriminator(_kind),
        ]
        | None
    ) = Field(
        default=None,
        description="What models cost, by name, in dollars for a million tokens; models that are "
        'not named here have the prices of genai-prices, if that is installed. "genai-prices" '
        "alone gives the costs of budgets in tokens, too.",
    )
    agents: dict[str, AgentTable] = Field(
        default_factory=dict, description="A contract for each agent, by name."
    )


class Configuration(NamedTuple):
    """A contract file that was read and found right."""

    settings: dict[str, Any]
    """The keyword arguments of `BudgetManager`."""
    contracts: tuple[BudgetContract, ...]


def load(source: Source) -> Configuration:
    """Read a contract file.

    Args:
        source: A path ending in .toml, .yaml, .yml or .json, or a mapping of the same keys.

    Raises:
        ConfigurationError: The file cannot be read, or something in it cannot be; the text names
            the file, the place in it, the value, and the nearest key where one was misspelt.
        ImportError: The file's format needs a package that is not installed.
    """
    where, content = _content(source)
    try:
        file = BudgetFile.model_validate(content)
    except ValidationError as error:
        raise _wrong(where, _lines(error)) from None
    problems: list[str] = []
    settings = file.model_dump(exclude={"schema_", "agents"})
    settings["count"] = _tried("count", partial(check_count, file.count), problems)
    settings["scope"] = _tried("scope", partial(check_scope, file.scope), problems)
    if isinstance(file.unattributed, UnattributedTable):
        make = partial(file.unattributed.as_contract, file.unit)
        settings["unattributed"] = _tried("unattributed", make, problems)
    if isinstance(file.prices, dict):
        settings["prices"] = {
            model: _tried(f"prices.{model}", table.price, problems)
            for model, table in file.prices.items()
        }
    contracts: dict[str, BudgetContract] = {}
    for name, table in file.agents.items():
        place = f"agents.{name}"
        contract = _tried(place, partial(table.contract, name, file.unit), problems)
        if contract is not None and contract.agent_name in contracts:
            problems.append(f"{place}: another key is the same name, {contract.agent_name!r}.")
        elif contract is not None:
            contracts[contract.agent_name] = contract
    if problems:
        raise _wrong(where, problems)
    return Configuration(settings, tuple(contracts.values()))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of contract files, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **BudgetFile.model_json_schema(by_alias=True),
    }


def _tried(place: str, make: Callable[[], T], problems: list[str]) -> T | None:
    """Return what is made, or note why it cannot be."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        problems.append(f"{place}: {error}")
        return None


def _content(source: Source) -> tuple[str, Mapping[str, Any]]:
    """Return how errors call a source, and what stands in it."""
    if isinstance(source, Mapping):
        return "The configuration", source
    if not isinstance(source, (str, os.PathLike)):
        msg = f"A configuration is a file's path or a mapping, not {type(source).__name__}."
        raise ConfigurationError(msg, remedy='What helps: "budget.toml".')
    path = Path(source)
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        msg = f"{path} has no ending that says its format."
        raise ConfigurationError(msg, remedy=f"What helps: one of {', '.join(_PARSERS)}.")
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark in front
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"{path} cannot be read: {reason}."
        raise ConfigurationError(msg, remedy="What helps: the path of a contract file.") from None
    try:
        content = parse(text)
    except ValueError as error:
        raise _wrong(str(path), [" ".join(str(error).split())]) from None
    if not isinstance(content, Mapping):
        raise _wrong(str(path), [f"It holds {_shown(content)}, not a table of keys."])
    return str(path), content


def _parse_toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as error:
            msg = (
                'TOML files need tomli on Python 3.10. What helps: pip install "tbcontracts[cli]".'
            )
            raise ImportError(msg, name="tomli") from error
    return tomllib.loads(text)


def _parse_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        msg = 'YAML files need pyyaml. What helps: pip install "tbcontracts[yaml]", or a TOML file.'
        raise ImportError(msg, name="yaml") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        msg = f"{getattr(error, 'problem', None) or error}{where}"
        raise ValueError(msg) from None
    return {} if content is None else content  # an empty file, as an empty TOML file is


_PARSERS: dict[str, Callable[[str], Any]] = {
    ".toml": _parse_toml,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".json": json.loads,
}


def _wrong(where: str, lines: Iterable[str]) -> ConfigurationError:
    """Return the error that says all that is wrong with a source at once."""
    found = list(lines)
    if len(found) == 1:
        return ConfigurationError(f"{where}: {found[0]}")
    listed = "".join(f"\n  {line}" for line in found)
    return ConfigurationError(f"{where}: {len(found)} things are wrong.{listed}")


def _lines(error: ValidationError) -> list[str]:
    """Return what is wrong, a line for each place."""
    lines: list[str] = []
    for item in error.errors(include_url=False):
        parts = [str(part) for part in item["loc"] if part not in (_WORD, _TABLE, "[key]")]
        place = ".".join(parts)
        if item["type"] == "extra_forbidden":
            keys = _keys_beside(parts)
            near = nearest(parts[-1], keys)
            hint = f"Did you mean {near!r}?" if near else f"The keys are {', '.join(keys)}."
            lines.append(f"{place}: there is no such key. {hint}")
        elif item["type"] == "missing":
            lines.append(f"{place}: this key is missing.")
        else:
            said = item["msg"].replace("Input should be", "must be")
            said = _SAID.get(item["type"], said[:1].lower() + said[1:])
            lines.append(f"{place}: {said}, not {_shown(item['input'])}.")
    return lines


def _keys_beside(place: list[str]) -> list[str]:
    """Return the keys that may stand where a key stands that is none."""
    table: type[BaseModel] = BudgetFile
    if place[0] == "prices":
        table = PriceOfModel
    elif place[0] == "agents":
        table = AgentTable if len(place) == len(("agents", "name", "key")) else Fallback
    elif place[0] == "unattributed" and len(place) > 1:
        table = UnattributedTable
    return [field.alias or name for name, field in table.model_fields.items()]


def _shown(value: object) -> str:
    """Show a value in an error, short."""
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
