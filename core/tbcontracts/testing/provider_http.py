"""The HTTP side of the scripted provider."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tbcontracts.testing.script import Fault, ScriptedRequest
from tbcontracts.testing.wire import Reply

if TYPE_CHECKING:
    from tbcontracts.testing.fake_provider import FakeProvider

FAILS = "The scripted provider fails."
BROKEN_OFF = 499  # what proxies log for a client that went away


class FakeServer(ThreadingHTTPServer):
    """Threads for all connections, which are closed when the server stops."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    fake: FakeProvider

    def __init__(self, *arguments: Any) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember a connection."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Close the connections that clients keep open."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients that go away are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def _fake(self) -> FakeProvider:
        """The provider that this connection belongs to."""
        server = self.server
        assert isinstance(server, FakeServer)
        return server.fake

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - its name there
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer what is only looked at, such as the list of models."""
        shown = self._fake.wire.shown(self._path)
        if shown is None:
            self._send_error(404, f"There is nothing at {self._path}.")
        else:
            self._send_json(200, shown)

    def do_POST(self) -> None:
        """Answer a model call."""
        fake, path = self._fake, self._path
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            asked = fake.wire.read(path, body)
        except (ValueError, TypeError, AttributeError, KeyError):
            self._send_error(400, "The request is no JSON, or not in this provider's format.")
            return
        if asked is None:
            self._send_error(404, f"There is nothing at {path}.")
            return
        request = fake.arrived(path, body, asked)
        try:
            step = fake.step(request)
            if isinstance(step, Fault):
                self._fail(request, step)
            else:
                self._answer(request, fake.settle(request, step))
        except OSError:
            self.close_connection = True
        finally:
            fake.end(request.index)

    @property
    def _path(self) -> str:
        """The path of the URL, without what stands behind it: that may hold a key."""
        return unquote(self.path.partition("?")[0])

    def _fail(self, request: ScriptedRequest, fault: Fault) -> None:
        """Reply with a fault."""
        fake = self._fake
        if fault.kind == "status":
            fake.note(request.index, status=fault.status, input_tokens=fault.billed_tokens)
            self._send_error(fault.status, fault.message, fault.headers)
        elif fault.kind == "garbage":
            fake.note(request.index, status=200, input_tokens=fault.billed_tokens)
            self._send(200, b"<html>this is no JSON", "application/json", {})
        else:
            fake.note(request.index, status=BROKEN_OFF, input_tokens=fault.billed_tokens)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, request: ScriptedRequest, reply: Reply) -> None:
        """Reply with an answer, billed before it goes out: it is, even if nobody reads it."""
        billed = {
            "status": 200,
            "input_tokens": reply.input_tokens,
            "output_tokens": reply.output_tokens,
            "cached_tokens": reply.cached_tokens,
            "cache_write_tokens": reply.cache_write_tokens,
            "reasoning_tokens": reply.reasoning_tokens,
        }
        if request.streamed:
            self._stream(request, reply, billed)
            return
        wire = self._fake.wire
        reported = wire.reports_usage(request, reply)
        self._fake.note(request.index, **billed, usage_reported=reported, completed=True)
        self._send_json(200, wire.whole(request, reply))

    def _stream(self, request: ScriptedRequest, reply: Reply, billed: dict[str, Any]) -> None:
        """Reply piece by piece; a stream that breaks off bills the input and what was sent."""
        fake, answer = self._fake, reply.answer
        pieces = list(fake.wire.pieces(request, reply))
        reported = fake.wire.reports_usage(request, reply)
        sent: list[str] = []
        everything_sent = False
        self.send_response(200)
        self.send_header("Content-Type", fake.wire.stream_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number, piece in enumerate(pieces, start=1):
                if piece.text and len(sent) == answer.drop_after_chunks:
                    raise BrokenPipeError
                if piece.text and len(sent) == answer.fail_after_chunks:
                    self._send_chunk(fake.wire.broken(request, FAILS))
                    raise BrokenPipeError
                if piece.text and len(sent) == answer.hold_after_chunks:
                    fake.wait_for(answer.hold, self._client_is_gone)
                    self._check_client()
                if number == len(pieces):
                    # Before the client can know that it has everything, and ask for the log.
                    fake.note(request.index, **billed, usage_reported=reported, completed=True)
                self._send_chunk(piece.content)
                sent += [piece.text] if piece.text else []
            everything_sent = True
            ending = fake.wire.ending_of(request)
            if ending:
                self._send_chunk(ending)
            self._send_chunk(b"")
        except OSError:
            if not everything_sent:
                said = fake.count("".join(sent)) + reply.reasoning_tokens
                cut = billed | {"output_tokens": said, "usage_reported": False, "completed": False}
                fake.note(request.index, **cut)
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _client_is_gone(self) -> bool:
        """Return whether the client has hung up."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _check_client(self) -> None:
        """Find out that a client has hung up before more is sent, and billed.

        Raises:
            BrokenPipeError: It has.
        """
        if self._client_is_gone():
            raise BrokenPipeError

    def _send_chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _send_error(
        self, status: int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        wire = self._fake.wire
        own = {**wire.headers_of(status), **(headers or {})}
        self._send_json(status, wire.failed(status, message), own)

    def _send_json(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers or {})

    def _send(
        self, status: int, content: bytes, content_type: str, headers: Mapping[str, str]
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
