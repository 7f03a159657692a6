"""Runnable nodes under a contract: chains, agents and other compiled graphs."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.pregel import Pregel

from tbcontracts import BudgetExceededError
from tbcontracts_langgraph.instead import Instead
from tbcontracts_langgraph.visit import NodeBudget, Visit


class BudgetedRunnable(RunnableLambda[Any, Any]):
    """A runnable that runs under a contract.

    It is a lambda because LangGraph looks into lambdas for the graphs that they run (`deps`): a
    graph in here is still found by `get_subgraphs` and `get_state(subgraphs=True)`.

    Args:
        node: What is said of the node.
        bound: What runs in it.
    """

    def __init__(self, node: NodeBudget, bound: Runnable[Any, Any]) -> None:
        super().__init__(self.invoke, self.ainvoke, name=bound.get_name())
        self.node = node
        self.bound = bound

    @cached_property
    def deps(self) -> list[Runnable[Any, Any]]:
        """What runs in here."""
        return [self.bound]

    def invoke(
        self,
        input: Any,  # noqa: A002 - as the class above calls it
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run it; what happens at the end of its budget is what its contract says."""
        visit = Visit(self.node, config, (input,))
        steps = _Steps()
        try:
            visit.begin()
            with visit.inside():
                result = self._run(input, visit, steps, kwargs)
        except BaseException as error:
            visit.failed(error)
            instead = _instead(visit, error)
            if instead is None:
                raise
        else:
            visit.succeeded(result)
            return result
        if instead.closing and instead.action is None:
            return steps.done
        with visit.inside(closing=instead.closing):
            done = instead.do(_no_function, (input,), kwargs, visit.config)
        return instead.as_update(done, _no_function)

    async def ainvoke(
        self,
        input: Any,  # noqa: A002 - as the class above calls it
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run it; what happens at the end of its budget is what its contract says."""
        visit = Visit(self.node, config, (input,))
        steps = _Steps()
        try:
            await visit.abegin()
            with visit.inside():
                result = await self._arun(input, visit, steps, kwargs)
        except BaseException as error:
            await visit.afailed(error)
            instead = _instead(visit, error)
            if instead is None:
                raise
        else:
            await visit.asucceeded(result)
            return result
        if instead.closing and instead.action is None:
            return steps.done
        with visit.inside(closing=instead.closing):
            done = await instead.ado(_no_function, (input,), kwargs, visit.config)
        return instead.as_update(done, _no_function)

    # A lambda would run its function here; the default of all other runnables is `invoke`.
    stream = Runnable.stream
    astream = Runnable.astream
    transform = Runnable.transform
    atransform = Runnable.atransform

    def _run(self, given: Any, visit: Visit, steps: _Steps, kwargs: dict[str, Any]) -> Any:
        """Run it; under "end" a graph step by step, so that what it has done is not lost."""
        if self.node.policy.kind != "end" or not isinstance(self.bound, Pregel):
            return self.bound.invoke(given, visit.config, **kwargs)
        for values in self.bound.stream(given, visit.config, stream_mode="values", **kwargs):
            steps.saw(values)
        return steps.last

    async def _arun(self, given: Any, visit: Visit, steps: _Steps, kwargs: dict[str, Any]) -> Any:
        if self.node.policy.kind != "end" or not isinstance(self.bound, Pregel):
            return await self.bound.ainvoke(given, visit.config, **kwargs)
        stream = self.bound.astream(given, visit.config, stream_mode="values", **kwargs)
        async for values in stream:
            steps.saw(values)
        return steps.last


class _Steps:
    """The values of a graph after each of its steps; before the first they are only its input."""

    def __init__(self) -> None:
        self.last: Any = None
        self._seen = 0

    def saw(self, values: Any) -> None:
        self.last = values
        self._seen += 1

    @property
    def done(self) -> Any:
        """What the graph has done, or None if it has done nothing."""
        return self.last if self._seen > 1 else None


def _no_function(*args: Any, **kwargs: Any) -> None:
    """Stand for the function that a runnable node does not have; it takes no `model`."""


def _instead(visit: Visit, error: BaseException) -> Instead | None:
    return visit.instead(error) if isinstance(error, BudgetExceededError) else None
