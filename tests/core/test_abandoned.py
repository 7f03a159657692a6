"""Cancelled while the store has not answered: nothing is left behind, nothing blocks the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tbcontracts import BudgetExceededError, BudgetManager, abandoned
from tbcontracts.endings import Ending
from tbcontracts.exhaustion import BudgetRequest
from tbcontracts.sizing import CallShape
from tbcontracts.testing.slow_store import SlowStore
from tbcontracts.tokens import RequestSize
from tbcontracts.usage import Usage

SHAPE = CallShape(RequestSize(10, 40), output_cap=100)


@pytest.fixture
def store() -> Iterator[SlowStore]:
    """Return a store whose answers can be held back."""
    slow = SlowStore()
    yield slow
    slow.let_go()


def governed(store: SlowStore, **settings: str) -> BudgetManager:
    """Return a manager on the slow store, its books open."""
    manager = BudgetManager(store=store, **settings)  # type: ignore[arg-type]
    manager.register_agent("a", max_tokens=1_000)
    manager.report()
    return manager


async def settled(store: SlowStore) -> None:
    """Wait until all that was begun in the background is done."""
    store.let_go()
    while running := set(abandoned._running):
        await asyncio.wait(running)


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["areserve", "abegin_call"])
async def test_a_hold_for_a_cancelled_task_is_given_back(store: SlowStore, way: str) -> None:
    """The hold took effect, its answer found nobody: it is voided when the answer comes."""
    manager = governed(store)
    store.hold_back()
    asking = manager.areserve("a", 110) if way == "areserve" else manager.abegin_call("a", SHAPE)
    task: asyncio.Task[object] = asyncio.ensure_future(asking)
    await store.waits.wait()
    assert manager.accounts()["a"].held == 110
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settled(store)
    assert manager.accounts()["a"].held == 0
    assert [entry.kind for entry in manager.journal()] == ["opened", "held", "voided"]


def test_a_hold_is_given_back_when_the_loop_closes(store: SlowStore) -> None:
    """Where the event loop ends before the answer, asking again with the same key finds it."""
    manager = governed(store)

    async def main() -> None:
        store.hold_back()
        task = asyncio.ensure_future(manager.areserve("a", 110))
        await store.waits.wait()
        task.cancel()
        asyncio.get_running_loop().call_soon(store.let_go)

    asyncio.run(main())
    assert manager.accounts()["a"].held == 0


@pytest.mark.anyio
async def test_the_outer_hold_is_given_back_too(store: SlowStore) -> None:
    """A hold within another manager's: cancelled at the inner one, both are free."""
    team = governed(SlowStore())
    manager = governed(store).within(team, agent="a")
    store.hold_back()
    task = asyncio.ensure_future(manager.areserve("a", 110))
    await store.waits.wait()
    assert team.accounts()["a"].held == 110
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settled(store)
    assert team.accounts()["a"].held == manager.accounts()["a"].held == 0


@pytest.mark.anyio
async def test_a_call_is_begun_and_ended_without_blocking(store: SlowStore) -> None:
    """The awaited twins never touch the blocking half of a store."""
    manager = governed(store)
    before = store.blocked
    call = await manager.abegin_call("a", SHAPE)
    ended = await call.aend(Ending(Usage(input_tokens=10, output_tokens=5)))
    assert ended.usage is not None
    again = await call.aend(Ending())
    assert again == ended
    other = await manager.abegin_call("a", SHAPE)
    await other.aend(Ending(unbilled=True))
    with pytest.raises(BudgetExceededError):
        await manager.abegin_call("a", SHAPE._replace(output_cap=5_000))
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.denials) == (15, 0, 1)
    assert store.blocked == before


@pytest.mark.anyio
async def test_the_truth_may_overtake_the_estimate(store: SlowStore) -> None:
    """An estimate under way when the provider's word comes does not stand against it."""
    manager = governed(store)
    call = await manager.abegin_call("a", SHAPE)
    store.hold_back()
    estimate = asyncio.ensure_future(call.aend(Ending(given_up=True)))
    await store.waits.wait()
    truth = asyncio.ensure_future(call.aend(Ending(Usage(input_tokens=10, output_tokens=7))))
    store.let_go()
    await asyncio.gather(estimate, truth)
    account = manager.accounts()["a"]
    assert (account.consumed, account.unmeasured, account.held) == (17, 0, 0)


@pytest.mark.anyio
async def test_an_unbounded_strict_call_is_refused_awaited(store: SlowStore) -> None:
    """Refusals that are decided before the books are written down without blocking, too."""
    manager = governed(store, enforcement="strict")
    before = store.blocked
    with pytest.raises(BudgetExceededError, match="Nothing bounds its answer"):
        await manager.abegin_call("a", CallShape(RequestSize(10, 40)))
    assert store.blocked == before
    assert manager.accounts()["a"].denials == 1


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["coroutine", "generator"])
async def test_awaited_functions_are_governed_without_blocking(store: SlowStore, kind: str) -> None:
    """Hold, charge and score of a governed function all await the store."""
    manager = governed(store)
    store.blocked = 0
    reply = {"usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}

    @manager.govern("a", confidence_fn=lambda result: 0.5)
    async def write(prompt: str) -> object:
        return reply

    @manager.govern("a", confidence_fn=lambda results: 0.5)
    async def stream(prompt: str) -> AsyncIterator[object]:
        yield reply

    if kind == "coroutine":
        await write("hello")
    else:
        assert [piece async for piece in stream("hello")] == [reply]
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.confidence) == (15, 0, 0.5)
    assert store.blocked == 0


@pytest.mark.anyio
async def test_a_grant_is_awaited(store: SlowStore) -> None:
    """Where somebody is asked, the grant goes on the books without blocking."""
    manager = BudgetManager(store=store)
    manager.register_agent("b", max_tokens=1, on_exceeded="ask")
    manager.report()
    store.blocked = 0

    async def grant(request: BudgetRequest) -> int:
        return request.lacking

    @manager.govern("b", ask_fn=grant)
    async def write(prompt: str) -> str:
        return "done"

    assert await write("hello") == "done"
    assert store.blocked == 0


@pytest.mark.parametrize("began", [True, False])
def test_an_end_is_booked_when_the_loop_closes(store: SlowStore, began: bool) -> None:
    """Before its first step, or while the answer is on its way: then it is booked at once."""
    manager = governed(store)

    async def main() -> None:
        call = await manager.abegin_call("a", SHAPE)
        store.hold_back()
        ending = call.aend(Ending(Usage(input_tokens=10, output_tokens=7)))
        task = abandoned.in_background(ending, lambda: call.end(Ending(Usage(input_tokens=17))))
        if began:
            await store.waits.wait()
        store._free.set()  # only what asks from now on is answered
        assert not task.done()

    asyncio.run(main())
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (17, 0)
