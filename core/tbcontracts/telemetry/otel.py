"""OpenTelemetry: metrics on the listeners' thread, span events where the call is made.

A span ends soon after a refusal, so its event cannot wait for a thread: it is added to the current
span before the call goes on, which writes to memory and asks nobody.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from tbcontracts.telemetry import names
from tbcontracts.telemetry.accounts import Accounts, Estimates, shown
from tbcontracts.telemetry.spans import SpanEvents

if TYPE_CHECKING:
    from opentelemetry.metrics import (
        CallbackOptions,
        Counter,
        Histogram,
        MeterProvider,
        Observation,
    )

    from tbcontracts.contract import BudgetContract
    from tbcontracts.errors import BudgetExceededError
    from tbcontracts.events import JournalEntry
    from tbcontracts.telemetry.listened import Listened

NAMES_MAX = 1_000


class OpenTelemetry:
    """What `telemetry="otel"` stands for; make one where something is to be other than usual.

    One of them may serve several managers: their numbers meet in the same instruments.

    Args:
        meter_provider: Where metrics go; the global provider if not given.
        scopes: Whether metrics have the scope as an attribute. Only where scopes are few and stay:
            one for each run would make a time series for each run.
        span_events: Whether events are added to the current span.
        gen_ai_token_budget: Whether the names that were proposed for OpenTelemetry's conventions
            (`gen_ai.agent.token_budget.*`) are written too. They may change.

    Raises:
        ImportError: opentelemetry-api is not installed.

    Example:
        `BudgetManager(telemetry=OpenTelemetry(scopes=True))`
    """

    def __init__(
        self,
        *,
        meter_provider: MeterProvider | None = None,
        scopes: bool = False,
        span_events: bool = True,
        gen_ai_token_budget: bool = False,
    ) -> None:
        try:
            from opentelemetry import metrics
        except ImportError as error:
            msg = (
                "OpenTelemetry is not installed. What helps: "
                'pip install "tbcontracts[otel]" (from a checkout: pip install ".[otel]").'
            )
            raise ImportError(msg, name="opentelemetry") from error
        self._meter = metrics.get_meter(names.METER, meter_provider=meter_provider)
        self.scopes = scopes
        self.span_events = span_events
        self.gen_ai_token_budget = gen_ai_token_budget
        self._instruments: dict[str, Instruments] = {}
        self._lock = threading.Lock()

    def listen_to(self, manager: Listened) -> OtelListener:
        """Return a listener for a manager's entries."""
        unit = manager.settings.unit
        with self._lock:
            instruments = self._instruments.get(unit)
            if instruments is None:
                instruments = self._instruments[unit] = Instruments(self._meter, unit)
        return OtelListener(self, manager, instruments)


class Instruments:
    """The instruments for one unit, and whose accounts the gauge shows."""

    def __init__(self, meter: Any, unit: str) -> None:
        self.holds: Counter = self._counter(meter, names.HOLDS, unit)
        self.used: Counter = self._counter(meter, names.USED, unit)
        self.transferred: Counter = self._counter(meter, names.TRANSFERRED, unit)
        self.topped_up: Counter = self._counter(meter, names.TOPPED_UP, unit)
        self.denials: Counter = self._counter(meter, names.DENIALS, unit)
        self.overdrafts: Counter = self._counter(meter, names.OVERDRAFTS, unit)
        self.hold_size: Histogram = self._histogram(meter, names.HOLD_SIZE, unit)
        self.confidence: Histogram = self._histogram(meter, names.CONFIDENCE, unit)
        self.utilization: Histogram = self._histogram(meter, names.PROPOSED_UTILIZATION, unit)
        self.accounts: weakref.WeakSet[Accounts] = weakref.WeakSet()
        name, symbol = names.BUDGET.named(unit)
        meter.create_observable_gauge(
            name, [self._observe], unit=symbol, description=names.BUDGET.meaning
        )

    @staticmethod
    def _counter(meter: Any, metric: names.Metric, unit: str) -> Any:
        name, symbol = metric.named(unit)
        return meter.create_counter(name, unit=symbol, description=metric.meaning)

    @staticmethod
    def _histogram(meter: Any, metric: names.Metric, unit: str) -> Any:
        name, symbol = metric.named(unit)
        return meter.create_histogram(name, unit=symbol, description=metric.meaning)

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """Return the accounts as they were seen last; it asks no store."""
        from opentelemetry.metrics import Observation

        seen = chain.from_iterable(accounts.seen() for accounts in list(self.accounts))
        for account in shown(seen):
            for state, amount in account.states.items():
                yield Observation(amount, {**account.attributes, names.STATE.name: state})


class OtelListener:
    """A manager's entries as measurements, and what happens at a call as events of its span."""

    def __init__(
        self, telemetry: OpenTelemetry, manager: Listened, instruments: Instruments
    ) -> None:
        self._to = instruments
        self._manager = manager
        self._scopes = telemetry.scopes
        self._proposed = telemetry.gen_ai_token_budget
        self._spans = SpanEvents(
            manager, events=telemetry.span_events, proposed=telemetry.gen_ai_token_budget
        )
        self._names: dict[str, set[str]] = {names.AGENT.name: set(), names.SCOPE.name: set()}
        self._estimates = Estimates()
        self._accounts = Accounts()
        instruments.accounts.add(self._accounts)

    def at_call(self, scope: str, entries: tuple[JournalEntry, ...]) -> None:
        """Add what happened to the current span; on the caller's thread."""
        self._spans.add(scope, entries)

    def at_refusal(self, refusal: BudgetExceededError) -> None:
        """Count a refusal, and add it to the current span; on the caller's thread.

        The journal counts equal refusals and does not repeat them; here each one is told.
        """
        about = self._about(refusal.scope, refusal.agent_name)
        about |= {names.CODE.name: refusal.code, names.ENFORCED.name: True}
        self._to.denials.add(1, about)
        self._spans.add_refusal(refusal)

    def __call__(self, scope: str, entry: JournalEntry) -> None:
        """Measure an entry; on the listeners' thread."""
        about = self._about(scope, entry.agent)
        self._measure(entry, about)
        for move in entry.moves:
            source = "pool" if move.donor is None else "agent"
            self._to.transferred.add(move.amount, {**about, names.SOURCE.name: source})
        contract = None if entry.agent is None else self._manager.contract_in(scope, entry.agent)
        posted = entry.kind in ("settled", "charged", "expired")
        if contract is not None and posted and entry.remaining < 0:
            self._to.overdrafts.add(1, about)
        if entry.agent is not None:
            self._accounts.note(scope, entry, about, limited=contract is not None)
        if self._proposed and entry.kind == "finished" and contract is not None:
            self._used_up(entry.consumed, contract, about)
        elif self._proposed and entry.kind == "closed":
            # Others may have used these books too, so the books say what was used.
            for account in self._manager.scope(scope).statement().accounts:
                if account.contract is not None and not account.finished:
                    about = self._about(scope, account.agent)
                    self._used_up(account.consumed, account.contract, about)

    def _used_up(self, consumed: int, contract: BudgetContract, about: dict[str, Any]) -> None:
        """Record what share of its contract an agent used in the end."""
        if contract.max_tokens:
            self._to.utilization.record(consumed / contract.max_tokens, about)

    def _measure(self, entry: JournalEntry, about: dict[str, Any]) -> None:
        """Measure what the kind of an entry says."""
        kind, amount = entry.kind, entry.amount
        if kind in ("held", "settled", "voided", "expired"):
            self._to.holds.add(1, {**about, names.EVENT.name: kind})
        used = self._estimates.added(entry)
        if used is not None:
            measured = "unmeasured" not in entry.facts and kind != "expired"
            self._to.used.add(used, {**about, names.MEASURED.name: measured})
        if kind == "held":
            self._to.hold_size.record(amount, about)
        elif kind == "topped_up":
            self._to.topped_up.add(amount, about)
        elif kind == "would_deny":
            code = entry.facts.get("code", "")
            self._to.denials.add(1, {**about, names.CODE.name: code, names.ENFORCED.name: False})
        elif kind == "confidence" and entry.facts.get("score") is not None:
            self._to.confidence.record(entry.facts["score"], about)

    def _about(self, scope: str, agent: str | None) -> dict[str, Any]:
        """Return the attributes that every measurement has."""
        about = {} if agent is None else {names.AGENT.name: self._few(names.AGENT.name, agent)}
        if self._scopes:
            about[names.SCOPE.name] = self._few(names.SCOPE.name, scope)
        return about

    def _few(self, attribute: str, value: str) -> str:
        """Return a value, or one for all others where there are too many to tell apart."""
        known = self._names[attribute]
        if value not in known:
            if len(known) >= NAMES_MAX:
                return names.EXCESS
            known.add(value)
        return value
