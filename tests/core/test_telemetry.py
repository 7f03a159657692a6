"""OpenTelemetry: what is measured, and what stands on the caller's span, with the real SDK."""

from __future__ import annotations

import asyncio
import builtins
import gc
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from tbcontracts import BudgetExceededError, BudgetManager, ConfidenceGateError, Usage
from tbcontracts.errors import ConfigurationError
from tbcontracts.events import JournalEntry
from tbcontracts.sizing import CallShape
from tbcontracts.telemetry import OpenTelemetry, names
from tbcontracts.telemetry.otel import NAMES_MAX
from tbcontracts.telemetry.spans import ROUTINE_MAX, SpanEvents
from tbcontracts.tokens import RequestSize

Numbers = dict[tuple[Any, ...], Any]


class Bench:
    """A reader of metrics, an exporter of spans, and a manager that writes to both."""

    def __init__(self, **settings: Any) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.spans = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.tracer: Tracer = tracers.get_tracer("app")
        of_otel = {k: settings.pop(k) for k in list(settings) if k in OTEL_SETTINGS}
        self.telemetry = OpenTelemetry(meter_provider=self.meters, **of_otel)
        self.manager = BudgetManager(telemetry=self.telemetry, **settings)
        self.manager.register_agent(
            "writer", priority=2, max_tokens=1_000, min_reserve=0, confidence_threshold=0.9
        )
        self.manager.register_agent("donor", max_tokens=1_000, min_reserve=0)

    def metrics(self) -> dict[str, Any]:
        """Return what was measured so far, by name."""
        assert self.manager.flush_listeners(10)
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def numbers(self, metric: names.Metric) -> Numbers:
        """Return the values of a metric by its attributes' values, in the order of their names."""
        found = self.metrics().get(metric.named(self.manager.settings.unit)[0])
        points = [] if found is None else found.data.data_points
        return {
            tuple(point.attributes[key] for key in sorted(point.attributes)): (
                point.sum if metric.kind == "histogram" else point.value
            )
            for point in points
        }

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the events of all ended spans, and forget them."""
        ended = self.spans.get_finished_spans()
        found = [(event.name, dict(event.attributes or {})) for s in ended for event in s.events]
        self.spans.clear()
        return found

    def event_names(self) -> list[str]:
        """Return the events' names alone."""
        return [name.removeprefix("tbcontracts.") for name, _ in self.events()]


OTEL_SETTINGS = ("scopes", "span_events", "gen_ai_token_budget")


@pytest.fixture(autouse=True)
def _sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK work, whatever the tests of other packages said of it."""
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Return a bench whose provider is shut down at the end."""
    bench = Bench()
    yield bench
    bench.meters.shutdown()


def refused(manager: BudgetManager, tokens: int = 9_000) -> None:
    """Ask for more than there is."""
    with pytest.raises(BudgetExceededError):
        manager.reserve("writer", tokens)


def test_everything_is_measured(bench: Bench) -> None:
    """Holds and their ends, usage, transfers, top-ups, refusals, overdrafts, scores."""
    manager = bench.manager
    manager.reserve("writer", 1_200).settle(Usage(input_tokens=100, output_tokens=1_000))
    manager.reserve("writer", 50).void()
    refused(manager)
    manager.top_up(None, 30)
    manager.top_up("donor", 5)
    manager.record_usage("donor", Usage(input_tokens=400, measured=False))
    with pytest.raises(BudgetExceededError):
        manager.record_usage("donor", 900)
    manager.report_confidence("writer", 0.95)
    with pytest.raises(ConfidenceGateError):
        manager.reserve("writer", 1)
    manager.reset_confidence("writer")
    numbers = bench.numbers
    assert numbers(names.HOLDS) == {
        ("writer", "held"): 2,
        ("writer", "settled"): 1,
        ("writer", "voided"): 1,
    }
    assert numbers(names.HOLD_SIZE) == {("writer",): 1_250}
    assert numbers(names.USED) == {
        ("writer", True): 1_100,
        ("donor", False): 400,
        ("donor", True): 900,
    }
    assert numbers(names.TRANSFERRED) == {("writer", "agent"): 200, ("donor", "pool"): 30}
    assert numbers(names.TOPPED_UP) == {(): 30, ("donor",): 5}
    assert numbers(names.DENIALS) == {
        ("writer", "budget_exceeded", True): 1,
        ("writer", "confident", True): 1,
    }
    assert numbers(names.OVERDRAFTS) == {("donor",): 1}
    assert numbers(names.CONFIDENCE) == {("writer",): 0.95}
    books = manager.accounts()
    shown = numbers(names.BUDGET)
    for name, account in books.items():
        for state in ("allocated", "consumed", "held", "remaining", "overdraft"):
            assert shown[name, state] == getattr(account, state), (name, state)
    assert books["donor"].overdraft > 0


def test_the_gauge_is_what_the_books_said_last(bench: Bench) -> None:
    """Threads on one scope may be heard in another order than the books have."""
    entries: list[JournalEntry] = []
    bench.manager.add_listener(lambda _scope, entry: entries.append(entry))
    bench.manager.record_usage("donor", 100)
    bench.manager.reserve("writer", 1_500).settle(1_200)
    bench.manager.record_usage("donor", 50)
    books = bench.numbers(names.BUDGET)
    assert books["donor", "allocated"] == 500
    late = bench.telemetry.listen_to(bench.manager)
    for entry in reversed(entries):
        late("default", entry)
    assert {
        (one.attributes[names.AGENT.name], state): amount
        for one in late._accounts.seen()
        for state, amount in one.states.items()
    } == books


def test_of_several_managers_the_gauge_shows_the_newest(tmp_path: Path) -> None:
    """On one set of books, and on two of them where the scope is no attribute."""
    now = [100.0]
    settings: dict[str, Any] = {
        "store": f"sqlite:///{tmp_path}/b.db",
        "scope": "s",
        "clock": lambda: now[0],
    }
    bench = Bench(**settings)
    others = [BudgetManager(telemetry=bench.telemetry, **settings) for _ in range(8)]
    for other in others:
        for contract in bench.manager.contracts.values():
            other.register(contract)
    used = 0
    for turn in range(3):
        for manager in (*others[turn:], bench.manager, *others[:turn]):
            now[0] += 1
            manager.record_usage("writer", 7)
            assert manager.flush_listeners(10)
            used += 7
            assert bench.numbers(names.BUDGET)["writer", "consumed"] == used
    for number, manager in enumerate((bench.manager, *others)):
        now[0] += 1
        manager.scope(f"run {number}").record_usage("writer", number)
        assert manager.flush_listeners(10)
        assert bench.numbers(names.BUDGET)["writer", "consumed"] == number


def test_every_instrument_is_in_the_list(bench: Bench) -> None:
    """Names, kinds, units and attributes are those that `names` has, and no others are made."""
    test_everything_is_measured(bench)
    kinds = {"Sum": "counter", "Histogram": "histogram", "Gauge": "gauge"}
    known = {metric.name: metric for metric in names.METRICS}
    found = bench.metrics()
    assert set(found) == set(known)
    for name, one in found.items():
        metric = known[name]
        assert (kinds[type(one.data).__name__], one.unit) == (metric.kind, metric.unit)
        assert one.description == metric.meaning
        for point in one.data.data_points:
            assert set(point.attributes) - {names.AGENT.name} == set(metric.attributes)
    assert not any("gen_ai.client" in name for name in found)


def test_equal_refusals_are_each_counted(bench: Bench) -> None:
    """The journal repeats no equal denial; the metric and the span of each caller have it."""
    with bench.tracer.start_as_current_span("one"):
        refused(bench.manager)
    with bench.tracer.start_as_current_span("two"):
        refused(bench.manager)
    assert len([e for e in bench.manager.journal() if e.kind == "denied"]) == 1
    assert bench.numbers(names.DENIALS) == {("writer", "budget_exceeded", True): 2}
    spans = bench.spans.get_finished_spans()
    assert [[e.name for e in span.events][-1:] for span in spans] == [["tbcontracts.denied"]] * 2
    denied = dict(spans[1].events[-1].attributes or {})
    assert denied == {
        "gen_ai.agent.name": "writer",
        "tbcontracts.scope": "default",
        "tbcontracts.amount": 9_000,
        "tbcontracts.unit": "tokens",
        "tbcontracts.available": 2_000,
        "tbcontracts.code": "budget_exceeded",
    }


def test_what_happens_at_a_call_is_on_its_span(bench: Bench) -> None:
    """Hold, transfer, settlement, overdraft, refusal; nothing of another thread or after it."""
    manager = bench.manager
    with bench.tracer.start_as_current_span("call"):
        with manager.reserve("writer", 1_500) as hold:
            hold.settle(1_400)
        with pytest.raises(BudgetExceededError):
            manager.record_usage("writer", 2_000, "private words")
        manager.scope("gate").report_confidence("writer", 1)
        with pytest.raises(ConfidenceGateError):
            manager.scope("gate").reserve("writer", 1)
        thread = threading.Thread(target=manager.scope("x").record_usage, args=("donor", 1))
    thread.start()
    thread.join()
    events = bench.events()
    assert [name.removeprefix("tbcontracts.") for name, _ in events] == [
        "held",
        "transferred",
        "settled",
        "charged",
        "transferred",
        "overdraft",
        "denied",
    ]
    assert events[1][1]["tbcontracts.donors"] == ("donor",)
    assert events[1][1]["tbcontracts.amount"] == 500
    assert events[5][1]["tbcontracts.amount"] == -manager.remaining("writer")
    assert events[6][1]["tbcontracts.score"] == 1.0
    assert events[6][1]["tbcontracts.threshold"] == 0.9
    known = {attribute.name for attribute in names.ATTRIBUTES}
    for name, attributes in events:
        assert name.removeprefix("tbcontracts.") in names.SPAN_EVENTS
        assert set(attributes) <= known
    assert "private words" not in str(events)


def test_awaited_calls_and_threads_have_their_own_spans(bench: Bench) -> None:
    """Many at once: each span has its own refusal, and no other's."""
    manager = bench.manager

    async def awaited(number: int) -> None:
        with bench.tracer.start_as_current_span(f"task {number}"):
            await asyncio.sleep(0)
            with pytest.raises(BudgetExceededError):
                await manager.areserve("writer", 10_000 + number)

    async def many() -> None:
        await asyncio.gather(*(awaited(number) for number in range(20)))

    asyncio.run(many())

    def threaded(number: int) -> None:
        with bench.tracer.start_as_current_span(f"thread {number}"):
            refused(manager, 20_000 + number)

    threads = [threading.Thread(target=threaded, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found: dict[str, list[Any]] = {}
    for span in bench.spans.get_finished_spans():
        found[span.name] = [
            (event.attributes or {})["tbcontracts.amount"]
            for event in span.events
            if event.name == "tbcontracts.denied"
        ]
    expected = {f"task {number}": [10_000 + number] for number in range(20)}
    assert found == {**expected, **{f"thread {n}": [20_000 + n] for n in range(20)}}


def test_a_long_span_keeps_its_refusal(bench: Bench) -> None:
    """Routine events stop at some number, so that rare ones and the user's own stay."""
    with bench.tracer.start_as_current_span("run") as span:
        span.add_event("mine")
        for _ in range(300):
            bench.manager.reserve("writer", 1).settle(1)
        refused(bench.manager)
    found = bench.event_names()
    assert found.count("mine") == 1
    assert found.count("held") + found.count("settled") == ROUTINE_MAX
    assert found[-1] == "denied"


def test_observe_mode_says_what_it_would_have_done() -> None:
    """An event and a count for each, marked as not enforced."""
    bench = Bench(enforcement="observe")
    with bench.tracer.start_as_current_span("call"):
        bench.manager.reserve("writer", 9_000).settle(10)
        bench.manager.reserve("writer", 9_000).settle(10)
    assert bench.numbers(names.DENIALS) == {("writer", "budget_exceeded", False): 2}
    assert bench.event_names() == ["would_deny", "settled"] * 2


def test_expired_holds_and_late_truth() -> None:
    """A strict hold that expires is charged; what is settled later adds only what is more."""
    now = [1_000.0]
    bench = Bench(enforcement="strict", clock=lambda: now[0])
    manager = bench.manager
    first, second = manager.reserve("writer", 300, ttl_s=5), manager.reserve("writer", 300, ttl_s=5)
    now[0] += 10
    with bench.tracer.start_as_current_span("sweeps"):
        manager.reserve("writer", 1).void()
    assert bench.event_names() == ["expired", "expired", "held", "voided"]
    first.settle(350)
    second.settle(100)
    assert manager.accounts()["writer"].consumed == 450
    assert bench.numbers(names.USED) == {("writer", False): 600, ("writer", True): 50}
    assert bench.numbers(names.HOLDS)["writer", "expired"] == 2


def test_scopes_are_an_attribute_where_that_is_wished() -> None:
    """Otherwise an agent is shown on the books that were touched last."""
    for scopes, consumed in ((False, {("a", "consumed"): 5}), (True, None)):
        bench = Bench(scopes=scopes)
        bench.manager.register_agent("a", max_tokens=50)
        bench.manager.scope("one").record_usage("a", 9)
        bench.manager.scope("two").record_usage("a", 5)
        shown = bench.numbers(names.BUDGET)
        states = {key: value for key, value in shown.items() if key[0] == "a"}
        if consumed is not None:
            assert states["a", "consumed"] == 5
            assert bench.numbers(names.USED) == {("a", True): 14}
        else:
            assert states["a", "one", "consumed"] == 9
            assert states["a", "two", "consumed"] == 5
            assert bench.numbers(names.USED) == {("a", True, "one"): 9, ("a", True, "two"): 5}


def test_too_many_names_are_one(bench: Bench) -> None:
    """Names that come once cannot make time series without end."""
    bench.manager.register_pattern("w *", max_tokens=10, agents_max=NAMES_MAX + 50)
    for number in range(NAMES_MAX + 20):
        bench.manager.record_usage(f"w {number}", 1)
    used = bench.numbers(names.USED)
    assert len(used) == NAMES_MAX - 2 + 1  # writer and donor were named before
    assert used["(other)", True] == 22


def test_how_many_agents_the_gauge_shows_whole(bench: Bench) -> None:
    """The SDK keeps 2,000 sets of attributes, which are five for each agent; the page says so."""
    bench.manager.register_pattern("w_*", max_tokens=10)
    for number in range(410):
        bench.manager.record_usage(f"w_{number}", 1)
    measured = bench.metrics()
    states, used = (
        Counter(point.attributes.get(names.AGENT.name) for point in points)
        for points in (
            measured["tbcontracts.budget.tokens"].data.data_points,
            measured["tbcontracts.used.tokens"].data.data_points,
        )
    )
    assert [of_one for of_one in states.values() if of_one == 5] == [5] * 400
    assert states[None] == 1  # the rest
    assert len(used) == 410
    page = Path(__file__).parents[2] / "docs/content/telemetry.md"
    assert "with more than 400 agents it is not whole" in page.read_text(encoding="utf-8")


def test_proposed_names_are_behind_a_switch(bench: Bench) -> None:
    """Attributes of the span and a share at the end; off, none of them is there."""
    for one in (bench, Bench(gen_ai_token_budget=True)):
        with one.tracer.start_as_current_span("invoke_agent writer"):
            one.manager.reserve("writer", 100).settle(80)
            one.manager.record_usage("writer", 170)
        one.manager.finish("writer")
        one.manager.record_usage("donor", 100)
        one.manager.close_scope()
        (span,) = one.spans.get_finished_spans()
        attributes = dict(span.attributes or {})
        shares = one.numbers(names.PROPOSED_UTILIZATION)
        if one is bench:
            assert attributes == {}
            assert shares == {}
        else:
            assert attributes == {
                "gen_ai.agent.token_budget.limit": 1_000,
                "gen_ai.agent.token_budget.consumed": 250,
            }
            assert shares == {("writer",): 0.25, ("donor",): 0.1}
            assert not any("client.token.usage" in name for name in one.metrics())


def test_who_closes_a_scope_tells_what_all_used(tmp_path: Path) -> None:
    """Also of agents that it never worked for; one that finished was told then."""
    url = f"sqlite:///{tmp_path}/b.db"
    bench = Bench(gen_ai_token_budget=True, store=url)
    other = BudgetManager(store=url)
    bench.manager.record_usage("writer", 10)
    other.register(bench.manager.contracts["writer"])
    other.register(bench.manager.contracts["donor"])
    other.record_usage("writer", 100)
    other.record_usage("donor", 300)
    other.finish("donor")
    bench.manager.close_scope()
    assert bench.numbers(names.PROPOSED_UTILIZATION) == {("writer",): 0.11}


def test_managers_share_instruments_and_leave_nothing_behind() -> None:
    """One object for many managers: their numbers meet; those that are gone are not shown."""
    bench = Bench()
    other = BudgetManager(telemetry=bench.telemetry)
    other.register_agent("other", max_tokens=10)
    other.record_usage("other", 3)
    assert other.flush_listeners(10)
    bench.manager.record_usage("writer", 4)
    assert bench.numbers(names.USED) == {("other", True): 3, ("writer", True): 4}
    assert ("other", "consumed") in bench.numbers(names.BUDGET)
    del other
    gc.collect()
    assert ("other", "consumed") not in bench.numbers(names.BUDGET)


def test_names_without_a_contract_have_no_limit_to_show(bench: Bench) -> None:
    """What they used is shown; they are never overdrawn."""
    with pytest.warns(UserWarning, match="'nobody' has no contract"):
        bench.manager.begin_call("nobody", CallShape(RequestSize(5, 5))).hold.settle(50)
    shown = {key: value for key, value in bench.numbers(names.BUDGET).items() if key[0] == "nobody"}
    assert shown == {("nobody", "consumed"): 50, ("nobody", "held"): 0}
    assert bench.numbers(names.OVERDRAFTS) == {}


def test_events_can_be_switched_off_and_need_a_recording_span(bench: Bench) -> None:
    """No event then; the metrics stay."""
    refused(bench.manager)  # no span is current
    off = Bench(span_events=False)
    with off.tracer.start_as_current_span("call"):
        refused(off.manager)
    for one in (bench, off):
        assert one.events() == []
        assert one.numbers(names.DENIALS) == {("writer", "budget_exceeded", True): 1}


def test_one_that_fails_at_the_call_breaks_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal is raised as it is, and the call is held; the log has the error."""

    def fails(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(SpanEvents, "add", fails)
    monkeypatch.setattr(SpanEvents, "add_refusal", fails)
    bench.manager.reserve("writer", 10).settle(10)
    refused(bench.manager)
    assert "A listener failed where a call was made." in caplog.text
    assert bench.manager.remaining("writer") == 990


def test_the_word_is_one_for_all_and_others_are_told() -> None:
    """`telemetry="otel"` writes to the global provider; a wrong word names the right one."""
    one, other = BudgetManager(telemetry="otel"), BudgetManager.from_config({"telemetry": "otel"})
    first, second = (m._engine.listeners._listeners[0] for m in (one, other))
    assert first._to is second._to  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match='telemetry must be "otel" or a listener'):
        BudgetManager(telemetry="otle")
    with pytest.raises(ConfigurationError, match="telemetry: must be 'otel', not 'otle'"):
        BudgetManager.from_config({"telemetry": "otle"})
    with pytest.raises(ConfigurationError, match='must be "otel" or a listener, not 5'):
        BudgetManager(telemetry=5)  # type: ignore[arg-type]


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for only by those who want it."""
    real = builtins.__import__

    def no_otel(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", no_otel)
    with pytest.raises(ImportError, match=r'pip install "tbcontracts\[otel\]"'):
        OpenTelemetry()
    BudgetManager(telemetry=lambda scope, entry: None)


def test_a_disabled_sdk_breaks_nothing() -> None:
    """`OTEL_SDK_DISABLED=true` and no SDK set up at all: calls are held and refused as ever."""
    script = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from tbcontracts import BudgetExceededError, BudgetManager
metrics.set_meter_provider(MeterProvider())
trace.set_tracer_provider(TracerProvider())
manager = BudgetManager(telemetry="otel")
manager.register_agent("a", max_tokens=10)
with trace.get_tracer("x").start_as_current_span("s"):
    manager.reserve("a", 5).settle(5)
    try:
        manager.reserve("a", 50)
    except BudgetExceededError as error:
        print(error.code, manager.flush_listeners(10))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OTEL_SDK_DISABLED": "true"},
    )
    assert done.stdout == "budget_exceeded True\n"
    assert done.stderr == ""


def test_dollars_have_names_of_their_own() -> None:
    """Amounts of two units never meet in one instrument."""
    for metric in names.METRICS:
        name, unit = metric.named("usd")
        if metric.unit == "{token}":
            assert name == metric.name.replace(".tokens", ".micro_usd")
            assert unit == "{micro_usd}"
        else:
            assert (name, unit) == (metric.name, metric.unit)


def test_the_page_has_every_name() -> None:
    """Metrics, span events and attributes stand in the page's tables as the constants say."""
    text = (Path(__file__).parents[2] / "docs" / "content" / "telemetry.md").read_text("utf-8")
    for metric in (*names.METRICS, names.PROPOSED_UTILIZATION):
        attributes = ", ".join(f"`{name}`" for name in metric.attributes)
        row = (metric.name, metric.kind, metric.unit)
        cells = [*(f"`{row[0]}` {row[1]} `{row[2]}`".split()), attributes, metric.meaning]
        assert f"| {' | '.join(cells)} |".replace("|  |", "| |") in text, metric.name
    proposed = (names.PROPOSED_LIMIT, names.PROPOSED_CONSUMED)
    for attribute in (*names.ATTRIBUTES, *proposed):
        assert f"| `{attribute.name}` | {attribute.meaning} |" in text, attribute.name
    for event, meaning in names.SPAN_EVENTS.items():
        assert f"| `tbcontracts.{event}` | {meaning} |" in text, event
    constants = list(vars(names).values())
    listed = {one for one in constants if isinstance(one, names.Attribute)}
    assert listed == {*names.ATTRIBUTES, *proposed}
    metrics = {one for one in constants if isinstance(one, names.Metric)}
    assert metrics == {*names.METRICS, names.PROPOSED_UTILIZATION}
