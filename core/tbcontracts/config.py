"""Contract files: budgets written down in TOML, YAML or JSON, or in a mapping of the same keys.

pydantic stands behind this door only: it says what is wrong in words that name the place, and it
makes the JSON Schema by which editors complete and check such files. What a contract may be is
decided by `BudgetContract` and `Settings`, here as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from tbcontracts.attribution import nearest
from tbcontracts.checks import AMOUNT_MAX
from tbcontracts.config_sources import GivenTwiceError, Source, open_source
from tbcontracts.contract import PRIORITY_MAX, BudgetContract, contract_fields
from tbcontracts.errors import ConfigurationError
from tbcontracts.file_lines import Key, line_of
from tbcontracts.patterns import ContractPattern, check_brackets, check_tie, is_pattern, literal
from tbcontracts.settings import check_scope, check_warn_at
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

    confidence_key: str | None = Field(
        default=None,
        description="Where a score of 0 to 1 stands in what the agent returns: answer.confidence.",
    )

    def contract(self, name: str, unit: str) -> BudgetContract:
        """Return the contract for an agent of this name, or for all whose names match it."""
        return _contract(name, self.model_dump(), unit)


class UnattributedTable(AgentTable):
    """The contract that pays for calls which no other contract answers for."""

    agent: str = Field(description="The name of its line in the report.")

    def as_contract(self, unit: str) -> BudgetContract:
        """Return the contract."""
        fields = self.model_dump()
        agent = fields.pop("agent")
        return BudgetContract(agent, **_terms(agent, fields, unit))


def _contract(name: str, fields: dict[str, Any], unit: str) -> BudgetContract:
    """Return a contract from a table of a file, or one for all agents whose names match."""
    check_brackets(name)
    terms = _terms(name, fields, unit)
    if is_pattern(name):
        return ContractPattern(name, **terms)
    return BudgetContract(literal(name), **terms)


def _terms(name: str, fields: dict[str, Any], unit: str) -> dict[str, Any]:
    """Return the fields of a contract from those of a table."""
    if unit == "usd" and fields["max_usd"] is None and fields["max_tokens"] is None:
        msg = f'Agent {name!r} needs a budget in dollars: max_usd = "2.50".'
        raise ValueError(msg)
    given = {key: value for key, value in fields.items() if value is not None}
    return contract_fields(given, unit, name, as_written=True)


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
    warn_at: list[float] = Field(
        default_factory=list,
        description="Shares of its budget at which to warn of an agent, such as 0.8.",
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
    telemetry: Literal["otel"] | None = Field(
        default=None, description="Where events and measurements go: OpenTelemetry."
    )
    agents: dict[str, AgentTable] = Field(
        default_factory=dict,
        description="A contract for each agent, by name or by a pattern with *, ? or [...].",
    )


class Problem(NamedTuple):
    """One thing that is wrong with a contract file."""

    place: tuple[str, ...]
    """The path of the key; empty where the file as a whole is meant."""
    said: str
    """What is wrong, with the value, and what would be right."""
    line: int | None = None
    """Where the key stands, if that is known."""

    def __str__(self) -> str:
        """Return it as errors say it."""
        line = "" if self.line is None else f"line {self.line}"
        where = ", ".join(filter(None, (line, ".".join(self.place))))
        return f"{where}: {self.said}" if where else self.said


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
    try:
        file = BudgetFile.model_validate(content)
    except ValidationError as error:
        return _problems(error, shown) + _of_sound_parts(content, error)
    problems: list[Problem] = []
    settings = file.model_dump(exclude={"schema_", "agents"})
    settings["count"] = _tried(("count",), partial(check_count, file.count), problems)
    for key, check in _CHECKS.items():
        settings[key] = _tried((key,), partial(check, getattr(file, key)), problems)
    if isinstance(file.unattributed, UnattributedTable):
        make = partial(file.unattributed.as_contract, file.unit)
        settings["unattributed"] = _tried(("unattributed",), make, problems)
    if isinstance(file.prices, dict):
        settings["prices"] = {
            model: _tried(("prices", model), table.price, problems)
            for model, table in file.prices.items()
        }
    contracts: dict[str, BudgetContract] = {}
    for name, table in file.agents.items():
        place = ("agents", name)
        contract = _tried(place, partial(table.contract, name, file.unit), problems)
        if contract is not None and contract.agent_name in contracts:
            said = f"another key is the same name, {contract.agent_name!r}."
            problems.append(Problem(place, said))
        elif contract is not None:
            contracts[contract.agent_name] = contract
    patterns = [name for name, one in contracts.items() if isinstance(one, ContractPattern)]
    for one, other in combinations(patterns, 2):
        _tried(("agents",), partial(check_tie, one, other), problems)
    return problems or Configuration(settings, tuple(contracts.values()))


_CHECKS: dict[str, Callable[[Any], Any]] = {"scope": check_scope, "warn_at": check_warn_at}
"""What the shape of a value does not tell."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of contract files, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **BudgetFile.model_json_schema(by_alias=True),
    }


def _of_sound_parts(content: Mapping[str, Any], error: ValidationError) -> list[Problem]:
    """Return what else is wrong with those parts of a file whose shape is right."""
    problems: list[Problem] = []
    misshapen = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
    for key, check in _CHECKS.items():
        if key in content and key not in misshapen:
            _tried((key,), partial(check, content[key]), problems)
    agents, unit = content.get("agents"), "usd" if content.get("unit") == "usd" else "tokens"
    for name, table in agents.items() if isinstance(agents, Mapping) else ():
        with suppress(ValidationError):
            sound = AgentTable.model_validate(table)
            _tried(("agents", str(name)), partial(sound.contract, name, unit), problems)
    return problems


def _tried(place: tuple[str, ...], make: Callable[[], T], problems: list[Problem]) -> T | None:
    """Return what is made, or note why it cannot be."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        problems.append(Problem(place, str(error)))
        return None


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
        parts = [str(part) for part in item["loc"] if part not in (_WORD, _TABLE, "[key]")]
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
            problems.append(Problem(place, f"{said}, not {shown(item['input'])}."))
    return problems


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
