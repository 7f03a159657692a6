"""The budget is used up: the graph pauses, a person grants more, and it goes on where it was.

The pause stands before the call that cannot be paid for. The grant is applied once, however often
LangGraph runs the node again. Run it: `python 05_human_grants_a_top_up.py`.
"""

from __future__ import annotations

import logging
from typing import Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langgraph import budget, govern_graph


class State(TypedDict):
    """One text."""

    text: str


def build(model: ChatOpenAI) -> StateGraph[State, None, State, State]:
    """Return a graph of one writer that may ask for more."""

    def write(state: State) -> dict[str, str]:
        return {"text": str(model.invoke(f"Write about {state['text']}.").content)}

    builder = StateGraph(State)
    contract = budget("writer", max_tokens=100, on_exceeded="ask")
    builder.add_node("write", write, metadata=contract)
    builder.add_edge(START, "write")
    return builder


def main() -> None:
    """Run into the limit, ask, grant, and go on."""
    # LangChain logs the pause as an error of the callback.
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)
    with FakeOpenAI(["Tides follow the moon."]) as server:
        model = ChatOpenAI(
            base_url=server.base_url,
            api_key=SecretStr("none"),
            model="gpt-4o-mini",
            max_completion_tokens=300,
        )
        manager = BudgetManager()
        # A pause is kept in a checkpoint; in production in a database, for as long as it takes.
        app = govern_graph(build(model), manager, checkpointer=InMemorySaver())
        thread: Any = {"configurable": {"thread_id": "tides"}}

        paused = app.invoke({"text": "tides"}, thread)
        question = paused["__interrupt__"][0].value
        print(f"{question['agent_name']} asks for {question['lacking']} tokens more.")
        print(f"sent so far: {len(server.log)} requests")

        granted = question["lacking"]  # what the person answers; 0 is a refusal
        result = app.invoke(Command(resume=granted), thread)
        print(f"granted {granted}: {result['text']}")
        numbers = manager.report()["writer"]
        print(f"allocated {numbers['allocated']}, used {numbers['consumed']} tokens")
        print(f"books {numbers['consumed']} tokens, provider {server.billed_tokens} tokens")


if __name__ == "__main__":
    main()
