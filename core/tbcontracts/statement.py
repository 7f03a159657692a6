"""The books as text: who spent what, who gave to whom, and what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TextIO

from tbcontracts.backlog import Unposted
from tbcontracts.books import AccountView, Statement
from tbcontracts.checks import printable
from tbcontracts.columns import aligned, in_a_column, width_of
from tbcontracts.events import JournalEntry
from tbcontracts.money import figure, in_dollars, plural, said

_HEADINGS = ("agent", "priority", "allocated", "consumed", "held", "remaining", "calls refused")
_LINES_MAX = 20


def print_statement(
    statement: Statement,
    journal: Iterable[JournalEntry],
    scope: str,
    file: TextIO,
    unposted: Unposted,
    *,
    shows_cost: bool = False,
    observes: bool = False,
) -> None:
    """Print a scope's books.

    Args:
        statement: The books.
        journal: The entries that are still kept; moves and refusals are read from them.
        scope: Their name, for the heading.
        file: Where to.
        unposted: What this process could not post yet, in all its scopes.
        shows_cost: Whether somebody asked what budgets in tokens cost, known or not.
        observes: Whether calls are only observed, and none is refused.
    """
    lines = statement_lines(
        statement, tuple(journal), scope, shows_cost=shows_cost, observes=observes
    )
    lines += _outage_lines(unposted, statement.unit)
    print("\n".join(lines), file=file)


def statement_lines(
    statement: Statement,
    journal: Sequence[JournalEntry],
    scope: str,
    *,
    shows_cost: bool = False,
    observes: bool = False,
) -> list[str]:
    """Return a scope's books as lines of text."""
    closed = ", closed" if statement.closed else ""
    unit, accounts = statement.unit, statement.accounts
    known = any(account.cost_micro_usd for account in accounts)
    shows_cost = unit == "tokens" and (shows_cost or known)
    headings = (*_HEADINGS, "cost") if shows_cost else _HEADINGS
    lines = [f"Budget of scope {scope!r}{closed}", ""]
    names = in_a_column(printable(account.agent) for account in accounts)
    rows = [
        _row(name, account, unit, shows_cost=shows_cost)
        for name, account in zip(names, accounts, strict=True)
    ]
    lines += _table([headings, *rows])
    consumed = sum(account.consumed for account in accounts)
    unmeasured = sum(account.unmeasured for account in accounts)
    spent, pool = figure(consumed, unit), figure(statement.pool, unit)
    lines += ["", f"Spent {spent} of {said(statement.total, unit)}; pool {pool}."]
    if unmeasured:
        lines.append(_estimated(unmeasured, unit))
    lines += _cost_lines(accounts, unit, shows_cost=shows_cost)
    overdrafts = [account for account in accounts if account.overdraft]
    then = "would be refused if this were not observe mode" if observes else "is refused"
    lines += [
        f"{printable(account.agent)} is overdrawn by {figure(account.overdraft, unit)}; its next "
        f"call {then}."
        for account in overdrafts
    ]
    denials = sum(account.denials for account in accounts)
    return lines + _given(journal, unit) + _refused(journal, unit, denials)


def _estimated(unmeasured: int, unit: str) -> str:
    """Say how much of what was spent is an estimate."""
    if unit == "usd" or unmeasured == 1:
        of, estimate = "Of this" if unit == "usd" else "Of these", figure(unmeasured, unit)
        return f"{of}, {estimate} is an estimate: the provider did not report it."
    return f"Of these, {unmeasured:,} are an estimate: the provider did not report them."


def _cost_lines(accounts: Sequence[AccountView], unit: str, *, shows_cost: bool) -> list[str]:
    """Say what all of it cost, as far as that is known, and of how much it is not."""
    cost = sum(account.cost_micro_usd for account in accounts)
    unpriced = sum(account.unpriced_tokens for account in accounts)
    if unit == "usd":
        if not unpriced:
            return []
        tokens = plural(unpriced, "token")
        return [f"The price of {tokens} is unknown: what was held for them was charged."]
    if not shows_cost:
        return []
    if not unpriced:
        return [f"It cost {in_dollars(cost)}."]
    if not cost:
        tokens = plural(unpriced, "token has", "tokens have")
        return [f"What it cost is unknown: {tokens} no price."]
    tokens = plural(unpriced, "token")
    return [f"It cost {in_dollars(cost)} and what {tokens} cost, whose price is unknown."]


def _outage_lines(unposted: Unposted, unit: str) -> list[str]:
    """Say what became of calls while the store did not answer, if it ever did not."""
    lines = []
    if unposted.unheld:
        is_one = unit == "usd" or unposted.uncovered == 1
        were, are = ("was", "is") if is_one else ("were", "are")
        lines.append(
            f"{plural(unposted.unheld, 'call')} of this process went out without a hold, because "
            f"the store did not answer; {said(unposted.uncovered, unit)} that {were} posted late "
            f"{are} not covered."
        )
    if unposted.waiting:
        ends = plural(unposted.waiting, "end of a call waits", "ends of calls wait")
        lines.append(
            f"{ends} for the store, in all scopes of this process: {said(unposted.tokens, unit)}."
        )
    if unposted.refused:
        ends = plural(unposted.refused, "end of a call was", "ends of calls were")
        lines.append(f"{ends} not taken by the books; see the log.")
    return ["", *lines] if lines else []


def _row(name: str, account: AccountView, unit: str, *, shows_cost: bool) -> tuple[str, ...]:
    """Return one agent's line."""
    priority = "-" if account.contract is None else str(account.contract.priority)
    return (
        name + (" (no contract)" if account.contract is None else ""),
        priority,
        figure(account.allocated, unit),
        figure(account.consumed, unit),
        figure(account.held, unit),
        figure(account.remaining, unit),
        f"{account.denials:,}",
        *((cost_said(account),) if shows_cost else ()),
    )


def cost_said(account: AccountView) -> str:
    """Return what an agent's calls cost: dollars, or "unknown", or "$0.12 + unknown"."""
    if not account.unpriced_tokens:
        return in_dollars(account.cost_micro_usd)
    if not account.cost_micro_usd:
        return "unknown"
    return f"{in_dollars(account.cost_micro_usd)} + unknown"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Align a table: names to the left, numbers to the right."""
    lines = aligned(rows, "<" + ">" * (len(rows[0]) - 1))
    return [lines[0], "-" * max(map(width_of, lines)), *lines[1:]]


def _given(journal: Sequence[JournalEntry], unit: str) -> list[str]:
    """Say who gave how much to whom."""
    given: Counter[tuple[str, str]] = Counter()
    for entry in journal:
        for move in entry.moves:
            given[(move.donor or "the pool", entry.agent or "the pool")] += move.amount
    if not given:
        return []
    lines = ["", "Who gave to whom:"]
    lines += [
        f"  {printable(donor)} -> {printable(taker)}: {figure(amount, unit)}"
        for (donor, taker), amount in given.most_common(_LINES_MAX)
    ]
    return lines


def _refused(journal: Sequence[JournalEntry], unit: str, denials: int) -> list[str]:
    """Say which calls were refused, and why; of those that have no line, how many there were."""
    refused = [entry for entry in journal if entry.kind in ("denied", "would_deny")]
    if not refused:
        return []
    lines = ["", "What was refused:"]
    listed = refused[-_LINES_MAX:]
    for entry in listed:
        verb = "was refused" if entry.kind == "denied" else "would have been refused"
        why = str(entry.facts.get("code", "")).replace("_", " ")
        if "model" in entry.facts:
            why += f" of {printable(str(entry.facts['model']))!r}"
        available = figure(entry.facts.get("available", 0), unit)
        asked = "" if entry.asked is None else f" of {figure(entry.asked, unit)}"
        lines.append(
            f"  {printable(entry.agent or '')}: a call{asked} {verb} ({why}; "
            f"{available} could be reached)"
        )
    if denials > len(listed):
        more = f"{denials - len(listed):,} more"
        lines.append(f"  and {more}: the same numbers as the agent's one before, or longer ago")
    return lines
