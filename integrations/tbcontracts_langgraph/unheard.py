"""What an application has that budgets would not hear: said before it runs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from tbcontracts_langchain import BudgetCallbackHandler


def silent_streams(models: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each place whose model asks for no usage in streams.

    ChatOpenAI leaves it out where another server than OpenAI's answers, because some servers of its
    format refuse the question.

    Args:
        models: Models that were found, each with the place of its agent.
    """
    places: dict[str, list[str]] = {}
    for place, model in models:
        if getattr(model, "stream_usage", True):
            continue
        known = places.setdefault(type(model).__name__, [])
        if place not in known:
            known.append(place)
    for kind, found in places.items():
        yield (
            f"{kind} asks for no usage in streams ({', '.join(found)}): streamed calls are charged "
            f"by estimate. What helps: {kind}(stream_usage=True)."
        )


def deaf_handlers(compiled: Any) -> Iterator[str]:
    """Yield a sentence for each handler that can only be awaited, and means to stop calls.

    LangChain drops what such a handler raises where the graph is not awaited (`invoke`, `stream`).
    """
    callbacks = (getattr(compiled, "config", None) or {}).get("callbacks") or ()
    handlers = list(getattr(callbacks, "handlers", callbacks))
    guarded = any(isinstance(one, BudgetCallbackHandler) for one in handlers)
    for one in handlers:
        starts = (one.on_chat_model_start, one.on_llm_start)
        is_ours = type(one).__module__.startswith("tbcontracts_")
        if not one.raise_error or not any(map(inspect.iscoroutinefunction, starts)):
            continue
        if is_ours and guarded:
            continue  # its guard hears the calls that are not awaited
        helps = "budget_callbacks(manager)" if is_ours else "a handler with plain methods beside it"
        yield (
            f"The handler {type(one).__name__} can only be awaited: what it raises is dropped in "
            f"invoke() and stream(), and the call goes out. What helps: {helps}."
        )
