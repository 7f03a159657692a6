"""A harbour office: a clerk, and an assistant that runs with one of LangChain's middlewares."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import (
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    HumanInTheLoopMiddleware,
    LLMToolEmulator,
    LLMToolSelectorMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRefusalMiddleware,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolErrorMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from tbcontracts_langgraph import govern_graph

NO_WAIT: dict[str, Any] = {"initial_delay": 0.0, "backoff_factor": 0.0, "jitter": False}


def with_stronger(model: Any) -> Any:
    """Return the same client for a stronger model."""
    return model.model_copy(update={"model_name": "gpt-4o"})


def said(error: Exception, request: Any) -> str | None:
    """Tell the model of the errors that the tools here make."""
    return "The station is silent." if isinstance(error, ConnectionError) else None


MIDDLEWARE: dict[str, Any] = {
    "ContextEditing": lambda model: [
        ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=10, keep=1)])
    ],
    "HumanInTheLoop": lambda model: [HumanInTheLoopMiddleware(interrupt_on={"tides": True})],
    "LLMToolEmulator": lambda model: [LLMToolEmulator(tools=["weather", "tides"], model=model)],
    "LLMToolSelector": lambda model: [LLMToolSelectorMiddleware(max_tools=1)],
    "ModelCallLimit": lambda model: [ModelCallLimitMiddleware(thread_limit=2)],
    "ModelFallback": lambda model: [ModelFallbackMiddleware(with_stronger(model))],
    "ModelRefusal": lambda model: [
        ModelFallbackMiddleware(with_stronger(model)),
        ModelRefusalMiddleware(),
    ],
    "ModelRetry": lambda model: [ModelRetryMiddleware(max_retries=2, **NO_WAIT)],
    "PII": lambda model: [PIIMiddleware("email", strategy="redact", apply_to_tool_results=True)],
    "Summarization": lambda model: [
        SummarizationMiddleware(model, trigger=("messages", 5), keep=("messages", 2))
    ],
    "TodoList": lambda model: [TodoListMiddleware()],
    "ToolCallLimit": lambda model: [ToolCallLimitMiddleware(thread_limit=1)],
    "ToolError": lambda model: [ToolErrorMiddleware(said)],
    "ToolRetry": lambda model: [ToolRetryMiddleware(max_retries=1, **NO_WAIT)],
}


def build(model: Any, checkpointer: Any = None, *, middleware: str) -> Any:
    """Return the office."""
    silent = ["ToolRetry", "ToolError"].count(middleware)

    @tool
    def weather(place: str) -> str:
        """Return the weather at a place."""
        return f"Fresh winds at {place}, says watch@harbour.example."

    @tool
    def tides(place: str) -> str:
        """Return the tides at a place."""
        nonlocal silent
        if silent:
            silent -= 1
            raise ConnectionError(place)
        return f"High water at {place} at six."

    clerk = create_agent(model, system_prompt="You note who calls.", name="clerk")
    assistant = create_agent(
        model,
        [weather, tides],
        system_prompt="You advise sailors.",
        middleware=MIDDLEWARE[middleware](model),
        name="assistant",
    )
    builder = StateGraph(MessagesState)
    builder.add_node("clerk", clerk)
    builder.add_node("assistant", assistant)
    builder.add_edge(START, "clerk")
    builder.add_edge("clerk", "assistant")
    return builder.compile(checkpointer=checkpointer)


def governed(model: Any, contracts: Any, checkpointer: Any = None, *, middleware: str) -> Any:
    """Return the same office under contracts."""
    return govern_graph(build(model, checkpointer, middleware=middleware), contracts)
