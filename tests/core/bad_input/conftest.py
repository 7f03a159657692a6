"""A manager in the middle of its work, and what its books must still say after bad input."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tbcontracts import BudgetManager

WRONG = (TypeError, ValueError)
BAD_AMOUNTS: dict[Any, str] = {
    -1: "-1",
    2**40 + 1: "1,099,511,627,777",
    10**400: "a larger number",
    1e300: "a larger number",
    math.nan: "nan",
    math.inf: "inf",
    1.5: "1.5",
    True: "bool",
    "7": "str",
    None: "NoneType",
    (7,): "tuple",
}
BAD_SECONDS = (0, -1, math.nan, math.inf, True, "60")


class Books(NamedTuple):
    """A manager, and what its books must still say afterwards."""

    manager: BudgetManager
    before: tuple[Any, ...]

    def call(self, door: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method at one of the two doors."""
        if door == "sync":
            return getattr(self.manager, method)(*args, **kwargs)

        async def awaited() -> Any:
            return await getattr(self.manager, f"a{method}")(*args, **kwargs)

        return asyncio.run(awaited())

    def refuses(
        self, error: Any, words: tuple[str, ...], call: Callable[..., object], *args: Any, **kw: Any
    ) -> Any:
        """Check that a call raises, with these words in its text, and leaves no trace."""
        with pytest.raises(error) as raised:
            call(*args, **kw)
        for word in words:
            assert word in str(raised.value)
        assert seen(self.manager) == self.before
        return raised.value


def seen(manager: BudgetManager) -> tuple[Any, ...]:
    """Return all that can be seen of a manager."""
    return manager.statement(), manager.journal(), dict(manager.contracts), manager.current_agent


def watched(manager: BudgetManager) -> Books:
    """Return a manager with what it looks like now."""
    return Books(manager, seen(manager))


@pytest.fixture
def books() -> Books:
    """Return a manager in the middle of its work."""
    manager = BudgetManager()
    manager.register_agent("boss", priority=3, max_tokens=1_000, confidence_threshold=0.9)
    manager.register_agent("helper", priority=1, max_tokens=500)
    manager.record_usage("boss", 100, confidence=0.5)
    manager.reserve("helper", 50)
    return watched(manager)


both_doors = pytest.mark.parametrize("door", ["sync", "async"])
