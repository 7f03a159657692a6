"""Governed functions around real LangChain models, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.scores import mean_token_probability
from tbcontracts.testing import Answer, FakeOpenAI, Fault, ScriptedRequest
from tbcontracts_langchain import budget_callbacks


def governed(**contract: Any) -> BudgetManager:
    """Return a manager with one agent."""
    manager = BudgetManager()
    contract.setdefault("max_tokens", 5_000)
    manager.register_agent("writer", **contract)
    return manager


def chat(server: FakeOpenAI, **settings: Any) -> ChatOpenAI:
    """Return a model that asks the local provider."""
    given: dict[str, Any] = {"model": "gpt-4o-mini", "base_url": server.base_url, "api_key": "x"}
    given["max_retries"] = 0
    return ChatOpenAI(**{**given, **settings})


@pytest.mark.parametrize("with_handler", [False, True])
def test_a_model_inside_is_charged_once(with_handler: bool) -> None:
    """With the callback inside or without it, one call is one charge."""
    manager = governed()
    config: Any = {"callbacks": budget_callbacks(manager)} if with_handler else {}
    with FakeOpenAI() as server:
        model = chat(server)

        @manager.govern("writer")
        def write(prompt: str) -> object:
            return model.invoke(prompt, config)

        write("hello")
        account = manager.accounts()["writer"]
        assert (account.consumed, account.unmeasured) == (server.billed_tokens, 0)
        assert [entry.kind for entry in manager.journal()] == ["opened", "held", "settled"]


def test_a_loop_of_models_inside_is_stopped() -> None:
    """Calls after the first hold for themselves; the one that does not fit is not sent."""
    manager = governed(max_tokens=1_000)
    with FakeOpenAI(lambda request: Answer(text="word", fill=True)) as server:
        model = chat(server, max_completion_tokens=150)

        @manager.govern("writer")
        def loop(prompt: str) -> None:
            while True:
                model.invoke(prompt, {"callbacks": budget_callbacks(manager)})

        with pytest.raises(BudgetExceededError):
            loop("hello")
        account = manager.accounts()["writer"]
        assert account.consumed == server.billed_tokens <= 1_000
        assert len(server.log) > 1
        assert account.held == 0


def test_a_retried_model_inside_is_charged_once() -> None:
    """The rejected attempt is free, the one that was answered is on the books."""

    def script(request: ScriptedRequest) -> Answer | Fault:
        return Fault(status=500) if request.index == 0 else Answer(text="Done.")

    manager = governed()
    with FakeOpenAI(script) as server:
        model = chat(server).with_retry(stop_after_attempt=2, wait_exponential_jitter=False)

        @manager.govern("writer")
        def write(prompt: str) -> object:
            return model.invoke(prompt, {"callbacks": budget_callbacks(manager)})

        write("hello")
        assert len(server.log) == 2
        assert manager.accounts()["writer"].consumed == server.billed_tokens
        assert manager.accounts()["writer"].held == 0


def test_a_stream_of_a_model_is_charged() -> None:
    """A governed generator over a model's stream is charged what the stream reported."""
    manager = governed()
    with FakeOpenAI() as server:
        model = chat(server, stream_usage=True)

        @manager.govern("writer")
        def stream(prompt: str) -> Iterator[Any]:
            yield from model.stream(prompt)

        @manager.govern("writer")
        async def astream(prompt: str) -> AsyncIterator[Any]:
            async for chunk in model.astream(prompt):
                yield chunk

        async def main() -> None:
            async for _ in astream("hello"):
                pass

        list(stream("hello"))
        asyncio.run(main())
        account = manager.accounts()["writer"]
        assert len(server.log) == 2
        assert (account.consumed, account.unmeasured) == (server.billed_tokens, 0)


def test_the_providers_own_client_is_charged() -> None:
    """A function that uses OpenAI's client as it is needs no callback: its reply says it."""
    manager = governed()
    with FakeOpenAI() as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="x", max_retries=0)

        @manager.govern("writer", confidence_fn=mean_token_probability)
        def write(prompt: str) -> object:
            return client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}]
            )

        @manager.govern("writer")
        def stream(prompt: str) -> Iterator[Any]:
            yield from client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": prompt}],
                stream=True,
                stream_options={"include_usage": True},
            )

        write("hello")
        list(stream("hello"))
        account = manager.accounts()["writer"]
        assert (account.consumed, account.unmeasured) == (server.billed_tokens, 0)
