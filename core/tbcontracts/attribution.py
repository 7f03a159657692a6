"""Who is calling: the current agent, the hold that is open already, and names nobody knows.

Both travel in context variables, so they follow tasks and `asyncio.gather`, but not a plain thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tbcontracts.checks import nearest

__all__ = [
    "acting_as",
    "calling",
    "current_agent",
    "current_call",
    "keeping_reserve",
    "keeps_reserve",
    "nearest",
]

_agents: ContextVar[Mapping[int, str]] = ContextVar("tbcontracts_agents")
_calls: ContextVar[Mapping[int, Any]] = ContextVar("tbcontracts_calls")
_reserves: ContextVar[Mapping[tuple[int, str], bool]] = ContextVar("tbcontracts_reserves")
_NO_AGENTS: Mapping[int, str] = {}
_NO_CALLS: Mapping[int, Any] = {}
_NO_RESERVES: Mapping[tuple[int, str], bool] = {}


def current_agent(owner: object) -> str | None:
    """Return who is acting now, for one manager."""
    agents = _agents.get(_NO_AGENTS)
    return agents.get(id(owner))


@contextmanager
def acting_as(owner: object, agent: str) -> Iterator[None]:
    """Make `agent` the current agent of a manager, inside the block."""
    token = _agents.set({**_agents.get(_NO_AGENTS), id(owner): agent})
    try:
        yield
    finally:
        _agents.reset(token)


def current_call(owner: object) -> Any:
    """Return the call of a manager that an outer layer holds budget for, or None.

    One call, one hold: an inner layer that finds one here does not hold again.
    """
    return _calls.get(_NO_CALLS).get(id(owner))


@contextmanager
def calling(owner: object, call: Any) -> Iterator[None]:
    """Make `call` the one that inner layers find, inside the block."""
    token = _calls.set({**_calls.get(_NO_CALLS), id(owner): call})
    try:
        yield
    finally:
        _calls.reset(token)


def keeps_reserve(owner: object, agent: str) -> bool | None:
    """Return whether holds of a manager's agent leave its reserve alone here.

    None where nobody said so: then the contract decides.
    """
    return _reserves.get(_NO_RESERVES).get((id(owner), agent))


@contextmanager
def keeping_reserve(owner: object, agent: str, *, keep: bool) -> Iterator[None]:
    """Have an agent's holds leave its reserve alone, or not, inside the block."""
    token = _reserves.set({**_reserves.get(_NO_RESERVES), (id(owner), agent): keep})
    try:
        yield
    finally:
        _reserves.reset(token)
