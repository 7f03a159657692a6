"""The webhook of the page on telemetry, when the other side is slow or down."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tbcontracts import BudgetExceededError, BudgetManager

PAGE = Path(__file__).parents[2] / "docs" / "content" / "telemetry.md"


def webhook(url: str) -> Callable[..., object]:
    """Return the listener that the page shows."""
    fences = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    (shown,) = [fence for fence in fences if "def webhook" in fence]
    body = shown[shown.index("def webhook") :].strip()
    assert len([line for line in body.splitlines() if line.strip()]) <= 10
    names: dict[str, Any] = {}
    exec(compile(shown, str(PAGE), "exec", dont_inherit=True), names)
    listener: Callable[..., object] = names["webhook"](url)
    return listener


def refused(manager: BudgetManager, tokens: int) -> None:
    """Ask for more than there is."""
    with pytest.raises(BudgetExceededError):
        manager.reserve("writer", tokens)


class Slow(http.server.ThreadingHTTPServer):
    """A server that answers only when it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    """What the slow server does with a request."""

    server: Slow

    def do_POST(self) -> None:
        """Note the request, and wait."""
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.set()
        self.server.answer.wait(10)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Return a server that hangs."""
    with Slow() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.answer.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def manager() -> BudgetManager:
    """Return a manager with one agent."""
    manager = BudgetManager()
    manager.register_agent("writer", max_tokens=100)
    return manager


def test_calls_go_on_while_it_hangs(slow: Slow, manager: BudgetManager) -> None:
    """The books are ahead of it; it hears the rest when it comes back."""
    manager.add_listener(webhook(f"http://127.0.0.1:{slow.server_port}/"))
    refused(manager, 500)
    assert slow.asked.wait(10)
    for tokens in range(501, 540):
        refused(manager, tokens)
    manager.reserve("writer", 50).settle(40)
    assert manager.remaining("writer") == 60
    assert len(slow.bodies) == 1
    assert not manager.flush_listeners(0)
    slow.answer.set()
    assert manager.flush_listeners(30)
    assert len(slow.bodies) == 40


def test_calls_go_on_while_it_is_down(
    manager: BudgetManager, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the entry, and others hear of it all the same."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    heard: list[str] = []
    manager.add_listener(webhook(f"http://127.0.0.1:{port}/"))
    manager.add_listener(lambda scope, entry: heard.append(entry.kind))
    refused(manager, 500)
    assert manager.flush_listeners(30)
    assert heard == ["opened", "denied"]
    assert [record.getMessage() for record in caplog.records] == [
        "A listener failed on entry 2 of scope 'default'."
    ]
