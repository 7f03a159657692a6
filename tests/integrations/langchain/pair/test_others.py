"""Other handlers, shared run ids and silent stores between gate and guard."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from tests.integrations.langchain.pair.conftest import chat, governed, kinds, quiet

from tbcontracts import BudgetManager, StoreError
from tbcontracts.testing import FakeOpenAI
from tbcontracts.testing.slow_store import SlowStore
from tbcontracts_langchain import BudgetCallbackHandler

# LangChain makes the coroutines of all inline handlers before it awaits the first. Where that one
# raises, or is cancelled, the others are forgotten, and Python says so whenever it finds them.
pytestmark = [
    pytest.mark.usefixtures("forgotten_coroutines"),
    pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event':RuntimeWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*coroutine object ahandle_event:pytest.PytestUnraisableExceptionWarning"
    ),
    # LangChain keeps its HTTP clients longer than a test keeps its event loop.
    pytest.mark.filterwarnings(
        "ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"
    ),
]


class Stops(BaseCallbackHandler):
    """Somebody else's handler, which stops calls at their start."""

    raise_error = True
    run_inline = True

    def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
        """Stop the call."""
        raise LookupError("stopped by somebody else")


@pytest.mark.anyio
@pytest.mark.parametrize("awaited", [True, False])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_handler_between_gate_and_guard_may_raise(
    server: FakeOpenAI, store: SlowStore, place: int, awaited: bool
) -> None:
    """Wherever somebody else stops the call: nothing was sent, so nothing is charged."""
    manager, config = governed(store)
    config["callbacks"].insert(place, Stops())
    model = chat(server)

    def node(text: str, config: Any) -> Any:
        return model.invoke(text, config)

    async def anode(text: str, config: Any) -> Any:
        return await model.ainvoke(text, config)

    chain: Any = RunnableLambda(node, anode)
    with pytest.raises(LookupError):
        await (
            chain.ainvoke("hello", config)
            if awaited
            else asyncio.to_thread(chain.invoke, "hello", config)
        )
    await quiet()
    account = manager.accounts()["a"]
    assert (account.held, account.consumed) == (0, 0)
    assert server.log == ()


class Watches(AsyncCallbackHandler):
    """Somebody else's handler that awaits something of its own between gate and guard."""

    run_inline = True

    async def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
        """Let others run."""
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_one_run_id_for_two_calls_at_once(server: FakeOpenAI, store: SlowStore) -> None:
    """A caller may give one id to two calls that overlap: each is held and charged."""
    from uuid import uuid4

    manager, config = governed(store)
    config["callbacks"].insert(1, Watches())
    config["run_id"] = uuid4()
    model = chat(server)
    await asyncio.gather(model.ainvoke("hello", config), model.ainvoke("hello there", config))
    assert sorted(kinds(manager)) == ["held", "held", "settled", "settled"]
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (server.billed_tokens, 0)


@pytest.mark.anyio
async def test_a_lone_handler_in_a_loop_warns_once(server: FakeOpenAI, store: SlowStore) -> None:
    """It blocks the loop while the store answers; the text says what does not."""
    _, config = governed(store)
    manager = BudgetManager(store=store)
    manager.register_agent("a", max_tokens=100_000)
    lone: Any = {**config, "callbacks": [BudgetCallbackHandler(manager)]}
    with pytest.warns(UserWarning, match="callbacks=budget_callbacks"):
        await chat(server).ainvoke("hello", lone)
    await chat(server).ainvoke("hello", lone)  # a second warning would be an error
    await chat(server).ainvoke("hello", config)
    assert manager.accounts()["a"].consumed == server.billed_tokens


class Down(SlowStore):
    """A store that stops answering."""

    down = False

    def apply(self, scope: str, command: Any) -> Any:
        """Answer, or not."""
        if self.down:
            raise StoreError("The store is down.")
        return super().apply(scope, command)

    async def aapply(self, scope: str, command: Any) -> Any:
        """Answer, or not."""
        return self.apply(scope, command) if self.down else await super().aapply(scope, command)


@pytest.mark.parametrize("enforcement", ["expected", "observe"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_store_that_does_not_answer(server: FakeOpenAI, way: str, enforcement: str) -> None:
    """No call goes out that was not allowed; in observe mode it goes out, and is asked for once."""
    store = Down()
    manager, config = governed(store, enforcement=enforcement)
    store.down = True
    model = chat(server)

    def ask() -> None:
        if way == "invoke":
            model.invoke("hello", config)
        else:
            asyncio.run(model.ainvoke("hello", config))

    if enforcement == "observe":
        ask()
        assert len(server.log) == 1
        store.down = False
        assert manager.flush()
        assert manager.accounts()["a"].consumed == server.billed_tokens
    else:
        with pytest.raises(StoreError, match="is down"):
            ask()
        assert server.log == ()
