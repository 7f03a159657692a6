"""Names of instruments and attributes: in dollars, on the page, and those only proposed."""

from __future__ import annotations

from pathlib import Path

from tests.core.telemetry.bench import Bench

from tbcontracts import BudgetManager
from tbcontracts.telemetry import names


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
    text = (Path(__file__).parents[3] / "docs" / "content" / "telemetry.md").read_text("utf-8")
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
