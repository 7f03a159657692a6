"""What telemetry remembers: accounts as they were seen last, and charges by estimate."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tbcontracts.events import JournalEntry

_ACCOUNTS_MAX = 10_000
_ESTIMATES_MAX = 10_000


class Seen(NamedTuple):
    """An account, from the last entry that spoke of it."""

    attributes: Mapping[str, Any]
    states: Mapping[str, int]
    max_tokens: int | None
    """None for a name without a contract."""
    when: tuple[float, int]
    """Which entry of the scope that was."""


class Accounts:
    """The accounts of a manager as its own entries show them.

    Where the scope is no attribute, an agent is shown on the books that were touched last.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], Seen] = OrderedDict()
        self._lock = threading.RLock()  # the reader of metrics comes from a thread of its own

    def note(
        self, scope: str, entry: JournalEntry, attributes: Mapping[str, Any], limit: int | None
    ) -> None:
        """Note an account, and what its donors gave.

        An older entry that comes late, as from another thread, says nothing of what is now.
        """
        assert entry.agent is not None
        states = {"consumed": entry.consumed, "held": entry.held}
        if limit is not None:
            states |= {"allocated": entry.allocated, "remaining": entry.remaining}
            states["overdraft"] = max(0, -entry.remaining)
        with self._lock:
            known = self._seen.get((scope, entry.agent))
            if known is None or entry.when > known.when:
                self._seen[scope, entry.agent] = Seen(attributes, states, limit, entry.when)
                self._seen.move_to_end((scope, entry.agent))
            for donor, amount in entry.moves:
                lender = None if donor is None else self._seen.get((scope, donor))
                if donor is not None and lender is not None and entry.when > lender.when:
                    self._gave(scope, donor, amount)
            while len(self._seen) > _ACCOUNTS_MAX:
                self._seen.popitem(last=False)

    def _gave(self, scope: str, donor: str, amount: int) -> None:
        known = self._seen[scope, donor]
        less = {name: known.states.get(name, 0) - amount for name in ("allocated", "remaining")}
        self._seen[scope, donor] = known._replace(states={**known.states, **less})

    def seen(self) -> Iterator[tuple[Mapping[str, Any], Mapping[str, int]]]:
        """Yield attributes and states, once for the same attributes: the last touched."""
        with self._lock:
            last = {tuple(sorted(one.attributes.items())): one for one in self._seen.values()}
        for one in last.values():
            yield one.attributes, one.states

    def ended(self, scope: str, agent: str | None) -> list[tuple[Mapping[str, Any], float]]:
        """Return what share of its contract an agent used, or each of a scope; told once."""
        with self._lock:
            keys = (
                [(scope, agent)] if agent is not None else [k for k in self._seen if k[0] == scope]
            )
            found = [self._seen[key] for key in keys]
            for key in keys:
                self._seen[key] = self._seen[key]._replace(max_tokens=None)
        return [
            (one.attributes, one.states["consumed"] / one.max_tokens)
            for one in found
            if one.max_tokens
        ]


class Estimates:
    """What was charged by estimate, so that the truth that comes later is not added to it."""

    def __init__(self) -> None:
        self._charged: OrderedDict[str, int] = OrderedDict()

    def added(self, entry: JournalEntry) -> int | None:
        """Return how much an entry adds to what was used; None if it is about something else."""
        if entry.kind == "charged":
            return entry.amount
        hold_id = entry.hold_id or ""
        if entry.kind == "expired" and entry.facts.get("charged"):
            self._note(hold_id, entry.amount)
            return entry.amount
        if entry.kind != "settled":
            return None
        before = self._charged.pop(hold_id, 0)
        if entry.facts.get("provisional"):
            self._note(hold_id, max(before, entry.amount))
        return max(0, entry.amount - before)

    def _note(self, hold_id: str, amount: int) -> None:
        self._charged[hold_id] = amount
        while len(self._charged) > _ESTIMATES_MAX:
            self._charged.popitem(last=False)
