"""Contracts by pattern: each agent that is seen and matches gets one of its own, with these terms.

A pattern may hold `*` (any text), `?` (one character) and `[...]` (one of these; `[!...]` none of
them), and is compared with the whole of a name in its one spelling, case by case.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from tbcontracts.checks import check_amount, check_name
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError, ContractConflictError

AGENTS_MAX = 1_000
"""How many agents a pattern makes in one scope: a name may hold a number that never comes twice."""
_SCOPES_MAX = 1_000
_TOKEN = re.compile(r"\[(?:!.|[^!])[^\]]*\]|.", re.DOTALL)
_ONE_CHARACTER = len("[x]")
_RANGE = re.compile(r"(.)-(.)", re.DOTALL)


@dataclass(frozen=True)
class ContractPattern(BudgetContract):
    """The terms of every agent whose name matches; `agent_name` is the pattern."""

    agents_max: int = AGENTS_MAX
    """How many agents it makes in one scope at most; further names have no contract by it."""

    def __post_init__(self) -> None:
        """Check every field, and the brackets of the pattern.

        Raises:
            ConfigurationError: A bracket is left open, or has a range that matches nothing.
        """
        super().__post_init__()
        check_brackets(self.agent_name)
        what = f"agents_max of {self.agent_name!r}"
        object.__setattr__(self, "agents_max", check_amount(self.agents_max, what, minimum=1))

    def __hash__(self) -> int:
        """Hash by name, as every contract does."""
        return hash(self.agent_name)

    def contract_of(self, name: str) -> BudgetContract:
        """Return the contract of an agent that matches."""
        terms = {**self.as_dict(), "agent_name": name}
        del terms["agents_max"]
        return BudgetContract(**terms)


def is_pattern(text: str) -> bool:
    """Return whether a text can match more than one name."""
    return any(not token.startswith("=") for token in _tokens(text))


def literal(text: str) -> str:
    """Return the literal part of a pattern; of a pattern for one name, as `a[*]`, that name."""
    return "".join(token[1:] for token in _tokens(text) if token.startswith("="))


def _tokens(text: str) -> tuple[str, ...]:
    """Split a pattern into `*`, `?`, `[...]` and characters; these have a `=` in front."""
    return tuple(_token(part) for part in _TOKEN.findall(text))


def _token(part: str) -> str:
    if part in ("*", "?"):
        return part
    if len(part) == 1:
        return f"={part}"
    return f"={part[1]}" if len(part) == _ONE_CHARACTER else part


def check_brackets(text: str) -> None:
    """Refuse a bracket that would not mean what it says, before nothing ever matches it.

    Raises:
        ConfigurationError: One is left open, or has a range that is written backwards.
    """
    parts = _TOKEN.findall(text)
    for part in parts:
        if part == "[":
            meant = "".join("[[]" if part == "[" else part for part in parts)
            msg = f"The pattern {text!r} has a bracket that is left open."
            helps = f"What helps: {meant!r} if names have a bracket there, or one that closes it."
            raise ConfigurationError(msg, remedy=helps)
        if len(part) > _ONE_CHARACTER:
            for first, last in _RANGE.findall(part[1:-1].removeprefix("!")):
                if first > last:
                    msg = f"The pattern {text!r} has the range {first}-{last}, which holds nothing."
                    helps = f"What helps: {last}-{first}, or the hyphen at the end of the bracket."
                    raise ConfigurationError(msg, remedy=helps)


def overlap(one: str, other: str) -> bool:
    """Return whether some name may match both patterns. Two `[...]` are taken to have one."""
    a, b = _tokens(one), _tokens(other)

    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(a) and j == len(b):
            return True
        if i < len(a) and a[i] == "*":
            return meet(i + 1, j) or (j < len(b) and meet(i, j + 1))
        if j < len(b) and b[j] == "*":
            return meet(i, j + 1) or (i < len(a) and meet(i + 1, j))
        return i < len(a) and j < len(b) and _meet_in_one(a[i], b[j]) and meet(i + 1, j + 1)

    return meet(0, 0)


def _meet_in_one(one: str, other: str) -> bool:
    """Return whether a character may match both tokens."""
    if one.startswith("=") and other.startswith("="):
        return one == other
    if one.startswith("="):
        return fnmatchcase(one[1:], other)
    return not other.startswith("=") or fnmatchcase(other[1:], one)


class _Seen:
    """The agents that patterns made in one scope."""

    def __init__(self) -> None:
        self.contracts: dict[str, BudgetContract] = {}
        """Those that were opened by this process."""
        self.made: defaultdict[str, set[str]] = defaultdict(set)
        """Who takes a place, for each pattern; another process may have made them too."""


class Patterns:
    """The patterns of a manager, the most specific first, and whom they made in each scope."""

    def __init__(self) -> None:
        self._patterns: tuple[ContractPattern, ...] = ()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._patterns)

    def __iter__(self) -> Iterator[ContractPattern]:
        """Go through them, the most specific first."""
        return iter(self._patterns)

    def add(self, pattern: ContractPattern) -> ContractPattern:
        """Add a pattern; the same one again changes nothing.

        Raises:
            ConfigurationError: It is as specific as another one that can match the same name.
            ContractConflictError: It is there already, with other terms.
        """
        with self._lock:
            for known in self._patterns:
                if known.agent_name == pattern.agent_name:
                    return _same(known, pattern)
                check_tie(known.agent_name, pattern.agent_name)
            found = [*self._patterns, pattern]
            found.sort(key=lambda one: (-len(literal(one.agent_name)), one.agent_name))
            self._patterns = tuple(found)
        return pattern

    def match(self, name: str) -> ContractPattern | None:
        """Return the most specific pattern that a name matches, if it can be a name at all."""
        try:
            name = check_name(name)
        except (TypeError, ValueError):
            return None
        for pattern in self._patterns:
            if fnmatchcase(name, pattern.agent_name):
                return pattern
        return None

    def contract(self, scope: str, name: str) -> BudgetContract | None:
        """Return an agent's contract in a scope; None where nothing matches, or no room is left."""
        seen = self._seen.get(scope)
        if seen is not None and name in seen.contracts:
            return seen.contracts[name]
        pattern = self.match(name)
        if pattern is None:
            return None
        made = seen.made[pattern.agent_name] if seen is not None else ()
        if name not in made and len(made) >= pattern.agents_max:
            return None
        return pattern.contract_of(name)

    def said_full(self, scope: str, pattern: ContractPattern) -> str:
        """Say that a pattern makes no more agents in a scope."""
        name = pattern.agent_name
        return (
            f"The pattern {name!r} made {pattern.agents_max:,} agents in scope {scope!r}: "
            "further names are treated as if no contract were there for them. Where names hold a "
            "number or an id that never comes twice, give their calls one name; where that many "
            "agents are meant, a file and register_pattern take agents_max."
        )

    def is_seen(self, scope: str, name: str) -> bool:
        """Return whether an agent was made in a scope."""
        seen = self._seen.get(scope)
        return seen is not None and name in seen.contracts

    def seen(self, scope: str) -> tuple[BudgetContract, ...]:
        """Return the contracts of the agents that were made in a scope."""
        with self._lock:
            seen = self._seen.get(scope)
            return () if seen is None else tuple(seen.contracts.values())

    def note(self, scope: str, contract: BudgetContract) -> None:
        """Note the contract of an agent that was opened."""
        with self._lock:
            seen = self.take_place(scope, contract.agent_name)
            if seen is not None:
                seen.contracts[contract.agent_name] = contract

    def take_place(self, scope: str, name: str) -> _Seen | None:
        """Note that an agent takes a place; to forget old scopes costs one more command in each."""
        pattern = self.match(name)
        if pattern is None:
            return None
        with self._lock:
            seen = self._seen.setdefault(scope, _Seen())
            self._seen.move_to_end(scope)
            seen.made[pattern.agent_name].add(name)
            while len(self._seen) > _SCOPES_MAX:
                self._seen.popitem(last=False)
        return seen


def _same(known: ContractPattern, pattern: ContractPattern) -> ContractPattern:
    """Return the pattern that is known, if the other one is the same.

    Raises:
        ContractConflictError: It has other terms.
    """
    if known == pattern:
        return known
    msg = f"The pattern {known.agent_name!r} is registered already, as {known}, not {pattern}."
    raise ContractConflictError(msg, remedy="What helps: the same terms in both places.")


def check_tie(one: str, other: str) -> None:
    """Refuse two patterns of which neither is more specific, where a name can match both.

    Raises:
        ConfigurationError: They are such patterns.
    """
    same_length = len(literal(one)) == len(literal(other))
    if one != other and same_length and overlap(one, other):
        msg = (
            f"The patterns {one!r} and {other!r} can match the same name, and neither has the "
            "longer literal part."
        )
        remedy = "What helps: more letters in one of them, or a contract for the name itself."
        raise ConfigurationError(msg, remedy=remedy)
