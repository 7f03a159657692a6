"""A web service whose tenants share nothing but the code: a budget for each run, a month above it.

Run it: `python service.py`; README.md says what to ask it.
Where the books are is one line, the environment variable STORE: `memory://` unless it is set.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Path, Request
from fastapi.responses import JSONResponse
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, Field, SecretStr

from tbcontracts import BudgetExceededError, BudgetManager, StoreError, open_store
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langchain import budget_callbacks
from tbcontracts_langgraph import budget

STORE = os.environ.get("STORE", "memory://")
MONTH_TOKENS = int(os.environ.get("MONTH_TOKENS", "5000"))
RUN_TOKENS = int(os.environ.get("RUN_TOKENS", "1500"))
ANSWER_TOKENS = 200

Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


class Question(BaseModel):
    """What a tenant wants to know."""

    question: str = Field(max_length=1_000)


class Answered(BaseModel):
    """An answer, and what is left."""

    answer: str
    run_tokens_left: int
    month_tokens_left: int


class Budgets:
    """The books of all tenants: one set for each run, and one for each month of a tenant."""

    def __init__(self, url: str) -> None:
        self.store = open_store(url)
        self._months = BudgetManager(store=self.store)
        self._months.register_agent("runs", max_tokens=MONTH_TOKENS, min_reserve=0)
        self._runs = BudgetManager(store=self.store)
        self._runs.register_agent("researcher", priority=1, max_tokens=RUN_TOKENS // 2)
        self._runs.register_agent("writer", priority=2, max_tokens=RUN_TOKENS // 2)

    def month(self, tenant: str) -> BudgetManager:
        """Return a tenant's month; the next one begins by itself."""
        return self._months.scope(f"{tenant}/{{utc:%Y-%m}}")

    def run(self, tenant: str, run: str) -> BudgetManager:
        """Return a run's budget, each hold of which is also one on the tenant's month."""
        return self._runs.scope(f"{tenant}/runs/{run}").within(self.month(tenant), agent="runs")


def build_graph(base_url: str | None) -> Any:
    """Return the graph that answers: one agent looks things up, another one writes."""
    model = ChatOpenAI(
        base_url=base_url,
        api_key=SecretStr(os.environ.get("OPENAI_API_KEY", "offline")),
        model="gpt-4o-mini",
        max_completion_tokens=ANSWER_TOKENS,
    )

    # On Python 3.10 an awaited call is on the books only if it is given its node's config.
    async def research(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        asked = [("system", "Find facts."), *state["messages"]]
        return {"messages": [await model.ainvoke(asked, config)]}

    async def write(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        asked = [("system", "Answer."), *state["messages"]]
        return {"messages": [await model.ainvoke(asked, config)]}

    builder = StateGraph(MessagesState)
    builder.add_node("researcher", research, metadata=budget("researcher"))
    builder.add_node("writer", write, metadata=budget("writer"))
    builder.add_edge(START, "researcher")
    builder.add_edge("researcher", "writer")
    return builder.compile()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the books; without OPENAI_BASE_URL or a key, start a scripted provider."""
    async with AsyncExitStack() as stack:
        base_url = os.environ.get("OPENAI_BASE_URL")
        if base_url is None and "OPENAI_API_KEY" not in os.environ:
            base_url = stack.enter_context(FakeOpenAI()).base_url
        app.state.graph = build_graph(base_url)
        app.state.budgets = Budgets(STORE)
        stack.callback(app.state.budgets.store.close)
        yield


app = FastAPI(title="Answers within a budget", lifespan=lifespan)


@app.post("/{tenant}/runs/{run}")
async def answer(tenant: Name, run: Name, question: Question, request: Request) -> Answered:
    """Answer a question within the budget of a run and of its tenant's month."""
    budgets: Budgets = request.app.state.budgets
    manager = budgets.run(tenant, run)
    done = await request.app.state.graph.ainvoke(
        {"messages": [("user", question.question)]},
        {"callbacks": budget_callbacks(manager)},
    )
    report = await manager.areport()
    return Answered(
        answer=str(done["messages"][-1].content),
        run_tokens_left=sum(account["remaining"] for account in report.values()),
        month_tokens_left=await budgets.month(tenant).aremaining("runs"),
    )


@app.get("/{tenant}")
async def month(tenant: Name, request: Request) -> dict[str, Any]:
    """Say what a tenant used this month."""
    manager = request.app.state.budgets.month(tenant)
    return {"scope": manager.scope_name, **(await manager.areport())["runs"]}


@app.get("/{tenant}/runs/{run}")
async def one_run(tenant: Name, run: Name, request: Request) -> dict[str, Any]:
    """Say what each agent of a run used."""
    return dict(await request.app.state.budgets.run(tenant, run).areport())


@app.exception_handler(BudgetExceededError)
async def refused(_: Request, error: BudgetExceededError) -> JSONResponse:
    """Answer 402: no request was sent for this, and here is what would help."""
    said = {
        "agent": error.agent_name,
        "scope": error.scope,
        "requested": error.requested,
        "available": error.available,
        "reason": error.reason,
        "remedy": error.remedy,
    }
    return JSONResponse(said, status_code=402)


@app.exception_handler(StoreError)
async def undecided(_: Request, error: StoreError) -> JSONResponse:
    """Answer 503: the books cannot be reached, so nothing is spent."""
    return JSONResponse({"reason": error.message, "remedy": error.remedy}, status_code=503)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
