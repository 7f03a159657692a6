"""What CrewAI's calls say of themselves: their size before, their usage and their end after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tbcontracts import Usage
from tbcontracts.endings import Ending, is_unbilled
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import size_request
from tbcontracts_crewai.errors import DENIED_BY_HOOK, stopped_by_hook

_CAPS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# LiteLLM gives these an HTTP status of its own making: the request may well have been answered.
_STATUS_MADE_UP = frozenset(("APIConnectionError", "Timeout"))


def call_shape(
    llm: Any, messages: Any, *, tools: Any = None, response_model: Any = None, cap: Any = None
) -> CallShape:
    """Measure a call before it is sent.

    Args:
        llm: The model that is called.
        messages: A text, or messages as plain data.
        tools: Tool definitions as plain data.
        response_model: A pydantic model whose schema goes along.
        cap: The output cap that the call announces, if it does.
    """
    given: list[Any] = [messages] if isinstance(messages, str) else list(_parts(messages))
    along = [*(tools or ()), *_schema(response_model)]
    choices = getattr(llm, "n", None)
    return CallShape(
        size_request(given, tools=along or None),
        output_cap=_whole(cap) or output_cap(llm),
        choices=choices if isinstance(choices, int) and choices > 0 else 1,
        model=str(getattr(llm, "model", "")) or None,
    )


def output_cap(llm: Any) -> int | None:
    """Return the longest answer that a model is set to, by whichever name its provider has."""
    effective = getattr(llm, "_effective_max_tokens", None)
    if callable(effective):
        cap = _whole(effective())
        if cap is not None:
            return cap
    return next((cap for name in _CAPS if (cap := _whole(getattr(llm, name, None)))), None)


def _parts(messages: Any) -> Iterator[Any]:
    """Yield messages as plain data; attached files are no text, and have no bound."""
    for message in messages if isinstance(messages, Sequence) else (messages,):
        if isinstance(message, Mapping) and message.get("files"):
            yield {key: value for key, value in message.items() if key != "files"}
            yield from ({"type": "file"} for _ in message["files"])
        else:
            yield message


def _schema(response_model: Any) -> list[Any]:
    """Return the schema that goes along with a call for structured output."""
    describe = getattr(response_model, "model_json_schema", None)
    return [describe()] if callable(describe) else []


def _whole(value: Any) -> int | None:
    """Return a cap as the positive whole number that it should be."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and value > 0 and not isinstance(value, bool) else None


def seen_output(result: Any) -> list[Any] | None:
    """Return what a call returned as plain data to count; None where it cannot be seen."""
    if isinstance(result, str):
        return [result] if result else None
    if isinstance(result, (list, tuple)):
        items = [seen for item in result for seen in seen_output(item) or ()]
        return items or None
    if isinstance(result, Mapping):
        return [dict(result)]
    dump = getattr(result, "model_dump", None)
    return [dump()] if callable(dump) else None


def failure(error: BaseException | None, usage: Usage | None, text: str = "") -> Ending:
    """Return the end of a call that failed.

    Args:
        error: What it failed with, if that is known.
        usage: What the provider reported before.
        text: The text of CrewAI's failed event.
    """
    if usage is None and (stopped_by_hook(error) or text.startswith(DENIED_BY_HOOK)):
        return Ending(error=error, unbilled=True)
    if error is not None and _status_made_up(error):
        cause = error.__cause__ or error.__context__
        return Ending(usage, unbilled=usage is None and is_unbilled(cause))
    return Ending(usage, error)


def _status_made_up(error: BaseException) -> bool:
    """Return whether an error carries a status that no server sent."""
    kind = type(error)
    return kind.__name__ in _STATUS_MADE_UP and kind.__module__.startswith("litellm")
