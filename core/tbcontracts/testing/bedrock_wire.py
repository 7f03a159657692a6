"""Amazon Bedrock's wire format: Converse and ConverseStream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tbcontracts.testing.event_stream import event, exception
from tbcontracts.testing.fake_provider import FakeProvider
from tbcontracts.testing.script import ScriptedRequest
from tbcontracts.testing.wire import Asked, Piece, Reply, Wire, pieces_of, text_of_parts

_PATH = re.compile(r"/model/(?P<model>.+)/(?P<what>converse|converse-stream)")
_CONTENT = ("text", "toolUse", "toolResult", "reasoningContent")
_ERRORS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}


class BedrockWire(Wire):
    """Converse: input is reported without what the cache read and wrote, the total with it."""

    stream_type: str = "application/vnd.amazon.eventstream"

    def read(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """Return what a request asks for."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        tools = (body.get("toolConfig") or {}).get("tools") or ()
        return Asked(
            messages=tuple(_messages(body)),
            model=found["model"],
            tools=tuple(str(tool["toolSpec"]["name"]) for tool in tools if "toolSpec" in tool),
            output_cap=(body.get("inferenceConfig") or {}).get("maxTokens"),
            streamed=found["what"] == "converse-stream",
        )

    def whole(self, request: ScriptedRequest, reply: Reply) -> Mapping[str, Any]:
        """Return an answer."""
        message = {"role": "assistant", "content": _blocks(reply)}
        return {
            "output": {"message": message},
            "stopReason": _stop_reason(reply),
            "usage": _usage(reply),
            "metrics": {"latencyMs": 1},
        }

    def pieces(self, request: ScriptedRequest, reply: Reply) -> Iterator[Piece]:
        """Yield the messages of a streamed answer; the last one has the usage."""
        yield Piece(event("messageStart", {"role": "assistant"}))
        for index, block in enumerate(_blocks(reply)):
            yield from _block_pieces(index, block)
        yield Piece(event("messageStop", {"stopReason": _stop_reason(reply)}))
        yield Piece(event("metadata", {"usage": _usage(reply), "metrics": {"latencyMs": 1}}))

    def failed(self, status: int, message: str) -> Mapping[str, Any]:
        """Return an error."""
        return {"message": message}

    def headers_of(self, status: int) -> Mapping[str, str]:
        """Name the error, as AWS does in a header."""
        return {"x-amzn-ErrorType": _ERRORS.get(status, "InternalServerException")}

    def broken(self, request: ScriptedRequest, message: str) -> bytes:
        """Return the message that ends a stream with an error."""
        return exception("modelStreamErrorException", message)


class FakeBedrock(FakeProvider):
    """Bedrock on this machine: Converse, whole or streamed.

    Args:
        script: What to answer; see `FakeOpenAI`.
        count_tokens: Counts the tokens of a text.

    Its `base_url` is the `endpoint_url` of LangChain's `ChatBedrockConverse`.
    """

    wire: Wire = BedrockWire()


def _messages(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if body.get("system"):
        yield "system", text_of_parts(body["system"], _CONTENT)
    for message in body["messages"]:
        parts = message["content"]
        answers = any("toolResult" in part for part in parts)
        yield "tool" if answers else str(message["role"]), text_of_parts(parts, _CONTENT)


def _usage(reply: Reply) -> dict[str, Any]:
    if not reply.reports_usage:
        return {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    return {
        "inputTokens": reply.fresh_tokens,
        "outputTokens": reply.output_tokens,
        "totalTokens": reply.total_tokens,
        "cacheReadInputTokens": reply.cached_tokens,
        "cacheWriteInputTokens": reply.cache_write_tokens,
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
        shown = {"text": thought, "signature": "c2lnbmVk"}
        blocks.append({"reasoningContent": {"reasoningText": shown}})
    if reply.text:
        blocks.append({"text": reply.text})
    for call_id, name, arguments in reply.calls:
        blocks.append({"toolUse": {"toolUseId": call_id, "name": name, "input": arguments}})
    return blocks


def _block_pieces(index: int, block: Mapping[str, Any]) -> Iterator[Piece]:
    """Yield the messages of one block."""
    at = {"contentBlockIndex": index}

    def delta(added: Mapping[str, Any], text: str = "") -> Piece:
        return Piece(event("contentBlockDelta", {"delta": dict(added), **at}), text)

    if "toolUse" in block:
        call = block["toolUse"]
        begun = {"toolUse": {"toolUseId": call["toolUseId"], "name": call["name"]}}
        yield Piece(event("contentBlockStart", {"start": begun, **at}))
        given = json.dumps(call["input"])
        yield delta({"toolUse": {"input": given}}, f"{call['name']}{given}")
    elif "text" in block:
        for text in pieces_of(block["text"]):
            yield delta({"text": text}, text)
    else:
        shown = block["reasoningContent"]["reasoningText"]
        yield delta({"reasoningContent": {"text": shown["text"]}})
        yield delta({"reasoningContent": {"signature": shown["signature"]}})
    yield Piece(event("contentBlockStop", at))
