"""What nobody knows is never shown as nothing; what observe mode lets through is one call."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.core.report.books import kept

from tbcontracts import BudgetContract, BudgetExceededError, BudgetManager, Usage
from tbcontracts.commands import Charge, Open, Reserve
from tbcontracts.endings import Ending
from tbcontracts.entry_words import in_words
from tbcontracts.report.html import page
from tbcontracts.report.view import ReportView, view_of
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import RequestSize

SHAPE = CallShape(RequestSize(10, 40), output_cap=20, model="unheard of")


def governed(**settings: Any) -> BudgetManager:
    """Return a manager in dollars that knows the price of one model."""
    prices = {"known": {"input": "1", "output": "2"}}
    manager = BudgetManager(unit="usd", prices=prices, **settings)
    manager.register_agent("writer", max_usd=Decimal(1))
    return manager


def seen(manager: BudgetManager) -> ReportView:
    """Return what the report shows of a manager's books."""
    return view_of(manager.statement(), manager.journal(), "run")


def test_what_a_refused_call_of_unknown_price_asked_for_is_not_known() -> None:
    """In the list of calls, in the sums, in the journal, and in the history."""
    manager = governed()
    with pytest.raises(BudgetExceededError):
        manager.begin_call("writer", SHAPE)
    view = seen(manager)
    assert [call.asked for call in view.calls] == [None]
    assert [group.asked for group in view.groups] == [None]
    assert "an unknown amount (unknown price of 'unheard of': " in in_words(
        manager.journal()[-1], "usd"
    )
    text = page(view)
    assert "$0.00" not in text.partition('id="calls"')[2].partition("</section>")[0]
    assert text.count("not known") >= 4
    assert "The price of the model &#x27;unheard of&#x27; is not known" in text
    assert "a price for the model &#x27;unheard of&#x27;" in text


def test_the_sum_of_refused_amounts_says_what_is_not_in_it() -> None:
    """In the picture of what happened when: the sum of what is known, and how many are not."""
    manager = governed()
    with pytest.raises(BudgetExceededError):
        manager.begin_call("writer", SHAPE)
    assert "Calls refused: 1 (1 of an amount not known)<" in page(seen(manager))
    with pytest.raises(BudgetExceededError):
        manager.reserve("writer", Decimal(3))
    view = seen(manager)
    assert sum(part.unknown.get("refused", 0) for part in view.timeline.parts) == 1
    assert "Calls refused: 2 ($3.00, 1 of an amount not known)<" in page(view)


def test_what_observe_mode_let_through_was_sent() -> None:
    """And nobody's next call is refused; where both happened both are said."""
    manager = BudgetManager(enforcement="observe")
    manager.register_agent("writer", max_tokens=100)
    manager.reserve("writer", 500).settle(480)
    text = page(seen(manager))
    assert "1 call would have been refused, and went out: observe mode." in text
    assert "What observe mode let through went out, and moved nothing either." in text
    assert "A refused call was not sent" not in text
    assert "is overdrawn by 380 tokens; its next call does not fit until that is paid" in text
    assert "next call is refused until that is paid.</li>" not in text


def test_a_call_that_observe_mode_lets_through_is_one_call() -> None:
    """The refusal that was noted before it has its number, and it is not under way for ever."""
    manager = governed(enforcement="observe")
    manager.begin_call("writer", SHAPE._replace(model="known")).end(Ending(Usage(input_tokens=9)))
    manager.begin_call("writer", SHAPE).end(Ending(Usage(input_tokens=10, output_tokens=5)))
    view = seen(manager)
    assert [(call.number, call.outcome, call.let_through) for call in view.calls] == [
        (1, "settled", False),
        (2, "settled", True),
    ]
    assert view.asked == 2
    assert [(denial.call, denial.let_through) for denial in view.denials] == [(2, True)]
    text = page(view)
    assert "Show 2 calls" in text
    assert "settled, although it would have been refused" in text
    assert "1 call would have been refused, and went out: observe mode." in text
    assert "was refused" not in text


@pytest.mark.parametrize(("consumed", "held"), [(100, 900), (1_000, 0), (1_000, 50), (0, 900)])
def test_a_bar_shows_what_is_over_also_where_it_is_held(consumed: int, held: int) -> None:
    """An answer that grew after budget was lent to others, and a hold that is then too large."""
    contract = BudgetContract("writer", max_tokens=900, min_reserve=0)
    steps: list[Any] = [(Open((contract,)), 0.0)]
    if held:
        steps.append((Reserve("writer", held, "h"), 0.0))
    if consumed:
        steps.append((Charge("writer", consumed), 0.0))
    history = kept(steps)
    account = history.statement.accounts[0]
    text = page(view_of(history.statement, history.journal, "run"))
    legend = 1
    assert (text.count('class="over"') > legend) == (account.remaining < 0)
