"""What LangChain says of a call: its size before, its usage after."""

from __future__ import annotations

import re
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
# The same where the caller hands a call its provider's own settings, under these names.
_SETTINGS = ("options", "generation_config", "generationConfig", "inferenceConfig")
_CAPS_IN_SETTINGS = (*OUTPUT_CAPS, "maxOutputTokens", "maxTokens")
_PRINTED_CAP = re.compile(rf"\b(?:{'|'.join(OUTPUT_CAPS)})=(\d+)")
_ALONGSIDE = ("tools", "functions", "response_format", "text")
_THOUGHTS = ("thinking", "reasoning", "reasoning_content")


def call_shape(
    messages: Sequence[BaseMessage] | Sequence[str],
    invocation_params: Mapping[str, Any],
    metadata: Mapping[str, Any],
    serialized: Mapping[str, Any] | None = None,
) -> CallShape:
    """Describe a call from what the start hook is given.

    Args:
        messages: The prompt, as messages or as text.
        invocation_params: The model's parameters, as bound and given.
        metadata: The run's metadata; LangChain puts `ls_max_tokens` and `ls_model_name` there.
        serialized: The model as LangChain describes it.
    """
    alongside = {name: invocation_params[name] for name in _ALONGSIDE if name in invocation_params}
    model = metadata.get("ls_model_name") or invocation_params.get("model")
    provider = metadata.get("ls_provider")
    return CallShape(
        size=size_request((_plain(message) for message in messages), tools=alongside or None),
        output_cap=_cap(invocation_params, metadata, serialized or {}),
        choices=_positive(invocation_params.get("n")) or 1,
        model=str(model) if model else None,
        provider=str(provider) if provider else None,
    )


def _cap(
    params: Mapping[str, Any], metadata: Mapping[str, Any], serialized: Mapping[str, Any]
) -> int | None:
    """Return the longest answer that a call allows; None where nothing says so.

    What was given to the call comes before what the model is set to.
    """
    given = [params.get(name) for name in _SETTINGS]
    for settings in (*(one for one in given if isinstance(one, Mapping)), params):
        for name in _CAPS_IN_SETTINGS:
            if found := _positive(settings.get(name)):
                return found
    return _positive(metadata.get("ls_max_tokens")) or _printed_cap(serialized)


def _printed_cap(serialized: Mapping[str, Any]) -> int | None:
    """Return the output cap of a model that names it nowhere but where it is printed.

    ChatOllama does not put it into what the hooks are told.
    """
    printed = serialized.get("repr") if serialized.get("type") == "not_implemented" else None
    found = _PRINTED_CAP.search(printed) if isinstance(printed, str) else None
    return _positive(int(found[1])) if found else None


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
        found = output.get("token_usage") or output.get("usage") or _said_in_part(message)
    if found is None:
        return None
    usage = Usage.read(found)
    model = model_of(message) or model_of(response.llm_output)
    return usage if usage.model or model is None else replace(usage, model=model)


def _said_in_part(message: object) -> Mapping[str, Any] | None:
    """Return what Ollama reports where the prompt was in its cache: the output alone."""
    said = getattr(message, "response_metadata", None) or {}
    return {"eval_count": said["eval_count"]} if said.get("eval_count") else None


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
            yield _thoughts(message)
            for call in getattr(message, "tool_calls", None) or ():
                yield f"{call['name']} {call['args']}"


def chunk_text(token: object, chunk: Generation | None) -> str:
    """Return the text of a streamed piece, tool calls and shown thoughts included."""
    text = token if isinstance(token, str) else ""
    if isinstance(chunk, ChatGenerationChunk):
        pieces = getattr(chunk.message, "tool_call_chunks", None) or ()
        text += "".join(f"{piece.get('name') or ''}{piece.get('args') or ''}" for piece in pieces)
        if not isinstance(token, str):
            text += chunk.text
        text += _thoughts(chunk.message)
    return text


def _thoughts(message: Any) -> str:
    """Return what a message shows of its reasoning, which is billed as output."""
    beside = (getattr(message, "additional_kwargs", None) or {}).get("reasoning_content")
    text = beside if isinstance(beside, str) else ""
    content = getattr(message, "content", None)
    for block in content if isinstance(content, list) else ():
        if isinstance(block, Mapping) and block.get("type") in _THOUGHTS:
            text += "".join(_texts(block.get(name)) for name in (*_THOUGHTS, "text", "summary"))
    return text


def _texts(value: object) -> str:
    """Return the text of a field that is text, or holds some."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _texts(value.get("text"))
    return "".join(_texts(one) for one in value) if isinstance(value, list) else ""


def _first(response: LLMResult) -> Generation | ChatGeneration | None:
    """Return the first generation of a reply, or None if it is empty."""
    if response.generations and response.generations[0]:
        return response.generations[0][0]
    return None
