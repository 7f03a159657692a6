"""An answer that outgrows its strict hold: it gets more, or it is stopped; it is charged once."""

from __future__ import annotations

import pytest

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.calls import MORE_TOKENS
from tbcontracts.endings import Ending
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import RequestSize
from tbcontracts.usage import Usage

SHAPE = CallShape(RequestSize(10, 40), output_cap=60)
HELD = 100
PIECE = "word " * 50


def governed(max_tokens: int, **settings: str) -> BudgetManager:
    """Return a manager with one agent."""
    manager = BudgetManager(**{"enforcement": "strict", **settings})  # type: ignore[arg-type]
    manager.register_agent("a", max_tokens=max_tokens)
    return manager


def test_an_answer_within_its_hold_asks_for_nothing() -> None:
    """Nothing more is held for what the hold was sized for, and nothing outside strict mode."""
    for enforcement, pieces in (("strict", 1), ("expected", 9), ("observe", 9)):
        manager = governed(1_000, enforcement=enforcement)
        call = manager.begin_call("a", SHAPE)
        for _ in range(pieces):
            call.saw(PIECE)
            call.keep_up()
        assert call.hold._tokens_in_all == call.hold.tokens


def test_an_answer_that_outgrows_its_hold_gets_more_and_is_charged_once() -> None:
    """Both holds end together: the amount and its buckets are on the books once."""
    manager = governed(1_000)
    call = manager.begin_call("a", SHAPE)
    for _ in range(4):
        call.saw(PIECE)
        call.keep_up()
    assert manager.accounts()["a"].held == HELD + MORE_TOKENS
    call.end(Ending(Usage(input_tokens=10, output_tokens=200)))
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.unmeasured) == (210, 0, 0)
    assert (account.input_tokens, account.output_tokens) == (10, 200)
    assert [entry.amount for entry in manager.journal() if entry.kind == "settled"] == [110, 100]


@pytest.mark.parametrize("used", [0, 40, HELD, HELD + 1, HELD + MORE_TOKENS, 900])
@pytest.mark.parametrize("measured", [True, False])
def test_every_amount_is_charged_exactly(used: int, measured: bool) -> None:
    """Less than the first hold, more than both: what was used is what is charged."""
    manager = governed(2_000)
    call = manager.begin_call("a", SHAPE)
    call.saw("word " * 200)
    call.keep_up()
    call.hold.settle(Usage(output_tokens=used, measured=measured))
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (used, 0)
    assert account.unmeasured == (0 if measured else used)


def test_an_estimate_is_replaced_by_the_truth_on_both_holds() -> None:
    """A call that was given up and still answers is charged what it says."""
    manager = governed(1_000)
    call = manager.begin_call("a", SHAPE)
    call.saw("word " * 200)
    call.keep_up()
    call.end(Ending(given_up=True))
    assert manager.accounts()["a"].unmeasured > HELD
    call.end(Ending(Usage(input_tokens=10, output_tokens=120)))
    account = manager.accounts()["a"]
    assert (account.consumed, account.unmeasured, account.held) == (130, 0, 0)


def test_voiding_gives_all_of_it_back() -> None:
    """A call that was not billed leaves nothing."""
    manager = governed(1_000)
    call = manager.begin_call("a", SHAPE)
    call.saw("word " * 200)
    call.keep_up()
    call.hold.extend(60)
    call.end(Ending(unbilled=True))
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (0, 0)


def test_an_answer_is_stopped_where_there_is_no_more() -> None:
    """The refusal says what happened; input and what arrived are charged."""
    manager = governed(HELD + 50)
    call = manager.begin_call("a", SHAPE)
    call.saw("word " * 100)
    with pytest.raises(BudgetExceededError, match="still being written") as refused:
        call.keep_up()
    assert (refused.value.requested, refused.value.available) == (MORE_TOKENS, 50)
    call.end(Ending(error=refused.value))
    account = manager.accounts()["a"]
    assert account.held == 0
    assert account.consumed == account.unmeasured == 10 + manager.count_text("word " * 100)
    call.saw("late")
    call.keep_up()


def test_a_total_above_runs_grows_too() -> None:
    """A hold within another manager's grows and ends with it."""
    team = governed(2_000, enforcement="expected")
    manager = governed(2_000).within(team, agent="a")
    call = manager.begin_call("a", SHAPE)
    call.saw("word " * 200)
    call.keep_up()
    assert team.accounts()["a"].held == HELD + MORE_TOKENS
    call.end(Ending(Usage(input_tokens=10, output_tokens=200)))
    for books in (team, manager):
        account = books.accounts()["a"]
        assert (account.consumed, account.held) == (210, 0)


@pytest.mark.anyio
async def test_the_awaited_twins_do_the_same() -> None:
    """Growing, settling, voiding and extending, awaited."""
    manager = governed(1_000)
    for ending, consumed in (
        (Ending(Usage(input_tokens=10, output_tokens=200)), 210),
        (Ending(unbilled=True), 210),
    ):
        call = await manager.abegin_call("a", SHAPE)
        call.saw("word " * 200)
        await call.akeep_up()
        assert call.hold._tokens_in_all == HELD + MORE_TOKENS
        await call.hold.aextend(60)
        await call.aend(ending)
        account = manager.accounts()["a"]
        assert (account.consumed, account.held) == (consumed, 0)


def test_an_error_status_after_output_proves_nothing() -> None:
    """A provider that breaks an answer off with an error status has billed what it sent.

    A piece without text, as the first one of most streams, is the beginning of an answer too.
    """

    class BrokenOffError(Exception):
        status_code = 500

    for pieces, consumed in (((), 0), (("",), 10), (("word " * 10,), 10)):
        manager = governed(1_000)
        call = manager.begin_call("a", SHAPE)
        for piece in pieces:
            call.saw(piece)
        call.end(Ending(error=BrokenOffError()))
        account = manager.accounts()["a"]
        assert (account.consumed > consumed, account.held) == (bool(pieces), 0)
        assert account.consumed == account.unmeasured
