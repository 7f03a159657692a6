"""What LangChain says of a call: its size before, its usage after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, LLMResult

from tbcontracts import Usage
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import size_request
from tbcontracts.usage_readers import model_of

# The names under which chat models keep the longest answer that they ask for.
OUTPUT_CAPS = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens_to_sample",
    "num_predict",
)
_ALONGSIDE = ("tools", "functions", "response_format", "text")


def call_shape(
    messages: Sequence[BaseMessage] | Sequence[str],
    invocation_params: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> CallShape:
    """Describe a call from what the start hook is given.

    Args:
        messages: The prompt, as messages or as text.
        invocation_params: The model's parameters, as bound and given.
        metadata: The run's metadata; LangChain puts `ls_max_tokens` and `ls_model_name` there.
    """
    alongside = {name: invocation_params[name] for name in _ALONGSIDE if name in invocation_params}
    cap = next(
        (found for name in OUTPUT_CAPS if (found := _positive(invocation_params.get(name)))),
        _positive(metadata.get("ls_max_tokens")),
    )
    model = metadata.get("ls_model_name") or invocation_params.get("model")
    provider = metadata.get("ls_provider")
    return CallShape(
        size=size_request((_plain(message) for message in messages), tools=alongside or None),
        output_cap=cap,
        choices=_positive(invocation_params.get("n")) or 1,
        model=str(model) if model else None,
        provider=str(provider) if provider else None,
    )


def _positive(value: object) -> int | None:
    """Return a count, or None for what is none; some providers write -1 for "no cap"."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    return None


def _plain(message: BaseMessage | str) -> Any:
    """Return a message as the plain data that is sent."""
    if isinstance(message, str):
        return message
    parts: list[Any] = [message.content]
    tool_calls = getattr(message, "tool_calls", None)
    if tool_calls:
        parts.append([{"name": call["name"], "args": call["args"]} for call in tool_calls])
    if message.name:
        parts.append(message.name)
    return parts


def reported_usage(response: LLMResult) -> Usage | None:
    """Read the usage of a reply: the first generation's, because each repeats the whole.

    Returns:
        The usage; None where the reply names none.
    """
    first = _first(response)
    message = getattr(first, "message", None)
    found = getattr(message, "usage_metadata", None)
    if found is None:
        output = response.llm_output or {}
        found = output.get("token_usage") or output.get("usage")
    if found is None:
        return None
    usage = Usage.read(found)
    model = model_of(message) or model_of(response.llm_output)
    return usage if usage.model or model is None else replace(usage, model=model)


def from_cache(response: LLMResult) -> bool:
    """Return whether LangChain's own cache answered: it sets the cost to 0 and sends nothing."""
    message = getattr(_first(response), "message", None)
    usage = getattr(message, "usage_metadata", None) or {}
    return response.llm_output is None and usage.get("total_cost") == 0


def counted_with_the_first(response: LLMResult) -> bool:
    """Return whether the usage of a text model's further prompt stands on the first one's reply.

    `LLMResult.flatten` leaves an empty report with each prompt but the first.
    """
    return (response.llm_output or {}).get("token_usage") == {}


def output_texts(response: LLMResult) -> Iterable[str]:
    """Yield the texts of all generations of a reply, for a provider that reported no usage."""
    for generations in response.generations:
        for generation in generations:
            yield generation.text
            message = getattr(generation, "message", None)
            for call in getattr(message, "tool_calls", None) or ():
                yield f"{call['name']} {call['args']}"


def chunk_text(token: object, chunk: Generation | None) -> str:
    """Return the text of a streamed piece, tool calls included."""
    text = token if isinstance(token, str) else ""
    if isinstance(chunk, ChatGenerationChunk):
        pieces = getattr(chunk.message, "tool_call_chunks", None) or ()
        text += "".join(f"{piece.get('name') or ''}{piece.get('args') or ''}" for piece in pieces)
        if not isinstance(token, str):
            text += chunk.text
    return text


def _first(response: LLMResult) -> Generation | ChatGeneration | None:
    """Return the first generation of a reply, or None if it is empty."""
    if response.generations and response.generations[0]:
        return response.generations[0][0]
    return None
