"""A team of three on one budget: whoever matters more gets what the others do not need.

The writer's contract is too small for its text. It is the most important agent, so it is lent what
the others left over, but not their reserves. Run it: `python 01_research_team.py`.
"""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_langgraph import budget, govern_graph


class State(TypedDict):
    """What the team hands on."""

    notes: Annotated[list[str], operator.add]


def build(model: ChatOpenAI) -> StateGraph[State, None, State, State]:
    """Return the team; the annotations are all that is said of budgets."""

    def agent(name: str) -> Any:
        def node(state: State) -> dict[str, list[str]]:
            question = "Do your part. So far: " + " ".join(state["notes"])
            return {"notes": [str(model.invoke([("system", name), ("user", question)]).content)]}

        return node

    builder = StateGraph(State)
    builder.add_node("researcher", agent("researcher"), metadata=budget(max_tokens=1_000))
    builder.add_node("critic", agent("critic"), metadata=budget(max_tokens=1_000))
    builder.add_node("writer", agent("writer"), metadata=budget(priority=3, max_tokens=300))
    builder.add_edge(START, "researcher")
    builder.add_edge("researcher", "critic")
    builder.add_edge("critic", "writer")
    return builder


def main() -> None:
    """Run the team against a provider on this machine, and show its books."""
    script = {
        "researcher": Answer(text="Trees cool a street by two degrees."),
        "critic": Answer(text="One source is missing."),
        "writer": Answer(text="Cities cool their streets with shade.", output_tokens=700),
    }
    with FakeOpenAI(script) as server:
        model = ChatOpenAI(
            base_url=server.base_url,
            api_key=SecretStr("none"),
            model="gpt-4o-mini",
            max_completion_tokens=750,
        )
        manager = BudgetManager()
        govern_graph(build(model), manager).invoke({"notes": []})
        for entry in manager.journal():
            for move in entry.moves:
                giver = move.donor or "the pool"
                print(f"{giver} lent {entry.agent} {move.amount} tokens")
        print()
        manager.print_report()
        spent = sum(numbers["consumed"] for numbers in manager.report().values())
        print()
        print(f"books {spent} tokens, provider {server.billed_tokens} tokens")


if __name__ == "__main__":
    main()
