"""Ollama's wire format: `/api/chat`, whole or one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tbcontracts.testing.fake_provider import FakeProvider
from tbcontracts.testing.script import ScriptedRequest, read_messages, read_tools
from tbcontracts.testing.wire import Asked, Piece, Reply, Wire, pieces_of


class OllamaWire(Wire):
    """Ollama's chat. The count of a prompt that is in the cache as a whole is left out."""

    stream_type: str = "application/x-ndjson"

    def read(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """Return what a request asks for; it is streamed unless it says otherwise."""
        if path != "/api/chat":
            return None
        cap = (body.get("options") or {}).get("num_predict")
        return Asked(
            messages=read_messages(body),
            model=str(body["model"]),
            tools=read_tools(body),
            output_cap=cap if isinstance(cap, int) and cap > 0 else None,
            streamed=bool(body.get("stream", True)),
        )

    def whole(self, request: ScriptedRequest, reply: Reply) -> Mapping[str, Any]:
        """Return an answer."""
        return _line(reply, _message(reply, reply.text, calls=True), done=True)

    def pieces(self, request: ScriptedRequest, reply: Reply) -> Iterator[Piece]:
        """Yield the lines of a streamed answer."""
        thought = reply.answer.reasoning_text
        if thought:
            yield _piece(_line(reply, {"role": "assistant", "content": "", "thinking": thought}))
        for text in pieces_of(reply.text):
            yield _piece(_line(reply, {"role": "assistant", "content": text}), text)
        if reply.calls:
            said = "".join(f"{name}{json.dumps(given)}" for _, name, given in reply.calls)
            yield _piece(_line(reply, _message(reply, "", calls=True)), said)
        yield _piece(_line(reply, {"role": "assistant", "content": ""}, done=True))

    def failed(self, status: int, message: str) -> Mapping[str, Any]:
        """Return an error."""
        return {"error": message}

    def broken(self, request: ScriptedRequest, message: str) -> bytes:
        """Return an error in place of a line."""
        return _piece({"error": message}).content

    def shown(self, path: str) -> Mapping[str, Any] | None:
        """Return the list of models."""
        return {"models": []} if path == "/api/tags" else None


class FakeOllama(FakeProvider):
    """Ollama on this machine: its chat, whole or streamed.

    Args:
        script: What to answer; see `FakeOpenAI`.
        count_tokens: Counts the tokens of a text.

    Its `base_url` is the `base_url` of LangChain's `ChatOllama`.
    """

    wire: Wire = OllamaWire()


def _message(reply: Reply, text: str, *, calls: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reply.answer.reasoning_text and text:
        message["thinking"] = reply.answer.reasoning_text
    if calls and reply.calls:
        message["tool_calls"] = [
            {"function": {"name": name, "arguments": given}} for _, name, given in reply.calls
        ]
    return message


def _line(reply: Reply, message: Mapping[str, Any], *, done: bool = False) -> dict[str, Any]:
    line: dict[str, Any] = {
        "model": reply.model,
        "created_at": "2026-01-01T00:00:00Z",
        "message": dict(message),
        "done": done,
    }
    if not done:
        return line
    line["done_reason"] = "length" if reply.cut_short else "stop"
    line["total_duration"] = line["eval_duration"] = 1
    if reply.reports_usage:
        line["eval_count"] = reply.output_tokens
        if reply.cached_tokens < reply.input_tokens:
            line["prompt_eval_count"] = reply.input_tokens
    return line


def _piece(line: Mapping[str, Any], text: str = "") -> Piece:
    return Piece(json.dumps(line).encode() + b"\n", text)
