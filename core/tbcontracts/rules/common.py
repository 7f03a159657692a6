"""What the rules share: finding accounts, remembering keys, moving and covering allocation."""

from __future__ import annotations

from typing import Any

from tbcontracts.books import Account, Books, HoldRecord, Resolution
from tbcontracts.checks import TOTAL_MAX
from tbcontracts.commands import Command, Denied, Reply, Reserve
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import (
    ConfigurationError,
    HoldResolvedError,
    IdempotencyConflictError,
    ScopeClosedError,
    UnknownAgentError,
)
from tbcontracts.events import Move
from tbcontracts.money import WORDS
from tbcontracts.reallocation import plan
from tbcontracts.usage import Usage


def replayed(books: Books, command: Command, key: str | None) -> Reply | None:
    """Return the first reply to this key, if there was one.

    Raises:
        IdempotencyConflictError: It was the reply to another command.
    """
    if key is None:
        return None
    found = books.keys.get(key)
    if found is None or found.until <= books.now:
        return None
    if found.command != fingerprint(command):
        msg = f"The key {key!r} was used before, for another command or other arguments."
        raise IdempotencyConflictError(msg, remedy="What helps: a new key for a new command.")
    return found.reply


def fingerprint(command: Command) -> tuple[object, ...]:
    """Return what makes two commands the same: all but what each attempt makes anew."""
    if isinstance(command, Reserve):
        command = command._replace(hold_id="", trial=False)
    return (type(command).__name__, *command)


def account_of(books: Books, agent: str, *, track: bool = False) -> Account:
    """Return an agent's account.

    Args:
        books: The scope.
        agent: Its name.
        track: A name without a contract will do; if it has no line yet, return a new account that
            is not yet in the books.

    Raises:
        UnknownAgentError: There is none.
    """
    account = books.accounts.get(agent)
    if account is not None and (track or not account.tracked):
        return account
    if track:
        return Account(BudgetContract(agent, max_tokens=0), tracked=True)
    from difflib import (
        get_close_matches,  # slow to import, and only needed where something is wrong
    )

    near = get_close_matches(agent, books.accounts, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    msg = f"No agent {agent!r} is registered in this scope.{hint}"
    raise UnknownAgentError(
        msg, remedy=f"What helps: manager.register_agent({agent!r}, max_tokens=...)."
    )


def check_open(books: Books, what: str) -> None:
    """Refuse what a closed scope no longer takes.

    Raises:
        ScopeClosedError: The scope is closed.
    """
    if books.closed:
        msg = f"The scope is closed and takes no {what}."
        raise ScopeClosedError(msg, remedy="What helps: another scope.")


def check_total(books: Books, more: int, what: str) -> None:
    """Refuse a budget whose sum not every store could keep exactly.

    Raises:
        ValueError: The scope's total would pass 2^53 - 1.
    """
    if books.total + more > TOTAL_MAX:
        msg = (
            f"With {what} the budget of this scope would be {books.total + more:,} in all; "
            f"the most that books can keep exactly is {TOTAL_MAX:,}."
        )
        raise ValueError(msg)


def check_unit(unit: str, there: str | None) -> None:
    """Refuse to mix units: allocation moves between accounts, and dollars are no tokens.

    Raises:
        ConfigurationError: The books are in another unit.
    """
    if there is not None and unit != there:
        msg = (
            f"These books are kept in {WORDS.get(there, there)}, and cannot take contracts in "
            f"{WORDS.get(unit, unit)}."
        )
        helps = f'another scope, or BudgetManager(unit="{there}").'
        raise ConfigurationError(msg, remedy=f"What helps: {helps}")


def changed(books: Books, account: Account) -> None:
    """Note a change for the order of donors; a finished agent gives up its rest."""
    if account.finished and account.remaining > 0:
        rest = account.remaining
        account.allocated -= rest
        books.pool += rest
    books.donors.touch(account.contract.agent_name, books.accounts)


def move_to(books: Books, taker: Account, moves: tuple[Move, ...]) -> None:
    """Carry out planned moves."""
    for donor_name, amount in moves:
        if donor_name is None:
            books.pool -= amount
        else:
            donor = books.accounts[donor_name]
            donor.allocated -= amount
            books.donors.touch(donor_name, books.accounts)
        taker.allocated += amount


def cover(books: Books, account: Account) -> tuple[Move, ...]:
    """Bring in what an overdraft needs, or as much of it as there is."""
    lacking = -account.remaining
    if lacking <= 0 or account.tracked:
        return ()
    found = plan(lacking, account, books.pool, books.donors, books.accounts)
    move_to(books, account, found.moves)
    return found.moves


def overdraft(account: Account) -> int:
    """Return what of an agent's usage is not covered."""
    return 0 if account.tracked else max(0, -account.remaining)


def denied(account: Account, requested: int, available: int, code: str, seq: int) -> Denied:
    """Return a denial; what could be reached is never shown below 0, what is lacking is exact."""
    name, lacking = account.contract.agent_name, max(0, requested - available)
    return Denied(name, requested, max(0, available), lacking, code, seq)


def why(denial: Denied, model: str | None = None, leave: int = 0) -> dict[str, Any]:
    """Return the facts of a journal entry about a denial.

    Args:
        denial: The denial.
        model: Whose price was wanted, if that is why.
        leave: What the hold had to leave to its agent.
    """
    facts: dict[str, Any] = {"code": denial.code, "available": denial.available}
    if denial.score is not None:
        facts |= {"score": denial.score, "threshold": denial.threshold}
    if model is not None:
        facts["model"] = model
    if leave:
        facts["leave"] = leave
    return facts


def log_denial(
    books: Books, account: Account, denial: Denied, model: str | None = None, leave: int = 0
) -> Denied:
    """Put a denial on the books; one that repeats the agent's last one is only counted."""
    account.denials += 1
    same: tuple[object, ...] = (denial.code, denial.requested, denial.available)
    if model is not None:
        same = (*same, model)
    if account.last_denial == same:
        return denial._replace(seq=books.seq)
    account.last_denial = same
    facts = why(denial, model, leave)
    return denial._replace(seq=books.log("denied", account, denial.requested, None, (), facts))


def resolved_before(hold: HoldRecord, resolution: Resolution) -> Reply | None:
    """Return the first reply if the hold was ended in just this way.

    Raises:
        HoldResolvedError: It was ended in another way.
    """
    if hold.outcome is None:
        return None
    done, reply = hold.outcome
    if done == resolution:
        return reply
    raise resolved_otherwise(hold.hold_id, hold.agent, done, resolution)


def resolved_otherwise(
    hold_id: str, agent: str, done: Resolution, resolution: Resolution
) -> HoldResolvedError:
    """Return the error for a hold that was ended in another way."""
    msg = (
        f"The hold {hold_id!r} of agent {agent!r} was {done} before; "
        f"it cannot be {resolution} now. Nothing was posted."
    )
    return HoldResolvedError(msg, remedy="What helps: end each hold once.")


def charge_for_now(books: Books, hold: HoldRecord, amount: int, priced: tuple[int, int]) -> None:
    """Mark a hold as charged by estimate; a settle or void that still comes replaces that."""
    first_end = hold.status == "open"
    hold.status = "charged"
    hold.charged = amount
    hold.cost, hold.unpriced = priced
    if first_end:
        books.retire(hold)


def take_back(account: Account, hold: HoldRecord) -> int:
    """Take back what was charged for a hold by estimate; return how much it was."""
    account.consumed -= hold.charged
    account.unmeasured -= hold.charged
    account.buckets[_COST] -= hold.cost
    account.buckets[_UNPRICED] -= hold.unpriced
    return hold.charged


def count_cost(books: Books, account: Account, amount: int, usage: Usage | None) -> tuple[int, int]:
    """Count what a charge cost, or how many tokens of it have no price; return both numbers.

    In dollars the charge is the cost. Of a number of tokens nobody knows what it cost.
    """
    cost = None if usage is None else usage.cost_micro_usd
    tokens = amount if usage is None else usage.total_tokens
    if books.unit == "usd":
        priced = amount, 0 if usage is None or cost is not None else tokens
    else:
        priced = (0, tokens) if cost is None else (cost, 0)
    account.buckets[_COST] += priced[0]
    account.buckets[_UNPRICED] += priced[1]
    return priced


_COST, _UNPRICED = 5, 6  # where they stand behind the buckets of an account


def end(books: Books, hold: HoldRecord, status: str, resolution: Resolution, reply: Reply) -> None:
    """Mark a hold as ended, for good."""
    first_end = hold.status == "open"
    hold.status = status
    hold.outcome = (resolution, reply)
    if first_end:
        books.retire(hold)
