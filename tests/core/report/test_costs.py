"""What calls cost: known prices are added up, and what is unknown is said and never zero."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.core.report.books import kept

from tbcontracts import BudgetContract, Usage
from tbcontracts.commands import Charge, Open, Reserve, Settle
from tbcontracts.events import JournalEntry
from tbcontracts.report.costs import ModelCost, costs_of
from tbcontracts.report.html import page
from tbcontracts.report.view import ReportView, view_of


def journal(*facts: dict[str, Any]) -> list[JournalEntry]:
    """Return a settled call for each of these facts."""
    return [
        JournalEntry(seq, 0.0, "settled", "writer", 9, "h", (), 9, 9, 0, 0, one)
        for seq, one in enumerate(facts, start=1)
    ]


def account(agent: str, cost: int, unpriced: int) -> Any:
    """Return what is asked of an account here."""
    return SimpleNamespace(agent=agent, cost_micro_usd=cost, unpriced_tokens=unpriced)


def test_costs_are_added_up_by_model() -> None:
    """Most tokens first; a model that was not told, and one without a price, are lines too."""
    found = costs_of(
        [account("writer", 500, 70)],
        journal(
            {"model": "a", "input_tokens": 100, "output_tokens": 20, "cost_micro_usd": 300},
            {"model": "a", "input_tokens": 10, "output_tokens": 2, "cost_micro_usd": 200},
            {"model": "b", "input_tokens": 50, "output_tokens": 10},
            {"input_tokens": 5, "output_tokens": 5},
            {"model": "a", "input_tokens": 1, "output_tokens": 1, "provisional": True},
        ),
    )
    assert found.models == (
        ModelCost("a", 2, 132, 500, 0),
        ModelCost("b", 1, 60, 0, 1),
        ModelCost(None, 1, 10, 0, 1),
    )
    assert (found.known, found.cost_micro_usd, found.unpriced_tokens) == (True, 500, 70)


def test_a_hold_that_grew_is_one_call() -> None:
    """Its parts have entries of their own, at no cost; the call itself is the last one."""
    part = {"input_tokens": 0, "output_tokens": 0, "cost_micro_usd": 0}
    whole = {"model": "a", "input_tokens": 100, "output_tokens": 20, "cost_micro_usd": 300}
    found = costs_of([account("writer", 300, 0)], journal(part, part, whole))
    assert found.models == (ModelCost("a", 1, 120, 300, 0),)


def test_a_charge_that_is_a_number_alone_is_cost_or_tokens() -> None:
    """In dollars it is what was charged; in tokens it is the tokens, at an unknown price."""
    plain: dict[str, Any] = {}
    unpriced = {"model": "new", "input_tokens": 5, "output_tokens": 0, "unpriced": True}
    priced = {"input_tokens": 4, "output_tokens": 1, "cost_micro_usd": 7}
    found = costs_of([account("writer", 16, 5)], journal(plain, priced, unpriced), "usd")
    assert found.models == (ModelCost(None, 2, 5, 16, 0), ModelCost("new", 1, 5, 0, 1))
    found = costs_of([account("writer", 7, 9)], journal(plain, priced))
    assert found.models == (ModelCost(None, 2, 14, 7, 1),)


def test_a_known_price_of_nothing_is_known() -> None:
    """A free model costs nothing, and that is not the same as unknown."""
    free = {"model": "free", "input_tokens": 5, "output_tokens": 5, "cost_micro_usd": 0}
    assert costs_of([account("writer", 0, 0)], journal(free)).known
    assert not costs_of([account("writer", 0, 10)], journal({"model": "b"})).known


def seen(unit: str, *accounts: Any, **facts: Any) -> ReportView:
    """Return the view of one call, with costs as they are given."""
    history = kept(
        [
            (Open((BudgetContract("writer", max_tokens=1_000),)), 0.0),
            (Reserve("writer", 100, "h"), 1.0),
            (Settle("h", "writer", 90, Usage(input_tokens=90)), 1.0),
            (Charge("writer", 10, Usage(input_tokens=10)), 1.0),
        ]
    )
    entries = [
        entry._replace(facts={**entry.facts, **facts}) if entry.kind == "settled" else entry
        for entry in history.journal
    ]
    view = view_of(history.statement, entries, "run", unit=unit)
    return view._replace(costs=costs_of(accounts, entries))


def test_the_page_says_what_is_known_and_what_is_not() -> None:
    """In books of tokens whose prices are known in part."""
    text = page(seen("tokens", account("writer", 1_500, 10), model="m", cost_micro_usd=1_500))
    assert "The calls whose price is known cost $0.0015." in text
    assert "What 10 tokens of other calls cost is unknown, and in no sum." in text
    assert '<td class="number">$0.0015 + unknown</td>' in text
    assert "<bdi>m</bdi>" in text
    assert '<dd class="value">$0.0015</dd>' in text


def test_books_in_dollars_without_a_price_say_unknown() -> None:
    """Not $0.00."""
    text = page(seen("usd", account("writer", 0, 100)))
    assert "No call had a known price: what they cost is unknown." in text
    assert '<td class="number">unknown</td>' in text
    assert "$0.00 were charged" not in text


def test_books_in_dollars_charge_holds_where_a_price_is_unknown() -> None:
    """And say so."""
    text = page(seen("usd", account("writer", 427_000, 100)))
    said = "$0.427 were charged. The price of 100 tokens is unknown: what was held for them was"
    assert said in text
    assert '<dd class="value">100</dd>' in text


def test_nobody_asked_for_dollars() -> None:
    """Then one sentence, and no table and no tile."""
    text = page(seen("tokens", account("writer", 0, 100)))
    assert "There are no prices on these books" in text
    assert "Cost of each agent" not in text
    assert "<dt>Cost</dt>" not in text


def test_a_call_of_unknown_price_asked_for_no_known_amount() -> None:
    """It was refused before anybody knew what it may cost."""
    view = seen("usd", account("writer", 0, 0))
    refused = view.entries[1]._replace(
        seq=9, kind="denied", amount=0, facts={"code": "unknown_price", "available": 5}
    )
    statement = view.statement._replace(seq=9)
    text = page(view_of(statement, [*view.entries, refused], "run", unit="usd"))
    assert "The price of its model is not known" in text
    assert "Asked for</dt><dd>not known</dd>" in text
