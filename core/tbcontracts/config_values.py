"""What is wrong with a contract file whose tables have the right shape; and what it comes to.

All of it is found in one go: each value is looked at by itself before those that belong together
are, and a name is looked at whatever its contract is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple, TypeVar

from tbcontracts.checks import check_name, printable
from tbcontracts.config_tables import BudgetFile, ContractTable, UnattributedTable
from tbcontracts.contract import BudgetContract, contract_fields
from tbcontracts.model_price import ModelPrice
from tbcontracts.patterns import ContractPattern, check_brackets, check_tie, is_pattern, literal
from tbcontracts.settings import Settings, check_scope
from tbcontracts.usage import check_count

T = TypeVar("T")
Place = tuple[str, ...]
_IN_DOLLARS = ("max_usd", "min_reserve_usd")
_SUMS = ("max_tokens", "min_reserve", *_IN_DOLLARS)


class Problem(NamedTuple):
    """One thing that is wrong with a contract file."""

    place: Place
    """The path of the key; empty where the file as a whole is meant."""
    said: str
    """What is wrong, with the value, and what would be right."""
    line: int | None = None
    """Where the key stands, if that is known."""

    def __str__(self) -> str:
        """Return it as errors say it."""
        line = "" if self.line is None else f"line {self.line}"
        where = ", ".join(filter(None, (line, printable(".".join(self.place)))))
        return f"{where}: {self.said}" if where else self.said


class Values:
    """Makes what a file says, and notes why something cannot be made.

    Args:
        bad: The parts that are left out of the file because their shape is wrong.
    """

    def __init__(self, bad: Collection[Place] = ()) -> None:
        self.problems: list[Problem] = []
        self._bad = bad

    def settings(self, file: BudgetFile) -> dict[str, Any]:
        """Return the arguments of `BudgetManager`, but for contracts."""
        settings = file.model_dump(exclude={"schema_", "agents"})
        if isinstance(file.count, dict):
            self._each(("count",), file.count, lambda key, value: check_count({key: value}))
        settings["scope"] = self._tried(("scope",), partial(check_scope, file.scope))
        if isinstance(file.unattributed, UnattributedTable):
            table = file.unattributed
            agent = self._tried(("unattributed", "agent"), partial(check_name, table.agent))
            settings["unattributed"] = self._made(
                ("unattributed",), BudgetContract, agent or table.agent, table, file
            )
        if isinstance(file.prices, dict):
            settings["prices"] = {
                model: self._price(("prices", model), table.model_dump())
                for model, table in file.prices.items()
            }
        if not (self.problems or self._bad):
            words = {key: settings[key] for key in Settings.__dataclass_fields__}
            place = "count" if file.unit == "usd" else "on_store_error"  # what may not go together
            self._tried((place,), partial(Settings, **words))
        return settings

    def names(self, keys: Iterable[object]) -> dict[str, str]:
        """Return the names of agents, and patterns, in their one spelling, by what they are under.

        A key that is no text is told of where the shapes are.
        """
        found: dict[str, str] = {}
        by_name: dict[tuple[bool, str], str] = {}
        for key in keys:
            if not isinstance(key, str):
                continue
            name = self._tried(("agents", key), partial(_name, key))
            if name is None:
                continue
            other = by_name.setdefault((is_pattern(key), name), key)
            if other is key:
                found[key] = name
            else:
                said = f"the key {other!r} is the same name, {name!r}."
                self.problems.append(Problem(("agents", key), said))
        for one, other in combinations(filter(is_pattern, found), 2):
            self._tried(("agents", other), partial(check_tie, found[one], found[other]))
        return found

    def contracts(self, file: BudgetFile, names: Mapping[str, str]) -> tuple[BudgetContract, ...]:
        """Return the contracts of agents; their names are what `names` returned."""
        made: list[BudgetContract] = []
        for key, table in file.agents.items():
            if key in names:
                kind = ContractPattern if is_pattern(key) else BudgetContract
                contract = self._made(("agents", key), kind, names[key], table, file)
                made += [] if contract is None else [contract]
        return tuple(made)

    def _made(
        self,
        place: Place,
        make: Callable[..., BudgetContract],
        name: str,
        table: ContractTable,
        file: BudgetFile,
    ) -> BudgetContract | None:
        """Return the contract of a table."""
        given = {key: value for key, value in table.model_dump().items() if value is not None}
        given.pop("agent", None)
        if "agents_max" in given and make is BudgetContract:
            said = f"it limits what a pattern makes, and {name!r} is one agent."
            self.problems.append(Problem((*place, "agents_max"), said))
            del given["agents_max"]
        unit: str = file.unit
        if ("unit",) in self._bad:  # then it is what the table takes it for
            unit = "usd" if any(key in given for key in _IN_DOLLARS) else "tokens"
        before = len(self.problems)
        sums = {key: given[key] for key in _SUMS if key in given}
        self._each(
            place,
            sums,
            lambda key, value: contract_fields({key: value}, unit, name, as_written=True),
        )
        if len(self.problems) > before or self._is_bad(place):
            return None
        if unit == "usd" and "max_usd" not in given:
            said = f'Agent {name!r} needs a budget in dollars: max_usd = "2.50".'
            self.problems.append(Problem(place, said))
            return None
        terms = contract_fields(given, unit, name, as_written=True)
        return self._tried(place, partial(make, name, **terms))

    def _price(self, place: Place, dollars: Mapping[str, Any]) -> ModelPrice | None:
        """Return the price of a model."""
        given = {key: value for key, value in dollars.items() if value is not None}
        price = partial(ModelPrice.per_million, as_written=True)
        before = len(self.problems)
        self._each(place, given, lambda key, value: price(**{"input": 0, key: value}))
        if len(self.problems) > before or self._is_bad(place):
            return None
        return self._tried(place, partial(price, **given))

    def _is_bad(self, place: Place) -> bool:
        """Return whether a part of a table was left out, so that the rest says little."""
        return any(part[: len(place)] == place for part in self._bad)

    def _each(
        self, place: Place, values: Mapping[str, Any], check: Callable[[str, Any], object]
    ) -> None:
        """Look at each value of a table by itself."""
        for key, value in values.items():
            self._tried((*place, key), partial(check, key, value))

    def _tried(self, place: Place, make: Callable[[], T]) -> T | None:
        """Return what is made, or note why it cannot be."""
        try:
            return make()
        except (TypeError, ValueError) as error:
            self.problems.append(Problem(place, str(error)))
            return None


def _name(key: str) -> str:
    """Return the name, or the pattern, that a key stands for."""
    check_brackets(key)
    return check_name(key if is_pattern(key) else literal(key))
