"""`tbc audit`: the journal replayed against the promises, and compared with the books."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import click

from tbcontracts.books import Statement
from tbcontracts.checks import printable
from tbcontracts.cli.output import bad, found, good, json_option, odd, say, say_json, table
from tbcontracts.cli.reading import (
    DamagedError,
    as_url,
    books_of,
    journal_of,
    open_books,
    pick_scope,
    scope_argument,
    store_argument,
)
from tbcontracts.entry_words import in_words, moment, on_behalf_of
from tbcontracts.errors import StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.money import figure, plural
from tbcontracts.stores.urls import masked


class _Promise(NamedTuple):
    """A promise, as far as a journal can tell whether it was kept."""

    name: str
    said: str
    concerns: Callable[[JournalEntry], bool]
    in_part: bool
    """Whether it can be told from entries whose first ones are gone."""


def _moves(entry: JournalEntry) -> bool:
    return bool(entry.moves)


_PROMISES = (
    _Promise("order", "no entry is missing, and time never went back", lambda _: True, True),
    _Promise("P1", "budget comes only by contracts and top-ups", lambda _: True, True),
    _Promise("P2", "no hold beyond what was allocated", lambda one: one.kind == "held", True),
    _Promise("P3", "no donor gave of its reserve", _moves, False),
    _Promise(
        "P4",
        "no donor gave to a lower priority, or out of turn",
        _moves,
        False,
    ),
    _Promise(
        "P5",
        "what was used is posted once",
        lambda one: one.kind in ("settled", "voided", "charged"),
        False,
    ),
    _Promise(
        "P6",
        "no refusal moved anything",
        lambda one: one.kind in ("denied", "would_deny"),
        True,
    ),
    _Promise("P7", "no hold ended before its limit", lambda one: one.kind == "expired", False),
)


class _Broken(NamedTuple):
    """What does not hold."""

    promise: str | None
    said: str
    entry: JournalEntry | None


class _Verdict(NamedTuple):
    """What came of an audit."""

    entries: Sequence[JournalEntry]
    whole: bool
    broken: _Broken | None

    @property
    def result(self) -> str:
        """It in a word."""
        if self.broken is not None:
            return "broken"
        return "proven" if self.whole else "proven_in_part"


@click.command(short_help="Prove the books by their journal.")
@store_argument
@scope_argument
@json_option
def audit(url: str, scope: str | None, as_json: bool) -> None:
    """Prove the books: replay the journal, and compare what it comes to.

    Exit code 1 if an entry breaks a promise, or the books are not what the journal says. Where a
    retention setting has dropped the first entries, what is left is proven, and what is not is
    said.
    """
    store = open_books(url)
    name = pick_scope(store, scope, url)
    # First the books: what is written until the journal is read is left out of it.
    statement = books_of(store, name, url)
    try:
        journal = journal_of(store, name, url)
    except DamagedError as error:  # that is a finding, and no trouble of the audit's
        verdict = _Verdict((), whole=False, broken=_Broken(None, error.message, None))
        _tell(url, name, statement, verdict, as_json=as_json)
        found()
    entries = [entry for entry in journal if entry.seq <= statement.seq]
    if not entries and statement.seq:
        msg = f"The journal of scope {name!r} has no entry any more: nothing can be proven."
        raise StoreError(msg, remedy="What helps: a store that keeps them longer (keep_days).")
    verdict = judged(entries, statement)
    _tell(url, name, statement, verdict, as_json=as_json)
    if verdict.broken is not None:
        found()


def _tell(url: str, scope: str, statement: Statement, verdict: _Verdict, *, as_json: bool) -> None:
    place = masked(as_url(url))
    if as_json:
        say_json(_as_json(place, scope, verdict))
    else:
        _print(place, scope, statement, verdict)


def judged(entries: Sequence[JournalEntry], statement: Statement) -> _Verdict:
    """Replay a journal and compare it with the books."""
    from tbcontracts.testing.audit import Audit, BrokenPromiseError
    from tbcontracts.testing.audit_tail import TailAudit

    whole = not entries or entries[0].seq == 1
    entry: JournalEntry | None = None
    try:
        if whole:
            following = Audit()
            for entry in entries:
                following.hear(entry)
            entry = None
            following.compare(statement)
        else:
            tail = TailAudit(statement)
            for entry in entries:
                tail.hear(entry)
            entry = None
            tail.compare()
    except BrokenPromiseError as error:
        named, colon, said = error.said.partition(": ")
        if colon and named in {promise.name for promise in _PROMISES}:
            return _Verdict(entries, whole, _Broken(named, said, error.entry))
        return _Verdict(entries, whole, _Broken(None, error.said, error.entry))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        said = f"it cannot be read ({type(error).__name__}: {error})"
        return _Verdict(entries, whole, _Broken(None, said, entry))
    return _Verdict(entries, whole, None)


def _print(place: str, scope: str, statement: Statement, verdict: _Verdict) -> None:
    entries = verdict.entries
    say(f"Audit of scope {scope!r} in {place}")
    if entries:
        many = plural(len(entries), "entry", "entries")
        say(f"{many}, {entries[0].seq:,} to {entries[-1].seq:,}.")
    if entries and not verdict.whole:
        say(
            odd(f"The entries before number {entries[0].seq:,} are gone")
            + ": dropped by a retention setting (keep_days, journal_max), or by somebody."
        )
    if entries or verdict.whole:
        _print_promises(verdict)
    say()
    if verdict.broken is not None:
        _print_broken(verdict.broken, statement.unit)
        return
    _print_proven(statement, verdict)


def _print_promises(verdict: _Verdict) -> None:
    say()
    for line in table(_rows(verdict), align="<<><"):
        say(line)


def _print_proven(statement: Statement, verdict: _Verdict) -> None:
    agents, unit = plural(len(statement.accounts), "agent"), statement.unit
    total, pool = figure(statement.total, unit), figure(statement.pool, unit)
    say(f"The books are what the journal says: {agents}, {total} in all, {pool} of it in the pool.")
    if verdict.whole:
        say(good("PROVEN"))
    else:
        first = verdict.entries[0].seq
        say(good("PROVEN IN PART") + f": what happened from entry {first:,} on.")


def _print_broken(broken: _Broken, unit: str) -> None:
    promise = "" if broken.promise is None else f" {broken.promise}"
    if broken.entry is None:
        say(bad(f"BROKEN{promise}") + f": {printable(broken.said)}")
        return
    entry = broken.entry
    say(bad(f"BROKEN{promise}") + f" at entry {entry.seq:,}: {printable(broken.said)}.")
    who = printable(entry.agent or on_behalf_of(entry))
    say(f"  {moment(entry.at)} UTC, {who}: {in_words(entry, unit)}")


def _rows(verdict: _Verdict) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [("promise", "", "entries", "")]
    for promise in _PROMISES:
        checked = _checked(promise, verdict)
        outcome = "cannot be told" if checked is None else "kept"
        if verdict.broken is not None and checked is not None:
            outcome = "BROKEN" if promise.name == verdict.broken.promise else "so far kept"
        rows.append((promise.name, promise.said, checked, outcome))
    return rows


def _checked(promise: _Promise, verdict: _Verdict) -> int | None:
    """Return on how many entries a promise was checked; None if it cannot be."""
    if not (verdict.whole or promise.in_part):
        return None
    broken = verdict.broken
    last = None if broken is None or broken.entry is None else broken.entry.seq
    heard = [one for one in verdict.entries if last is None or one.seq <= last]
    return sum(map(promise.concerns, heard))


def _as_json(place: str, scope: str, verdict: _Verdict) -> dict[str, Any]:
    broken, entries = verdict.broken, verdict.entries
    return {
        "store": place,
        "scope": scope,
        "result": verdict.result,
        "entries": len(entries),
        "first_seq": entries[0].seq if entries else None,
        "last_seq": entries[-1].seq if entries else None,
        "promises": [
            {"promise": one.name, "said": one.said, "checked": _checked(one, verdict)}
            for one in _PROMISES
        ],
        "broken": broken
        and {
            "promise": broken.promise,
            "said": broken.said,
            "entry": broken.entry and broken.entry.as_dict(),
        },
    }
