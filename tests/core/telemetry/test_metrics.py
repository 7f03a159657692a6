"""What is measured: every instrument and its numbers, and whom the gauge shows."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.core.telemetry.bench import Bench, refused

from tbcontracts import BudgetExceededError, BudgetManager, ConfidenceGateError, Usage
from tbcontracts.events import JournalEntry
from tbcontracts.sizing import CallShape
from tbcontracts.telemetry import names
from tbcontracts.telemetry.otel import NAMES_MAX
from tbcontracts.tokens import RequestSize


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
    page = Path(__file__).parents[3] / "docs/content/telemetry.md"
    assert "with more than 400 agents it is not whole" in page.read_text(encoding="utf-8")


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
