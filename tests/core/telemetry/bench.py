"""A bench for OpenTelemetry's real SDK: metrics and spans are read where they arrive."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.telemetry import OpenTelemetry, names

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


def refused(manager: BudgetManager, tokens: int = 9_000) -> None:
    """Ask for more than there is."""
    with pytest.raises(BudgetExceededError):
        manager.reserve("writer", tokens)
