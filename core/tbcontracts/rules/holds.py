"""Holds: budget set aside before a call, given back, prolonged, or ended at its limit."""

from __future__ import annotations

import heapq

from tbcontracts.books import DENIAL_KEY_TTL_S, KEY_TTL_S, Account, Books, HoldRecord, Resolution
from tbcontracts.checks import check_amount, check_seconds
from tbcontracts.commands import Denied, Done, Expire, Extend, Granted, Refuse, Reply, Reserve, Void
from tbcontracts.confidence_gate import ConfidenceGate
from tbcontracts.errors import HoldResolvedError, IdempotencyConflictError
from tbcontracts.events import Move
from tbcontracts.reallocation import plan
from tbcontracts.rules.common import (
    account_of,
    changed,
    charge_for_now,
    count_cost,
    denied,
    end,
    fingerprint,
    log_denial,
    move_to,
    replayed,
    resolved_before,
    take_back,
    why,
)

SWEEP_MOST = 16


def reserve(books: Books, command: Reserve) -> Reply:
    """Grant a hold whole, with the help of pool and donors, or deny it; a denial moves nothing."""
    amount = check_amount(command.amount, f"The hold for agent {command.agent!r}")
    if amount is not command.amount:
        command = command._replace(amount=amount)  # a whole number of another type
    if command.leave != 0:
        check_amount(command.leave, f"What a hold leaves to agent {command.agent!r}")
    check_seconds(command.ttl_s, "ttl_s of a hold")
    earlier = replayed(books, command, command.key)
    if earlier is not None:
        return earlier
    if command.hold_id in books.holds:
        msg = f"A hold with the id {command.hold_id!r} exists already."
        raise IdempotencyConflictError(msg, remedy="What helps: a new id for each hold.")
    account = account_of(books, command.agent, track=command.track)
    observed = command.enforcement == "observe"
    sweep(books, SWEEP_MOST)
    moves, denial = _admit(books, account, command)
    while denial is not None and sweep(books, SWEEP_MOST):
        moves, denial = _admit(books, account, command)
    if denial is not None and command.trial and not observed:
        return denial
    if denial is None:
        reply: Reply = _grant(books, account, command, moves)
    elif observed:
        reply = _grant_anyway(books, account, command, denial)
    else:
        reply = _refuse(books, account, denial, leave=command.leave)
    if command.key is not None:
        ttl_s = DENIAL_KEY_TTL_S if isinstance(reply, Denied) else max(KEY_TTL_S, 2 * command.ttl_s)
        books.remember(command.key, fingerprint(command), reply, ttl_s)
    return reply


def _admit(
    books: Books, account: Account, command: Reserve
) -> tuple[tuple[Move, ...], Denied | None]:
    """Decide on a hold: the moves that it needs, or why it is denied."""
    amount = command.amount
    if books.closed:
        return (), denied(account, amount, 0, "scope_closed", books.seq)
    if account.tracked:
        return (), None
    if account.confidence is not None and not ConfidenceGate.allow_further_retrieval(
        account.contract, account.confidence
    ):
        denial = denied(account, amount, account.remaining, "confident", books.seq)
        return (), denial._replace(
            score=account.confidence, threshold=account.contract.confidence_threshold
        )
    shortfall = amount + command.leave - account.remaining
    if shortfall <= 0:
        return (), None
    found = plan(shortfall, account, books.pool, books.donors, books.accounts)
    if found.found == shortfall:
        return found.moves, None
    code = "budget_exceeded"
    if found.fragmented:
        code = "fragmented"
    elif found.found + account.remaining >= amount:
        code = "reserve_kept"
    available = account.remaining + found.found - command.leave
    return (), denied(account, amount, available, code, books.seq)


def _grant(books: Books, account: Account, command: Reserve, moves: tuple[Move, ...]) -> Granted:
    """Write a hold that fits."""
    name, amount = command.agent, command.amount
    if account.tracked:
        books.accounts.setdefault(name, account)
    account.finished = False
    if moves:
        move_to(books, account, moves)
    account.held += amount
    hold = _open_hold(books, command, amount)
    books.donors.touch(name, books.accounts)
    facts = {"sizing": command.sizing, "ttl_s": command.ttl_s}
    seq = books.log("held", account, amount, command.hold_id, moves, facts)
    return Granted(command.hold_id, name, amount, hold.expires_at, moves, seq)


def _grant_anyway(books: Books, account: Account, command: Reserve, denial: Denied) -> Granted:
    """Let a hold through that does not fit (observe mode): nothing is held and nothing moves."""
    if account.tracked:
        books.accounts.setdefault(command.agent, account)
    account.denials += 1
    hold = _open_hold(books, command, 0)
    hold.enforcement = "let_through"
    facts = {**why(denial, leave=command.leave), "sizing": command.sizing}
    seq = books.log("would_deny", account, command.amount, command.hold_id, (), facts)
    return Granted(command.hold_id, command.agent, 0, hold.expires_at, (), seq, denial)


def _open_hold(books: Books, command: Reserve, amount: int) -> HoldRecord:
    """Add a hold and its limit."""
    hold = HoldRecord(
        command.hold_id, command.agent, amount, books.now + command.ttl_s, command.enforcement
    )
    books.holds[command.hold_id] = hold
    heapq.heappush(books.due, (hold.expires_at, hold.hold_id))
    return hold


def refuse(books: Books, command: Refuse) -> Reply:
    """Write a refusal that was decided before the books were asked."""
    amount = check_amount(command.amount, f"The call of agent {command.agent!r}")
    account = account_of(books, command.agent, track=command.track)
    denial = denied(account, amount, account.remaining, command.code, books.seq)
    if not command.observed:
        return _refuse(books, account, denial, command.model)
    if account.tracked:
        books.accounts.setdefault(command.agent, account)
    account.denials += 1
    facts = why(denial, command.model)
    return denial._replace(seq=books.log("would_deny", account, amount, facts=facts))


def _refuse(
    books: Books, account: Account, denial: Denied, model: str | None = None, leave: int = 0
) -> Denied:
    """Put a refusal on the books; a name without a contract gets its line for it."""
    if account.tracked:
        books.accounts.setdefault(denial.agent, account)
    return log_denial(books, account, denial, model, leave)


def void(books: Books, command: Void) -> Reply:
    """Give a hold back; where its limit had passed and it was charged, the truth replaces that."""
    hold = books.holds.get(command.hold_id)
    if hold is None:
        return Done(0, books.seq)
    earlier = resolved_before(hold, Resolution("voided"))
    if earlier is not None:
        return earlier
    account = books.accounts[hold.agent]
    given_back = hold.amount
    if hold.status == "open":
        account.held -= hold.amount
    elif hold.status == "charged":
        given_back = take_back(account, hold)
    else:
        given_back = 0
    changed(books, account)
    facts = {"note": command.note} if command.note else {}
    seq = books.log("voided", account, given_back, hold.hold_id, (), facts)
    reply = Done(given_back, seq)
    end(books, hold, "voided", Resolution("voided"), reply)
    return reply


def extend(books: Books, command: Extend) -> Reply:
    """Let an open hold live on."""
    check_seconds(command.ttl_s, "ttl_s of a hold")
    hold = books.holds.get(command.hold_id)
    if hold is None or hold.status != "open":
        what = "is not known" if hold is None else f"is {hold.status} already"
        msg = f"The hold {command.hold_id!r} {what} and cannot be extended."
        raise HoldResolvedError(msg, remedy="What helps: extend a hold before its limit.")
    hold.expires_at = books.now + command.ttl_s
    heapq.heappush(books.due, (hold.expires_at, hold.hold_id))
    account = books.accounts[hold.agent]
    facts = {"ttl_s": command.ttl_s}
    return Done(hold.amount, books.log("extended", account, hold.amount, hold.hold_id, (), facts))


def expire(books: Books, command: Expire) -> Reply:
    """End what is due."""
    most = check_amount(command.most, "The number of holds to end")
    return Done(sweep(books, most), books.seq)


def sweep(books: Books, most: int) -> int:
    """End at most this many holds whose limit has passed, oldest first; return how many."""
    ended = 0
    while ended < most and books.due and books.due[0][0] <= books.now:
        limit, hold_id = heapq.heappop(books.due)
        hold = books.holds.get(hold_id)
        if hold is None or hold.status != "open" or hold.expires_at != limit:
            continue  # ended before, or extended: its later limit stands further back
        ended += 1
        account = books.accounts[hold.agent]
        account.held -= hold.amount
        account.expired_holds += 1
        charge = hold.enforcement == "strict"
        if charge:
            account.consumed += hold.amount
            account.unmeasured += hold.amount
            priced = count_cost(books, account, hold.amount, None)
            charge_for_now(books, hold, hold.amount, priced)
        else:
            hold.status = "expired"
            books.retire(hold)
        changed(books, account)
        books.log("expired", account, hold.amount, hold_id, (), {"charged": charge})
    return ended
