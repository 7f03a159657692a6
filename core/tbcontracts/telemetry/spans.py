"""Events on the span that is current where a call is made."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from tbcontracts.errors import ConfidenceGateError
from tbcontracts.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from tbcontracts.errors import BudgetExceededError
    from tbcontracts.events import JournalEntry
    from tbcontracts.telemetry.listened import Listened

_TOLD = frozenset(names.SPAN_EVENTS) - {"transferred", "overdraft", "denied"}
"""Kinds of entries that are events as they are; the others follow from what stands in entries."""
_OF_REFUSALS = (
    ("code", names.CODE),
    ("available", names.AVAILABLE),
    ("score", names.SCORE),
    ("threshold", names.THRESHOLD),
)
"""Facts of a call that observe mode let through."""
ROUTINE_MAX = 32
"""How many routine events a span gets: SDKs keep 128 in all and drop the oldest, users' too."""


class SpanEvents:
    """Adds events to current spans; numbers and names only.

    Args:
        manager: Whose entries.
        events: Whether there are to be events at all.
        proposed: Whether spans get the attributes that were proposed for the conventions.
    """

    def __init__(self, manager: Listened, *, events: bool, proposed: bool) -> None:
        from opentelemetry import trace

        self._current = trace.get_current_span
        self._manager = manager
        self._events = events
        self._proposed = proposed
        self._routine: weakref.WeakKeyDictionary[Span, int] = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread

    def add(self, scope: str, entries: tuple[JournalEntry, ...]) -> None:
        """Add what entries say, apart from refusals."""
        span = self._current()
        if not span.is_recording():
            return
        for entry in entries:
            if entry.agent is None or entry.kind == "denied":
                continue
            contract = self._manager.contract_in(scope, entry.agent)
            if self._events:
                self._add(span, scope, entry, limited=contract is not None)
            if contract is not None and self._writes_proposed(entry):
                span.set_attribute(names.PROPOSED_LIMIT.name, contract.max_tokens)
                span.set_attribute(names.PROPOSED_CONSUMED.name, entry.consumed)

    def _writes_proposed(self, entry: JournalEntry) -> bool:
        """Return whether an entry changes the proposed attributes, which are about tokens alone."""
        in_tokens = self._manager.settings.unit == "tokens"
        return self._proposed and in_tokens and entry.kind in ("settled", "charged")

    def add_refusal(self, refusal: BudgetExceededError) -> None:
        """Add a refusal to the current span."""
        span = self._current()
        if not self._events or not span.is_recording():
            return
        about: dict[str, Any] = {
            names.AGENT.name: refusal.agent_name,
            names.SCOPE.name: refusal.scope,
            names.UNIT.name: self._manager.settings.unit,
            names.AVAILABLE.name: refusal.available,
            names.CODE.name: refusal.code,
        }
        if refusal.code != "unknown_price":  # nobody knows how much that is
            about[names.AMOUNT.name] = refusal.requested
        if isinstance(refusal, ConfidenceGateError):
            about |= {names.SCORE.name: refusal.score, names.THRESHOLD.name: refusal.threshold}
        span.add_event(f"{names.EVENT_PREFIX}denied", about)

    def _add(self, span: Span, scope: str, entry: JournalEntry, *, limited: bool) -> None:
        about: dict[str, Any] = {
            names.AGENT.name: entry.agent,
            names.SCOPE.name: scope,
            names.UNIT.name: self._manager.settings.unit,
        }
        if entry.asked is not None:
            about[names.AMOUNT.name] = entry.asked
        if entry.hold_id is not None:
            about[names.HOLD_ID.name] = entry.hold_id
        if limited:
            about[names.REMAINING.name] = entry.remaining
        if entry.kind == "would_deny":
            about |= {
                attribute.name: entry.facts[fact]
                for fact, attribute in _OF_REFUSALS
                if fact in entry.facts
            }
        if entry.kind in _TOLD and self._has_room(span, entry.kind):
            span.add_event(f"{names.EVENT_PREFIX}{entry.kind}", about)
        if entry.moves:
            about[names.AMOUNT.name] = sum(move.amount for move in entry.moves)
            about[names.DONORS.name] = [move.donor or "(pool)" for move in entry.moves]
            span.add_event(f"{names.EVENT_PREFIX}transferred", about)
        if limited and entry.kind in ("settled", "charged", "expired") and entry.remaining < 0:
            about[names.AMOUNT.name] = -entry.remaining
            about.pop(names.DONORS.name, None)
            span.add_event(f"{names.EVENT_PREFIX}overdraft", about)

    def _has_room(self, span: Span, kind: str) -> bool:
        """Return whether an event of this kind still goes on a span; rare ones always do."""
        if kind not in names.ROUTINE:
            return True
        with self._lock:
            count = self._routine.get(span, 0)
            self._routine[span] = count + 1
        return count < ROUTINE_MAX
