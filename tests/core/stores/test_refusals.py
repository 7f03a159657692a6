"""What the journal says of a refusal: the same in every store, enforced or only observed."""

from __future__ import annotations

from contextlib import closing

import pytest

from tbcontracts import BudgetContract, open_store
from tbcontracts.commands import Charge, Open, Refuse, Reserve
from tbcontracts.entry_words import in_words


@pytest.mark.parametrize("enforcement", ["expected", "observe"])
def test_what_a_hold_had_to_leave_is_said(any_url: str, enforcement: str) -> None:
    """Else nobody could tell why it reached less than there was; others say nothing of it."""
    with closing(open_store(any_url)) as store:
        store.apply("s", Open((BudgetContract("a", max_tokens=1_000, min_reserve=300),)))
        store.apply("s", Charge("a", 800))
        store.apply("s", Reserve("a", 600, "h1", leave=300, enforcement=enforcement))
        store.apply("s", Reserve("a", 601, "h2", enforcement=enforcement))
        store.apply("s", Refuse("a", 5, "unbounded", observed=enforcement == "observe"))
        kept, free, decided_before = store.journal("s", 2)
    assert (kept.facts["code"], kept.facts["available"], kept.facts["leave"]) == (
        "budget_exceeded",
        0,
        300,
    )
    assert in_words(kept, "tokens").endswith(
        "600 (budget exceeded: 0 could be reached, 300 is kept)"
    )
    assert "leave" not in {**free.facts, **decided_before.facts}
