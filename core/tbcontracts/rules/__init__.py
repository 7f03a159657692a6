"""The rules: what each command does to the books of one scope.

`step(books, command, now)` is deterministic and does no I/O. It checks first and writes last: an
error leaves the books as they were. It is the memory store's engine, and what every other store is
compared with.

The promises P1 to P7 of the design are kept here: allocation is conserved, a granted hold fits, no
transfer goes below a reserve or uphill, reported usage is posted exactly once, a denied hold moves
nothing, and a dead owner's hold ends at its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tbcontracts import commands
from tbcontracts.books import Books
from tbcontracts.commands import Command, Reply
from tbcontracts.rules import administration, holds, posting


def step(books: Books, command: Command, now: float) -> Reply:
    """Carry out one command.

    Args:
        books: The scope's state; changed in place.
        command: What to do.
        now: Seconds by the store's clock. Time that runs backwards stands still instead.

    Returns:
        What came of it. A refusal is a reply (`Denied`), not an error.

    Raises:
        UnknownAgentError: The command names an agent without a contract.
        HoldResolvedError: A hold was ended before, differently.
        ContractConflictError: The contract to change is no longer the one that was read.
        IdempotencyConflictError: The key was used for something else.
        ScopeClosedError: The scope takes no more of this kind.
        TypeError: An amount is no whole number.
        ValueError: An amount is out of range.
    """
    rule = _RULES[type(command)]
    books.now = max(now, books.now)
    return rule(books, command)


_RULES: dict[type[Any], Callable[[Books, Any], Reply]] = {
    commands.Open: administration.open_contracts,
    commands.Reserve: holds.reserve,
    commands.Refuse: holds.refuse,
    commands.Settle: posting.settle,
    commands.Void: holds.void,
    commands.Extend: holds.extend,
    commands.Expire: holds.expire,
    commands.Charge: posting.charge,
    commands.Transfer: administration.transfer,
    commands.TopUp: administration.top_up,
    commands.Finish: administration.finish,
    commands.ChangeContract: administration.change_contract,
    commands.Confidence: administration.confidence,
    commands.Close: administration.close,
}
