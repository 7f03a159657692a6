"""The cap that a budgeted model sends: what is left, shared, lowered, and never raised."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage, HumanMessage
from tests.integrations.langchain.chat_model.conftest import TEXT, assert_true, caps, governed

from tbcontracts import BudgetExceededError
from tbcontracts.testing import Answer, FakeOpenAI

WAYS: dict[str, Callable[[Any], object]] = {
    "invoke": lambda model: model.invoke("hello"),
    "ainvoke": lambda model: asyncio.run(model.ainvoke("hello")),
    "stream": lambda model: list(model.stream("hello")),
    "astream": lambda model: asyncio.run(_collect(model.astream("hello"))),
    "batch": lambda model: model.batch(["hello"]),
    "abatch": lambda model: asyncio.run(model.abatch(["hello"])),
    "generate": lambda model: model.generate([[HumanMessage("hello")]]),
    "agenerate": lambda model: asyncio.run(model.agenerate([[HumanMessage("hello")]])),
    "astream_events": lambda model: asyncio.run(_collect(model.astream_events("hello"))),
}


async def _collect(pieces: Any) -> list[Any]:
    return [piece async for piece in pieces]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cap", [None, 4_000, 100])
def test_the_cap_that_is_sent_is_what_is_left(way: str, cap: int | None) -> None:
    """Whichever way it is called, a cap is lowered to what is left, and the charge is the bill."""
    with FakeOpenAI(lambda request: Answer(text=TEXT, fill=True)) as server:
        manager, model = governed(
            server, max_tokens=300, stream_usage=True, max_completion_tokens=cap
        )
        WAYS[way](model)
        (sent,) = caps(server)
        assert sent is not None
        (held,) = [entry.amount for entry in manager.journal() if entry.kind == "held"]
        if cap == 100:
            assert sent == 100
        else:
            assert 250 < sent < 300
            assert held == 300
        assert_true(manager, server)


# Not events: LangChain leaves the coroutine of its own event handler behind, and Python warns.
@pytest.mark.parametrize("way", sorted(WAYS.keys() - {"astream_events"}))
def test_a_call_with_too_little_left_is_not_sent(way: str) -> None:
    """Below `min_output_tokens` the call is refused, and the books say so."""
    with FakeOpenAI() as server:
        manager, model = governed(server, max_tokens=60)
        with pytest.raises(BudgetExceededError, match=r"'a' asked for .* output cap of the call"):
            WAYS[way](model)
        assert server.log == ()
        assert manager.accounts()["a"].denials == 1


def test_parallel_calls_are_sent_as_far_as_they_fit() -> None:
    """Forty threads at once: each call that was sent is covered, and what is left is too little."""
    everybody = threading.Event()
    with FakeOpenAI(lambda request: Answer(text=TEXT, fill=True, hold=everybody)) as server:
        manager, model = governed(server, max_tokens=5_000, max_completion_tokens=1_900)
        refused = threading.Semaphore(0)

        def call(number: int) -> bool:
            try:
                model.invoke("hello")
            except BudgetExceededError:
                refused.release()
                return False
            return True

        with ThreadPoolExecutor(40) as pool:
            results = pool.map(call, range(40))
            server.wait_for_requests(3)
            for _ in range(37):
                assert refused.acquire(timeout=30)
            account = manager.accounts()["a"]
            assert account.held <= 5_000
            assert account.remaining < 64 + 20
            everybody.set()
            assert sorted(results) == [False] * 37 + [True] * 3
        assert sorted(cap or 0 for cap in caps(server))[1:] == [1_900, 1_900]
        assert_true(manager, server)


def test_a_lost_race_is_clamped_again(server: FakeOpenAI) -> None:
    """What another call took between the look and the hold makes the cap smaller, not a refusal."""
    manager, model = governed(server, max_tokens=1_000, max_completion_tokens=4_000)

    class Takes(BaseCallbackHandler):
        """Takes 400 tokens when the call starts, before the hold."""

        raise_error = run_inline = True

        def __init__(self) -> None:
            self.left = 1

        def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
            if self.left:
                self.left -= 1
                manager.record_usage("a", 400)

    model.invoke("hello", {"callbacks": [Takes()]})
    (sent,) = caps(server)
    assert sent is not None
    assert 500 < sent < 600
    assert manager.accounts()["a"].consumed == 400 + server.billed_tokens


def test_strict_calls_need_no_cap_of_their_own(server: FakeOpenAI) -> None:
    """In strict mode the model gives each call the cap that it must have."""
    manager, model = governed(server, max_tokens=1_000, enforcement="strict")
    model.invoke("hello")
    (sent,) = caps(server)
    assert sent is not None
    assert sent < 1_000
    assert_true(manager, server)


def test_observe_mode_changes_nothing(server: FakeOpenAI) -> None:
    """Who only watches does not shorten answers."""
    _, model = governed(server, max_tokens=100, enforcement="observe", max_completion_tokens=4_000)
    model.invoke("hello")
    assert caps(server) == [4_000]


def test_a_cap_that_is_bound_or_given_is_lowered_too(server: FakeOpenAI) -> None:
    """Arguments win over the model's own setting, and are never raised."""
    _, model = governed(server, max_tokens=3_000, max_completion_tokens=50)
    model.bind(max_tokens=40).invoke("hello")
    model.invoke("hello", max_completion_tokens=30)
    model.invoke("hello", max_tokens=20_000)
    assert caps(server)[:2] == [40, 30]
    assert 2_000 < (caps(server)[2] or 0) < 3_000


def test_the_responses_api_is_clamped_in_its_own_way(server: FakeOpenAI) -> None:
    """The provider's newer interface calls the cap by another name."""
    manager, model = governed(server, max_tokens=300, use_responses_api=True)
    model.invoke("hello")
    assert 250 < server.log[0].body["max_output_tokens"] < 300
    assert_true(manager, server)


def test_choices_share_what_is_left(server: FakeOpenAI) -> None:
    """With n=3 each answer may use a third."""
    manager, model = governed(server, max_tokens=1_000, n=3)
    model.generate([[HumanMessage("hello")]])
    assert 300 < (caps(server)[0] or 0) < 333
    assert_true(manager, server)


def test_prompts_of_one_generate_share_what_is_left(server: FakeOpenAI) -> None:
    """A later prompt is clamped to what earlier ones left; what was answered is on the books."""
    manager, model = governed(server, max_tokens=400, max_completion_tokens=200)
    prompts: list[list[BaseMessage]] = [
        [HumanMessage("one")],
        [HumanMessage("two")],
        [HumanMessage("three")],
    ]
    with pytest.raises(BudgetExceededError):
        model.generate(prompts)
    assert len(server.log) == 2
    assert_true(manager, server)
