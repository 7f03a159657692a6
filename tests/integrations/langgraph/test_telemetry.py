"""A graph under the user's own span: what happens to its calls stands on that span."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.telemetry import OpenTelemetry
from tbcontracts_langgraph import budget, govern_graph

pytestmark = pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")


class State(TypedDict):
    """What the graphs here pass on."""

    notes: Annotated[list[str], operator.add]


class Traced:
    """A graph of one agent that fits and one that is refused, and what was traced of it."""

    def __init__(self, world: Any, url: str, *, awaited: bool) -> None:
        self.exporter = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer: Tracer = tracers.get_tracer("app")
        self.reader = InMemoryMetricReader()
        telemetry = OpenTelemetry(meter_provider=MeterProvider([self.reader]))
        self.manager = BudgetManager(store=url, telemetry=telemetry)
        builder = StateGraph(State)
        for name, tokens in (("fits", 5_000), ("poor", 3)):
            node = self.anode(world, name) if awaited else self.node(world, name)
            given = budget(name, max_tokens=tokens, min_reserve=tokens)
            builder.add_node(name, node, metadata=given)
        builder.add_edge(START, "fits")
        builder.add_edge("fits", "poor")
        self.app = govern_graph(builder, self.manager)

    @staticmethod
    def node(world: Any, name: str) -> Callable[..., Any]:
        """Return a node that asks."""

        def ask(state: State, config: RunnableConfig) -> dict[str, list[str]]:
            return {"notes": [world.model.invoke([("system", name), ("user", "go")], config).text]}

        return ask

    @staticmethod
    def anode(world: Any, name: str) -> Callable[..., Any]:
        """Return a node that asks and awaits the answer."""

        async def ask(state: State, config: RunnableConfig) -> dict[str, list[str]]:
            answer = await world.model.ainvoke([("system", name), ("user", "go")], config)
            return {"notes": [answer.text]}

        return ask

    def spans(self) -> dict[str, ReadableSpan]:
        """Return the spans that ended, by name."""
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture(autouse=True)
def _sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK work, whatever the tests of other packages said of it."""
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)


@pytest.fixture(params=["memory://", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    """Return where the books are."""
    return f"sqlite:///{tmp_path / 'b.db'}" if request.param == "sqlite" else "memory://"


def told(span: ReadableSpan) -> list[tuple[str, object]]:
    """Return the events of a span, and whose they are."""
    return [
        (event.name.removeprefix("tbcontracts."), (event.attributes or {})["gen_ai.agent.name"])
        for event in span.events
        if event.name.startswith("tbcontracts.")
    ]


EXPECTED = [("held", "fits"), ("settled", "fits"), ("denied", "poor")]


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "astream", "thread"])
def test_the_refusal_is_on_the_callers_span(world: Any, url: str, how: str) -> None:
    """Once, with the calls before it; whichever way the graph is run."""
    traced = Traced(world, url, awaited=how in ("ainvoke", "astream"))

    async def streamed() -> None:
        async for _ in traced.app.astream({"notes": []}):
            pass

    ways: dict[str, Callable[[], object]] = {
        "invoke": lambda: traced.app.invoke({"notes": []}),
        "thread": lambda: traced.app.invoke({"notes": []}),
        "stream": lambda: list(traced.app.stream({"notes": []})),
        "ainvoke": lambda: asyncio.run(traced.app.ainvoke({"notes": []})),
        "astream": lambda: asyncio.run(streamed()),
    }

    def run() -> None:
        with traced.tracer.start_as_current_span("request"), pytest.raises(BudgetExceededError):
            ways[how]()

    if how == "thread":
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        run()
    events = told(traced.spans()["request"])
    assert [event for event in events if event[0] != "opened"] == EXPECTED
    assert "go" not in str([dict(e.attributes or {}) for e in traced.spans()["request"].events])
    traced.manager.store.close()


def test_runs_at_the_same_time_are_told_apart(world: Any) -> None:
    """Each task's span has its own calls and its own refusal."""
    traced = Traced(world, "memory://", awaited=True)

    async def one(number: int) -> None:
        span = traced.tracer.start_as_current_span(f"run {number}")
        with span, pytest.raises(BudgetExceededError):
            await traced.app.ainvoke({"notes": []})

    async def many() -> None:
        await asyncio.gather(*(one(number) for number in range(5)))

    asyncio.run(many())
    assert [told(traced.spans()[f"run {number}"]) for number in range(5)] == [EXPECTED] * 5
    assert traced.manager.flush_listeners(10)
    data = traced.reader.get_metrics_data()
    assert data is not None
    metrics = {m.name: m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    (denials,) = metrics["tbcontracts.denials"].data.data_points
    assert denials.value == 5  # type: ignore[union-attr]
    (used,) = metrics["tbcontracts.used.tokens"].data.data_points
    assert used.value == world.server.billed_tokens  # type: ignore[union-attr]
