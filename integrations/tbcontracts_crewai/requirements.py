"""Whether CrewAI is here, and has what this package stands on."""

from __future__ import annotations

from importlib.util import find_spec

_FLOOR = "1.15.19"
_INSTALL = 'pip install "tbcontracts[crewai]" (from a checkout: pip install ".[crewai]")'


def require_crewai() -> None:
    """Import what this package needs of CrewAI.

    Raises:
        ImportError: CrewAI is missing or too old; the text says how to install it.
    """
    if find_spec("crewai") is None:
        msg = f"tbcontracts_crewai needs CrewAI, which is not installed. What helps: {_INSTALL}."
        raise ImportError(msg, name="crewai")
    try:
        from crewai.events.stream_context import add_stream_sink, reset_stream_sinks
        from crewai.hooks.dispatch import HookAborted, scoped_hooks
        from crewai.llms.base_llm import BaseLLM, LLMCallBlockedError
    except ImportError as error:
        msg = f"This CrewAI lacks what budgets need: crewai>={_FLOOR},<2. What helps: {_INSTALL}."
        raise ImportError(msg, name="crewai") from error
    del add_stream_sink, reset_stream_sinks, HookAborted, scoped_hooks, BaseLLM, LLMCallBlockedError
