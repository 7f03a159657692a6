"""A host with experts as tools, which are agents of their own; two are asked at once."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import ToolErrorMiddleware
from langchain_core.tools import tool

from tbcontracts_langgraph import govern_graph


def told(error: Exception, request: Any) -> str:
    """Tell the model of every error of a tool, so that it goes on."""
    return f"This did not work: {type(error).__name__}."


def build(model: Any, checkpointer: Any = None, *, goes_on: bool = False) -> Any:
    """Return the host; one that goes on is told of the errors of its tools."""
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
        middleware=[ToolErrorMiddleware(told)] if goes_on else [],
        name="host",
        checkpointer=checkpointer,
    )


def governed(model: Any, contracts: Any, checkpointer: Any = None, *, goes_on: bool = False) -> Any:
    """Return the same host under contracts."""
    return govern_graph(build(model, checkpointer, goes_on=goes_on), contracts)
