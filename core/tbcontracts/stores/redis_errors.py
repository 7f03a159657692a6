"""What scripts answer when a command cannot be carried out, as the errors that the rules raise.

The texts stand once, in the rules: they are made by carrying the command out on small books that
have the same trouble.
"""

from __future__ import annotations

from typing import Any

from tbcontracts.books import Account, Books, HoldRecord, Remembered, Resolution
from tbcontracts.commands import Command, Done, Open
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import StoreError, TBCError
from tbcontracts.rules import step
from tbcontracts.rules.common import (
    account_of,
    check_open,
    check_total,
    check_unit,
    resolved_before,
)
from tbcontracts.stores import codec


def error_of(command: Command, details: list[Any]) -> Exception:
    """Return the error that a command raises.

    Args:
        command: The command.
        details: What the script said: a code, and the facts that belong to it.
    """
    code = details[0]
    try:
        _provoke(code, command, Books(), details[1:])
    except (TBCError, ValueError) as error:
        return error
    msg = f"The script of {type(command).__name__} answered {code!r}. Nothing was written."
    return StoreError(msg, remedy="What helps: the same version of tbcontracts everywhere.")


def newer(shown: str, layout: int, known: int) -> StoreError:
    """Return the error for books that a later version of this package has written."""
    msg = f"The books in {shown} have layout {layout}, this package knows {known}."
    return StoreError(msg, remedy="What helps: a newer tbcontracts.")


def _provoke(code: str, command: Any, books: Books, facts: list[Any]) -> None:
    """Do on small books what raises the error."""
    if code == "unknown_agent":
        for name in facts[1]:
            books.accounts[name] = Account(BudgetContract(name, max_tokens=0), tracked=True)
        account_of(books, facts[0])
    elif code == "closed":
        books.closed = True
        check_open(books, facts[0])
    elif code == "too_much":
        books.total = int(facts[1])
        check_total(books, 0, facts[0])
    elif code == "other_unit":
        unit = command.unit if isinstance(command, Open) else command.contract.unit
        check_unit(unit, facts[0])
    elif code == "hold_resolved":
        hold_id, agent, verb, amount, wanted, wanted_amount = facts
        hold = HoldRecord(hold_id, agent, 0, 0.0, "expected")
        hold.outcome = (Resolution(verb, _or_none(amount)), Done(0, 0))
        resolved_before(hold, Resolution(wanted, _or_none(wanted_amount)))
    else:
        _prepare(code, command, books, facts)
        step(books, command, 0.0)


def _prepare(code: str, command: Any, books: Books, facts: list[Any]) -> None:
    """Give small books what the command stumbles over."""
    if code == "key_conflict":
        books.keys[command.key] = Remembered((), Done(0, 0), 1.0)
    elif code in ("hold_exists", "not_open"):
        hold = HoldRecord(command.hold_id, "", 0, 0.0, "expected")
        hold.status = "open" if code == "hold_exists" else facts[1] or "open"
        if code == "hold_exists" or facts[1]:
            books.holds[command.hold_id] = hold
    elif code == "changed_meanwhile":
        books.accounts[command.contract.agent_name] = Account(codec.load(facts[0]))
    elif code == "to_itself":
        books.accounts[command.taker] = Account(BudgetContract(command.taker, max_tokens=0))


def _or_none(amount: Any) -> int | None:
    return None if amount is False else amount
