"""A team inside a team: the inner contract pays where there is one, else the outer one.

The subgraph as a whole works for "team". One node in it has a contract of its own, and that one has
a cheaper node to fall back to. Run it: `python 03_subgraphs.py`.
"""

from __future__ import annotations

import logging
import operator
from typing import Annotated, Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langgraph import budget, govern_graph


class State(TypedDict):
    """What the nodes hand on."""

    notes: Annotated[list[str], operator.add]


def build(model: ChatOpenAI) -> StateGraph[State, None, State, State]:
    """Return a graph with a subgraph."""

    def asks(name: str) -> Any:
        def node(state: State) -> dict[str, list[str]]:
            model.invoke([("system", name), ("user", f"{len(state['notes'])} notes so far.")])
            return {"notes": [name]}

        return node

    inner = StateGraph(State)
    inner.add_node("skim", asks("skim"))
    deep = budget("deep", max_tokens=50, on_exceeded={"fallback": "summary"})
    inner.add_node("deep", asks("deep"), metadata=deep)
    inner.add_node("discuss", asks("discuss"))
    inner.add_node("summary", asks("summary"))
    inner.add_edge(START, "skim")
    inner.add_edge("skim", "deep")
    inner.add_edge("deep", "discuss")
    inner.add_edge("discuss", END)
    inner.add_edge("summary", END)

    outer = StateGraph(State)
    outer.add_node("reading", inner.compile(), metadata=budget("team", priority=2, max_tokens=900))
    outer.add_node("write", asks("write"), metadata=budget("writer", priority=3, max_tokens=900))
    outer.add_edge(START, "reading")
    outer.add_edge("reading", "write")
    return outer


def main() -> None:
    """Run the graph, and show who did what and who paid for it."""
    # LangChain logs every refusal as an error of the callback.
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)
    with FakeOpenAI() as server:
        model = ChatOpenAI(
            base_url=server.base_url,
            api_key=SecretStr("none"),
            model="gpt-4o-mini",
            max_completion_tokens=100,
        )
        manager = BudgetManager()
        app = govern_graph(build(model), manager)
        app.invoke({"notes": []})
        print("ran:", ", ".join(request.system_text for request in server.log))
        for name, account in sorted(manager.accounts().items()):
            print(f"{name}: {account.consumed} tokens, {account.denials} refused")
        spent = sum(account.consumed for account in manager.accounts().values())
        print(f"books {spent} tokens, provider {server.billed_tokens} tokens")


if __name__ == "__main__":
    main()
