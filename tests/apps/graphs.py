"""Running a graph application: plain, under contracts, and through each of LangGraph's doors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import SecretStr
from tests.apps.harness import (
    LARGE,
    Expected,
    as_said,
    check_books,
    contracts,
    large,
    prompts_sent,
    sent_after_refusal,
)

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import FakeOpenAI, LoggedRequest

THREAD: dict[str, Any] = {"configurable": {"thread_id": "t"}, "recursion_limit": 60}
_needs: dict[str, dict[str, int]] = {}


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An application, what the provider answers it, and what it is expected to do."""

    name: str
    build: Callable[..., Any]
    """Makes it, of a model and a checkpointer."""
    governed: Callable[..., Any]
    """Makes it under contracts: of a model, a manager and a checkpointer."""
    prompts: Mapping[str, str]
    """The agent of each system prompt, as the books call it."""
    script: Callable[[], Any]
    """What the provider answers, anew for each run."""
    asked: Any
    """What it is asked to do."""
    expected: Expected
    approvals: Sequence[Any] = ()
    """How the people it asks answer."""
    faults: int = 0
    """How many of its requests the provider fails, at no cost."""
    keeps: bool = True
    """Whether it takes a checkpointer, and is at its end where it would have been."""


class Ran(NamedTuple):
    """A run: what came of it, and what the provider logged."""

    outcome: Any
    log: tuple[LoggedRequest, ...]
    error: Exception | None = None


@contextmanager
def provider(case: Graph) -> Iterator[tuple[FakeOpenAI, ChatOpenAI]]:
    """Run a provider with the script of an application, and a real client that asks it."""
    limits = httpx.Limits(max_keepalive_connections=0)
    with (
        FakeOpenAI(case.script()) as server,
        httpx.Client(verify=False, trust_env=False) as client,
    ):
        yield (
            server,
            ChatOpenAI(
                base_url=server.base_url,
                api_key=SecretStr("test"),
                model="gpt-4o-mini",
                max_retries=0,
                stream_usage=True,
                http_client=client,
                http_async_client=httpx.AsyncClient(verify=False, trust_env=False, limits=limits),
            ),
        )


def steps(case: Graph) -> Iterator[Any]:
    """Yield what the application is asked, and what is answered to what it asks."""
    yield case.asked
    for approval in case.approvals:
        yield Command(resume=approval)


def drive(case: Graph, application: Any) -> Any:
    """Ask the application, and answer what it asks, until it is done."""
    outcome = None
    for step in steps(case):
        outcome = application.invoke(step, THREAD)
    return outcome


async def adrive(case: Graph, application: Any) -> None:
    """Do the same awaited."""
    for step in steps(case):
        await application.ainvoke(step, THREAD)


async def watch(case: Graph, application: Any) -> None:
    """Do the same, reading every event."""
    for step in steps(case):
        async for _ in application.astream_events(step, THREAD, version="v2"):
            pass


def read(case: Graph, application: Any) -> None:
    """Do the same, reading the messages of every graph in it piece by piece."""
    for step in steps(case):
        for _ in application.stream(step, THREAD, stream_mode="messages", subgraphs=True):
            pass


DOORS: dict[str, Callable[[Graph, Any], object]] = {
    "ainvoke": lambda case, application: asyncio.run(adrive(case, application)),
    "astream_events": lambda case, application: asyncio.run(watch(case, application)),
    "stream_messages": read,
}


def plain(case: Graph) -> Ran:
    """Run an application without contracts."""
    with provider(case) as (server, model):
        application = case.build(model, *saver(case))
        return Ran(drive(case, application), server.log)


def governed(
    case: Graph, manager: BudgetManager, door: Callable[[Graph, Any], object] = drive
) -> Ran:
    """Run an application under contracts, until it is done or refused."""
    with provider(case) as (server, model):
        application = case.governed(model, manager, *saver(case))
        try:
            return Ran(door(case, application), server.log)
        except BudgetExceededError as error:
            return Ran(None, server.log, error)


def saver(case: Graph) -> tuple[InMemorySaver, ...]:
    """Return a checkpointer for an application that takes one."""
    return (InMemorySaver(),) if case.keeps else ()


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


def needs(case: Graph) -> dict[str, int]:
    """Return what each agent of an application uses when nothing stops it."""
    if case.name not in _needs:
        manager = large(case.prompts)
        _needs[case.name] = check_books(manager, governed(case, manager).log, case.prompts)
    return _needs[case.name]


def share(needed: Mapping[str, int], percent: int) -> dict[str, int]:
    """Return a part of what each agent needs."""
    return {agent: max(1, tokens * percent // 100) for agent, tokens in needed.items()}


# --- what is asked of each ------------------------------------------------------------------------


def changes_nothing(case: Graph) -> tuple[int, int]:
    """Contracts change neither prompts nor outputs, and the books are the provider's log.

    Returns:
        How many requests were sent, and what they cost.
    """
    without = plain(case)
    manager = large(case.prompts)
    under = governed(case, manager)
    assert under.error is None
    assert prompts_sent(under.log) == prompts_sent(without.log)
    assert told(under.outcome) == told(without.outcome)
    assert sum(request.status != 200 for request in under.log) == case.faults
    truth = check_books(manager, under.log, case.prompts)
    assert set(truth) == set(case.prompts.values()), "an agent of the application did nothing"
    return len(under.log), sum(truth.values())


def stops(case: Graph, needed: Mapping[str, int]) -> None:
    """With 40 % of what it needs it stops, and what is sent after the first refusal is known."""
    manager = contracts(share(needed, 40))
    ran = governed(case, manager)
    assert isinstance(ran.error, BudgetExceededError)
    check_books(manager, ran.log, case.prompts)
    assert 0 < len(ran.log) < len(plain(case).log)
    assert sent_after_refusal(manager, ran.log) == case.expected.after_refusal, case.expected.why


def starves(case: Graph, needed: Mapping[str, int]) -> None:
    """One agent has all that it wants, the others one token: they are refused, it is not."""
    expected = case.expected
    budgets = {agent: LARGE if agent == expected.rich else 1 for agent in needed}
    manager = BudgetManager()
    for agent, tokens in budgets.items():
        priority = 2 if agent == expected.rich else 1
        manager.register_agent(agent, max_tokens=tokens, priority=priority)
    ran = governed(case, manager)
    spent = check_books(manager, ran.log, case.prompts)
    assert set(spent) <= {expected.rich}
    assert len(ran.log) == expected.sent
    assert getattr(ran.error, "agent_name", None) in (expected.refused or (None,))


def same_through(case: Graph, needed: Mapping[str, int], door: str) -> None:
    """Awaited, as events or piece by piece: the books are the same."""
    manager = large(case.prompts)
    ran = governed(case, manager, DOORS[door])
    assert ran.error is None
    assert check_books(manager, ran.log, case.prompts) == needed


def resumes(case: Graph, needed: Mapping[str, int]) -> None:
    """Stopped at 40 %, topped up and resumed, it ends as if nothing had been."""
    manager = contracts(share(needed, 40))
    with provider(case) as (server, model):
        application = case.governed(model, manager, *saver(case))
        refusals = 0
        for step in steps(case):
            try:
                outcome = application.invoke(step, THREAD)
            except BudgetExceededError:
                refusals += 1
                for agent in needed:
                    manager.top_up(agent, LARGE)
                outcome = application.invoke(None, THREAD)
        assert refusals == 1
        without = plain(case)
        assert told(outcome) == told(without.outcome)
        used = check_books(manager, server.log, case.prompts)
        assert len(server.log) == len(without.log) + case.expected.again, case.expected.why
        assert (used == needed) == (not case.expected.again)
