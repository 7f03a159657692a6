"""What the rules do at their edges: closed books, forgotten holds, large numbers, keys."""

from __future__ import annotations

from typing import Any

import pytest

from tbcontracts.books import RESOLVED_HOLDS_MAX, Books, state_of
from tbcontracts.checks import TOTAL_MAX
from tbcontracts.commands import (
    ChangeContract,
    Charge,
    Close,
    Command,
    Confidence,
    Denied,
    Done,
    Finish,
    Granted,
    Open,
    Posted,
    Refuse,
    Reply,
    Reserve,
    Settle,
    TopUp,
    Transfer,
    Void,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import (
    HoldResolvedError,
    IdempotencyConflictError,
    ScopeClosedError,
    TBCError,
    UnknownAgentError,
)
from tbcontracts.rules import step
from tbcontracts.usage import Usage


class Scope:
    """Books that are easy to talk to."""

    def __init__(self, **max_tokens: int) -> None:
        self.books = Books()
        self.now = 1_000.0
        self(
            Open(tuple(BudgetContract(name, max_tokens=most) for name, most in max_tokens.items()))
        )

    def __call__(self, command: Command) -> Reply:
        """Carry out a command."""
        return step(self.books, command, self.now)

    def numbers(self, name: str) -> tuple[int, int, int]:
        """Return what is allocated, consumed and held."""
        account = self.books.accounts[name]
        return account.allocated, account.consumed, account.held


def test_a_closed_scope_writes_its_refusals_down() -> None:
    """A hold is refused as any other is: counted, in the journal, and under its key."""
    scope = Scope(a=100)
    scope(Close())
    denied = scope(Reserve("a", 10, "h", key="k"))
    assert isinstance(denied, Denied)
    assert (denied.code, denied.available) == ("scope_closed", 0)
    assert scope.books.journal[-1].facts["code"] == "scope_closed"
    assert scope.books.accounts["a"].denials == 1
    assert scope(Reserve("a", 10, "again", key="k")) == denied
    assert isinstance(scope(Reserve("new", 1, "h", track=True)), Denied)
    assert state_of(scope.books).accounts[1].denials == 1


def test_a_closed_scope_takes_what_was_used() -> None:
    """Settlements, charges, and a program that has registered one more agent since."""
    scope = Scope(a=100)
    scope(Reserve("a", 60, "h"))
    scope(Close())
    assert isinstance(scope(Settle("h", "a", 50)), Posted)
    assert isinstance(scope(Charge("a", 5)), Posted)
    assert isinstance(scope(Open((BudgetContract("b", max_tokens=10),))), Done)
    assert isinstance(scope(Charge("b", 3)), Posted)
    assert isinstance(scope(Reserve("b", 1, "h2")), Denied)
    for command in (TopUp("a", 1), Transfer(None, "a", 1), ChangeContract(BudgetContract("a"))):
        with pytest.raises(ScopeClosedError):
            scope(command)
    assert scope.numbers("a") == (100, 55, 0)


def test_a_forgotten_hold_is_settled_late_and_once() -> None:
    """Books keep the last ended holds only; one that is older is known again once it is settled."""
    scope = Scope(a=10**9)
    scope(Reserve("a", 60, "old", ttl_s=1))
    scope.now += 2
    for number in range(RESOLVED_HOLDS_MAX + 1):
        scope(Reserve("a", 0, f"h{number}"))
        scope(Void(f"h{number}"))
    assert "old" not in scope.books.holds
    first = scope(Settle("old", "a", 50))
    assert isinstance(first, Posted)
    assert first.late
    assert scope(Settle("old", "a", 50)) == first
    assert scope.numbers("a")[1] == 50
    with pytest.raises(HoldResolvedError):
        scope(Settle("old", "a", 51))
    with pytest.raises(HoldResolvedError):
        scope(Void("old"))
    with pytest.raises(UnknownAgentError):
        scope(Settle("older", "nobody", 7))
    assert isinstance(scope(Settle("older", "nobody", 7, track=True)), Posted)
    assert scope.numbers("nobody") == (0, 7, 0)


def test_a_line_without_a_contract_is_no_way_around_one() -> None:
    """What was tracked has no limit, and so takes only commands that say that they track."""
    scope = Scope()
    scope(Charge("a", 5, track=True))
    for command in (
        Reserve("a", 1, "h"),
        Charge("a", 1),
        Refuse("a", 1, "unbounded"),
        Confidence("a", 0.5),
        Finish("a"),
        TopUp("a", 1),
        ChangeContract(BudgetContract("a")),
    ):
        with pytest.raises(UnknownAgentError):
            scope(command)
    scope(Open((BudgetContract("a", max_tokens=100),)))
    assert scope.numbers("a") == (100, 5, 0)
    assert isinstance(scope(Reserve("a", 96, "h")), Denied)
    assert isinstance(scope(Reserve("a", 95, "h")), Granted)


def test_a_budget_stays_a_number_that_every_store_keeps_exactly() -> None:
    """Single amounts go to 2^40, their sum in a scope to 2^53 - 1; usage is posted beyond it."""
    scope = Scope(**{f"a{number}": 2**40 for number in range(8_191)})
    scope(TopUp("a0", 2**40 - 1))
    assert scope.books.total == TOTAL_MAX
    before = state_of(scope.books)
    for command in (
        TopUp("a0", 1),
        TopUp(None, 1),
        Open((BudgetContract("b", max_tokens=1),)),
    ):
        with pytest.raises(
            ValueError, match=r"9,007,199,254,740,992 in all.*9,007,199,254,740,991"
        ):
            scope(command)
    assert state_of(scope.books) == before
    scope(Open((BudgetContract("b", max_tokens=0),)))
    with pytest.raises(ValueError, match="With this contract"):
        scope(ChangeContract(BudgetContract("b", max_tokens=1)))
    assert isinstance(scope(Charge("b", 2**40)), Posted)
    assert isinstance(scope(Charge("b", 2**40)), Posted)
    assert scope.numbers("b")[1] == 2**41


def test_a_refused_transfer_stays_refused_under_its_key() -> None:
    """A delayed duplicate cannot take budget later; after 10 minutes it is asked anew."""
    scope = Scope(a=10)
    ask = Transfer(None, "a", 5, key="k")
    denied = scope(ask)
    assert isinstance(denied, Denied)
    scope(TopUp(None, 50))
    assert scope(ask) == denied
    scope.now += 600
    assert isinstance(scope(ask), Done)


def test_nothing_flows_uphill_not_even_nothing() -> None:
    """A transfer of 0 tokens uphill would reopen a finished agent."""
    scope = Scope()
    scope(Open((BudgetContract("high", priority=2), BudgetContract("low", priority=1))))
    scope(Finish("low"))
    denied = scope(Transfer("high", "low", 0))
    assert isinstance(denied, Denied)
    assert denied.code == "uphill"
    assert scope.books.accounts["low"].finished


@pytest.mark.parametrize("bad", [-1, 2**40 + 1, 1.5, float("nan"), True, "7", None])
def test_bad_numbers_leave_no_trace(bad: Any) -> None:
    """Whatever number of a command it is."""
    scope = Scope(a=100)
    before = state_of(scope.books)
    for command in (
        Reserve("a", bad, "h", key="k"),
        Reserve("a", 1, "h", leave=bad, key="k"),
        Refuse("new", bad, "unbounded", track=True),
        Charge("new", bad, track=True),
        Settle("unknown", "new", bad, track=True),
        TopUp("a", bad),
        Transfer(None, "a", bad),
    ):
        with pytest.raises((TypeError, ValueError)):
            scope(command)
    assert state_of(scope.books) == before
    assert scope.books.keys == {}
    assert scope.books.holds == {}


def test_whole_numbers_of_another_type_are_whole_numbers_on_the_books() -> None:
    """5.0 is 5, as it is for NumPy's integers, and nothing else gets on the books."""
    scope = Scope(a=100)
    scope(Reserve("a", 5.0, "h"))  # type: ignore[arg-type]
    scope(Charge("a", 3.0))  # type: ignore[arg-type]
    scope(TopUp("a", 2.0))  # type: ignore[arg-type]
    assert [type(number) for number in scope.numbers("a")] == [int, int, int]
    assert {type(entry.amount) for entry in scope.books.journal} == {int}


def test_a_key_is_for_one_command() -> None:
    """Other arguments or another kind of command are an error; nothing is changed by it."""
    scope = Scope(a=100)
    scope(TopUp("a", 5, key="k"))
    before = state_of(scope.books)
    for command in (TopUp("a", 6, key="k"), Charge("a", 5, key="k"), Reserve("a", 5, "h", key="k")):
        with pytest.raises(IdempotencyConflictError):
            scope(command)
    assert isinstance(scope(TopUp("a", 5, key="k")), Done)
    assert state_of(scope.books) == before


def test_a_finished_agent_gives_up_whatever_comes_to_it() -> None:
    """Its rest at once, and later what its holds leave or its terms add."""
    scope = Scope(a=100, b=0)
    scope(Reserve("a", 60, "h"))
    assert scope(Finish("a")).amount == 40  # type: ignore[union-attr]
    scope(Settle("h", "a", 10))
    assert (scope.numbers("a"), scope.books.pool) == ((10, 10, 0), 90)
    scope(ChangeContract(BudgetContract("a", max_tokens=120)))
    assert (scope.numbers("a"), scope.books.pool) == ((10, 10, 0), 110)
    assert isinstance(scope(Reserve("b", 110, "all of it")), Granted)
    with pytest.raises(TBCError):
        scope(Settle("h", "a", 11))


def test_a_change_and_its_reverse_change_nothing() -> None:
    """What a smaller contract could not take, because it was used, a larger one pays first."""
    scope = Scope(a=1_000)
    scope(Charge("a", 900))
    changes = [scope(ChangeContract(BudgetContract("a", max_tokens=most))) for most in (100, 400)]
    assert [change.amount for change in changes] == [-100, 0]  # type: ignore[union-attr]
    scope(ChangeContract(BudgetContract("a", max_tokens=400, priority=7)))
    assert scope.numbers("a") == (900, 900, 0)
    scope(ChangeContract(BudgetContract("a", max_tokens=1_000)))
    assert (scope.numbers("a"), scope.books.total) == ((1_000, 900, 0), 1_000)
    scope(ChangeContract(BudgetContract("a", max_tokens=1_200)))
    assert (scope.numbers("a"), scope.books.total) == ((1_200, 900, 0), 1_200)


def test_what_was_lent_is_not_made_again() -> None:
    """Lent to another agent, or in the pool since its agent finished."""
    scope = Scope(a=1_000, b=0)
    scope(Transfer("a", "b", 900))
    scope(ChangeContract(BudgetContract("a", max_tokens=0)))
    scope(ChangeContract(BudgetContract("a", max_tokens=1_000)))
    assert (scope.numbers("a")[0], scope.numbers("b")[0]) == (100, 900)
    scope(Finish("b"))
    scope(Finish("a"))
    scope(ChangeContract(BudgetContract("a", max_tokens=500)))
    scope(ChangeContract(BudgetContract("a", max_tokens=1_000)))
    assert (scope.books.pool, scope.books.total) == (1_000, 1_000)


def test_new_budget_does_not_pay_what_is_owed() -> None:
    """A top-up is the agent's whatever its terms were; only a larger contract pays."""
    scope = Scope(a=1_000)
    scope(Charge("a", 900))
    scope(ChangeContract(BudgetContract("a", max_tokens=100)))
    scope(TopUp("a", 50))
    scope(ChangeContract(BudgetContract("a", max_tokens=100, priority=2)))
    assert scope.numbers("a") == (950, 900, 0)
    assert state_of(scope.books).accounts[0].owed == 800


def test_nothing_is_refused_for_holds_whose_limit_has_passed() -> None:
    """However many are due: a command ends 16 of them, and as many more as it takes."""
    scope = Scope(a=100)
    for number in range(100):
        scope(Reserve("a", 1, f"h{number}", ttl_s=1))
    scope.now += 1
    assert isinstance(scope(Reserve("a", 97, "all but three")), Granted)
    assert scope.numbers("a") == (100, 0, 97)


def test_each_bucket_is_added_up_by_itself() -> None:
    """With a hold or without, the parts of input and output too."""
    scope = Scope(a=10_000)
    usage = Usage(
        input_tokens=1_000,
        output_tokens=50,
        cached_input_tokens=200,
        cache_write_tokens=30,
        reasoning_tokens=4,
    )
    scope(Reserve("a", 1_050, "h"))
    scope(Settle("h", "a", 1_050, usage))
    scope(Charge("a", 1_050, usage))
    account = state_of(scope.books).accounts[0]
    assert (account.input_tokens, account.output_tokens) == (2_000, 100)
    assert account.cached_input_tokens == 400
    assert (account.cache_write_tokens, account.reasoning_tokens) == (60, 8)
    for entry in list(scope.books.journal)[-2:]:
        parts = ("cached_input", "cache_write", "reasoning")
        assert [entry.facts[f"{part}_tokens"] for part in parts] == [200, 30, 4]
