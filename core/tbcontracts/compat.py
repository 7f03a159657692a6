"""The published package's ledger and reallocator, for code that was written for it.

`Ledger()` and `Reallocator(contracts, ledger)` stand alone in memory. They are bookkeeping by hand,
outside the promises of a manager: nothing is held before a call. But each step is one step for all
threads, bad numbers are refused, and no donor goes below its reserve. `manager.ledger` shows a
manager's own books in the same words.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from tbcontracts.attribution import nearest
from tbcontracts.books import JOURNAL_ENTRIES_MAX
from tbcontracts.checks import AMOUNT_MAX, check_amount, check_name, cut_note
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import (
    BudgetExceededError,
    ConfigurationError,
    ContractConflictError,
    TBCError,
    UnknownAgentError,
)

if TYPE_CHECKING:
    from tbcontracts.manager import BudgetManager

Method = TypeVar("Method", bound=Callable[..., Any])


def takes_agent_name(method: Method) -> Method:
    """Let a method be called with `agent_name=...`, as the published package called `name`."""

    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if "agent_name" in kwargs and "name" not in kwargs:
            kwargs["name"] = kwargs.pop("agent_name")
        return method(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


class LedgerEntry(NamedTuple):
    """Tokens that were put on an agent's account."""

    agent_name: str
    tokens: int
    """Negative where an estimate was too high and the truth replaced it."""
    timestamp: float
    """Seconds since the epoch."""
    note: str = ""


class _Line:
    """One agent's numbers."""

    __slots__ = ("allocated", "consumed", "registered")

    def __init__(self, registered: int) -> None:
        self.registered = registered  # as `register` was told; `allocated` moves away from it
        self.allocated = registered
        self.consumed = 0

    @property
    def remaining(self) -> int:
        """What may still be spent; negative where more was recorded than was there."""
        return self.allocated - self.consumed


class Ledger:
    """Who was allocated how much, and consumed how much: kept by hand, in memory.

    It refuses nothing for lack of budget; `BudgetManager` does. Safe for many threads.

    Attributes:
        lock: Held during each step; hold it yourself to make several steps one.
    """

    def __init__(self) -> None:
        self.lock: threading.RLock = threading.RLock()
        self._lines: dict[str, _Line] = {}
        self._history: deque[LedgerEntry] = deque(maxlen=JOURNAL_ENTRIES_MAX)

    def register(self, agent_name: str, allocated_tokens: int) -> None:
        """Open an agent's line; the same registration again changes nothing.

        Raises:
            ContractConflictError: The agent is registered with another allocation.
            TypeError: A value has the wrong type.
            ValueError: A value is out of range.
        """
        name = check_name(agent_name)
        tokens = check_amount(allocated_tokens, f"The allocation of agent {name!r}")
        with self.lock:
            line = self._lines.setdefault(name, _Line(tokens))
            registered = line.registered
        if registered != tokens:
            msg = f"Agent {name!r} is registered already, with {registered:,}, not {tokens:,}."
            remedy = f"What helps: ledger.adjust_allocation({name!r}, {tokens - registered})."
            raise ContractConflictError(msg, remedy=remedy)

    def record(self, agent_name: str, tokens: int, note: str = "") -> None:
        """Put tokens on an agent's account, whatever it has left.

        Raises:
            UnknownAgentError: The agent is not registered.
            TypeError: `tokens` is no whole number.
            ValueError: `tokens` is out of range.
        """
        tokens = check_amount(tokens, f"The usage of agent {agent_name!r}")
        with self.lock:
            line = self._line(agent_name)
            line.consumed += tokens
            name = check_name(agent_name)
            self._history.append(LedgerEntry(name, tokens, time.time(), cut_note(note)))

    def remaining(self, agent_name: str) -> int:
        """Return what an agent may still spend; negative if it spent more than it had."""
        with self.lock:
            return self._line(agent_name).remaining

    def consumed(self, agent_name: str) -> int:
        """Return what an agent has spent."""
        with self.lock:
            return self._line(agent_name).consumed

    def allocated(self, agent_name: str) -> int:
        """Return what an agent was given."""
        with self.lock:
            return self._line(agent_name).allocated

    def adjust_allocation(self, agent_name: str, delta: int) -> None:
        """Add to an agent's allocation, or take away from it.

        Raises:
            UnknownAgentError: The agent is not registered.
            TypeError: `delta` is no whole number.
            ValueError: The allocation would be less than 0, or too large.
        """
        what = f"The change of the allocation of agent {agent_name!r}"
        delta = check_amount(delta, what, minimum=-AMOUNT_MAX)
        with self.lock:
            line = self._line(agent_name)
            line.allocated = check_amount(
                line.allocated + delta, f"The allocation of agent {agent_name!r}"
            )

    def history(self, agent_name: str | None = None) -> list[LedgerEntry]:
        """Return what was recorded, oldest first: the last 10,000 entries, or one agent's of them.

        The totals stay exact when entries are forgotten.
        """
        with self.lock:
            entries = list(self._history)
        return entries if agent_name is None else _of_agent(entries, agent_name)

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Return allocated, consumed and remaining of each agent, at one moment."""
        with self.lock:
            return {
                name: {
                    "allocated": line.allocated,
                    "consumed": line.consumed,
                    "remaining": line.remaining,
                }
                for name, line in self._lines.items()
            }

    def knows(self, agent_name: str) -> bool:
        """Return whether an agent is registered."""
        return check_name(agent_name) in self._lines

    def _line(self, agent_name: str) -> _Line:
        name = check_name(agent_name)
        line = self._lines.get(name)
        if line is not None:
            return line
        near = nearest(name, self._lines)
        hint = f" Did you mean {near!r}?" if near else ""
        msg = f"No agent {name!r} is registered.{hint}"
        raise UnknownAgentError(msg, remedy=f"What helps: ledger.register({name!r}, tokens).")


class LedgerView(Ledger):
    """A manager's books as a ledger. They are read and charged here; allocation is the manager's.

    Args:
        manager: Whose books.
    """

    def __init__(self, manager: BudgetManager) -> None:
        super().__init__()
        self._manager = manager

    def register(self, agent_name: str, allocated_tokens: int) -> NoReturn:
        """Refuse: an agent of a manager has a contract.

        Raises:
            TBCError: Always; it names what to call.
        """
        call = f"manager.register_agent({agent_name!r}, max_tokens={allocated_tokens!r})"
        msg = "Agents of a manager are registered with a contract."
        raise _read_only(msg, call)

    def record(self, agent_name: str, tokens: int, note: str = "") -> None:
        """Charge tokens that were used. That they do not fit is on the books, and not raised.

        Raises:
            UnknownAgentError: The agent has no contract.
            TypeError: `tokens` is no whole number.
            ValueError: `tokens` is out of range.
        """
        with suppress(BudgetExceededError):  # raised after it was posted
            self._manager.record_usage(agent_name, tokens, note)

    def remaining(self, agent_name: str) -> int:
        """Return what an agent may still spend; what is held for calls under way is not."""
        return self._manager.remaining(agent_name)

    def consumed(self, agent_name: str) -> int:
        """Return what an agent has spent."""
        return self._numbers(agent_name)["consumed"]

    def allocated(self, agent_name: str) -> int:
        """Return what an agent has been given until now."""
        return self._numbers(agent_name)["allocated"]

    def adjust_allocation(self, agent_name: str, delta: int) -> NoReturn:
        """Refuse: allocation moves by the rules, or comes from a top-up.

        Raises:
            TBCError: Always; it names what to call.
        """
        call = f"manager.top_up({agent_name!r}, tokens)"
        if isinstance(delta, int) and delta < 0:
            call = f"manager.change_contract({agent_name!r}, max_tokens=...)"
            call += " to lower it, and manager.top_up to add"
        msg = "The allocation of a manager's agents is not set by hand."
        raise _read_only(msg, call)

    def history(self, agent_name: str | None = None) -> list[LedgerEntry]:
        """Return what was charged, oldest first, as far as the journal goes back."""
        entries = list(_charges(self._manager))
        return entries if agent_name is None else _of_agent(entries, agent_name)

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Return allocated, consumed and remaining of each agent, at one moment."""
        return self._manager.report()

    def knows(self, agent_name: str) -> bool:
        """Return whether an agent has a line on the books."""
        return check_name(agent_name) in self.snapshot()

    def _numbers(self, agent_name: str) -> dict[str, int]:
        self._manager.remaining(agent_name)  # an unknown name is told of there
        return self.snapshot()[check_name(agent_name)]


class Reallocator:
    """Moves allocation between the agents of a `Ledger`, by hand.

    A manager needs none: it finds donors in the same step that grants a hold.

    Args:
        contracts: The contract of each agent, by name.
        ledger: Where the numbers are.

    Raises:
        ConfigurationError: `ledger` is a manager's, or no ledger.
    """

    def __init__(self, contracts: Mapping[str, BudgetContract], ledger: Ledger) -> None:
        if not isinstance(ledger, Ledger) or isinstance(ledger, LedgerView):
            what = "a manager's" if isinstance(ledger, LedgerView) else type(ledger).__name__
            msg = f"A Reallocator works on a Ledger of its own, not on {what}."
            remedy = "What helps: nothing is needed; a manager reallocates by itself."
            raise ConfigurationError(msg, remedy=remedy)
        self.contracts = contracts
        self.ledger = ledger

    def find_donors(self, exclude: str) -> list[str]:
        """Return who has more than its reserve, in the order in which they would be asked.

        That is priority ascending, then what they can give descending, then name.

        Args:
            exclude: The agent in need, which is no donor.
        """
        with self.ledger.lock:
            return [name for name, _ in self._donors(exclude)]

    def reallocate(self, needy_agent: str, shortfall: int, *, whole: bool = False) -> int:
        """Move up to `shortfall` tokens to an agent, in one step.

        Args:
            needy_agent: Who needs them.
            shortfall: How many.
            whole: Move all of them or none.

        Returns:
            How many were moved; fewer than `shortfall` if donors of lower or equal priority have
            no more above their reserves.

        Raises:
            UnknownAgentError: The agent has no contract here or is not in the ledger.
            TypeError: `shortfall` is no whole number.
            ValueError: `shortfall` is out of range.
        """
        shortfall = check_amount(shortfall, f"The shortfall of agent {needy_agent!r}")
        contract = self.contracts.get(needy_agent)
        if contract is None:
            near = nearest(str(needy_agent), self.contracts)
            hint = f" Did you mean {near!r}?" if near else ""
            msg = f"No contract is there for agent {needy_agent!r}.{hint}"
            remedy = f"What helps: a BudgetContract for {needy_agent!r} among the contracts."
            raise UnknownAgentError(msg, remedy=remedy)
        moves: list[tuple[str, int]] = []
        found = 0
        with self.ledger.lock:
            self.ledger.remaining(needy_agent)  # an unknown name is told of before anything moves
            for name, surplus in self._donors(needy_agent):
                if found == shortfall or self.contracts[name].priority > contract.priority:
                    break
                moves.append((name, min(surplus, shortfall - found)))
                found += moves[-1][1]
            if whole and found < shortfall:
                return 0
            for name, tokens in moves:
                self.ledger.adjust_allocation(name, -tokens)
            self.ledger.adjust_allocation(needy_agent, found)
        return found

    def _donors(self, exclude: str) -> list[tuple[str, int]]:
        """Return the donors in order, each with what it can give."""
        taker = check_name(exclude)
        surpluses = [
            (contract.priority, -surplus, name.encode(), name)
            for name, contract in list(self.contracts.items())
            if self.ledger.knows(name)
            and check_name(name) != taker
            and (surplus := self.ledger.remaining(name) - contract.reserve) > 0
        ]
        return [(name, -minus) for _, minus, _, name in sorted(surpluses)]


def _of_agent(entries: list[LedgerEntry], agent_name: str) -> list[LedgerEntry]:
    name = check_name(agent_name)
    return [entry for entry in entries if entry.agent_name == name]


def _charges(manager: BudgetManager) -> Iterator[LedgerEntry]:
    """Yield what changed an agent's consumption, from the journal.

    An estimate that the truth replaced later is two entries, so that they always add up.
    """
    before: dict[str, int] = {}
    for entry in manager.journal():
        if entry.agent is None:
            continue
        first_seen = entry.amount if entry.kind in ("charged", "settled") else 0
        tokens = entry.consumed - before.get(entry.agent, entry.consumed - first_seen)
        before[entry.agent] = entry.consumed
        if tokens or entry.kind in ("charged", "settled"):
            note = str(entry.facts.get("note", ""))
            yield LedgerEntry(entry.agent, tokens, entry.at, note)


def _read_only(what: str, call: str) -> TBCError:
    return TBCError(what, code="read_only", remedy=f"What helps: {call}.")
