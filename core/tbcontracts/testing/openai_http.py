"""The HTTP side of the scripted provider."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tbcontracts.testing import openai_wire as wire
from tbcontracts.testing.script import Fault, ScriptedRequest

if TYPE_CHECKING:
    from tbcontracts.testing.openai_server import FakeOpenAI

BROKEN_OFF = 499  # what proxies log for a client that went away
_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")


class FakeServer(ThreadingHTTPServer):
    """Threads for all connections, which are closed when the server stops."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    fake: FakeOpenAI

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
    def _fake(self) -> FakeOpenAI:
        """The provider that this connection belongs to."""
        server = self.server
        assert isinstance(server, FakeServer)
        return server.fake

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - its name there
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer the list of models."""
        if self.path == "/v1/models":
            models = [{"id": "gpt-4o-mini", "object": "model", "created": 0, "owned_by": "test"}]
            self._send_json(200, {"object": "list", "data": models})
        else:
            self._send_error(404, f"There is nothing at {self.path}.")

    def do_POST(self) -> None:
        """Answer a model call."""
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path not in _PATHS:
            self._send_error(404, f"There is nothing at {self.path}.")
            return
        try:
            body = json.loads(content)
        except ValueError:
            self._send_error(400, "The request is no JSON.")
            return
        fake = self._fake
        request = fake.arrived(self.path, body)
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

    def _answer(self, request: ScriptedRequest, reply: wire.Reply) -> None:
        """Reply with an answer, billed before it goes out: it is, even if nobody reads it."""
        billed = {
            "status": 200,
            "input_tokens": reply.input_tokens,
            "output_tokens": reply.output_tokens,
            "cached_tokens": reply.cached_tokens,
            "reasoning_tokens": reply.reasoning_tokens,
        }
        if request.streamed:
            self._stream(request, reply, billed)
            return
        reported = reply.answer.report_usage
        self._fake.note(request.index, **billed, usage_reported=reported, completed=True)
        self._send_json(200, wire.body(request.path, reply))

    def _stream(self, request: ScriptedRequest, reply: wire.Reply, billed: dict[str, Any]) -> None:
        """Reply piece by piece; a stream that breaks off bills the input and what was sent."""
        fake = self._fake
        asked = bool((request.body.get("stream_options") or {}).get("include_usage"))
        chat = request.path.endswith("completions")
        events = list(wire.events(request.path, reply, with_usage=asked))
        reported = reply.answer.report_usage and (asked or not chat)
        drop_after = reply.answer.drop_after_chunks
        sent: list[str] = []
        everything_sent = False
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number, event in enumerate(events, start=1):
                piece = _piece_in(event)
                if piece and drop_after is not None and len(sent) >= drop_after:
                    raise BrokenPipeError
                if number == len(events):
                    # Before the client can know that it has everything, and ask for the log.
                    fake.note(request.index, **billed, usage_reported=reported, completed=True)
                self._send_event(event, named=not chat)
                sent += [piece] if piece else []
            everything_sent = True
            if chat:
                self._send_chunk(b"data: [DONE]\n\n")
            self._send_chunk(b"")
        except OSError:
            if not everything_sent:
                said = fake.count("".join(sent)) + reply.reasoning_tokens
                cut = billed | {"output_tokens": said, "usage_reported": False, "completed": False}
                fake.note(request.index, **cut)
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _send_event(self, event: Mapping[str, Any], *, named: bool) -> None:
        name = f"event: {event['type']}\n" if named else ""
        self._send_chunk(f"{name}data: {json.dumps(event)}\n\n".encode())

    def _send_chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _send_error(
        self, status: int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        error = {"message": message, "type": "scripted", "param": None, "code": None}
        self._send_json(status, {"error": error}, headers)

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


def _piece_in(event: Mapping[str, Any]) -> str:
    """Return the text that a streamed event brings."""
    if event.get("type") == "response.output_text.delta":
        return str(event["delta"])
    for choice in event.get("choices") or ():
        if "text" in choice:
            return str(choice["text"])
        delta = choice["delta"]
        calls = delta.get("tool_calls") or ()
        return str(delta.get("content") or "") + "".join(
            f"{call['function']['name']}{call['function']['arguments']}" for call in calls
        )
    return ""
