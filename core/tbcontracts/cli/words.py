"""The journal in words: what each entry says, and when it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone

from tbcontracts.checks import printable
from tbcontracts.events import JournalEntry


def moment(at: float) -> str:
    """Return a time of the books as people write it, in UTC; empty if it is none."""
    try:
        return datetime.fromtimestamp(at, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return "-"


def in_words(entry: JournalEntry) -> str:
    """Return what an entry says, without who and when."""
    say = _WORDS.get(entry.kind)
    said = str(entry.kind) if say is None else say(entry)
    note = entry.facts.get("note")
    return printable(f"{said}{_from(entry)}" + (f" ({note})" if note else ""))


def refusal(entry: JournalEntry) -> str:
    """Return why a hold was refused."""
    facts = entry.facts
    why = str(facts.get("code", "refused")).replace("_", " ")
    if "score" in facts:
        return f"{why}: score {facts['score']:g}, threshold {facts['threshold']:g}"
    return f"{why}: {facts.get('available', 0):,} could be reached"


def _from(entry: JournalEntry) -> str:
    """Say who gave what for it."""
    given = [f"{move.amount:,} from {move.donor or 'the pool'}" for move in entry.moves]
    return f", with {_listed(given)}" if given else ""


def _listed(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _settled(entry: JournalEntry) -> str:
    held = entry.facts.get("held")
    of = "" if held is None else f" of {held:,} held"
    marks = [
        word
        for fact, word in (
            ("unmeasured", "an estimate"),
            ("late", "after its limit"),
            ("bound_broken", "more than the cap that was given"),
        )
        if entry.facts.get(fact)
    ]
    return f"spent {entry.amount:,}{of}" + (f" ({', '.join(marks)})" if marks else "")


def _charged(entry: JournalEntry) -> str:
    estimate = " (an estimate)" if entry.facts.get("unmeasured") else ""
    return f"spent {entry.amount:,} without a hold{estimate}"


def _expired(entry: JournalEntry) -> str:
    became = "charged by estimate" if entry.facts.get("charged") else "free again"
    return f"a hold of {entry.amount:,} came to its limit, and is {became}"


def _changed(entry: JournalEntry) -> str:
    facts = entry.facts
    return (
        f"contract changed: priority {facts.get('priority')}, max_tokens "
        f"{facts.get('max_tokens'):,}, min_reserve {facts.get('min_reserve'):,}"
    )


def _confidence(entry: JournalEntry) -> str:
    score = entry.facts.get("score")
    return "score forgotten" if score is None else f"scored {score:g}"


_WORDS: dict[str, Callable[[JournalEntry], str]] = {
    "opened": lambda entry: f"opened with {entry.amount:,}",
    "held": lambda entry: f"held {entry.amount:,}",
    "denied": lambda entry: f"refused {entry.amount:,} ({refusal(entry)})",
    "would_deny": lambda entry: f"would have been refused {entry.amount:,} ({refusal(entry)})",
    "settled": _settled,
    "voided": lambda entry: f"gave back {entry.amount:,}: nothing was billed",
    "expired": _expired,
    "extended": lambda entry: f"goes on with its hold of {entry.amount:,}",
    "charged": _charged,
    "transferred": lambda entry: f"was given {entry.amount:,}",
    "topped_up": lambda entry: f"topped up by {entry.amount:,}",
    "finished": lambda entry: f"finished: {entry.amount:,} to the pool",
    "contract_changed": _changed,
    "confidence": _confidence,
    "closed": lambda _: "closed: no more holds",
}
KINDS = tuple(_WORDS)
"""What can happen on the books."""
