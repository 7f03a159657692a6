"""What comes in the middle of another command, on the same thread.

Python may run other code wherever it is: a signal handler, or the end of a generator that the
garbage collector finds. If that settles a hold, it must neither wait for what its own thread has,
nor write on books that are half written: it is put off, and carried out right after the command.
"""

from __future__ import annotations

import logging

from tbcontracts.commands import Charge, Command, Done, Posted, Settle, Void
from tbcontracts.errors import StoreError
from tbcontracts.stores.base import Applied

_log = logging.getLogger("tbcontracts")


def answer_now(command: Command, seq: int = 0) -> Applied:
    """Answer a command that is put off.

    Usage is never refused and a hold is always given back, so the answer is known but for what the
    books will come to. Nothing else can be answered before the books are whole again.

    Args:
        command: What was asked.
        seq: The number of the last journal entry, where it is known.

    Raises:
        StoreError: It asks for budget, or for a change of it.
    """
    if isinstance(command, (Settle, Charge)):
        return Applied(Posted(command.agent, command.amount, 0, (), seq), ())
    if isinstance(command, Void):
        return Applied(Done(0, seq), ())
    what = type(command).__name__
    msg = f"{what} came from a signal handler or a finalizer in the middle of another command."
    raise StoreError(msg, remedy="What helps: a thread or a task of its own.")


def note_failure() -> None:
    """Log the failure of a command whose caller went on already; nobody else may suffer for it."""
    _log.exception("A command that came in the middle of another one failed")
