"""Posting: what was used goes on the books in full, with a hold or without, in time or late."""

from __future__ import annotations

from typing import Any

from tbcontracts.books import KEY_TTL_S, Account, Books, HoldRecord, Resolution
from tbcontracts.checks import check_amount
from tbcontracts.commands import Charge, Posted, Reply, Settle
from tbcontracts.rules.common import (
    account_of,
    changed,
    charge_for_now,
    count_cost,
    cover,
    end,
    fingerprint,
    overdraft,
    replayed,
    resolved_before,
    take_back,
)
from tbcontracts.usage import Usage


def settle(books: Books, command: Settle) -> Reply:
    """Replace a hold by what was used, posted in full whatever the budget says."""
    amount = check_amount(command.amount, f"The usage of agent {command.agent!r}")
    hold = books.holds.get(command.hold_id) or _forgotten(books, command)
    earlier = resolved_before(hold, Resolution("settled", amount))
    if earlier is not None:
        return earlier
    account = books.accounts[hold.agent]
    late = hold.status != "open"
    if hold.status == "open":
        account.held -= hold.amount
    elif hold.status == "charged":
        take_back(account, hold)
    account.consumed += amount
    priced = count_cost(books, account, amount, command.usage)
    if command.final:
        _count_buckets(account, amount, command.usage)
    else:
        account.unmeasured += amount
    moves = () if hold.enforcement == "let_through" else cover(books, account)
    changed(books, account)
    facts = {"held": hold.amount, **usage_facts(command.usage, command.note)}
    if _is_unpriced(books, command.usage):
        facts["unpriced"] = True
    if late:
        facts["late"] = True
    if not command.final:
        facts |= {"unmeasured": True, "provisional": True}
    if hold.enforcement == "strict" and amount > hold.amount:
        facts["bound_broken"] = True  # the provider did not keep the cap that it was given
    seq = books.log("settled", account, amount, hold.hold_id, moves, facts)
    reply = Posted(hold.agent, amount, overdraft(account), moves, seq, late)
    if command.final:
        end(books, hold, "settled", Resolution("settled", amount), reply)
    else:
        charge_for_now(books, hold, amount, priced)
    return reply


def charge(books: Books, command: Charge) -> Reply:
    """Post usage that had no hold."""
    amount = check_amount(command.amount, f"The usage of agent {command.agent!r}")
    earlier = replayed(books, command, command.key)
    if earlier is not None:
        return earlier
    account = account_of(books, command.agent, track=command.track)
    if account.tracked:
        books.accounts.setdefault(command.agent, account)
    account.consumed += amount
    count_cost(books, account, amount, command.usage)
    _count_buckets(account, amount, command.usage)
    moves = cover(books, account)
    changed(books, account)
    facts = usage_facts(command.usage, command.note)
    if _is_unpriced(books, command.usage):
        facts["unpriced"] = True
    seq = books.log("charged", account, amount, None, moves, facts)
    reply = Posted(command.agent, amount, overdraft(account), moves, seq)
    if command.key is not None:
        books.remember(command.key, fingerprint(command), reply, KEY_TTL_S)
    return reply


def _forgotten(books: Books, command: Settle) -> HoldRecord:
    """Return a hold that the books no longer know, as one that expired: late, but never lost.

    It is known again from here on, so that the same settlement twice is posted once.
    """
    account = account_of(books, command.agent, track=command.track)
    if account.tracked:
        books.accounts.setdefault(command.agent, account)
    hold = HoldRecord(command.hold_id, command.agent, 0, books.now, "expected")
    hold.status = "expired"
    books.holds[command.hold_id] = hold
    books.retire(hold)
    return hold


def _is_unpriced(books: Books, usage: Usage | None) -> bool:
    """Return whether dollars were charged for a usage whose price is not known."""
    return books.unit == "usd" and usage is not None and usage.cost_micro_usd is None


def _count_buckets(account: Account, amount: int, usage: Usage | None) -> None:
    """Add up the buckets of a usage; an estimate counts as unmeasured."""
    if usage is None:
        return
    if not usage.measured:
        account.unmeasured += amount
    buckets = account.buckets
    buckets[0] += usage.input_tokens
    buckets[1] += usage.output_tokens
    buckets[2] += usage.cached_input_tokens
    buckets[3] += usage.cache_write_tokens
    buckets[4] += usage.reasoning_tokens


def usage_facts(usage: Usage | None, note: str) -> dict[str, Any]:
    """Return what the journal keeps of a usage: numbers, the model, and the user's note."""
    facts: dict[str, Any] = {} if usage is None else _what_was_used(usage)
    if usage is not None and not usage.measured:
        facts["unmeasured"] = True
        if usage.raw is not None:
            facts["raw"] = usage.raw
    if note:
        facts["note"] = note
    return facts


def _what_was_used(usage: Usage) -> dict[str, Any]:
    """Return tokens, model and cost; all 0 for a part of a hold that grew."""
    facts: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
    }
    for name in ("cached_input_tokens", "cache_write_tokens", "reasoning_tokens"):
        if getattr(usage, name):
            facts[name] = getattr(usage, name)
    for name in ("model", "cost_micro_usd"):
        if getattr(usage, name) is not None:
            facts[name] = getattr(usage, name)
    return facts
