"""`tbc top-up` and `tbc contract set`: what a person may change on books that are there."""

from __future__ import annotations

import os
from typing import Any

import click

from tbcontracts.books import AccountView
from tbcontracts.checks import AMOUNT_MAX, check_amount, check_key, printable
from tbcontracts.cli.numbers import score_or_none
from tbcontracts.cli.output import json_option, say, say_json, table
from tbcontracts.cli.reading import as_url, books_of, open_books, pick_agent, pick_scope
from tbcontracts.commands import ChangeContract, Command, Reply, TopUp
from tbcontracts.contract import PRIORITY_MAX, BudgetContract
from tbcontracts.errors import ContractConflictError, OutcomeUnknownError, StoreError
from tbcontracts.money import figure, micro_usd
from tbcontracts.stores import Store
from tbcontracts.stores.urls import masked

_ATTEMPTS = 5
_PRIORITY = click.IntRange(1, PRIORITY_MAX)
_TOKENS = click.IntRange(0, AMOUNT_MAX)


@click.command("top-up", short_help="Add budget to an agent or the pool.")
@click.argument("url", metavar="STORE")
@click.argument("scope", metavar="SCOPE")
@click.argument("what", metavar="[AGENT] AMOUNT", nargs=-1, required=True)
@click.option("--pool", is_flag=True, help="Add to the pool, which all agents may use.")
@click.option("--key", metavar="KEY", help="The same key again adds nothing again.")
@json_option
def top_up(
    url: str, scope: str, what: tuple[str, ...], pool: bool, key: str | None, as_json: bool
) -> None:
    """Add new budget to an agent, or to the pool of a scope.

    AMOUNT is tokens, or dollars (0.50) where the books are in dollars. The scope and the agent
    must be there. A name that begins with "-" stands behind "--".
    """
    if len(what) != (1 if pool else 2):
        needed = "--pool and AMOUNT" if pool else "AGENT and AMOUNT, or --pool and AMOUNT"
        msg = f"Behind STORE and SCOPE stand {needed}."
        raise click.UsageError(msg)
    store = open_books(url, writes=True)
    name = pick_scope(store, scope, url)
    before = books_of(store, name, url)
    amount = _amount(what[-1], before.unit)
    agent = None if pool else pick_agent(before, what[0], name)
    own = check_key(key) or f"tbc-{os.urandom(8).hex()}"
    reply = _done(store, name, TopUp(agent, amount, own), own)
    again = reply.seq <= before.seq
    after = books_of(store, name, url)
    account = next((one for one in after.accounts if one.agent == agent), None)
    if as_json:
        say_json(
            {
                "store": masked(as_url(url)),
                "scope": name,
                "agent": agent,
                "added": 0 if again else amount,
                "key": own,
                "seq": reply.seq,
                "pool": after.pool,
                "account": account and account.as_dict(),
            }
        )
        return
    who = "The pool" if agent is None else printable(agent)
    if again:
        say(f"Nothing was added: the key {own!r} was used before.")
    else:
        say(f"{who} was topped up by {figure(amount, after.unit)}.")
    if account is None:
        say(f"The pool of scope {name!r} has {figure(after.pool, after.unit)}.")
    else:
        say(_left(account, name, after.unit))


@click.group()
def contract() -> None:
    """Change contracts on the books."""


@contract.command("set")
@click.argument("url", metavar="STORE")
@click.argument("scope", metavar="SCOPE")
@click.argument("agent", metavar="AGENT")
@click.option(
    "--priority", type=click.IntRange(1, PRIORITY_MAX), metavar="N", help="Higher: more important."
)
@click.option("--max-tokens", metavar="TOKENS", type=_TOKENS, help="Its whole budget.")
@click.option("--max-usd", metavar="DOLLARS", help="Its whole budget, on books in dollars.")
@click.option(
    "--min-reserve",
    type=click.IntRange(0, AMOUNT_MAX),
    metavar="TOKENS",
    help="What it never lends.",
)
@click.option("--min-reserve-usd", metavar="DOLLARS", help="What it never lends, in dollars.")
@click.option(
    "--confidence-threshold",
    callback=score_or_none,
    metavar="SCORE",
    help="At or above it the next call is refused; 'none' for no gate.",
)
@json_option
def set_(url: str, scope: str, agent: str, as_json: bool, **terms: Any) -> None:
    """Change an agent's contract in one scope, only in what is named.

    What is used or held is never taken away. If somebody else changes the contract meanwhile, the
    change is made to what it says then.
    """
    changes = {name: value for name, value in terms.items() if value is not None}
    if not changes:
        msg = "Say what is to change: --priority, --max-tokens, --min-reserve, ..."
        raise click.UsageError(msg)
    if changes.get("confidence_threshold") == "none":
        changes["confidence_threshold"] = None
    store = open_books(url, writes=True)
    name = pick_scope(store, scope, url)
    agent = pick_agent(books_of(store, name, url), agent, name)
    before, after = _changed(store, url, name, agent, changes)
    account = _account(store, url, name, agent)
    if as_json:
        say_json(
            {
                "store": masked(as_url(url)),
                "scope": name,
                "agent": agent,
                "before": before.as_dict(),
                "after": after.as_dict(),
                "account": account.as_dict(),
            }
        )
        return
    rows: list[tuple[object, ...]] = [(agent, "before", "now")]
    names = ("priority", *after.field_names, "confidence_threshold")
    rows += zip(names, _terms(before), _terms(after), strict=True)
    for line in table(rows, align="<>>"):
        say(line)
    say()
    say(_left(account, name, after.unit))
    if account.owed:
        owed = figure(account.owed, after.unit)
        say(f"{owed} could not be taken from what it has used, and is owed.")


def _changed(
    store: Store, url: str, scope: str, agent: str, changes: dict[str, Any]
) -> tuple[BudgetContract, BudgetContract]:
    """Change a contract; whoever changes it at the same time undoes nothing, nor is undone."""
    for left in reversed(range(_ATTEMPTS)):
        was = _account(store, url, scope, agent).contract
        if was is None:
            msg = f"{agent!r} has no contract in scope {scope!r}: its calls are only counted."
            raise StoreError(msg, remedy="What helps: to register it in the program.")
        try:
            wanted = was.changed(**changes)
        except ValueError as error:  # a reserve above the budget, or the other unit
            raise click.UsageError(str(error)) from None
        if _is_done(store, scope, ChangeContract(wanted, was), last=not left):
            return was, wanted
    raise AssertionError  # the last attempt returns or raises


def _is_done(store: Store, scope: str, command: ChangeContract, *, last: bool) -> bool:
    """Carry out a change; return False where it is to be made anew."""
    try:
        _done(store, scope, command, "")
    except ContractConflictError:
        if last:
            raise
        return False
    return True


def _done(store: Store, scope: str, command: Command, key: str) -> Reply:
    """Carry out a command.

    Raises:
        StoreError: It was not carried out, or nobody knows; then how to find out.
    """
    try:
        return store.apply(scope, command).reply
    except OutcomeUnknownError as error:
        helps = (
            f"What helps: the same command again with --key {key}: it takes effect once."
            if key
            else "What helps: tbc show."
        )
        raise StoreError(error.message, remedy=helps) from None


def _account(store: Store, url: str, scope: str, agent: str) -> AccountView:
    accounts = books_of(store, scope, url).accounts
    return next(account for account in accounts if account.agent == agent)


def _terms(contract: BudgetContract) -> tuple[object, ...]:
    budget, reserve = (
        figure(amount, contract.unit) for amount in (contract.max_tokens, contract.reserve)
    )
    return (contract.priority, budget, reserve, contract.confidence_threshold)


def _left(account: AccountView, scope: str, unit: str) -> str:
    numbers = (account.allocated, account.consumed, account.held, account.remaining)
    allocated, consumed, held, remaining = (figure(number, unit) for number in numbers)
    return (
        f"In scope {scope!r} {printable(account.agent)} has {allocated} allocated, "
        f"{consumed} consumed, {held} held and {remaining} remaining."
    )


def _amount(text: str, unit: str) -> int:
    """Read tokens, or dollars where the books are in dollars."""
    try:
        if unit == "usd":
            return check_amount(micro_usd(text.removeprefix("$"), "AMOUNT"), "AMOUNT", minimum=1)
        number = int(text)
    except ValueError as error:
        said = str(error) if unit == "usd" else f"AMOUNT must be a whole number, not {text[:60]!r}."
        raise click.UsageError(said) from None
    try:
        return check_amount(number, "AMOUNT", minimum=1)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
