"""Every name that telemetry uses: ours, and those of others with where they come from.

Amounts are counted in the manager's unit, and it is part of their names: `.tokens`, and in dollar
mode `.micro_usd`. Nothing here is `gen_ai.client.token.usage`: instrumentations of clients write
that, and a second writer would double what dashboards add up.
"""

from __future__ import annotations

from typing import NamedTuple

METER = "tbcontracts"
"""The instrumentation scope."""
_UNITS = {"tokens": ("tokens", "{token}"), "usd": ("micro_usd", "{micro_usd}")}


class Metric(NamedTuple):
    """An instrument."""

    name: str
    """With `.tokens` at the end where it is an amount in the manager's unit."""
    kind: str
    """counter, histogram or gauge (observable)."""
    unit: str
    """As UCUM writes it; `{token}` where it is an amount."""
    attributes: tuple[str, ...]
    """Beside the agent's name, and the scope where that is switched on."""
    meaning: str

    def named(self, unit: str) -> tuple[str, str]:
        """Return name and unit for a manager that counts in this unit."""
        word, symbol = _UNITS[unit]
        if self.unit != "{token}":
            return self.name, self.unit
        return f"{self.name.removesuffix('tokens')}{word}", symbol


class Attribute(NamedTuple):
    """What says more about a measurement or a span event."""

    name: str
    meaning: str


AGENT = Attribute("gen_ai.agent.name", "The agent. OpenTelemetry's own name for it, in force.")
SCOPE = Attribute(
    "tbcontracts.scope", "The books. On span events; on metrics only with `scopes=True`."
)
EVENT = Attribute("tbcontracts.event", "`held`, `settled`, `voided` or `expired`.")
MEASURED = Attribute("tbcontracts.measured", "Whether the provider reported the usage.")
SOURCE = Attribute("tbcontracts.source", "Who gave: `agent` or `pool`.")
CODE = Attribute("tbcontracts.code", "The code of a denial, as on the page of errors.")
ENFORCED = Attribute("tbcontracts.enforced", "Whether the call was refused; observe mode does not.")
STATE = Attribute(
    "tbcontracts.state", "`allocated`, `consumed`, `held`, `remaining` or `overdraft`."
)
AMOUNT = Attribute(
    "tbcontracts.amount",
    "On span events: how much, in the unit beside it; left out where nobody knows.",
)
UNIT = Attribute("tbcontracts.unit", "On span events: `tokens` or `usd` (millionths of a dollar).")
AVAILABLE = Attribute("tbcontracts.available", "On span events: what a denied call could reach.")
REMAINING = Attribute("tbcontracts.remaining", "On span events: what the agent has left.")
DONORS = Attribute("tbcontracts.donors", "On span events: who gave; `(pool)` is the pool.")
HOLD_ID = Attribute("tbcontracts.hold_id", "On span events: which hold.")
SCORE = Attribute("tbcontracts.score", "On span events: the score that closed the gate.")
THRESHOLD = Attribute("tbcontracts.threshold", "On span events: the contract's threshold.")
ATTRIBUTES = (
    AGENT,
    SCOPE,
    EVENT,
    MEASURED,
    SOURCE,
    CODE,
    ENFORCED,
    STATE,
    AMOUNT,
    UNIT,
    AVAILABLE,
    REMAINING,
    DONORS,
    HOLD_ID,
    SCORE,
    THRESHOLD,
)

HOLDS = Metric(
    "tbcontracts.holds", "counter", "{hold}", (EVENT.name,), "Holds placed, and how they ended."
)
HOLD_SIZE = Metric("tbcontracts.hold.tokens", "histogram", "{token}", (), "How large holds are.")
USED = Metric(
    "tbcontracts.used.tokens",
    "counter",
    "{token}",
    (MEASURED.name,),
    "What was charged, with a hold or without. It never goes down.",
)
TRANSFERRED = Metric(
    "tbcontracts.transferred.tokens",
    "counter",
    "{token}",
    (SOURCE.name,),
    "What the agent was given by others or by the pool.",
)
TOPPED_UP = Metric(
    "tbcontracts.topped_up.tokens", "counter", "{token}", (), "New budget; without agent: the pool."
)
DENIALS = Metric(
    "tbcontracts.denials",
    "counter",
    "{denial}",
    (CODE.name, ENFORCED.name),
    "Refused calls, by their code; `confident` is the confidence gate.",
)
OVERDRAFTS = Metric(
    "tbcontracts.overdrafts", "counter", "{overdraft}", (), "Postings that left an overdraft."
)
CONFIDENCE = Metric(
    "tbcontracts.confidence", "histogram", "1", (), "Scores reported to the confidence gate."
)
BUDGET = Metric(
    "tbcontracts.budget.tokens",
    "gauge",
    "{token}",
    (STATE.name,),
    "The account, as this process saw it last.",
)
METRICS = (
    HOLDS,
    HOLD_SIZE,
    USED,
    TRANSFERRED,
    TOPPED_UP,
    DENIALS,
    OVERDRAFTS,
    CONFIDENCE,
    BUDGET,
)

# Proposed in open-telemetry/semantic-conventions-genai, issue 425, and not accepted as of 2026-08:
# attributes of the `invoke_agent` span, and a histogram per invocation.
PROPOSED_LIMIT = Attribute(
    "gen_ai.agent.token_budget.limit", "`max_tokens` of the agent's contract."
)
PROPOSED_CONSUMED = Attribute(
    "gen_ai.agent.token_budget.consumed", "What the agent used in the scope so far."
)
PROPOSED_UTILIZATION = Metric(
    "gen_ai.invoke_agent.token_budget.utilization",
    "histogram",
    "1",
    (),
    "`consumed / max_tokens`, once an agent finished or its scope was closed.",
)

SPAN_EVENTS = {
    "held": "Budget was set aside.",
    "settled": "A hold was replaced by what was used.",
    "charged": "Usage without a hold was posted.",
    "voided": "A hold was given back.",
    "expired": "A hold ended at its limit.",
    "transferred": "The agent was given allocation, for a hold or to cover usage.",
    "overdraft": "What was posted is not covered.",
    "denied": "The call was refused.",
    "would_deny": "Observe mode let a call through that does not fit.",
}
"""Span events, `tbcontracts.` in front of each."""
ROUTINE = frozenset(("held", "settled", "charged", "voided"))
"""Those that every call makes, and that are not added to a span without end."""
EVENT_PREFIX = "tbcontracts."
EXCESS = "(other)"
"""The agent or scope of a measurement where there are too many names to tell apart."""
