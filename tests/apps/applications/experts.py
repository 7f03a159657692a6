"""A host with experts as tools, which are agents of their own; two are asked at once."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import ToolErrorMiddleware, ToolRetryMiddleware
from langchain_core.tools import tool

from tbcontracts_langgraph import govern_graph


def told(error: Exception, request: Any) -> str:
    """Tell the model of every error of a tool, so that it goes on."""
    return f"This did not work: {type(error).__name__}."


MIDDLEWARE: dict[str, Any] = {
    "none": [],
    "goes on": [ToolErrorMiddleware(told)],
    "tries again": [
        ToolRetryMiddleware(max_retries=1, initial_delay=0.0, backoff_factor=0.0, jitter=False)
    ],
}


def build(model: Any, checkpointer: Any = None, *, middleware: str = "none") -> Any:
    """Return the host, which does something of its own about the errors of its tools."""
    geologist: Any = create_agent(model, system_prompt="You know stones.", name="geologist")
    botanist: Any = create_agent(model, system_prompt="You know plants.", name="botanist")

    @tool
    def ask_geologist(question: str) -> str:
        """Ask somebody who knows stones."""
        answer = geologist.invoke({"messages": [("user", question)]})
        return str(answer["messages"][-1].text)

    @tool
    def ask_botanist(question: str) -> str:
        """Ask somebody who knows plants."""
        answer = botanist.invoke({"messages": [("user", question)]})
        return str(answer["messages"][-1].text)

    return create_agent(
        model,
        [ask_geologist, ask_botanist],
        system_prompt="You host a quiz.",
        middleware=MIDDLEWARE[middleware],
        name="host",
        checkpointer=checkpointer,
    )


def governed(
    model: Any, contracts: Any, checkpointer: Any = None, *, middleware: str = "none"
) -> Any:
    """Return the same host under contracts."""
    return govern_graph(build(model, checkpointer, middleware=middleware), contracts)
