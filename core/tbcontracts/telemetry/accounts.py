"""What telemetry remembers: accounts as they were seen last, and charges by estimate."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tbcontracts.events import JournalEntry

_ACCOUNTS_MAX = 10_000
_ESTIMATES_MAX = 10_000


class Seen(NamedTuple):
    """An account, from the last entry that spoke of it."""

    attributes: Mapping[str, Any]
    states: Mapping[str, int]
    when: tuple[float, int]
    """Which entry of the scope that was."""


class Accounts:
    """The accounts of a manager as its own entries show them."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], Seen] = OrderedDict()
        self._lock = threading.RLock()  # the reader of metrics comes from a thread of its own

    def note(
        self, scope: str, entry: JournalEntry, attributes: Mapping[str, Any], *, limited: bool
    ) -> None:
        """Note an account, and what its donors gave.

        An older entry that comes late, as from another thread, says nothing of what is now.
        """
        assert entry.agent is not None
        states = {"consumed": entry.consumed, "held": entry.held}
        if limited:
            states |= {"allocated": entry.allocated, "remaining": entry.remaining}
            states["overdraft"] = max(0, -entry.remaining)
        with self._lock:
            known = self._seen.get((scope, entry.agent))
            if known is None or entry.when > known.when:
                self._seen[scope, entry.agent] = Seen(attributes, states, entry.when)
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

    def seen(self) -> tuple[Seen, ...]:
        """Return all of them."""
        with self._lock:
            return tuple(self._seen.values())


def shown(seen: Iterable[Seen]) -> Iterator[Seen]:
    """Yield one account for the same attributes: the one of the newest entry.

    Several managers may share an agent's books, and where the scope is no attribute, an agent is
    shown on the books that were touched last.
    """
    last: dict[tuple[tuple[str, Any], ...], Seen] = {}
    for one in seen:
        key = tuple(sorted(one.attributes.items()))
        known = last.get(key)
        if known is None or one.when > known.when:
            last[key] = one
    yield from last.values()


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
