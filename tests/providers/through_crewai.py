"""Cells through CrewAI's own classes for its providers, each in a real crew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.llms import retry
from crewai.tools import tool
from pydantic import BaseModel
from tests.providers.cells import (
    CALL,
    CAP,
    LANGCHAIN_KINDS,
    LOWERED,
    PLENTY,
    TEXT,
    Client,
    Found,
    Kind,
    cap_outcome,
    outcome_of,
)

from tbcontracts import BudgetManager
from tbcontracts.sizing import CallShape
from tbcontracts.testing import Answer, FakeProvider, ScriptedRequest, ToolCall
from tbcontracts_crewai import govern_crew, listening
from tbcontracts_crewai.usage import call_shape

TIGHT = 500
"""Less than a crew's prompt and an answer as long as `LONG`."""
LONG = 1_000


@tool("look_up")
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word."


class Counted(BaseModel):
    """How far it went."""

    count: int


def tool_first(request: ScriptedRequest) -> Answer:
    """Call a tool once, then answer."""
    if any(role in ("tool", "function_call_output") for role, _ in request.messages):
        return Answer(text=TEXT)
    return Answer(tool_calls=[CALL])


def structured(request: ScriptedRequest) -> Answer:
    """Answer in the shape that is asked for, as a call of the tool for it or as JSON."""
    if request.tools:
        return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments={"count": 12})])
    return Answer(text='{"count": 12}')


_HOW = {
    "invoke": "kickoff",
    "ainvoke": "akickoff",
    "stream": "kickoff, streamed",
    "astream": "akickoff, streamed",
}
_LEFT_OUT = ("n = 2", "stream left by the caller", "stream left, awaited")
_SCRIPTS = {
    "tool turn": tool_first,
    "tool turn, streamed": tool_first,
    "structured output": structured,
}
CREWAI_KINDS = tuple(
    Kind(
        name=_HOW.get(kind.name, kind.name),
        how=kind.how,
        script=_SCRIPTS.get(kind.name, kind.script),
        usual=kind.usual,
        fails=kind.fails,
        retries=kind.retries,
    )
    for kind in LANGCHAIN_KINDS
    if kind.name not in _LEFT_OUT
)


@dataclass(frozen=True, kw_only=True)
class CrewAIClient(Client):
    """A model class of CrewAI.

    Attributes:
        server: Makes the provider, with a script.
        model: Makes the model: its address, and what else it is set to.
        calm: Takes the waiting out of the client's retries.
    """

    server: Callable[[Any], FakeProvider]
    model: Callable[..., Any]
    calm: Callable[[pytest.MonkeyPatch], None] = lambda _: None
    kinds: tuple[Kind, ...] = CREWAI_KINDS
    group: str = "CrewAI"

    def find(self, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> Found:
        """Run a crew of one; return what the books made of it."""
        self.calm(monkeypatch)
        monkeypatch.setattr(retry, "get_retry_delay_seconds", lambda *_, **__: 0.0)
        caps = _noted_caps(monkeypatch)
        with self.server(kind.script) as server:
            manager = BudgetManager()
            manager.register_agent("a", max_tokens=TIGHT if kind.how == "shortened" else PLENTY)
            cap = {"default cap": None, "shortened": LONG}.get(kind.how, CAP)
            llm = self.model(
                server,
                monkeypatch,
                retries=kind.retries,
                cap=cap,
                stream="stream" in kind.name or kind.how in ("stream", "astream"),
            )
            crew = _crew(llm, kind)
            error = None
            with govern_crew(crew, manager, clamp=kind.how == "shortened"):
                try:
                    if kind.how in ("ainvoke", "astream"):
                        asyncio.run(crew.akickoff())
                    else:
                        crew.kickoff()
                except Exception as raised:
                    error = raised
            server.wait_until_quiet()
            if kind.fails:
                assert isinstance(error, Exception), "it should have failed"
            elif error is not None:
                raise error
            assert len(server.log) > kind.how.startswith("tool"), "too little was sent"
            found = outcome_of(manager, server)
            if kind.how in ("cap", "default cap"):
                return found._replace(
                    outcome=cap_outcome(found, caps[-1], server.log[-1].output_cap)
                )
            if kind.how == "shortened":
                sent = server.log[-1].output_cap
                lowered = sent is not None and sent < TIGHT
                return found._replace(outcome=LOWERED if lowered else f"sent {sent}")
            return found


def _crew(llm: Any, kind: Kind) -> Crew:
    """Return a crew of one agent with one task."""
    agent = Agent(
        role="a",
        goal="g",
        backstory="b",
        llm=llm,
        max_retry_limit=0,
        tools=[look_up] if kind.how.startswith("tool") else [],
    )
    shape: dict[str, Any] = {}
    if kind.how == "structured output":
        shape["output_pydantic"] = Counted
    task = Task(description="Count to twelve.", expected_output="e", agent=agent, **shape)
    return Crew(agents=[agent], tasks=[task])


def _noted_caps(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Note the output caps that holds are sized by."""
    caps: list[int | None] = []

    def noting(*arguments: Any, **more: Any) -> CallShape:
        shape = call_shape(*arguments, **more)
        caps.append(shape.output_cap)
        return shape

    monkeypatch.setattr(listening, "call_shape", noting)
    return caps
