"""The journal in words: what each entry says, and when it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from functools import partial

from tbcontracts.checks import printable
from tbcontracts.events import JournalEntry
from tbcontracts.money import figure

_NOTE = "usage"  # what `record_usage` notes unless it is told better
Figure = Callable[[int], str]
"""Writes an amount in the unit of the books."""


def moment(at: float) -> str:
    """Return a time of the books as people write it, in UTC; a dash if it is none."""
    try:
        return datetime.fromtimestamp(at, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return "-"


def in_words(entry: JournalEntry, unit: str) -> str:
    """Return what an entry says, without who and when; amounts are in the unit of the books."""
    say, amount = _WORDS.get(entry.kind), partial(figure, unit=unit)
    said = str(entry.kind) if say is None else say(entry, amount)
    note = entry.facts.get("note")
    of = f" ({note})" if note and note != _NOTE else ""
    return printable(f"{said}{_from(entry, amount)}{of}")


def on_behalf_of(entry: JournalEntry) -> str:
    """Return whom an entry without an agent is about."""
    return "the pool" if entry.kind == "topped_up" else "the scope"


def _refused(entry: JournalEntry, amount: Figure) -> str:
    asked = "an unknown amount" if entry.asked is None else amount(entry.asked)
    return f"{asked} ({_why(entry, amount)})"


def _why(entry: JournalEntry, amount: Figure) -> str:
    facts = entry.facts
    why = str(facts.get("code", "refused")).replace("_", " ")
    if "score" in facts:
        return f"{why}: score {facts['score']:g}, threshold {facts['threshold']:g}"
    if "model" in facts:
        why += f" of {facts['model']!r}"
    kept = f", {amount(facts['leave'])} is kept" if facts.get("leave") else ""
    return f"{why}: {amount(facts.get('available', 0))} could be reached{kept}"


def _from(entry: JournalEntry, amount: Figure) -> str:
    """Say who gave what for it."""
    given = [f"{amount(move.amount)} from {move.donor or 'the pool'}" for move in entry.moves]
    return f", with {_listed(given)}" if given else ""


def _listed(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _settled(entry: JournalEntry, amount: Figure) -> str:
    held = entry.facts.get("held")
    of = "" if held is None else f" of {amount(held)} held"
    marks = [
        word
        for fact, word in (
            ("unmeasured", "an estimate"),
            ("late", "after its limit"),
            ("bound_broken", "more than the cap that was given"),
        )
        if entry.facts.get(fact)
    ]
    return f"spent {amount(entry.amount)}{of}" + (f" ({', '.join(marks)})" if marks else "")


def _charged(entry: JournalEntry, amount: Figure) -> str:
    estimate = " (an estimate)" if entry.facts.get("unmeasured") else ""
    return f"spent {amount(entry.amount)} without a hold{estimate}"


def _expired(entry: JournalEntry, amount: Figure) -> str:
    became = "charged by estimate" if entry.facts.get("charged") else "free again"
    return f"a hold of {amount(entry.amount)} came to its limit, and is {became}"


def _changed(entry: JournalEntry, amount: Figure) -> str:
    facts = entry.facts
    budget, reserve = amount(facts.get("max_tokens", 0)), amount(facts.get("min_reserve", 0))
    return f"contract changed: priority {facts.get('priority')}, budget {budget}, reserve {reserve}"


def _confidence(entry: JournalEntry, _: Figure) -> str:
    score = entry.facts.get("score")
    return "score forgotten" if score is None else f"scored {score:g}"


_WORDS: dict[str, Callable[[JournalEntry, Figure], str]] = {
    "opened": lambda entry, amount: f"opened with {amount(entry.amount)}",
    "held": lambda entry, amount: f"held {amount(entry.amount)}",
    "denied": lambda entry, amount: f"refused {_refused(entry, amount)}",
    "would_deny": lambda entry, amount: f"would have been refused {_refused(entry, amount)}",
    "settled": _settled,
    "voided": lambda entry, amount: f"gave back {amount(entry.amount)}: nothing was billed",
    "expired": _expired,
    "extended": lambda entry, amount: f"goes on with its hold of {amount(entry.amount)}",
    "charged": _charged,
    "transferred": lambda entry, amount: f"was given {amount(entry.amount)}",
    "topped_up": lambda entry, amount: f"topped up by {amount(entry.amount)}",
    "finished": lambda entry, amount: f"finished: {amount(entry.amount)} to the pool",
    "contract_changed": _changed,
    "confidence": _confidence,
    "closed": lambda _, __: "closed: no more holds",
}
KINDS = tuple(_WORDS)
"""What can happen on the books."""
