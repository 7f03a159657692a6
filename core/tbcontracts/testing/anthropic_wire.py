"""Anthropic's wire format: messages, plain and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tbcontracts.testing.fake_provider import FakeProvider
from tbcontracts.testing.script import ScriptedRequest
from tbcontracts.testing.wire import Asked, Piece, Reply, Wire, pieces_of, sse, text_of_parts

_CONTENT = ("text", "thinking", "name", "input", "content")
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class AnthropicWire(Wire):
    """Messages of Anthropic: input is reported without what the cache read and wrote."""

    def read(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """Return what a request asks for."""
        if not path.endswith("/v1/messages"):
            return None
        messages = [(one["role"], text_of_parts(one["content"], _CONTENT)) for one in _all(body)]
        return Asked(
            messages=tuple(messages),
            model=str(body["model"]),
            tools=tuple(str(tool.get("name", "")) for tool in body.get("tools") or ()),
            output_cap=body.get("max_tokens"),
            streamed=bool(body.get("stream")),
        )

    def whole(self, request: ScriptedRequest, reply: Reply) -> Mapping[str, Any]:
        """Return a message."""
        return {
            **_head(reply),
            "content": _blocks(reply),
            "stop_reason": _stop_reason(reply),
            "usage": _usage(reply, reply.output_tokens) if reply.reports_usage else _NONE,
        }

    def pieces(self, request: ScriptedRequest, reply: Reply) -> Iterator[Piece]:
        """Yield a streamed message: the input is told at the start, the whole again at the end."""
        reports = reply.reports_usage
        usage = _usage(reply, 1) if reports else _NONE
        started = {**_head(reply), "content": [], "stop_reason": None, "usage": usage}
        yield _piece("message_start", message=started)
        for index, block in enumerate(_blocks(reply)):
            yield from _block_pieces(index, block)
        yield _piece(
            "message_delta",
            delta={"stop_reason": _stop_reason(reply), "stop_sequence": None},
            usage=_usage(reply, reply.output_tokens) if reports else _NONE,
        )
        yield _piece("message_stop")

    def failed(self, status: int, message: str) -> Mapping[str, Any]:
        """Return an error."""
        error = {"type": _KINDS.get(status, "api_error"), "message": message}
        return {"type": "error", "error": error, "request_id": "req_1"}

    def broken(self, request: ScriptedRequest, message: str) -> bytes:
        """Return the event of an error in the middle of a stream."""
        error = {"type": "overloaded_error", "message": message}
        return sse({"type": "error", "error": error}, "error")


class FakeAnthropic(FakeProvider):
    """Anthropic on this machine: messages, whole or streamed.

    Args:
        script: What to answer; see `FakeOpenAI`.
        count_tokens: Counts the tokens of a text.

    Its `base_url` is the `base_url` of LangChain's `ChatAnthropic`.
    """

    wire: Wire = AnthropicWire()


_NONE = {"input_tokens": 0, "output_tokens": 0}


def _all(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the messages of a request, the system prompt as the first one."""
    if body.get("system"):
        yield {"role": "system", "content": body["system"]}
    for message in body["messages"]:
        parts = message["content"]
        result = not isinstance(parts, str) and any(one["type"] == "tool_result" for one in parts)
        yield {"role": "tool" if result else message["role"], "content": parts}


def _head(reply: Reply) -> dict[str, Any]:
    return {
        "id": f"msg_{reply.number}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "stop_sequence": None,
    }


def _usage(reply: Reply, output_tokens: int) -> dict[str, Any]:
    written = reply.cache_write_tokens
    return {
        "input_tokens": reply.fresh_tokens,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": reply.cached_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _stop_reason(reply: Reply) -> str:
    if reply.cut_short:
        return "max_tokens"
    return "tool_use" if reply.answer.tool_calls else "end_turn"


def _blocks(reply: Reply) -> list[dict[str, Any]]:
    """Return the blocks of an answer: what was thought, the text, the calls of tools."""
    thought = reply.answer.reasoning_text
    blocks: list[dict[str, Any]] = []
    if thought:
        blocks.append({"type": "thinking", "thinking": thought, "signature": "c2lnbmVk"})
    if reply.text:
        blocks.append({"type": "text", "text": reply.text})
    for call_id, name, arguments in reply.calls:
        blocks.append({"type": "tool_use", "id": call_id, "name": name, "input": arguments})
    return blocks


def _block_pieces(index: int, block: Mapping[str, Any]) -> Iterator[Piece]:
    """Yield the events of one block."""
    kind = block["type"]
    empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}
    begun = {**block, **empty.get(kind, {"input": {}})}
    yield _piece("content_block_start", index=index, content_block=begun)
    for delta, text in _deltas(block):
        yield _piece("content_block_delta", text, index=index, delta=delta)
    yield _piece("content_block_stop", index=index)


def _deltas(block: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield what is added to a block, and what of the answer is in it."""
    if block["type"] == "thinking":
        yield {"type": "thinking_delta", "thinking": block["thinking"]}, ""
        yield {"type": "signature_delta", "signature": block["signature"]}, ""
    elif block["type"] == "text":
        for text in pieces_of(block["text"]):
            yield {"type": "text_delta", "text": text}, text
    else:
        given = json.dumps(block["input"])
        said = f"{block['name']}{given}"
        yield {"type": "input_json_delta", "partial_json": given}, said


def _piece(kind: str, text: str = "", **fields: Any) -> Piece:
    return Piece(sse({"type": kind, **fields}, kind), text)
