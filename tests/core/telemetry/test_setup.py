"""How telemetry is switched on: one word, a missing package, an SDK that is disabled."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from typing import Any

import pytest

from tbcontracts import BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts.telemetry import OpenTelemetry


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
