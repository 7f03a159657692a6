"""The LangGraph half of the demo: one agent loops, and the one that matters gets its share."""

from __future__ import annotations

import logging
import operator
import textwrap
from typing import Annotated, Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import ScriptedRequest
from tbcontracts_langgraph import budget, govern_graph

BUDGETS = {"planner": 600, "researcher": 900, "critic": 1_500, "writer": 300}
TASK = "Write a short briefing on how cities cool their streets."


class State(TypedDict):
    """What the agents hand on."""

    notes: Annotated[list[str], operator.add]
    refused: str


def script(request: ScriptedRequest) -> str:
    """Answer as each agent would; the researcher always wants to look once more."""
    if "planner" in request.system_text:
        return "Plan: look at trees, at light roofs and at water; then weigh cost against effect."
    if "researcher" in request.system_text:
        finding = "Street trees lower the air temperature by one to two degrees on a hot day, and "
        return finding * 4 + "there is surely more to find, so let me search once more."
    if "critic" in request.system_text:
        return "The findings repeat themselves. Two of them name no source."
    paragraph = "Cities cool their streets with shade first: trees, arcades and cloth. Light roofs "
    return paragraph * 9 + "and water help at night."


def build(model: ChatOpenAI) -> StateGraph[State, None, State, State]:
    """Return the graph; the annotations are the only trace of budgets in it."""

    def ask(agent: str, question: str) -> str:
        prompt = f"You are the {agent}. Be brief."
        return str(model.invoke([("system", prompt), ("user", question)]).content)

    def plan(state: State) -> dict[str, Any]:  # noqa: ARG001 - LangGraph passes it by this name
        return {"notes": [ask("planner", TASK)]}

    def research(state: State) -> dict[str, Any]:
        try:
            return {"notes": [ask("researcher", "Find more. So far: " + " ".join(state["notes"]))]}
        except BudgetExceededError as refusal:  # nothing was sent; the graph goes on without it
            return {"refused": str(refusal)}

    def criticise(state: State) -> dict[str, Any]:
        return {"notes": [ask("critic", "What is weak here? " + state["notes"][-1])]}

    def write(state: State) -> dict[str, Any]:
        return {"notes": [ask("writer", f"{TASK} Notes: " + " ".join(state["notes"][:3]))]}

    builder = StateGraph(State)
    builder.add_node("plan", plan, metadata=budget("planner", priority=3, max_tokens=600))
    builder.add_node(
        "research", research, metadata=budget("researcher", priority=2, max_tokens=900)
    )
    builder.add_node(
        "criticise",
        criticise,
        metadata=budget("critic", priority=1, max_tokens=1_500, min_reserve=450),
    )
    builder.add_node("write", write, metadata=budget("writer", priority=4, max_tokens=300))
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "research")
    builder.add_conditional_edges(
        "research",
        lambda state: "criticise" if state.get("refused") else "research",  # nothing else ends it
        ["research", "criticise"],
    )
    builder.add_edge("criticise", "write")
    builder.add_edge("write", END)
    return builder


def run(base_url: str | None, api_key: str, model_name: str) -> BudgetManager:
    """Run the graph, and tell what happens; return the manager with the books."""
    # LangChain logs every refusal as an error of the callback; here it is printed instead.
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)
    model = ChatOpenAI(
        base_url=base_url, api_key=SecretStr(api_key), model=model_name, max_completion_tokens=250
    )
    manager = BudgetManager()
    app = govern_graph(build(model), manager)
    result = app.invoke({"notes": []})
    calls = sum(entry.kind == "settled" for entry in manager.journal())
    print(f"{calls} calls were paid for, the writer's last. The researcher would have gone on for")
    print("ever; its next call was refused before it was sent:")
    print(textwrap.indent(textwrap.fill(result["refused"], 74), "  "))
    return manager
