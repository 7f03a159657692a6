"""OpenAI's wire formats: chat completions and responses, plain and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tbcontracts.testing.script import Answer

_WORDS_PER_CHUNK = 3


class Reply(NamedTuple):
    """An answer with its numbers settled."""

    number: int
    model: str
    answer: Answer
    text: str
    choices: int
    input_tokens: int
    output_tokens: int
    cut_short: bool
    """The output cap ended it."""

    @property
    def cached_tokens(self) -> int:
        """The part of the input that came from the cache."""
        return self.answer.cached_tokens

    @property
    def reasoning_tokens(self) -> int:
        """The part of the output that was reasoning."""
        return self.answer.reasoning_tokens


def pieces_of(text: str) -> list[str]:
    """Cut a text into the pieces in which it is streamed; put together they are the text."""
    words = text.split(" ")
    chunks = [words[at : at + _WORDS_PER_CHUNK] for at in range(0, len(words), _WORDS_PER_CHUNK)]
    joined = [" ".join(chunk) for chunk in chunks]
    return [*(f"{piece} " for piece in joined[:-1]), joined[-1]] if text else []


def body(path: str, reply: Reply) -> dict[str, Any]:
    """Return an answer as a path's clients expect it."""
    if path.endswith("/responses"):
        return responses_body(reply)
    return chat_body(reply) if path.endswith("/chat/completions") else text_body(reply)


def events(path: str, reply: Reply, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    """Yield the pieces of a streamed answer as a path's clients expect them."""
    if path.endswith("/responses"):
        return responses_events(reply)
    if path.endswith("/chat/completions"):
        return chat_events(reply, with_usage=with_usage)
    return text_events(reply, with_usage=with_usage)


def text_body(reply: Reply) -> dict[str, Any]:
    """Return a completion of the older kind: text for each prompt, without messages."""
    choices = [_text_choice(index, reply.text, _finish(reply)) for index in range(reply.choices)]
    body = _chat_head(reply, "text_completion") | {"choices": choices}
    if reply.answer.report_usage:
        body["usage"] = chat_usage(reply)
    return body


def text_events(reply: Reply, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    """Yield the pieces of a streamed completion of the older kind."""
    head = _chat_head(reply, "text_completion")
    for piece in pieces_of(reply.text):
        yield head | {"choices": [_text_choice(0, piece)]}
    yield head | {"choices": [_text_choice(0, "", _finish(reply))]}
    if with_usage and reply.answer.report_usage:
        yield head | {"choices": [], "usage": chat_usage(reply)}


def _text_choice(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "finish_reason": finish, "logprobs": None}


def chat_body(reply: Reply) -> dict[str, Any]:
    """Return a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    calls = _chat_calls(reply)
    if calls:
        message["tool_calls"] = calls
    choices = [
        {"index": index, "message": message, "finish_reason": _finish(reply), "logprobs": None}
        for index in range(reply.choices)
    ]
    body = _chat_head(reply, "chat.completion") | {"choices": choices}
    if reply.answer.report_usage:
        body["usage"] = chat_usage(reply)
    return body


def chat_events(reply: Reply, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    """Yield the pieces of a streamed chat completion."""
    head = _chat_head(reply, "chat.completion.chunk")

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish, "logprobs": None}
        return head | {"choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in pieces_of(reply.text):
        yield chunk({"content": piece})
    for index, call in enumerate(_chat_calls(reply)):
        yield chunk({"tool_calls": [{"index": index, **call}]})
    yield chunk({}, _finish(reply))
    if with_usage and reply.answer.report_usage:
        yield head | {"choices": [], "usage": chat_usage(reply)}


def chat_usage(reply: Reply) -> dict[str, Any]:
    """Return the usage of a chat completion."""
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": reply.cached_tokens,
            "cache_write_tokens": 0,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reply.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _chat_head(reply: Reply, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{reply.number}",
        "object": kind,
        "created": 0,
        "model": reply.model,
    }


def _finish(reply: Reply) -> str:
    if reply.cut_short:
        return "length"
    return "tool_calls" if reply.answer.tool_calls else "stop"


def _chat_calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{reply.number}_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
        }
        for number, call in enumerate(reply.answer.tool_calls)
    ]


def responses_body(reply: Reply, *, done: bool = True) -> dict[str, Any]:
    """Return a response, or the beginning of one that is streamed."""
    status = "incomplete" if reply.cut_short else "completed"
    body: dict[str, Any] = {
        "id": f"resp_{reply.number}",
        "object": "response",
        "created_at": 0,
        "model": reply.model,
        "status": status if done else "in_progress",
        "output": _output_items(reply) if done else [],
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if reply.cut_short else None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
    }
    if done and reply.answer.report_usage:
        body["usage"] = {
            "input_tokens": reply.input_tokens,
            "output_tokens": reply.output_tokens,
            "total_tokens": reply.input_tokens + reply.output_tokens,
            "input_tokens_details": {"cached_tokens": reply.cached_tokens},
            "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        }
    return body


def responses_events(reply: Reply) -> Iterator[dict[str, Any]]:
    """Yield the events of a streamed response."""
    number = 0

    def event(kind: str, **fields: Any) -> dict[str, Any]:
        nonlocal number
        number += 1
        return {"type": kind, "sequence_number": number, **fields}

    yield event("response.created", response=responses_body(reply, done=False))
    for index, item in enumerate(_output_items(reply)):
        where = {"output_index": index, "item_id": item["id"]}
        if item["type"] == "message":
            part = item["content"][0]
            empty = {**item, "status": "in_progress", "content": []}
            yield event("response.output_item.added", output_index=index, item=empty)
            at = {**where, "content_index": 0}
            yield event("response.content_part.added", **at, part={**part, "text": ""})
            for piece in pieces_of(reply.text):
                yield event("response.output_text.delta", **at, delta=piece, logprobs=[])
            yield event("response.output_text.done", **at, text=reply.text, logprobs=[])
            yield event("response.content_part.done", **at, part=part)
        else:
            started = {**item, "status": "in_progress", "arguments": ""}
            yield event("response.output_item.added", output_index=index, item=started)
            arguments = item["arguments"]
            yield event("response.function_call_arguments.delta", **where, delta=arguments)
            yield event(
                "response.function_call_arguments.done",
                **where,
                arguments=arguments,
                name=item["name"],
            )
        yield event("response.output_item.done", output_index=index, item=item)
    kind = "response.incomplete" if reply.cut_short else "response.completed"
    yield event(kind, response=responses_body(reply))


def _output_items(reply: Reply) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if reply.text or not reply.answer.tool_calls:
        content = [{"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}]
        items.append(
            {
                "id": f"msg_{reply.number}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": content,
            }
        )
    items.extend(
        {
            "id": f"fc_{reply.number}_{number}",
            "type": "function_call",
            "call_id": f"call_{reply.number}_{number}",
            "name": call.name,
            "arguments": json.dumps(dict(call.arguments)),
            "status": "completed",
        }
        for number, call in enumerate(reply.answer.tool_calls)
    )
    return items
