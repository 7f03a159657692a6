"""Managers within managers: each hold is one on both books, or on neither."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tbcontracts import BudgetExceededError, BudgetManager, StoreError, Usage
from tbcontracts.commands import Reserve
from tbcontracts.stores.base import Applied
from tbcontracts.stores.memory import MemoryStore


def reserve(door: str, manager: BudgetManager, agent: str, tokens: int) -> Any:
    """Hold at one of the two doors."""
    if door == "sync":
        return manager.reserve(agent, tokens)
    return asyncio.run(manager.areserve(agent, tokens))


@pytest.fixture
def team() -> BudgetManager:
    """Return the outer manager."""
    team = BudgetManager()
    team.register_agent("crew", max_tokens=500)
    return team


@pytest.fixture
def crew(team: BudgetManager) -> BudgetManager:
    """Return a manager within the other one."""
    crew = BudgetManager()
    crew.register_agent("boss", priority=3, max_tokens=400, confidence_threshold=0.9)
    crew.register_agent("helper", max_tokens=100, min_reserve=100)
    return crew.within(team, agent="crew")


def kinds(manager: BudgetManager) -> list[str]:
    """Return what happened on a manager's books, but for the opening."""
    return [entry.kind for entry in manager.journal() if entry.kind != "opened"]


@pytest.mark.parametrize("door", ["sync", "async"])
def test_every_step_of_a_hold_is_on_both_books(
    team: BudgetManager, crew: BudgetManager, door: str
) -> None:
    """Held, extended, settled by estimate and then by the truth; voided; left by `with`."""

    async def awaited() -> None:
        hold = await crew.areserve("boss", 300)
        await hold.extend(60)
        await hold.settle(Usage.estimated(100, 20), final=False)
        await hold.settle(Usage(input_tokens=100, output_tokens=40))
        await (await crew.areserve("boss", 50)).void()
        async with await crew.areserve("boss", 10):
            pass
        await crew.arecord_usage("boss", 5)

    def at_once() -> None:
        hold = crew.reserve("boss", 300)
        hold.extend(60)
        hold.settle(Usage.estimated(100, 20), final=False)
        hold.settle(Usage(input_tokens=100, output_tokens=40))
        crew.reserve("boss", 50).void()
        with crew.reserve("boss", 10):
            pass
        crew.record_usage("boss", 5)

    at_once() if door == "sync" else asyncio.run(awaited())
    happened = ["held", "extended", "settled", "settled", "held", "voided"]
    assert kinds(crew) == kinds(team) == [*happened, "held", "settled", "charged"]
    for account in (crew.accounts()["boss"], team.accounts()["crew"]):
        assert (account.consumed, account.held, account.unmeasured) == (155, 0, 10)


@pytest.mark.parametrize("door", ["sync", "async"])
def test_what_the_outer_books_refuse_is_not_asked_of_the_inner(
    team: BudgetManager, crew: BudgetManager, door: str
) -> None:
    """The refusal is the outer agent's, and the inner books know nothing of it."""
    team.record_usage("crew", 450)
    with pytest.raises(BudgetExceededError) as refused:
        reserve(door, crew, "boss", 100)
    assert refused.value.agent_name == "crew"
    assert kinds(crew) == []


@pytest.mark.parametrize("door", ["sync", "async"])
def test_what_the_inner_books_refuse_is_given_back_outside(
    team: BudgetManager, crew: BudgetManager, door: str
) -> None:
    """For lack of budget, by the gate, or because the scope is closed."""

    def refused(agent: str, tokens: int) -> str:
        with pytest.raises(BudgetExceededError) as refusal:
            reserve(door, crew, agent, tokens)
        assert team.accounts()["crew"].held == 0
        return refusal.value.code

    assert refused("helper", 101) == "budget_exceeded"
    crew.report_confidence("boss", 1.0)
    assert refused("boss", 1) == "confident"
    crew.close_scope()
    assert refused("helper", 1) == "scope_closed"
    assert kinds(team) == ["held", "voided"] * 3


class Broken(MemoryStore):
    """A store that has no answer to a hold."""

    def apply(self, scope: str, command: Any) -> Applied:
        """Fail for holds."""
        if isinstance(command, Reserve):
            raise StoreError("The store is away.")
        return super().apply(scope, command)


@pytest.mark.parametrize("door", ["sync", "async"])
def test_a_store_that_fails_inside_leaves_nothing_outside(team: BudgetManager, door: str) -> None:
    """No call goes out, and the outer hold is given back."""
    crew = BudgetManager(store=Broken())
    crew.register_agent("boss", max_tokens=400)
    crew = crew.within(team, agent="crew")
    with pytest.raises(StoreError):
        reserve(door, crew, "boss", 10)
    assert team.accounts()["crew"].held == 0


def test_a_wait_that_is_cancelled_inside_gives_back_outside(
    team: BudgetManager, crew: BudgetManager
) -> None:
    """Between the two holds somebody may go away."""

    async def cancelled() -> None:
        crew.reserve("boss", 400)
        waiting = asyncio.ensure_future(crew.areserve("boss", 50, wait_s=60))
        await asyncio.sleep(0)  # it runs until it waits
        assert team.accounts()["crew"].held == 450
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cancelled())
    assert team.accounts()["crew"].held == 400
    assert crew.accounts()["boss"].held == 400


def test_closed_scopes_on_either_side_take_what_was_used(
    team: BudgetManager, crew: BudgetManager
) -> None:
    """A hold that was granted is settled on both books, closed or not."""
    hold, other = crew.reserve("boss", 100), crew.reserve("boss", 100)
    team.close_scope()
    hold.settle(70)
    crew.close_scope()
    other.settle(30)
    assert (team.accounts()["crew"].consumed, crew.accounts()["boss"].consumed) == (100, 100)


def test_runs_share_the_total_above_them(team: BudgetManager, crew: BudgetManager) -> None:
    """Scopes of the inner manager are books of their own, within the same outer agent."""
    first, second = crew.scope("run 1"), crew.scope("run 2")
    first.reserve("boss", 300)
    with pytest.raises(BudgetExceededError, match="'crew'"):
        second.reserve("boss", 300)
    second.reserve("boss", 200)
    assert team.accounts()["crew"].held == 500


def test_each_manager_has_its_own_mode(team: BudgetManager) -> None:
    """An outer manager that only observes lets through; one that does not, refuses for both."""
    watching = BudgetManager(enforcement="observe")
    watching.register_agent("crew", max_tokens=10)
    crew = BudgetManager()
    crew.register_agent("boss", max_tokens=1_000)
    hold = crew.within(watching, agent="crew").reserve("boss", 500)
    assert not hold.would_deny
    assert kinds(watching) == ["would_deny"]
    observed = BudgetManager(enforcement="observe")
    observed.register_agent("boss", max_tokens=10)
    with pytest.raises(BudgetExceededError, match="'crew'"):
        observed.within(team, agent="crew").reserve("boss", 501)


def test_the_month_ends_while_a_hold_is_open() -> None:
    """It is settled where it was held: in the month, and in the run, in which it began."""
    now = [1_706_745_599.0]  # 2024-01-31, 23:59:59
    month = BudgetManager(scope="acme/{utc:%Y-%m}", clock=lambda: now[0])
    month.register_agent("bot", max_tokens=1_000)
    bot = BudgetManager(scope="bot/{utc:%d}", clock=lambda: now[0])
    bot.register_agent("boss", max_tokens=1_000)
    bot = bot.within(month, agent="bot")
    with bot.reserve("boss", 400) as hold:
        now[0] += 2
        assert month.scope_name == "acme/2024-02"
        assert month.remaining("bot") == 1_000
        hold.settle(300)
        bot.record_usage("boss", 7)
    january, february = month.scope("acme/2024-01"), month.scope("acme/2024-02")
    consumed = [books.accounts()["bot"].consumed for books in (january, february)]
    assert consumed == [300, 7]
    consumed = [bot.scope(f"bot/{day}").accounts()["boss"].consumed for day in ("31", "01")]
    assert consumed == [300, 7]


def charge(door: str, manager: BudgetManager, agent: str, tokens: int) -> Any:
    """Charge at one of the two doors."""
    if door == "sync":
        return manager.record_usage(agent, tokens)
    return asyncio.run(manager.arecord_usage(agent, tokens))


@pytest.mark.parametrize("door", ["sync", "async"])
def test_an_overdraft_outside_is_told(door: str) -> None:
    """It names the outer agent and its scope; where both are overdrawn, the inner one."""
    year = BudgetManager(scope="year")
    year.register_agent("all", max_tokens=100)
    month = BudgetManager(scope="month", enforcement="observe")
    month.register_agent("bots", max_tokens=50)
    bot = BudgetManager()
    bot.register_agent("w", max_tokens=600)
    bot = bot.within(month.within(year, agent="all"), agent="bots")

    with pytest.raises(BudgetExceededError) as told:
        charge(door, bot, "w", 500)
    assert (told.value.agent_name, told.value.scope) == ("all", "year")
    assert (told.value.code, told.value.lacking) == ("overdraft", 400)
    assert [one.accounts()[name].consumed for one, name in ((bot, "w"), (year, "all"))] == [500] * 2

    with pytest.raises(BudgetExceededError) as told:
        charge(door, bot, "w", 200)
    assert (told.value.agent_name, told.value.scope) == ("w", "default")
    assert year.accounts()["all"].consumed == 700


@pytest.mark.parametrize("door", ["sync", "async"])
def test_a_reserve_that_is_kept_inside_is_not_kept_outside(door: str) -> None:
    """Under "end" the inner hold leaves the inner reserve alone; the outer agent has its own."""
    team, crew = BudgetManager(), BudgetManager()
    team.register_agent("crew", max_tokens=100)
    crew.register_agent("boss", max_tokens=200, min_reserve=100, on_exceeded="end")
    crew = crew.within(team, agent="crew")
    reserve(door, crew, "boss", 100)
    assert team.accounts()["crew"].held == 100
