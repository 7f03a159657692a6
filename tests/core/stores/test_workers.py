"""Processes that share one scope through real graphs: one budget for all, and none leaks."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.heartbeat import TTL_S
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_langchain.usage import call_shape
from tbcontracts_langgraph import budget, govern_graph

WORKERS, CALLS_EACH, SIZE, BUDGET = 4, 10, 2_000, 5_000
PROMPT = "hello"
FORK = multiprocessing.get_context("fork")
_opened: list[BudgetManager] = []


@pytest.fixture
def provider() -> Iterator[tuple[FakeOpenAI, threading.Event]]:
    """Return a provider that bills each call's whole cap, and answers when an event is set."""
    answer = threading.Event()

    def script(_: object) -> Answer:
        return Answer(text="Yes.", input_tokens=input_tokens(), fill=True, hold=answer)

    with FakeOpenAI(script) as server:
        yield server, answer


def input_tokens() -> int:
    """Return how large the request is, as the handler sees it."""
    return call_shape([HumanMessage(PROMPT)], {}, {}).size.input_tokens


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close the stores that a test opened."""
    yield
    while _opened:
        _opened.pop().store.close()


def manager_on(url: str, clock: Callable[[], float] | None = None) -> BudgetManager:
    """Return a manager of one process."""
    manager = BudgetManager(store=url, scope="acme/run-7", clock=clock)
    manager.register_agent("writer", max_tokens=BUDGET)
    _opened.append(manager)
    return manager


def graph_on(manager: BudgetManager, base_url: str) -> Any:
    """Return a governed graph of one node, which asks a real client."""
    model = ChatOpenAI(
        base_url=base_url,
        api_key=SecretStr("test"),
        model="gpt-4o-mini",
        max_retries=0,
        max_completion_tokens=SIZE - input_tokens(),
    )

    def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("writer", write, metadata=budget("writer"))
    builder.add_edge(START, "writer")
    return govern_graph(builder, manager)


def run_graph(graph: Any) -> str:
    """Run a graph; return how it went."""
    try:
        graph.invoke({"messages": [("user", PROMPT)]})
    except BudgetExceededError:
        return "refused"
    except Exception as error:
        return repr(error)
    return "answered"


def work(url: str, base_url: str, start: Any, outcomes: Any) -> None:
    """Run ten graphs at once, together with the other workers."""
    graph = graph_on(manager_on(url), base_url)
    start.wait()
    with ThreadPoolExecutor(CALLS_EACH) as threads:
        for _ in range(CALLS_EACH):
            threads.submit(lambda: outcomes.put(run_graph(graph)))


def begin(target: Callable[..., None], *arguments: Any) -> Any:
    """Start a worker: forked, because the frameworks take seconds to import."""
    process = FORK.Process(target=target, args=arguments)
    process.start()
    return process


def test_four_workers_share_one_budget(
    url: str, provider: tuple[FakeOpenAI, threading.Event]
) -> None:
    """40 calls of 2,000 on 5,000, all decided before the first answer: 2 requests are sent."""
    server, answer = provider
    manager_on(url).report()
    start, outcomes = FORK.Barrier(WORKERS), FORK.Queue()
    workers = [begin(work, url, server.base_url, start, outcomes) for _ in range(WORKERS)]
    fit = BUDGET // SIZE
    calls = WORKERS * CALLS_EACH
    first = [outcomes.get(timeout=100) for _ in range(calls - fit)]
    answer.set()
    rest = [outcomes.get(timeout=100) for _ in range(fit)]
    for worker in workers:
        worker.join(60)
    assert first == ["refused"] * (calls - fit)
    assert rest == ["answered"] * fit
    assert [request.billed_tokens for request in server.log] == [SIZE] * fit
    manager = manager_on(url)
    account = manager.accounts()["writer"]
    assert (account.consumed, account.held, account.denials) == (fit * SIZE, 0, calls - fit)
    held = [entry.amount for entry in manager.journal() if entry.kind == "held"]
    assert held == [SIZE] * fit


def work_once(url: str, base_url: str) -> None:
    """Run one graph."""
    run_graph(graph_on(manager_on(url), base_url))


def test_a_worker_that_is_killed_during_its_call_leaks_nothing(
    url: str, provider: tuple[FakeOpenAI, threading.Event]
) -> None:
    """Its hold blocks budget until its limit has passed, and not longer."""
    server, answer = provider
    manager = manager_on(url)
    manager.report()
    held_twice = [begin(work_once, url, server.base_url) for _ in range(BUDGET // SIZE)]
    server.wait_for_requests(len(held_twice), 100)  # held for, sent, and not answered
    for worker in held_twice:
        worker.kill()
        worker.join(60)
        assert worker.exitcode == -signal.SIGKILL
    answer.set()
    assert manager.accounts()["writer"].held == len(held_twice) * SIZE
    assert run_graph(graph_on(manager, server.base_url)) == "refused"
    later = manager.journal()[-1].at + TTL_S
    after = manager_on(url, clock=lambda: later)
    assert run_graph(graph_on(after, server.base_url)) == "answered"
    account = after.accounts()["writer"]
    assert (account.consumed, account.held) == (SIZE, 0)
    assert account.expired_holds == len(held_twice)
