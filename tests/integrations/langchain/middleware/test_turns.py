"""Turns of an agent under `BudgetMiddleware`: one hold each, and a cap of what is left."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import SystemMessage
from tests.integrations.langchain.middleware.conftest import (
    NEEDS_CONTEXT,
    WAYS,
    ask_agent,
    assert_true,
    caps,
    chat,
    fills,
    governed,
    look_up,
)

from tbcontracts import BudgetExceededError
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_langchain import BudgetMiddleware, budget_callbacks


@pytest.mark.filterwarnings("ignore:On Python 3.10 LangGraph does not hand callbacks on")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("with_callbacks", [True, False])
def test_each_turn_is_one_hold_and_one_charge(
    server: FakeOpenAI, way: str, with_callbacks: bool
) -> None:
    """With the run's own callbacks or without them, the books equal the log."""
    manager = governed(max_output_tokens=40, on_exceeded="end")
    agent = create_agent(
        chat(server), [look_up], middleware=[BudgetMiddleware(manager, "a")], name="other"
    )
    config = {"callbacks": budget_callbacks(manager)} if with_callbacks else None
    ask_agent(agent, config, way=way)
    kinds = [entry.kind for entry in manager.journal()]
    assert kinds.count("held") == kinds.count("settled") == len(server.log) > 2
    assert_true(manager, server)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cap", [None, 4_000, 100])
def test_the_cap_that_is_sent_is_what_is_left(way: str, cap: int | None) -> None:
    """It is lowered to what is left, and never raised; the hold covers it."""
    with FakeOpenAI(fills) as server:
        manager = governed(max_tokens=300)
        model = chat(server, max_completion_tokens=cap)
        agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a")])
        ask_agent(agent, way=way)
        (sent,) = caps(server)
        (held,) = [entry.amount for entry in manager.journal() if entry.kind == "held"]
        assert sent is not None
        if cap == 100:
            assert sent == 100
        else:
            assert 250 < sent < 300
            assert held == 300
        assert_true(manager, server)


@pytest.mark.parametrize("bound", ["settings", "bind", "contract"])
def test_a_lower_cap_is_never_raised(bound: str) -> None:
    """Whoever set it: another middleware, whoever made the model, the contract."""

    @wrap_model_call
    def careful(request: Any, handler: Any) -> Any:
        return handler(request.override(model_settings={"max_tokens": 30}))

    with FakeOpenAI(fills) as server:
        manager = governed(max_output_tokens=30 if bound == "contract" else None)
        middleware: list[Any] = [BudgetMiddleware(manager, "a")]
        model: Any = chat(server, max_completion_tokens=200)
        if bound == "settings":
            middleware = [careful, *middleware]
        elif bound == "bind":
            model = model.bind(max_tokens=30)
        ask_agent(create_agent(model, middleware=middleware))
        assert caps(server) == [30]


def test_a_cap_in_the_settings_is_lowered_there() -> None:
    """Model settings win over the model, so the cap is lowered where it stands."""

    @wrap_model_call
    def generous(request: Any, handler: Any) -> Any:
        return handler(request.override(model_settings={"max_tokens": 9_000}))

    with FakeOpenAI(fills) as server:
        manager = governed(max_tokens=500)
        model = chat(server, max_completion_tokens=20)
        agent = create_agent(model, middleware=[generous, BudgetMiddleware(manager, "a")])
        ask_agent(agent)
        assert 400 < (caps(server)[0] or 0) < 500
        assert_true(manager, server)


@pytest.mark.parametrize("way", WAYS)
def test_a_turn_with_too_little_left_is_not_sent(server: FakeOpenAI, way: str) -> None:
    """Under "raise" the refusal comes out, and nothing was sent."""
    manager = governed(max_tokens=60)
    agent = create_agent(chat(server), middleware=[BudgetMiddleware(manager, "a")])
    with pytest.raises(BudgetExceededError, match="'a' asked for"):
        ask_agent(agent, way=way)
    assert server.log == ()
    assert manager.accounts()["a"].denials == 1


def test_the_floor_is_what_the_middleware_says(server: FakeOpenAI) -> None:
    """`min_output_tokens` is the shortest answer that is sent for."""
    manager = governed(max_tokens=60)
    middleware = BudgetMiddleware(manager, "a", min_output_tokens=20)
    ask_agent(create_agent(chat(server), middleware=[middleware]))
    assert 20 <= (caps(server)[0] or 0) < 60


def test_parallel_agents_are_sent_as_far_as_they_fit() -> None:
    """Forty at once: each call that was sent is covered, and what is left is too little."""
    everybody = threading.Event()
    with FakeOpenAI(
        lambda request: Answer(text="x", fill=True, input_tokens=5, hold=everybody)
    ) as server:
        manager = governed(max_tokens=5_000)
        model = chat(server, max_completion_tokens=1_900)
        agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a")])
        refused = threading.Semaphore(0)

        def run(number: int) -> bool:
            try:
                ask_agent(agent)
            except BudgetExceededError:
                refused.release()
                return False
            return True

        with ThreadPoolExecutor(40) as pool:
            results = pool.map(run, range(40))
            server.wait_for_requests(3)
            for _ in range(37):
                assert refused.acquire(timeout=60)
            assert manager.accounts()["a"].held <= 5_000
            assert manager.accounts()["a"].remaining < 64 + 20
            everybody.set()
            assert sorted(results) == [False] * 37 + [True] * 3
        assert sorted(cap or 0 for cap in caps(server))[1:] == [1_900, 1_900]
        assert_true(manager, server)


@pytest.mark.parametrize("way", NEEDS_CONTEXT)
def test_a_lost_race_is_clamped_again(way: str) -> None:
    """What another call took between the look and the hold makes the cap smaller."""

    class Takes(BaseCallbackHandler):
        """Takes 400 tokens when the call starts, before the hold."""

        raise_error = run_inline = True

        def __init__(self) -> None:
            self.left = 1

        def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
            if self.left:
                self.left -= 1
                manager.record_usage("a", 400)

    with FakeOpenAI(fills) as server:
        manager = governed(max_tokens=1_000)
        model = chat(server, max_completion_tokens=4_000)
        agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a")])
        ask_agent(agent, {"callbacks": [Takes()]}, way=way)
        (sent,) = caps(server)
        assert 500 < (sent or 0) < 600
        assert manager.accounts()["a"].consumed == 400 + server.billed_tokens


def test_an_input_that_grew_on_the_way_is_learned_from_the_refusal() -> None:
    """Middleware further in may add to the request: the hold says how much it really is."""

    @wrap_model_call
    def adds(request: Any, handler: Any) -> Any:
        return handler(request.override(system_message=SystemMessage("word " * 200)))

    with FakeOpenAI(fills) as server:
        manager = governed(max_tokens=1_000)
        model = chat(server, max_completion_tokens=4_000)
        agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a"), adds])
        ask_agent(agent)
        assert len(server.log) == 1
        assert 500 < (caps(server)[0] or 0) < 800
        assert_true(manager, server)


def test_a_call_further_in_is_not_made_twice() -> None:
    """Where middleware inside made a call of its own, a refusal is not tried again."""

    @wrap_model_call
    def asks_first(request: Any, handler: Any) -> Any:
        chat(running, max_completion_tokens=100).invoke("Which tool?")
        return handler(request)

    with FakeOpenAI(fills) as running:
        manager = governed(max_tokens=1_000)
        model = chat(running, max_completion_tokens=4_000)
        agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a"), asks_first])
        with pytest.raises(BudgetExceededError):
            ask_agent(agent)
        assert len(running.log) == 1
        assert_true(manager, running)
