"""When the strong model cannot be paid for any more, the same node goes on with a cheaper one.

The node has a parameter `model`. The fallback is handed to it there; its calls pass the gate of the
same agent, and are refused when not even they can be paid for. Run it:
`python 06_degrade_to_a_cheaper_model.py`.
"""

from __future__ import annotations

import logging
from typing import Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_langgraph import budgeted, govern_graph


class State(TypedDict):
    """How many chapters there are."""

    chapters: int


def build(
    strong: ChatOpenAI, cheap: ChatOpenAI, manager: BudgetManager
) -> StateGraph[State, None, State, State]:
    """Return a graph that writes one chapter at a time."""

    @budgeted(manager, "writer", max_tokens=1_500, on_exceeded={"fallback": cheap})
    def write(state: State, *, model: Any = strong) -> dict[str, int]:
        model.invoke(f"Write chapter {state['chapters'] + 1}.")
        return {"chapters": state["chapters"] + 1}

    builder = StateGraph(State)
    builder.add_node("write", write)
    builder.add_edge(START, "write")
    builder.add_conditional_edges("write", lambda _: "write")  # nothing else ends it
    return builder


def main() -> None:
    """Write until nothing is left, first well, then briefly."""
    # LangChain logs every refusal as an error of the callback.
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)
    with FakeOpenAI(lambda _: Answer(text="A chapter.", fill=True)) as server:

        def model(name: str, cap: int) -> ChatOpenAI:
            return ChatOpenAI(
                base_url=server.base_url,
                api_key=SecretStr("none"),
                model=name,
                max_completion_tokens=cap,
            )

        manager = BudgetManager()
        app = govern_graph(build(model("strong", 400), model("cheap", 60), manager), manager)
        try:
            app.invoke({"chapters": 0}, {"recursion_limit": 100})
        except BudgetExceededError as refusal:
            print(f"stopped: {refusal.available} tokens left, {refusal.requested} needed")
        models = [request.model for request in server.log]
        print(f"{models.count('strong')} chapters by the strong model, then")
        print(f"{models.count('cheap')} by the cheap one")
        assert models == sorted(models, reverse=True)
        used = manager.report()["writer"]["consumed"]
        print(f"books {used} tokens, provider {server.billed_tokens} tokens")


if __name__ == "__main__":
    main()
