"""The agents that an application has, and the contract that each of them is under.

Which agents there are, an integration finds out. What is said of them is said here, so that the
warnings of all integrations and the command line have the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from tbcontracts.checks import nearest, printable
from tbcontracts.columns import aligned
from tbcontracts.contract import BudgetContract
from tbcontracts.patterns import is_pattern, literal

if TYPE_CHECKING:
    from tbcontracts.manager import BudgetManager

_HEADING = ("agent", "where", "contract", "found by")


class AgentFound(NamedTuple):
    """An agent that an application has."""

    name: str
    """What it is called: the name of its account."""
    where: str
    """Where it stands: the nodes that lead to it, or what it is to its crew."""
    contract: str | None
    """The contract that its calls are under; None if there is none."""
    rule: str
    """By what the contract was found; empty if there is none."""
    asks_models: bool = True
    """Whether it is known to ask a model. A function may do so where nobody can see it."""


class Unmatched(NamedTuple):
    """A contract that no agent is under."""

    contract: str
    nearest: str | None
    """The agent that is called nearly so, if there is one."""
    where: str = ""
    """Where the contract was written, as far as that is known."""


@dataclass(frozen=True)
class Roster:
    """What `agents_of` found; it can be printed."""

    agents: tuple[AgentFound, ...]
    """The agents, in the order in which the application has them."""
    unmatched: tuple[Unmatched, ...] = ()
    """The contracts that no agent is under."""
    unheard: tuple[str, ...] = ()
    """What budgets would not hear of, a sentence each with what helps."""

    @property
    def contracts(self) -> tuple[str, ...]:
        """All contracts, whether an agent is under them or not."""
        used = (one.contract for one in self.agents if one.contract is not None)
        return tuple(dict.fromkeys((*used, *(one.contract for one in self.unmatched))))

    @property
    def without(self) -> tuple[str, ...]:
        """The agents that ask models and have no contract."""
        names = (one.name for one in self.agents if one.contract is None and one.asks_models)
        return tuple(dict.fromkeys(names))

    @property
    def twins(self) -> dict[str, tuple[str, ...]]:
        """The names that several agents have, with the places of these."""
        places: dict[str, list[str]] = {}
        for one in self.agents:
            places.setdefault(one.name, []).append(one.where)
        return {name: tuple(found) for name, found in places.items() if len(found) > 1}

    @property
    def findings(self) -> tuple[str, ...]:
        """What is worth a look, a sentence each; empty where all is well."""
        said = [nobody_is_called([one]) for one in self.unmatched]
        if self.without:
            said.append(no_contract_for(self.without, self.contracts))
        for name, places in self.twins.items():
            said.append(
                f"{len(places)} agents are called {name!r} ({', '.join(places)}): "
                "they are one on the books."
            )
        return (*said, *self.unheard)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return {
            "agents": [one._asdict() for one in self.agents],
            "unmatched": [one._asdict() for one in self.unmatched],
            "without": list(self.without),
            "twins": {name: list(places) for name, places in self.twins.items()},
            "unheard": list(self.unheard),
            "findings": list(self.findings),
        }

    def __str__(self) -> str:
        """Return a table of the agents, and what is worth a look."""
        rows: list[Sequence[str]] = [_HEADING]
        for one in self.agents:
            contract = one.contract or ("-" if one.asks_models else "- (asks no model)")
            rows.append((one.name, one.where, contract, one.rule))
        cells = [[printable(cell) for cell in row] for row in rows]
        lines = aligned(cells, "<<<<")
        findings = [printable(sentence) for sentence in self.findings]
        return "\n".join([*lines, *([""] if findings else []), *findings])


def unmatched(contracts: Iterable[str], agents: Iterable[AgentFound]) -> tuple[Unmatched, ...]:
    """Return the contracts that no agent is under, with the agents that are called nearly so.

    A pattern is compared with names by its literal part.
    """
    found = tuple(agents)
    names = {one.name for one in found}
    used = {one.contract for one in found if one.contract is not None}
    left = sorted(set(contracts) - used)
    return tuple(
        Unmatched(contract, nearest(literal(contract), names - {contract}))
        for contract in left
        if not (is_pattern(contract) and any(fnmatchcase(name, contract) for name in used))
    )


def contracts_of(manager: BudgetManager) -> tuple[BudgetContract, ...]:
    """Return the contracts and patterns that a manager was given."""
    own = (one for name, one in manager.contracts.items() if manager.is_registered(name))
    return (*own, *manager.patterns)


def manager_beside(unit: str, unattributed: str | BudgetContract) -> BudgetManager:
    """Return a manager in memory that looks contracts up, so that nobody's own is changed.

    It knows no prices: it pays for nothing.
    """
    from tbcontracts.manager import BudgetManager
    from tbcontracts.pricing import PriceTable

    prices = PriceTable({}) if unit == "usd" else None
    return BudgetManager(unit=unit, prices=prices, unattributed=unattributed)


def nobody_is_called(contracts: Iterable[Unmatched], agents: Iterable[str] = ()) -> str:
    """Say of contracts that no agent is under them, and how the agents are called."""
    told: dict[str, list[str]] = {}
    for one in contracts:
        where = f" in {one.where}" if one.where else ""
        near = f" (nearest: {one.nearest!r})" if one.nearest else ""
        none = "No agent here matches" if is_pattern(one.contract) else "No agent here is called"
        told.setdefault(none, []).append(f"{one.contract!r}{where}{near}")
    said = " ".join(
        f"{none} {'; '.join(names)}: nobody uses that budget." for none, names in told.items()
    )
    there = ", ".join(map(repr, agents))
    return f"{said} The agents here are {there}." if there else said


def no_contract_for(
    agents: Iterable[str], contracts: Iterable[str] = (), *, refused: bool = False
) -> str:
    """Say of agents that they have no contract, and which contract is called nearly so."""
    known = tuple(contracts)
    told: list[str] = []
    for agent in agents:
        near = nearest(agent, known)
        told.append(repr(agent) + (f" (nearest: {near!r})" if near else ""))
    what = "refused" if refused else "tracked without a limit"
    return f"No contract for {', '.join(told)}: their calls are {what}."
