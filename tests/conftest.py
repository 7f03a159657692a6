"""What all tests share."""

from __future__ import annotations

import os

import pytest

# Before any framework is imported: nothing phones home, nothing asks questions.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_DISABLE_VERSION_CHECK", "true")
os.environ.setdefault("OTEL_SDK_DISABLED", "true")
os.environ.setdefault("LANGSMITH_TRACING", "false")


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which the frameworks need."""
    return "asyncio"
