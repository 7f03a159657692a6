"""Administration: contracts, allocation moved or added by hand, the end of an agent or a scope."""

from __future__ import annotations

from tbcontracts.books import DENIAL_KEY_TTL_S, KEY_TTL_S, Account, Books
from tbcontracts.checks import check_amount, check_score
from tbcontracts.commands import (
    ChangeContract,
    Close,
    Confidence,
    Denied,
    Done,
    Finish,
    Open,
    Reply,
    TopUp,
    Transfer,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ContractConflictError
from tbcontracts.events import Move
from tbcontracts.rules.common import (
    account_of,
    changed,
    check_open,
    check_total,
    check_unit,
    denied,
    fingerprint,
    log_denial,
    move_to,
    replayed,
)


def open_contracts(books: Books, command: Open) -> Reply:
    """Open an account for each contract that has none; the open ones keep their contracts.

    A closed scope opens them too, as it takes no holds on them: a program that registered one more
    agent must still be able to settle there.
    """
    for contract in command.contracts:
        check_unit(contract.unit, command.unit)
    check_unit(command.unit, books.unit)
    new: dict[str, BudgetContract] = {}
    for contract in command.contracts:
        account = books.accounts.get(contract.agent_name)
        if account is None or account.tracked:
            new.setdefault(contract.agent_name, contract)
    check_total(books, sum(contract.max_tokens for contract in new.values()), "these contracts")
    books.unit = command.unit
    for contract in new.values():
        _open_one(books, contract)
    return Done(sum(contract.max_tokens for contract in new.values()), books.seq)


def _open_one(books: Books, contract: BudgetContract) -> None:
    """Bring one contract into force; a name that was only tracked keeps what it spent."""
    account = books.accounts.get(contract.agent_name)
    if account is None:
        account = books.accounts[contract.agent_name] = Account(contract)
    else:
        account.contract = contract
        account.allocated = contract.max_tokens
        account.tracked = False
    books.total += contract.max_tokens
    changed(books, account)
    books.log("opened", account, contract.max_tokens, facts=terms(contract))


def terms(contract: BudgetContract) -> dict[str, object]:
    """Return what the journal keeps of a contract."""
    kept: dict[str, object] = {
        "priority": contract.priority,
        "max_tokens": contract.max_tokens,
        "min_reserve": contract.reserve,
        "confidence_threshold": contract.confidence_threshold,
    }
    if contract.unit != "tokens":
        kept["unit"] = contract.unit
    return kept


def transfer(books: Books, command: Transfer) -> Reply:
    """Move allocation by hand: whole or not at all, never below a reserve, never uphill."""
    amount = check_amount(command.amount, "The amount of a transfer")
    earlier = replayed(books, command, command.key)
    if earlier is not None:
        return earlier
    check_open(books, "transfers")
    taker = account_of(books, command.taker)
    if command.donor is None:
        code, available = "budget_exceeded", books.pool
    else:
        donor = account_of(books, command.donor)
        if donor is taker:
            msg = f"Agent {command.taker!r} cannot give to itself."
            raise ValueError(msg)
        uphill = donor.contract.priority > taker.contract.priority
        code = "uphill" if uphill else "budget_exceeded"
        available = 0 if uphill else donor.surplus
    reply: Reply
    if amount > available or code == "uphill":
        reply = log_denial(books, taker, denied(taker, amount, available, code, books.seq))
    else:
        moves = (Move(command.donor, amount),)
        taker.finished = False
        move_to(books, taker, moves)
        changed(books, taker)
        reply = Done(amount, books.log("transferred", taker, amount, None, moves))
    _remember(books, command, reply)
    return reply


def top_up(books: Books, command: TopUp) -> Reply:
    """Add new budget; an agent that was finished is open again."""
    amount = check_amount(command.amount, "The amount of a top-up")
    earlier = replayed(books, command, command.key)
    if earlier is not None:
        return earlier
    check_open(books, "top-ups")
    account = None if command.agent is None else account_of(books, command.agent)
    check_total(books, amount, "this top-up")
    if account is None:
        books.pool += amount
    else:
        account.finished = False
        account.allocated += amount
        changed(books, account)
    books.total += amount
    reply = Done(amount, books.log("topped_up", account, amount))
    _remember(books, command, reply)
    return reply


def finish(books: Books, command: Finish) -> Reply:
    """End an agent's work: its rest, reserve too, goes to the pool; a later hold reopens it."""
    account = account_of(books, command.agent)
    if account.finished:
        return Done(0, books.seq)
    rest = max(0, account.remaining)
    account.finished = True
    changed(books, account)
    return Done(rest, books.log("finished", account, rest))


def change_contract(books: Books, command: ChangeContract) -> Reply:
    """Change an agent's terms; allocation moves by the difference, not below what is used.

    What a smaller contract cannot take is owed, and a larger one pays it first: otherwise a change
    and its reverse would make budget out of nothing.
    """
    check_open(books, "changes of contracts")
    new = command.contract
    check_unit(new.unit, books.unit)
    account = account_of(books, new.agent_name)
    if command.was is not None and command.was.terms != account.contract.terms:
        msg = (
            f"The contract of agent {new.agent_name!r} was changed meanwhile: it has "
            f"{account.contract.said}, not {command.was.said}. Nothing was changed now."
        )
        raise ContractConflictError(msg, remedy="What helps: read it again, then change it.")
    wanted = new.max_tokens - account.contract.max_tokens
    if wanted > 0:
        difference = max(0, wanted - account.owed)
    else:
        # What is used, held, lent or overdrawn cannot be taken.
        difference = max(wanted, -max(0, account.remaining))
    check_total(books, difference, "this contract")
    account.contract = new
    account.owed += difference - wanted
    account.allocated += difference
    books.total += difference
    changed(books, account)
    return Done(difference, books.log("contract_changed", account, difference, facts=terms(new)))


def confidence(books: Books, command: Confidence) -> Reply:
    """Note or forget the score of an agent's last answer."""
    score = command.score
    if score is not None:
        score = check_score(score, f"confidence of agent {command.agent!r}")
    account = account_of(books, command.agent)
    account.confidence = score
    return Done(0, books.log("confidence", account, 0, facts={"score": score}))


def close(books: Books, command: Close) -> Reply:
    """Close the scope."""
    del command
    if books.closed:
        return Done(0, books.seq)
    books.closed = True
    return Done(0, books.log("closed", None, 0))


def _remember(books: Books, command: Transfer | TopUp, reply: Reply) -> None:
    """Keep the reply for the command's key, if it has one."""
    if command.key is not None:
        ttl_s = DENIAL_KEY_TTL_S if isinstance(reply, Denied) else KEY_TTL_S
        books.remember(command.key, fingerprint(command), reply, ttl_s)
