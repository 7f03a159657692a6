"""Google's wire format for Gemini: `generateContent` and `streamGenerateContent`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tbcontracts.testing.fake_provider import FakeProvider
from tbcontracts.testing.script import ScriptedRequest
from tbcontracts.testing.wire import Asked, Piece, Reply, Wire, pieces_of, sse, text_of_parts

_PATH = re.compile(r".*/models/(?P<model>[^/:]+):(?P<what>generateContent|streamGenerateContent)")
_CONTENT = ("text", "functionCall", "functionResponse")
_ROLES = {"model": "assistant", "function": "tool"}
_STATUSES = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}


class GeminiWire(Wire):
    """Gemini: thoughts beside the candidates, the cached content in the prompt.

    Each piece of a stream reports what it all came to until then.
    """

    def read(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """Return what a request asks for."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        settings = body.get("generationConfig") or {}
        declared = (tool.get("functionDeclarations") or () for tool in body.get("tools") or ())
        return Asked(
            messages=tuple(_messages(body)),
            model=found["model"],
            tools=tuple(str(one["name"]) for functions in declared for one in functions),
            output_cap=settings.get("maxOutputTokens"),
            streamed=found["what"] == "streamGenerateContent",
            choices=int(settings.get("candidateCount") or 1),
        )

    def whole(self, request: ScriptedRequest, reply: Reply) -> Mapping[str, Any]:
        """Return an answer."""
        return _body(reply, [*_thought(reply), *_text(reply.text), *_calls(reply)], done=True)

    def pieces(self, request: ScriptedRequest, reply: Reply) -> Iterator[Piece]:
        """Yield an answer in pieces, none of them empty but the last."""
        for part in _thought(reply):
            yield Piece(sse(_body(reply, [part], share=0.0)))
        texts = pieces_of(reply.text)
        for at, text in enumerate(texts, start=1):
            yield Piece(sse(_body(reply, _text(text), share=at / (len(texts) + 1))), text)
        for part in _calls(reply):
            call = part["functionCall"]
            yield Piece(sse(_body(reply, [part], share=0.5)), f"{call['name']}{call['args']}")
        yield Piece(sse(_body(reply, [{"text": ""}], done=True)))

    def failed(self, status: int, message: str) -> Mapping[str, Any]:
        """Return an error."""
        name = _STATUSES.get(status, "INTERNAL")
        return {"error": {"code": status, "message": message, "status": name}}

    def broken(self, request: ScriptedRequest, message: str) -> bytes:
        """Return an error in place of a piece."""
        return sse(self.failed(503, message))


class FakeGemini(FakeProvider):
    """Gemini on this machine, whole or streamed.

    Args:
        script: What to answer; see `FakeOpenAI`.
        count_tokens: Counts the tokens of a text.

    Its `base_url` is the `base_url` of LangChain's `ChatGoogleGenerativeAI`.
    """

    wire: Wire = GeminiWire()


def _messages(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    system = body.get("systemInstruction")
    if system:
        yield "system", text_of_parts(system["parts"], _CONTENT)
    for message in body["contents"]:
        parts = message["parts"]
        answers = any("functionResponse" in part for part in parts)
        role = "tool" if answers else str(message.get("role") or "user")
        yield _ROLES.get(role, role), text_of_parts(parts, _CONTENT)


def _body(
    reply: Reply, parts: list[dict[str, Any]], *, share: float = 1.0, done: bool = False
) -> dict[str, Any]:
    """Return an answer, or a piece of one that has so much of it behind it."""
    finish = {"finishReason": "MAX_TOKENS" if reply.cut_short else "STOP"} if done else {}
    candidates = [
        {"content": {"role": "model", "parts": parts}, "index": index, **finish}
        for index in range(reply.choices)
    ]
    body: dict[str, Any] = {"candidates": candidates, "modelVersion": reply.model}
    body["responseId"] = f"resp_{reply.number}"
    if reply.reports_usage:
        body["usageMetadata"] = _usage(reply, 1.0 if done else share)
    return body


def _usage(reply: Reply, share: float) -> dict[str, Any]:
    """Return what an answer came to, so much of it being sent."""
    thoughts = reply.reasoning_tokens
    candidates = int((reply.output_tokens - thoughts) * share)
    usage: dict[str, Any] = {
        "promptTokenCount": reply.input_tokens,
        "totalTokenCount": reply.input_tokens + candidates + thoughts,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": reply.input_tokens}],
    }
    if candidates:
        usage["candidatesTokenCount"] = candidates
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    if reply.cached_tokens:
        usage["cachedContentTokenCount"] = reply.cached_tokens
    return usage


def _thought(reply: Reply) -> list[dict[str, Any]]:
    text = reply.answer.reasoning_text
    return [{"text": text, "thought": True}] if text else []


def _text(text: str) -> list[dict[str, Any]]:
    return [{"text": text}] if text else []


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {"functionCall": {"id": call_id, "name": name, "args": arguments}}
        for call_id, name, arguments in reply.calls
    ]
