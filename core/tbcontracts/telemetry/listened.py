"""What telemetry asks of a manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tbcontracts.books import Statement
    from tbcontracts.contract import BudgetContract
    from tbcontracts.settings import Settings


class Listened(Protocol):
    """A manager, as telemetry needs it."""

    @property
    def settings(self) -> Settings:
        """How it behaves."""
        ...

    def contract_in(self, scope: str, name: str) -> BudgetContract | None:
        """Return the contract that limits a name in a scope."""
        ...

    def scope(self, name: str) -> Listened:
        """Return the same for other books."""
        ...

    def statement(self) -> Statement:
        """Return the books."""
        ...
