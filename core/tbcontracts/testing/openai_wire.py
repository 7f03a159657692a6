"""OpenAI's wire format: chat completions, the older text completions and, elsewhere, responses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tbcontracts.testing.openai_dialects import Dialect
from tbcontracts.testing.openai_responses import responses_body, responses_pieces
from tbcontracts.testing.script import ScriptedRequest, read_messages, read_tools
from tbcontracts.testing.wire import Asked, Piece, Reply, Wire, pieces_of, sse

_CHAT, _TEXT, _RESPONSES = "/chat/completions", "/completions", "/responses"
_OUTPUT_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_DEPLOYMENTS = "/openai/deployments/"


class OpenAIWire(Wire):
    """OpenAI's format, as one of the providers that speak it does.

    Args:
        dialect: Whose.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def read(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """Return what a request asks for; paths count by their end, hosts put much before it."""
        if not path.endswith((_TEXT, _RESPONSES)):
            return None
        caps = (body[name] for name in _OUTPUT_CAPS if body.get(name) is not None)
        prompts = body.get("prompt")
        return Asked(
            messages=read_messages(body),
            model=str(body.get("model") or _deployment(path)),
            tools=read_tools(body),
            output_cap=next(caps, None),
            streamed=bool(body.get("stream")),
            choices=int(body.get("n") or 1) * (len(prompts) if isinstance(prompts, list) else 1),
        )

    def whole(self, request: ScriptedRequest, reply: Reply) -> Mapping[str, Any]:
        """Return an answer as a path's clients expect it."""
        if request.path.endswith(_RESPONSES):
            return responses_body(reply)
        chat = request.path.endswith(_CHAT)
        body = self._chat(reply) if chat else _text(reply)
        return {**body, "usage": self._dialect.usage(reply)} if reply.reports_usage else body

    def pieces(self, request: ScriptedRequest, reply: Reply) -> Iterator[Piece]:
        """Yield a streamed answer as a path's clients expect it."""
        if request.path.endswith(_RESPONSES):
            return responses_pieces(reply)
        if request.path.endswith(_CHAT):
            return self._chat_pieces(request, reply)
        return self._text_pieces(request, reply)

    def failed(self, status: int, message: str) -> Mapping[str, Any]:
        """Return an error."""
        return {"error": {"message": message, "type": "scripted", "param": None, "code": None}}

    def broken(self, request: ScriptedRequest, message: str) -> bytes:
        """Return an error in place of a piece."""
        if request.path.endswith(_RESPONSES):
            error = {"type": "error", "code": "server_error", "message": message, "param": None}
            return sse({**error, "sequence_number": 1}, "error")
        return sse({"error": {"message": message, "type": "server_error", "code": None}})

    def shown(self, path: str) -> Mapping[str, Any] | None:
        """Return the list of models."""
        if not path.endswith("/models"):
            return None
        models = [{"id": "gpt-4o-mini", "object": "model", "created": 0, "owned_by": "test"}]
        return {"object": "list", "data": models}

    def reports_usage(self, request: ScriptedRequest, reply: Reply) -> bool:
        """Return whether an answer says what it cost; most streams do only if they are asked."""
        if not request.streamed or request.path.endswith(_RESPONSES):
            return reply.reports_usage
        return reply.reports_usage and (self._dialect.unasked or _is_asked(request))

    def ending_of(self, request: ScriptedRequest) -> bytes:
        """Return what closes a stream of completions."""
        return b"" if request.path.endswith(_RESPONSES) else b"data: [DONE]\n\n"

    def _chat(self, reply: Reply) -> dict[str, Any]:
        """Return a chat completion without its usage."""
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        message |= self._thought(reply, whole=True)
        calls = _chat_calls(reply)
        if calls:
            message["tool_calls"] = calls
        choices = [
            {"index": index, "message": message, "finish_reason": _finish(reply), "logprobs": None}
            for index in range(reply.choices)
        ]
        return _head(reply, "chat.completion") | {"choices": choices}

    def _chat_pieces(self, request: ScriptedRequest, reply: Reply) -> Iterator[Piece]:
        head = _head(reply, "chat.completion.chunk")

        def piece(delta: Mapping[str, Any], text: str = "") -> Piece:
            choice = {"index": 0, "delta": dict(delta), "finish_reason": None, "logprobs": None}
            return Piece(sse(head | {"choices": [choice]}), text)

        if self._dialect.filters:
            filtered = {"prompt_filter_results": [{"prompt_index": 0}], "choices": []}
            yield Piece(sse(head | {"model": ""} | filtered))
        yield piece({"role": "assistant", "content": ""})
        thought = self._thought(reply, whole=False)
        if thought:
            yield piece(thought)
        for text in pieces_of(reply.text):
            yield piece({"content": text}, text)
        for index, call in enumerate(_chat_calls(reply)):
            function = call["function"]
            said = f"{function['name']}{function['arguments']}"
            yield piece({"tool_calls": [{"index": index, **call}]}, said)
        choice = {"index": 0, "delta": {}, "finish_reason": _finish(reply), "logprobs": None}
        yield from self._last(request, reply, head, choice)

    def _last(
        self,
        request: ScriptedRequest,
        reply: Reply,
        head: Mapping[str, Any],
        choice: Mapping[str, Any],
    ) -> Iterator[Piece]:
        """Yield the end of a stream, with its usage where this provider puts it."""
        last: dict[str, Any] = {**head, "choices": [choice]}
        at = self._dialect.usage_at
        usage = self._dialect.usage(reply)
        if at == "x_groq":
            last["x_groq"] = {"id": "req_1", **({"usage": usage} if reply.reports_usage else {})}
        elif at == "last" and reply.reports_usage:
            last["usage"] = usage
        yield Piece(sse(last))
        asked = _is_asked(request) or (self._dialect.unasked and at == "after")
        if asked and at != "last" and reply.reports_usage:
            yield Piece(sse({**head, "choices": [], "usage": usage}))

    def _text_pieces(self, request: ScriptedRequest, reply: Reply) -> Iterator[Piece]:
        head = _head(reply, "text_completion")
        for text in pieces_of(reply.text):
            yield Piece(sse(head | {"choices": [_text_choice(0, text)]}), text)
        yield from self._last(request, reply, head, _text_choice(0, "", _finish(reply)))

    def _thought(self, reply: Reply, *, whole: bool) -> dict[str, Any]:
        """Return the fields of a message, or of a piece, that show what was thought."""
        text, field = reply.answer.reasoning_text, self._dialect.thoughts
        if not text or field is None:
            return {}
        if field != "blocks":
            return {field: text}
        blocks: list[Any] = [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]
        if whole and reply.text:
            blocks.append({"type": "text", "text": reply.text})
        return {"content": blocks}


def _text(reply: Reply) -> dict[str, Any]:
    """Return a completion of the older kind: text for each prompt, without messages."""
    choices = [_text_choice(index, reply.text, _finish(reply)) for index in range(reply.choices)]
    return _head(reply, "text_completion") | {"choices": choices}


def _text_choice(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "finish_reason": finish, "logprobs": None}


def _is_asked(request: ScriptedRequest) -> bool:
    """Return whether a stream is asked for its usage."""
    return bool((request.body.get("stream_options") or {}).get("include_usage"))


def _deployment(path: str) -> str:
    """Return the model that an Azure path names."""
    _, found, rest = path.partition(_DEPLOYMENTS)
    return rest.partition("/")[0] if found else ""


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{reply.number}",
        "object": kind,
        "created": 0,
        "model": reply.model,
        "system_fingerprint": None,
    }


def _finish(reply: Reply) -> str:
    if reply.cut_short:
        return "length"
    return "tool_calls" if reply.answer.tool_calls else "stop"


def _chat_calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "id": name_of_call,
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for name_of_call, name, arguments in reply.calls
    ]
