"""A bench that is shut down at the end, and an SDK that works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.core.telemetry.bench import Bench


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
