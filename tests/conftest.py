"""What all tests share."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.ledgers"]

# Before any framework is imported: nothing phones home, nothing asks questions.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_DISABLE_VERSION_CHECK", "true")
os.environ.setdefault("OTEL_SDK_DISABLED", "true")
os.environ.setdefault("LANGSMITH_TRACING", "false")


# How fast the machine is says nothing about the code.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("any_machine", deadline=None, suppress_health_check=_SLOW)
settings.load_profile("any_machine")


_FREEZE_AFTER = 100  # tests
_run = itertools.count(1)


def pytest_collection_finish() -> None:
    """Take what is imported out of the garbage collector's sight: a look around is cheap then."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call() -> Iterator[None]:
    """Let what a test left open fail that test, and not the one that runs when it is collected."""
    yield
    gc.collect()
    if next(_run) % _FREEZE_AFTER == 0:
        gc.freeze()  # what was imported since


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which the frameworks need."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_client_of_another_test() -> None:
    """Forget the clients that LangChain shares by URL.

    A server of this test may have the port of one before, whose connections belong to an event loop
    that is closed. When the garbage collector finds such a client, it would ask the loop of
    the test that runs then to close them, and that test would fail.
    """
    shared = sys.modules.get("langchain_openai.chat_models._client_utils")
    if shared is not None:
        shared._AsyncHttpxClientWrapper.__del__ = _leave
        shared._cached_sync_httpx_client.cache_clear()
        shared._cached_async_httpx_client.cache_clear()


def _leave(client: Any) -> None:
    """Leave a client to the end of the process."""


@pytest.fixture(autouse=True)
def _no_connection_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what CrewAI leaves open: the connections of its provider clients.

    Else the garbage collector finds them, and warns of them in whatever test runs then.
    """
    if "crewai" not in sys.modules:
        yield
        return
    import openai

    made: list[Any] = []
    for kind in (openai.OpenAI, openai.AsyncOpenAI):
        monkeypatch.setattr(kind, "__init__", _noting(kind.__init__, made))
    yield
    for client in made:
        if isinstance(client, openai.OpenAI):
            client.close()
            continue
        # Closing this one would need the event loop that it was used in.
        pool = client._client._transport._pool
        used = bool(pool._connections)
        pool._connections.clear()
        if used:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()


def _noting(original: Callable[..., None], made: list[Any]) -> Callable[..., None]:
    """Return a constructor that notes what it made."""

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if kwargs.get("http_client") is None:  # else its connections are somebody else's
            made.append(self)

    return init
