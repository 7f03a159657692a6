"""Running a graph application: plain, under contracts, and through each of LangGraph's doors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx
from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import SecretStr
from tests.apps.harness import LARGE, Application, Ran, as_said, check_books, needs, scarce

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.roster import Roster
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langchain.context import LOSES_CONTEXT
from tbcontracts_langgraph import agents_of

LOST = "On Python 3.10 LangGraph does not hand callbacks on to what nodes of an awaited graph call"
THREAD: Any = {"configurable": {"thread_id": "t"}, "recursion_limit": 60}


@dataclass(frozen=True, kw_only=True)
class Graph(Application):
    """An application of LangGraph."""

    doors: ClassVar[tuple[str, ...]] = ("ainvoke", "astream_events", "stream messages")
    lost: ClassVar[tuple[str, ...]] = ("ainvoke", "astream_events") if LOSES_CONTEXT else ()

    build: Callable[..., Any]
    """Makes it, of a model and a checkpointer."""
    governed: Callable[..., Any]
    """Makes it under contracts: of a model, a manager and a checkpointer."""
    asked: Any
    """What it is asked to do."""
    approvals: Sequence[Any] = ()
    """How the people it asks answer."""
    keeps: bool = True
    """Whether it takes a checkpointer, and is at its end where it would have been."""

    def made(self, model: ChatOpenAI, manager: BudgetManager | None) -> Any:
        """Return the application itself."""
        saver = (InMemorySaver(),) if self.keeps else ()
        if manager is None:
            return self.build(model, *saver)
        return self.governed(model, manager, *saver)

    def roster(self, manager: BudgetManager) -> Roster:
        """Return what `agents_of` says of it."""
        with provider(None) as (_, model):
            return agents_of(self.made(model, manager))

    def steps(self) -> Iterator[Any]:
        """Yield what it is asked, and what is answered to what it asks."""
        yield self.asked
        for approval in self.approvals:
            yield Command(resume=approval)

    def run(self, manager: BudgetManager | None, door: str = "") -> Ran:
        """Run it until it is done or refused; plain where there is no manager."""
        with provider(self.script()) as (server, model):
            made = self.made(model, manager)
            outcome = None
            try:
                if door == "":
                    for step in self.steps():
                        outcome = made.invoke(step, THREAD)
                elif door == "stream messages":
                    for step in self.steps():
                        for _ in made.stream(step, THREAD, stream_mode="messages", subgraphs=True):
                            pass
                else:
                    asyncio.run(self._awaited(made, events=door == "astream_events"))
            except BudgetExceededError as error:
                return Ran("", server.log, error)
            return Ran(told(outcome), server.log)

    async def _awaited(self, made: Any, *, events: bool) -> None:
        for step in self.steps():
            if not events:
                await made.ainvoke(step, THREAD)
                continue
            async for _ in made.astream_events(step, THREAD, version="v2"):
                pass


@contextmanager
def provider(script: Any) -> Iterator[tuple[FakeOpenAI, ChatOpenAI]]:
    """Run a provider, and a real client that asks it."""
    settings: Any = {"verify": False, "trust_env": False}  # it is on this machine
    limits = httpx.Limits(max_keepalive_connections=0)  # none outlives its event loop
    with FakeOpenAI(script) as server, httpx.Client(**settings) as client:
        model = ChatOpenAI(
            base_url=server.base_url,
            api_key=SecretStr("test"),
            model="gpt-4o-mini",
            max_retries=0,
            stream_usage=True,
            http_client=client,
            http_async_client=httpx.AsyncClient(limits=limits, **settings),
        )
        yield server, model


def told(outcome: Any) -> str:
    """Return an outcome as text that can be compared: of messages, who says what."""
    return as_said(_plain(outcome))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseMessage):
        calls = [(call["name"], call["args"]) for call in getattr(value, "tool_calls", ())]
        return [value.type, value.name, value.content, calls]
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def resumes(graph: Graph) -> None:
    """Stopped at 40 %, topped up and resumed, it ends as if nothing had been."""
    manager = scarce(graph)
    plain = graph.run(None)
    refusals, outcome = 0, None
    with provider(graph.script()) as (server, model):
        made = graph.made(model, manager)
        for step in graph.steps():
            try:
                outcome = made.invoke(step, THREAD)
            except BudgetExceededError:
                refusals += 1
                for agent in manager.contracts:
                    manager.top_up(agent, LARGE)
                outcome = made.invoke(None, THREAD)
        used = check_books(graph, manager, server.log)
    assert refusals == 1
    assert told(outcome) == plain.outcome
    assert len(server.log) == len(plain.log) + graph.expected.again, graph.expected.why
    assert (used == needs(graph)) == (not graph.expected.again)
