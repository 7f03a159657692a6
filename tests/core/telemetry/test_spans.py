"""What stands on the caller's span: events of its own calls, and no others."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from tests.core.telemetry.bench import Bench, refused

from tbcontracts import BudgetExceededError, BudgetManager, ConfidenceGateError
from tbcontracts.sizing import CallShape
from tbcontracts.telemetry import OpenTelemetry, names
from tbcontracts.telemetry.spans import ROUTINE_MAX, SpanEvents
from tbcontracts.tokens import RequestSize


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


def test_an_amount_that_nobody_knows_is_not_0(bench: Bench) -> None:
    """A call to a model without a price has no amount; refused, or let through by observe mode."""
    telemetry = OpenTelemetry(meter_provider=MeterProvider([]))
    shape = CallShape(RequestSize(10, 40), output_cap=20, model="unheard of")
    for mode in ("expected", "observe"):
        prices = {"known": {"input": 1, "output": 1}}
        manager = BudgetManager(unit="usd", enforcement=mode, prices=prices, telemetry=telemetry)
        manager.register_agent("writer", max_usd=1)
        with bench.tracer.start_as_current_span(mode), suppress(BudgetExceededError):
            manager.begin_call("writer", shape)
    refusals = [
        event
        for span in bench.spans.get_finished_spans()
        for event in span.events
        if (event.attributes or {}).get("tbcontracts.code") == "unknown_price"
    ]
    assert [event.name for event in refusals] == ["tbcontracts.denied", "tbcontracts.would_deny"]
    assert [event for event in refusals if "tbcontracts.amount" in (event.attributes or {})] == []


def test_observe_mode_says_the_score_that_would_have_closed_the_gate(bench: Bench) -> None:
    """As a refusal does."""
    telemetry = OpenTelemetry(meter_provider=MeterProvider([]))
    manager = BudgetManager(enforcement="observe", telemetry=telemetry)
    manager.register_agent("writer", max_tokens=100, confidence_threshold=0.9)
    with bench.tracer.start_as_current_span("gate"):
        manager.report_confidence("writer", 0.95)
        manager.reserve("writer", 5)
    ((name, about),) = bench.events()
    assert name == "tbcontracts.would_deny"
    assert (about["tbcontracts.score"], about["tbcontracts.threshold"]) == (0.95, 0.9)


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
