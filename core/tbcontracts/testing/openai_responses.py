"""OpenAI's format for responses, plain and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tbcontracts.testing.wire import Piece, Reply, pieces_of, sse


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
            "total_tokens": reply.total_tokens,
            "input_tokens_details": {
                "cached_tokens": reply.cached_tokens,
                "cache_write_tokens": reply.cache_write_tokens,
            },
            "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        }
    return body


def responses_pieces(reply: Reply) -> Iterator[Piece]:
    """Yield the pieces of a streamed response."""
    for event in _events(reply):
        kind = event["type"]
        said = kind in ("response.output_text.delta", "response.function_call_arguments.delta")
        yield Piece(sse(event, kind), event["delta"] if said else "")


def _events(reply: Reply) -> Iterator[dict[str, Any]]:
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
