"""Budgets in dollars through real clients: the provider's log, times its prices, is the truth."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, LoggedRequest
from tbcontracts_langchain import BudgetedChatModel, BudgetMiddleware, budget_callbacks
from tbcontracts_langchain.middleware import announcement

PRICES = {
    "gpt-4o-mini": {"input": "0.15", "output": "0.60", "cached_input": "0.075"},
    "dear": {"input": "10", "output": "40"},
}
A = {"agent": "a"}


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that caches and reasons."""
    answer = Answer(text="x", input_tokens=1_000, cached_tokens=400, reasoning_tokens=30, fill=True)
    with FakeOpenAI(lambda _: answer) as running:
        yield running


def chat(server: FakeOpenAI, model: str = "gpt-4o-mini", **settings: Any) -> ChatOpenAI:
    """Return a real client for a local provider."""
    settings = {"max_retries": 0, "api_key": SecretStr("test"), **settings}
    return ChatOpenAI(base_url=server.base_url, model=model, **settings)


def governed(max_usd: str = "1", **settings: Any) -> tuple[BudgetManager, Any]:
    """Return a manager in dollars, and the config that puts a call on its agent."""
    manager = BudgetManager(unit="usd", **{"prices": PRICES, **settings})
    manager.register_agent("a", max_usd=max_usd)
    config = {"callbacks": budget_callbacks(manager), "metadata": {"tbcontracts": A}}
    return manager, config


def billed(server: FakeOpenAI) -> int:
    """Return what the provider bills for all it answered: each call rounded up by itself."""

    def cost(request: LoggedRequest) -> int:
        rates = {kind: Fraction(dollars) for kind, dollars in PRICES[request.model].items()}
        cached = request.cached_tokens * rates.get("cached_input", rates["input"])
        plain = (request.input_tokens - request.cached_tokens) * rates["input"]
        return ceil(cached + plain + request.output_tokens * rates["output"])

    return sum(map(cost, server.log))


@pytest.mark.parametrize("kind", ["invoke", "stream", "ainvoke", "astream", "batch"])
@pytest.mark.parametrize("responses", [False, True])
def test_books_are_the_log_times_its_prices(server: FakeOpenAI, kind: str, responses: bool) -> None:
    """Cached input at its own rate, reasoning once, the model from the reply or the request."""
    manager, config = governed()
    model: Any = chat(server, max_tokens=100, stream_usage=True, use_responses_api=responses)

    async def astream() -> None:
        async for _ in model.astream("hello", config):
            pass

    if kind == "batch":
        model.batch(["hello"] * 3, config)
    elif kind == "ainvoke":
        asyncio.run(model.ainvoke("hello", config))
    elif kind == "astream":
        asyncio.run(astream())
    else:
        found = getattr(model, kind)("hello", config)
        assert found if kind == "invoke" else list(found)
    account = manager.accounts()["a"]
    assert account.consumed == account.cost_micro_usd == billed(server) > 0
    assert (account.held, account.unmeasured, account.unpriced_tokens) == (0, 0, 0)
    assert account.cached_input_tokens == 400 * len(server.log)
    assert manager.journal()[-1].facts["model"].startswith("gpt-4o-mini")


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_that_is_left_costs_its_input_and_what_arrived(way: str) -> None:
    """An estimate, at the rates of the model that answered, and said to be one."""
    with FakeOpenAI(lambda _: Answer(text="word " * 200)) as server:
        manager, config = governed()
        model: Any = chat(server, "dear", max_tokens=300, stream_usage=True)
        seen: list[str] = []

        def enough(chunk: Any) -> bool:
            seen.append(chunk.content)
            return sum(map(bool, seen)) == 5

        async def leave() -> None:
            stream = model.astream("hello", config)
            async for chunk in stream:
                if enough(chunk):
                    break
            await stream.aclose()

        if way == "astream":
            asyncio.run(leave())
        else:
            stream = model.stream("hello", config)
            next(chunk for chunk in stream if enough(chunk))
            stream.close()
        account = manager.accounts()["a"]
        sent = manager.count_text("hello") + 4
        assert account.consumed == sent * 10 + manager.count_text("".join(seen)) * 40
        assert account.consumed == account.unmeasured == account.cost_micro_usd
        assert (account.held, account.unpriced_tokens) == (0, 0)


def test_exactly_two_of_forty_parallel_calls_are_sent() -> None:
    """Each may cost $0.000750 on $0.0018: input and cap, all started before the first answer."""
    release = threading.Event()

    def answer(_: Any) -> Answer:
        return Answer(text="x", input_tokens=1_000, fill=True, hold=release)

    with FakeOpenAI(answer) as server:
        manager, config = governed("0.0018")
        model = chat(server, max_tokens=1_000)
        start = threading.Barrier(40)
        refused: list[BudgetExceededError] = []

        def call() -> None:
            start.wait()
            try:
                model.invoke("word " * 994, config)
            except BudgetExceededError as error:
                refused.append(error)
                if len(refused) == 38:
                    release.set()  # only now may the provider answer the two that were sent

        with ThreadPoolExecutor(40) as threads:
            for started in [threads.submit(call) for _ in range(40)]:
                started.result()
        assert len(server.log) == 2
        assert {error.unit for error in refused} == {"usd"}
        assert 700 <= refused[0].requested <= 800
        assert manager.accounts()["a"].consumed == billed(server) == 2 * 750
        assert "asked for $0.0007" in str(refused[0])


def test_exactly_two_of_forty_tasks_are_sent() -> None:
    """The same, awaited."""
    asyncio.run(_forty_tasks())


async def _forty_tasks() -> None:
    release = threading.Event()
    answer = Answer(text="x", input_tokens=1_000, fill=True, hold=release)
    with FakeOpenAI(lambda _: answer) as server:
        manager, config = governed("0.0018")
        model = chat(server, max_tokens=1_000)
        refused: list[BudgetExceededError] = []

        async def call() -> None:
            try:
                await model.ainvoke("word " * 994, config)
            except BudgetExceededError as error:
                refused.append(error)
                if len(refused) == 38:
                    release.set()

        await asyncio.gather(*(call() for _ in range(40)))
        assert len(server.log) == 2
        assert manager.accounts()["a"].consumed == billed(server) == 2 * 750


def test_an_unknown_model_is_not_sent(server: FakeOpenAI) -> None:
    """In observe mode it is, and its tokens are on the books without a price."""
    manager, config = governed()
    with pytest.raises(BudgetExceededError) as refused:
        chat(server, "my-own-model").invoke("hello", config)
    assert refused.value.code == "unknown_price"
    assert not server.log
    manager, config = governed(enforcement="observe")
    chat(server, "my-own-model", max_tokens=100).invoke("hello", config)
    assert len(server.log) == 1
    account = manager.accounts()["a"]
    assert (account.consumed, account.denials) == (0, 1)
    assert account.unpriced_tokens == server.billed_tokens


def test_known_models_need_no_table(server: FakeOpenAI) -> None:
    """The list that genai-prices brings knows this one, by the provider that LangChain names."""
    pytest.importorskip("genai_prices")
    manager, config = governed(prices=None)
    chat(server, max_tokens=100).invoke("hello", config)
    assert manager.accounts()["a"].consumed == billed(server)


def test_a_cap_is_lowered_to_what_the_dollars_pay_for() -> None:
    """By a governed model and by an agent's middleware: sent, filled, and within the budget."""

    def fills(_: Any) -> Answer:
        return Answer(text="An answer.", fill=True, input_tokens=5)

    for way in ("model", "middleware"):
        with FakeOpenAI(fills) as server:
            manager, _ = governed("0.0002")
            model = chat(server, max_tokens=5_000)
            if way == "model":
                BudgetedChatModel(inner=model, manager=manager, agent="a").invoke("hello")
            else:
                agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a")])
                agent.invoke({"messages": [HumanMessage("hello")]})
            (sent,) = server.log
            assert sent.output_tokens < 5_000
            assert 190 <= billed(server) <= 200
            assert manager.accounts()["a"].consumed == billed(server)


def test_an_agent_is_downgraded_and_told_in_dollars() -> None:
    """Near the end of the dollars the cheaper model goes on; what is left is said as dollars."""
    with FakeOpenAI(lambda _: Answer(text="x", input_tokens=100, output_tokens=50)) as server:
        manager, _ = governed("0.01")
        agent = create_agent(
            chat(server, "dear", max_tokens=50),
            middleware=[
                BudgetMiddleware(
                    manager,
                    "a",
                    downgrade_to=chat(server, max_tokens=50),
                    downgrade_below=Decimal("0.005"),
                    announce=True,
                )
            ],
        )
        for _ in range(4):
            agent.invoke({"messages": [HumanMessage("hello")]})
        assert [request.model for request in server.log] == ["dear"] * 2 + ["gpt-4o-mini"] * 2
        assert "You have about $0.01 left of $0.01" in server.log[0].system_text
        assert "You have about $0.0035 left of $0.01" in server.log[-1].system_text
        assert manager.accounts()["a"].consumed == billed(server)
    assert announcement(1, 100, "usd").startswith("You have less than $0.000005 left")
