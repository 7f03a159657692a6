"""Near its limit an agent under `BudgetMiddleware` is told so, and may use a cheaper model."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import SystemMessage
from tests.integrations.langchain.middleware.conftest import (
    WAYS,
    ask_agent,
    caps,
    chat,
    fills,
    governed,
    look_up,
)

from tbcontracts.testing import FakeOpenAI
from tbcontracts_langchain import BudgetMiddleware
from tbcontracts_langchain.middleware import CLOSING_LINE, announcement


@pytest.mark.parametrize(("below", "expected"), [(0.5, "cheap"), (0.3, "dear"), (300, "cheap")])
def test_near_the_limit_a_cheaper_model_answers(below: float, expected: str) -> None:
    """The threshold is a part of the contract or a number of tokens; the hold is that model's."""
    with FakeOpenAI(fills) as server:
        manager = governed(max_tokens=500)
        manager.record_usage("a", 260)
        middleware = BudgetMiddleware(
            manager,
            "a",
            downgrade_to=chat(server, "cheap", max_completion_tokens=50),
            downgrade_below=below,
        )
        agent = create_agent(
            chat(server, "dear", max_completion_tokens=150), middleware=[middleware]
        )
        ask_agent(agent)
        (request,) = server.log
        assert request.model == expected
        held = [entry.amount for entry in manager.journal() if entry.kind == "held"]
        assert held[0] - request.input_tokens < (90 if expected == "cheap" else 190)
        assert caps(server) == [50 if expected == "cheap" else 150]


@pytest.mark.parametrize("way", WAYS)
def test_the_agent_is_told_what_is_left(server: FakeOpenAI, way: str) -> None:
    """In the system message of each call, in steps, and never in the state."""
    manager = governed(max_tokens=6_000, on_exceeded="end", max_output_tokens=30)
    middleware = BudgetMiddleware(manager, "a", announce=True)
    agent = create_agent(
        chat(server), [look_up], middleware=[middleware], system_prompt="Be brief."
    )
    ended = ask_agent(agent, way=way)
    first, *_, last = [request.system_text for request in server.log]
    assert first == f"Be brief.\n\n{announcement(6_000, 6_000)}"
    assert "about 6,000 tokens left of 6,000" in first
    assert CLOSING_LINE in last
    said = {request.system_text for request in server.log}
    assert len(said) < len(server.log)  # the same words for some calls: the prompt cache holds
    if way != "stream":
        assert not [m for m in ended["messages"] if "left of" in m.text]


def test_what_is_announced_changes_in_steps() -> None:
    """Rounded down to a twentieth, exact for small budgets, never negative."""
    assert "about 3,400 tokens left of 4,000" in announcement(3_599, 4_000)
    assert "about 3,400 tokens left of 4,000" in announcement(3_400, 4_000)
    assert "fewer than 200 tokens left of 4,000" in announcement(199, 4_000)
    assert "fewer than 200 tokens left of 4,000" in announcement(-50, 4_000)
    assert "about 7 tokens left of 10" in announcement(7, 10)


def test_blocks_of_a_system_message_stay_as_they_are(server: FakeOpenAI) -> None:
    """What a provider was told to cache stands unchanged before the line."""
    manager = governed()
    block: dict[str, Any] = {"type": "text", "text": "Be brief."}
    agent = create_agent(
        chat(server),
        middleware=[BudgetMiddleware(manager, "a", announce=True)],
        system_prompt=SystemMessage([block]),
    )
    ask_agent(agent)
    sent = server.log[0].body["messages"][0]["content"]
    assert sent[0] == block
    assert "tokens left of" in sent[1]["text"]
