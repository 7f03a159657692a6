"""LangChain's calls while the store does not answer: none goes out, or what it used is posted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetManager, StoreError
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest
from tbcontracts.testing.unreliable_store import UnreliableStore
from tbcontracts_langchain import budget_callbacks

pytestmark = [
    pytest.mark.usefixtures("forgotten_coroutines"),
    pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event':RuntimeWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*coroutine object ahandle_event:pytest.PytestUnraisableExceptionWarning"
    ),
]
TEXT = "An answer of a few words, as models give them."


@pytest.fixture(params=[(True, False), (True, True), (False, True)], ids=["memory", "file", "net"])
def store(request: pytest.FixtureRequest) -> UnreliableStore:
    """Return a store of each kind."""
    in_process, durable = request.param
    return UnreliableStore(in_process=in_process, durable=durable)


@pytest.fixture
def server(store: UnreliableStore) -> Iterator[FakeOpenAI]:
    """Return a provider whose answer to "cut" finds the store's connection cut."""

    def answer(request: ScriptedRequest) -> Answer:
        store.down = store.down or request.last_text == "cut"
        return Answer(text=TEXT)

    with FakeOpenAI(answer) as running:
        yield running


def governed(store: UnreliableStore, **settings: Any) -> tuple[BudgetManager, Any]:
    """Return a manager with one agent, and a config with its callbacks."""
    manager = BudgetManager(store=store, **settings)
    manager.register_agent("a", max_tokens=100_000)
    metadata = {"tbcontracts": {"agent": "a"}}
    return manager, {"callbacks": budget_callbacks(manager), "metadata": metadata}


def ask(server: FakeOpenAI, way: str, text: str, config: Any) -> str:
    """Ask a real client, in one of the ways that LangChain has; return the answer."""
    limits = httpx.Limits(max_keepalive_connections=0)
    model = ChatOpenAI(
        base_url=server.base_url,
        api_key=SecretStr("test"),
        model="gpt-4o-mini",
        max_retries=0,
        stream_usage=True,
        http_async_client=httpx.AsyncClient(limits=limits),
    )

    async def read() -> str:
        return "".join([str(piece.content) async for piece in model.astream(text, config)])

    if way == "invoke":
        return str(model.invoke(text, config).content)
    if way == "stream":
        return "".join(str(piece.content) for piece in model.stream(text, config))
    if way == "ainvoke":
        return str(asyncio.run(model.ainvoke(text, config)).content)
    return asyncio.run(read())


WAYS = ["invoke", "stream", "ainvoke", "astream"]


@pytest.mark.parametrize("way", WAYS)
def test_no_call_goes_out(server: FakeOpenAI, store: UnreliableStore, way: str) -> None:
    """The caller gets the store's words, the provider no request."""
    manager, config = governed(store)
    store.down = True
    with pytest.raises(StoreError, match="The store cannot be reached"):
        ask(server, way, "hello", config)
    assert server.log == ()
    store.down = False
    assert ask(server, way, "hello", config) == TEXT
    assert manager.report()["a"]["consumed"] == server.billed_tokens


@pytest.mark.parametrize("way", WAYS)
def test_the_answer_is_kept_and_its_usage_posted(
    server: FakeOpenAI, store: UnreliableStore, way: str
) -> None:
    """The store goes away during the call: the caller does not notice, the books catch up."""
    manager, config = governed(store)
    assert ask(server, way, "cut", config) == TEXT
    assert manager.unposted.tokens == server.billed_tokens
    store.down = False
    assert manager.flush()
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.unmeasured) == (server.billed_tokens, 0, 0)


@pytest.mark.parametrize("settings", [{"on_store_error": "allow"}, {"enforcement": "observe"}])
@pytest.mark.parametrize("way", WAYS)
def test_calls_go_on_where_they_may(
    server: FakeOpenAI, store: UnreliableStore, way: str, settings: dict[str, str]
) -> None:
    """Nothing that the store says is raised; all that was billed is on the books afterwards."""
    manager, config = governed(store, **settings)
    store.down = True
    for _ in range(2):
        assert ask(server, way, "hello", config) == TEXT
    assert manager.unposted.unheld == 2
    store.down = False
    assert ask(server, way, "hello", config) == TEXT
    assert manager.flush()
    assert len(server.log) == 3
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.unmeasured) == (server.billed_tokens, 0, 0)
