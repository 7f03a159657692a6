"""Forty workers at once on a budget for two: exactly two calls are sent, and the graph goes on.

Looking at what was spent so far would let all forty go, because nothing is spent until the first
answer is there; a hold does not. Run it: `python 04_send_map_reduce.py`.
"""

from __future__ import annotations

import logging
import operator
from typing import Annotated, Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_langgraph import budgeted, govern_graph

WORKERS = 40


class State(TypedDict):
    """What the workers hand in."""

    parts: Annotated[list[str], operator.add]
    left_out: Annotated[int, operator.add]


def build(model: ChatOpenAI, manager: BudgetManager) -> StateGraph[State, None, State, State]:
    """Return a map and a reduce step; the second is told how many parts are missing."""

    def leave_out(state: State, refusal: BudgetExceededError) -> dict[str, Any]:  # noqa: ARG001
        return {"left_out": 1}

    @budgeted(
        manager,
        "worker",
        max_tokens=5_000,
        min_reserve=0,
        on_exceeded="end",
        closing=leave_out,
    )
    def worker(state: State) -> dict[str, Any]:  # noqa: ARG001 - LangGraph passes it by this name
        return {"parts": [str(model.invoke("word " * 994).content)]}

    def reduce(state: State) -> dict[str, Any]:
        print(f"{len(state['parts'])} parts, {state['left_out']} left out")
        return {}

    builder = StateGraph(State)
    builder.add_node("plan", lambda state: {"left_out": 0})  # noqa: ARG005 - as above
    builder.add_node("worker", worker)
    builder.add_node("reduce", reduce)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges(
        "plan", lambda state: [Send("worker", state) for _ in range(WORKERS)], ["worker"]
    )
    builder.add_edge("worker", "reduce")
    return builder


def main() -> None:
    """Send out all workers, each with a call of 2,000 tokens, on a budget of 5,000."""
    # LangChain logs every refusal as an error of the callback.
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)
    with FakeOpenAI(lambda _: Answer(text="x", input_tokens=1_000, fill=True)) as server:
        model = ChatOpenAI(
            base_url=server.base_url,
            api_key=SecretStr("none"),
            model="gpt-4o-mini",
            max_completion_tokens=1_000,
        )
        manager = BudgetManager()
        app = govern_graph(build(model, manager), manager)
        app.invoke({"parts": [], "left_out": 0}, {"max_concurrency": WORKERS})
        account = manager.accounts()["worker"]
        print(f"{WORKERS} workers, {len(server.log)} requests sent, {account.denials} refused")
        print(f"books {account.consumed} tokens, provider {server.billed_tokens} tokens")


if __name__ == "__main__":
    main()
