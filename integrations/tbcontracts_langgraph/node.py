"""`budgeted`: a graph node under a contract, whatever kind of node it is.

The node keeps its kind, its name and its signature, because LangGraph reads from them what to hand
in, what state it takes and where it may go. What runs in it finds a config that names its agent, in
the arguments and in the context: so it is attributed on Python 3.10 too, where LangGraph does not
hand the context on.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig, RunnableParallel

from tbcontracts import BudgetContract, BudgetExceededError, BudgetManager
from tbcontracts.checks import check_name
from tbcontracts.contract import written_contract
from tbcontracts.errors import ConfigurationError
from tbcontracts.exhaustion import Policy, policy_of
from tbcontracts.scores import ScoreSource, score_source
from tbcontracts_langgraph.instead import Instead, takes
from tbcontracts_langgraph.runnable import BudgetedRunnable
from tbcontracts_langgraph.visit import NODE_BUDGET, NodeBudget, Visit

Node = TypeVar("Node")

CONFIG = "config"


def budgeted(
    manager: BudgetManager,
    agent: str,
    *,
    on_exceeded: str | Mapping[str, Any] | None = None,
    closing: Any = None,
    confidence_key: str | None = None,
    confidence_fn: Callable[[Any], Any] | None = None,
    usage_fn: Callable[[Any], Any] | None = None,
    model: str | None = None,
    **contract: Any,
) -> Callable[[Node], Node]:
    """Put a graph node under a contract, as a wrapper or as a decorator.

    Takes functions of every kind, methods, partials, callable objects, runnables and compiled
    graphs. Model calls inside are on the agent's account, each held for itself; the
    node holds nothing, so that one without a model call costs nothing.

    Args:
        manager: Whose contracts and books; a graph's `scope_by` decides on which of them.
        agent: Whose contract.
        on_exceeded: What happens at the end of the budget, where that is not what the contract
            says: "raise"; "end", the node writes what `closing` returns or nothing, and the graph
            goes on; "ask", the graph pauses before the call that cannot be paid for (it needs a
            checkpointer), and `Command(resume=tokens)` grants (dollars as text or a `Decimal`), 0
            refuses; {"fallback": ...} with the name of a node, a function or runnable that is
            called as the node is, or a cheaper model, which the node is called with if it has a
            parameter `model`.
        closing: Under "end", what makes the node's last update: a function or runnable that is
            called as the node is (and with `refusal`, if it takes that). It may use the reserve.
        confidence_key: Where in the node's update a score of 0..1 stands, such as
            "answer.confidence", for the confidence gate.
        confidence_fn: A function of the update that returns the score, instead of a key; such as
            `tbcontracts.scores.mean_token_probability`.
        usage_fn: For nodes whose model calls nobody sees, because they use a provider's client:
            a function of the update that returns what they used. The node is then held and charged
            as one call.
        model: Which model these calls ask. A budget in dollars needs it, to know what they cost.
        contract: The contract, as `BudgetManager.register_agent` takes it, where the agent has none
            yet: priority, max_tokens or max_usd, ...

    Raises:
        UnknownAgentError: The agent has no contract.
        ContractConflictError: The agent has a different contract already.
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.

    Example:
        `builder.add_node("research", budgeted(manager, "research", max_tokens=4_000)(fn))`
    """
    if not isinstance(manager, BudgetManager):
        msg = f"manager must be a BudgetManager, not {type(manager).__name__}."
        raise TypeError(msg)
    name = check_name(agent)
    if contract:
        fields = {**contract, "on_exceeded": on_exceeded or "raise"}
        manager.register(written_contract(name, fields))
    node = NodeBudget(
        manager,
        _known(manager, name),
        on_exceeded=None if on_exceeded is None else _policy(name, on_exceeded),
        closing=_checked(closing, f"closing of agent {name!r}"),
        score=_score(name, confidence_key, confidence_fn),
        usage_fn=_checked(usage_fn, f"usage_fn of agent {name!r}"),
        model=model,
    )
    return functools.partial(wrap_node, node)


def _known(manager: BudgetManager, name: str) -> str:
    """Return the name of an agent that has a contract."""
    with manager.acting_as(name):
        return name


def _policy(name: str, on_exceeded: str | Mapping[str, Any]) -> Policy:
    """Return what `on_exceeded` says, checked as that of a contract is."""
    policy = policy_of(BudgetContract(name, on_exceeded=on_exceeded))
    if policy.kind == "fallback" and not isinstance(policy.fallback, str):
        _checked(policy.fallback, f"The fallback of agent {name!r}")
    return policy


def _checked(action: Any, what: str) -> Any:
    if action is None or callable(action) or isinstance(action, Runnable):
        return action
    msg = f"{what} must be a function or a runnable, not {type(action).__name__}."
    raise TypeError(msg)


def _score(name: str, key: str | None, function: Callable[[Any], Any] | None) -> ScoreSource | None:
    """Return where the score comes from."""
    if key is not None and function is not None:
        msg = f"Agent {name!r} has a confidence_key and a confidence_fn; one of them is enough."
        raise ConfigurationError(msg, remedy="What helps: only the key, or only the function.")
    source = key if key is not None else function
    return None if source is None else score_source(source, f"The confidence of agent {name!r}")


def wrap_node(node: NodeBudget, action: Any) -> Any:
    """Return a node of the same kind that runs under a contract."""
    if isinstance(action, dict):
        action = RunnableParallel(action)
    if isinstance(action, Runnable):
        return BudgetedRunnable(node, action)
    if not callable(action):
        msg = f"budgeted({node.agent!r}) takes a function or a runnable, not {action!r}."
        raise TypeError(msg)
    if _is(inspect.isasyncgenfunction, action):
        wrapper = _async_generator(node, action)
    elif _is(inspect.iscoroutinefunction, action):
        wrapper = _coroutine(node, action)
    elif _is(inspect.isgeneratorfunction, action):
        wrapper = _generator(node, action)
    else:
        wrapper = _plain(node, action)
    dressed = _dressed(wrapper, action)
    setattr(dressed, NODE_BUDGET, node)
    return dressed


def _is(kind: Callable[[Any], bool], action: Any) -> bool:
    """Return whether a function, or an object that is called like one, is of some kind."""
    return kind(action) or kind(getattr(type(action), "__call__", None))  # noqa: B004 - not asked


def _dressed(wrapper: Callable[..., Any], action: Any) -> Callable[..., Any]:
    """Give a wrapper the looks of what it wraps, and a parameter for the config."""
    shown = action
    if not inspect.isroutine(action) and not isinstance(action, functools.partial):
        shown = action.__call__
    wrapper.__annotations__ = {}
    functools.update_wrapper(wrapper, shown)
    wrapper.__name__ = str(getattr(action, "__name__", type(action).__name__))
    signature = inspect.signature(shown)
    parameters = [one for one in signature.parameters.values() if one.name != CONFIG]
    config = inspect.Parameter(
        CONFIG, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=RunnableConfig
    )
    rest = inspect.Parameter.VAR_KEYWORD
    at = next((at for at, one in enumerate(parameters) if one.kind is rest), len(parameters))
    parameters.insert(at, config)
    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return wrapper


class _Run:
    """A function node's run: what it is called with, and what is called in its place."""

    def __init__(
        self,
        node: NodeBudget,
        action: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        config: RunnableConfig | None,
    ) -> None:
        self.visit = Visit(node, config, args)
        self._action = action
        self._args = args
        if takes(action, CONFIG):
            kwargs = {**kwargs, CONFIG: self.visit.config}
        self._kwargs = kwargs

    def call(self) -> Any:
        """Call the node's function."""
        return self._action(*self._args, **self._kwargs)

    @property
    def state(self) -> Any:
        return self._args[0] if self._args else None

    def do(self, instead: Instead) -> Any:
        with self.visit.inside(closing=instead.closing):
            result = instead.do(self._action, self._args, self._kwargs, self.visit.config)
        return instead.as_update(result, self._action)

    async def ado(self, instead: Instead) -> Any:
        with self.visit.inside(closing=instead.closing):
            result = await instead.ado(self._action, self._args, self._kwargs, self.visit.config)
        return instead.as_update(result, self._action)


def _plain(node: NodeBudget, action: Any) -> Callable[..., Any]:
    def wrapper(*args: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        run = _Run(node, action, args, kwargs, config)
        try:
            run.visit.begin()
            with run.visit.inside():
                result = run.call()
                if isinstance(result, Runnable):
                    result = result.invoke(run.state, run.visit.config)
        except BaseException as error:
            run.visit.failed(error)
            instead = _instead(run.visit, error)
            if instead is None:
                raise
        else:
            run.visit.succeeded(result)
            return result
        return run.do(instead)

    return wrapper


def _coroutine(node: NodeBudget, action: Any) -> Callable[..., Any]:
    async def wrapper(*args: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        run = _Run(node, action, args, kwargs, config)
        try:
            await run.visit.abegin()
            with run.visit.inside():
                result = await run.call()
                if isinstance(result, Runnable):
                    result = await result.ainvoke(run.state, run.visit.config)
        except BaseException as error:
            await run.visit.afailed(error)
            instead = _instead(run.visit, error)
            if instead is None:
                raise
        else:
            await run.visit.asucceeded(result)
            return result
        return await run.ado(instead)

    return wrapper


def _generator(node: NodeBudget, action: Any) -> Callable[..., Any]:
    def wrapper(*args: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        run = _Run(node, action, args, kwargs, config)
        last = None
        try:
            run.visit.begin()
            pieces = run.call()
            done = False
            while not done:
                with run.visit.inside():
                    piece = next(pieces, _END)
                done = piece is _END
                if not done:
                    last = piece
                    yield piece
        except BaseException as error:
            run.visit.failed(error)
            instead = _instead(run.visit, error)
            if instead is None:
                raise
        else:
            run.visit.succeeded(last)
            return
        update = run.do(instead)
        if inspect.isgenerator(update):
            yield from update
        elif update is not None:
            yield update

    return wrapper


def _async_generator(node: NodeBudget, action: Any) -> Callable[..., Any]:
    async def wrapper(
        *args: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        run = _Run(node, action, args, kwargs, config)
        last = None
        try:
            await run.visit.abegin()
            pieces = run.call()
            done = False
            while not done:
                with run.visit.inside():
                    piece = await anext(pieces, _END)
                done = piece is _END
                if not done:
                    last = piece
                    yield piece
        except BaseException as error:
            await run.visit.afailed(error)
            instead = _instead(run.visit, error)
            if instead is None:
                raise
        else:
            await run.visit.asucceeded(last)
            return
        update = await run.ado(instead)
        if inspect.isasyncgen(update):
            async for piece in update:
                yield piece
        elif update is not None:
            yield update

    return wrapper


_END = object()


def _instead(visit: Visit, error: BaseException) -> Instead | None:
    """Return what is done after an error, if it is a refusal and something is."""
    return visit.instead(error) if isinstance(error, BudgetExceededError) else None
