"""The books as text: who spent what, who gave to whom, and what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TextIO

from tbcontracts.backlog import Unposted
from tbcontracts.books import AccountView, Statement
from tbcontracts.checks import printable
from tbcontracts.events import JournalEntry

_HEADINGS = ("agent", "priority", "allocated", "consumed", "held", "remaining", "calls refused")
_LINES_MAX = 20


def print_statement(
    statement: Statement,
    journal: Iterable[JournalEntry],
    scope: str,
    file: TextIO,
    unposted: Unposted,
) -> None:
    """Print a scope's books.

    Args:
        statement: The books.
        journal: The entries that are still kept; moves and refusals are read from them.
        scope: Their name, for the heading.
        file: Where to.
        unposted: What this process could not post yet, in all its scopes.
    """
    lines = statement_lines(statement, tuple(journal), scope) + _outage_lines(unposted)
    print("\n".join(lines), file=file)


def statement_lines(statement: Statement, journal: Sequence[JournalEntry], scope: str) -> list[str]:
    """Return a scope's books as lines of text."""
    closed = ", closed" if statement.closed else ""
    lines = [f"Budget of scope {scope!r}{closed}", ""]
    lines += _table([_HEADINGS, *(_row(account) for account in statement.accounts)])
    consumed = sum(account.consumed for account in statement.accounts)
    unmeasured = sum(account.unmeasured for account in statement.accounts)
    lines += ["", f"Spent {consumed:,} of {statement.total:,} tokens; pool {statement.pool:,}."]
    if unmeasured:
        lines.append(f"Of these, {unmeasured:,} are an estimate: the provider did not report them.")
    overdrafts = [account for account in statement.accounts if account.overdraft]
    lines += [
        f"{printable(account.agent)} is overdrawn by {account.overdraft:,}; its next call is "
        "refused."
        for account in overdrafts
    ]
    return lines + _given(journal) + _refused(journal)


def _outage_lines(unposted: Unposted) -> list[str]:
    """Say what became of calls while the store did not answer, if it ever did not."""
    lines = []
    if unposted.unheld:
        lines.append(
            f"{unposted.unheld:,} calls of this process went out without a hold, because the store "
            f"did not answer; {unposted.uncovered:,} tokens that were posted late are not covered."
        )
    if unposted.waiting:
        lines.append(
            f"{unposted.waiting:,} ends of calls wait for the store, in all scopes of this process:"
            f" {unposted.tokens:,} tokens."
        )
    if unposted.refused:
        lines.append(
            f"{unposted.refused:,} ends of calls were not taken by the books; see the log."
        )
    return ["", *lines] if lines else []


def _row(account: AccountView) -> tuple[str, ...]:
    """Return one agent's line."""
    priority = "-" if account.contract is None else str(account.contract.priority)
    return (
        printable(account.agent) + (" (no contract)" if account.contract is None else ""),
        priority,
        f"{account.allocated:,}",
        f"{account.consumed:,}",
        f"{account.held:,}",
        f"{account.remaining:,}",
        f"{account.denials:,}",
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Align a table: names to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * len(lines[0]))
    return lines


def _given(journal: Sequence[JournalEntry]) -> list[str]:
    """Say who gave how much to whom."""
    given: Counter[tuple[str, str]] = Counter()
    for entry in journal:
        for move in entry.moves:
            given[(move.donor or "the pool", entry.agent or "the pool")] += move.amount
    if not given:
        return []
    lines = ["", "Who gave to whom:"]
    lines += [
        f"  {printable(donor)} -> {printable(taker)}: {amount:,}"
        for (donor, taker), amount in given.most_common(_LINES_MAX)
    ]
    return lines


def _refused(journal: Sequence[JournalEntry]) -> list[str]:
    """Say which calls were refused, and why."""
    refused = [entry for entry in journal if entry.kind in ("denied", "would_deny")]
    if not refused:
        return []
    lines = ["", "What was refused:"]
    for entry in refused[-_LINES_MAX:]:
        verb = "refused" if entry.kind == "denied" else "would have been refused"
        why = str(entry.facts.get("code", "")).replace("_", " ")
        available = entry.facts.get("available", 0)
        lines.append(
            f"  {printable(entry.agent or '')}: a call of {entry.amount:,} was {verb} ({why}; "
            f"{available:,} could be reached)"
        )
    return lines
