"""A newsroom: an editor with a writer, and a desk below it that has a lead and two people."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langgraph_supervisor import create_supervisor

from tbcontracts_langgraph import govern_graph


def search(topic: str) -> str:
    """Look a topic up in the archive."""
    return f"The archive has three articles about {topic}."


def build(model: Any, checkpointer: Any = None) -> Any:
    """Return the newsroom, as the supervisor's own guide makes one."""
    finder = create_agent(model, [search], system_prompt="You find sources.", name="finder")
    checker = create_agent(model, [], system_prompt="You check facts.", name="checker")
    writer = create_agent(model, [], system_prompt="You write articles.", name="writer")
    desk = create_supervisor(
        [finder, checker],
        model=model,
        prompt="You lead the research desk.",
        supervisor_name="desk_lead",
    ).compile(name="desk")
    newsroom = create_supervisor(
        [desk, writer], model=model, prompt="You are the editor.", supervisor_name="editor"
    )
    return newsroom.compile(checkpointer=checkpointer)


def governed(model: Any, contracts: Any, checkpointer: Any = None) -> Any:
    """Return the same newsroom under contracts."""
    return govern_graph(build(model, checkpointer), contracts)
