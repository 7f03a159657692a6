"""A deep agent that plans, keeps files, and sends two subagents out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbcontracts_langgraph import govern_graph

if TYPE_CHECKING:
    from deepagents import SubAgent


def look_up(topic: str) -> str:
    """Look a topic up."""
    return f"{topic}: known since 1911."


def build(model: Any, checkpointer: Any = None) -> Any:
    """Return the deep agent, as its own guide makes one."""
    from deepagents import create_deep_agent  # is not made for Python 3.10

    researcher: SubAgent = {
        "name": "researcher",
        "description": "Finds things out.",
        "system_prompt": "You find things out.",
        "tools": [look_up],
    }
    critic: SubAgent = {
        "name": "critic",
        "description": "Finds weak spots.",
        "system_prompt": "You find weak spots.",
    }
    return create_deep_agent(
        model,
        system_prompt="You lead an expedition.",
        subagents=[researcher, critic],
        name="leader",
        checkpointer=checkpointer,
    )


def governed(model: Any, contracts: Any, checkpointer: Any = None) -> Any:
    """Return the same agent under contracts."""
    return govern_graph(build(model, checkpointer), contracts)
