"""What CrewAI's calls say of themselves: their size before, their usage and their end after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tbcontracts import Usage
from tbcontracts.endings import Ending, is_status_made_up, is_unbilled
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import size_request
from tbcontracts_crewai.errors import DENIED_BY_HOOK, stopped_by_hook

_NEWEST, _OUTPUT_ONLY = "max_completion_tokens", "max_output_tokens"
_CAPS = ("max_tokens", _NEWEST)


def call_shape(
    llm: Any, messages: Any, *, tools: Any = None, response_model: Any = None
) -> CallShape:
    """Measure a call before it is sent.

    Args:
        llm: The model that is called.
        messages: A text, or messages as plain data.
        tools: Tool definitions as plain data.
        response_model: A pydantic model whose schema goes along.
    """
    given: list[Any] = [messages] if isinstance(messages, str) else list(_parts(messages))
    along = [*(tools or ()), *_schema(response_model)]
    choices = getattr(llm, "n", None)
    provider = getattr(llm, "provider", None)
    return CallShape(
        size_request(given, tools=along or None),
        output_cap=output_cap(llm),
        choices=choices if isinstance(choices, int) and choices > 0 else 1,
        model=str(getattr(llm, "model", "")) or None,
        provider=provider if isinstance(provider, str) and provider else None,
    )


def output_cap(llm: Any) -> int | None:
    """Return the longest answer that a model is set to, by whichever name its provider has.

    Where two names are set, the provider's class decides which one is sent; the larger one is safe.
    """
    if _OUTPUT_ONLY in getattr(type(llm), "model_fields", ()):
        return _whole(getattr(llm, _OUTPUT_ONLY, None))  # Gemini's, which sends no other
    effective = getattr(llm, "_effective_max_tokens", None)
    values = [getattr(llm, name, None) for name in _CAPS]
    values.append(effective() if callable(effective) else None)
    return max((cap for cap in map(_whole, values) if cap), default=None)


def with_output_cap(llm: Any, cap: int) -> Any:
    """Return a copy of one of CrewAI's models with another output cap, for one call.

    The copy has the same client and the same counters. The model itself stays as it is: others may
    be calling it.
    """
    # CrewAI's way to copy makes a model anew, with counters at zero; this is pydantic's.
    copied = object.__new__(type(llm))
    state = llm.__getstate__()
    copied.__setstate__({**state, "__dict__": dict(state["__dict__"])})
    fields = type(llm).model_fields
    if _OUTPUT_ONLY in fields:
        names = [_OUTPUT_ONLY]
    else:
        names = [name for name in _CAPS if getattr(llm, name, None)]
    if not names:
        # OpenAI's newest models know only the longer name, servers that imitate it the shorter one.
        newest = _NEWEST in fields and not llm.base_url and not llm.is_litellm
        names = [_NEWEST if newest else "max_tokens"]
    for name in names:
        setattr(copied, name, cap)
    return copied


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
    if error is not None and is_status_made_up(error):
        cause = error.__cause__ or error.__context__
        return Ending(usage, unbilled=usage is None and is_unbilled(cause))
    return Ending(usage, error)
