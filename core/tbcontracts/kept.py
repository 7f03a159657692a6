"""What must reach the books, also where the store does not answer now."""

from __future__ import annotations

from typing import NamedTuple

from tbcontracts.commands import Charge, Confidence, Settle, Void
from tbcontracts.contract import BudgetContract

Postable = Settle | Void | Charge | Confidence
"""What must reach the books, whenever that is."""


class Kept(NamedTuple):
    """A command on its way to the books."""

    number: int
    scope: str
    command: Postable
    contract: BudgetContract | None
    """The agent's, for books that do not know it yet."""
    since: float
    """When it was noted, in seconds since the epoch."""
