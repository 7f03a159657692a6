"""`tbc show`: the books of a scope as they are now, or which scopes there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from tbcontracts.books import Statement
from tbcontracts.cli.output import json_option, say, say_json, table
from tbcontracts.cli.reading import (
    as_url,
    books_of,
    journal_of,
    open_books,
    pick_scope,
    scope_argument,
    store_argument,
)
from tbcontracts.events import JournalEntry
from tbcontracts.money import figure
from tbcontracts.statement import statement_lines
from tbcontracts.stores.urls import masked


@click.command(short_help="Show the books as they are now.")
@store_argument
@scope_argument
@json_option
def show(url: str, scope: str | None, as_json: bool) -> None:
    """Show the books: balances, who gave to whom, what was refused.

    Without SCOPE, where there are several, show which there are.
    """
    store = open_books(url)
    if scope is None:
        scopes = store.scopes()
        if len(scopes) > 1:
            _show_scopes(
                masked(as_url(url)),
                [(name, books_of(store, name, url)) for name in scopes],
                as_json=as_json,
            )
            return
    name = pick_scope(store, scope, url)
    statement = books_of(store, name, url)
    journal = journal_of(store, name, url)
    if as_json:
        say_json(_books_as_json(masked(as_url(url)), name, statement, journal))
        return
    for line in statement_lines(statement, journal, name):
        say(line)


def totals(statement: Statement) -> dict[str, int]:
    """Return what the accounts of a scope come to."""
    accounts = statement.accounts
    return {
        "agents": len(accounts),
        "total": statement.total,
        "pool": statement.pool,
        "consumed": sum(account.consumed for account in accounts),
        "held": sum(account.held for account in accounts),
        "unmeasured": sum(account.unmeasured for account in accounts),
        "refused": sum(account.denials for account in accounts),
        "overdraft": sum(account.overdraft for account in accounts),
    }


def _show_scopes(place: str, scopes: list[tuple[str, Statement]], *, as_json: bool) -> None:
    if as_json:
        found = [
            {
                "scope": name,
                "closed": statement.closed,
                "seq": statement.seq,
                "unit": statement.unit,
                **totals(statement),
            }
            for name, statement in scopes
        ]
        say_json({"store": place, "scopes": found})
        return
    say(f"{len(scopes):,} scopes in {place}")
    say()
    rows: list[Sequence[object]] = [
        ("scope", "agents", "total", "consumed", "held", "pool", "calls refused", "")
    ]
    for name, statement in scopes:
        sums = totals(statement)
        amounts = (
            figure(sums[one], statement.unit) for one in ("total", "consumed", "held", "pool")
        )
        closed = "closed" if statement.closed else ""
        rows.append((name, sums["agents"], *amounts, sums["refused"], closed))
    for line in table(rows, align="<>>>>>><"):
        say(line)


def _books_as_json(
    place: str, scope: str, statement: Statement, journal: Sequence[JournalEntry]
) -> dict[str, Any]:
    given: Counter[tuple[str | None, str | None]] = Counter()
    for entry in journal:
        for move in entry.moves:
            given[move.donor, entry.agent] += move.amount
    sums = totals(statement)
    del sums["agents"]
    return {
        "store": place,
        "scope": scope,
        "seq": statement.seq,
        "closed": statement.closed,
        "unit": statement.unit,
        **sums,
        "agents": [account.as_dict() for account in statement.accounts],
        "given": [
            {"from": donor, "to": taker, "amount": amount}
            for (donor, taker), amount in given.most_common()
        ],
        "refusals": [
            entry.as_dict() for entry in journal if entry.kind in ("denied", "would_deny")
        ],
    }
