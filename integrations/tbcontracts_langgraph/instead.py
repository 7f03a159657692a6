"""What a node does when its budget is used up: finish, do something cheaper, or go elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase
from langgraph.types import Command

from tbcontracts import BudgetExceededError
from tbcontracts.errors import ConfigurationError

_KEYWORDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
MODEL = "model"
"""The parameter through which a node is given a cheaper model."""


class GoTo(Command[Any]):
    """A command that takes the place of everything else that would follow the node."""


class Instead(NamedTuple):
    """What is done in the place of a run that was refused."""

    agent: str
    action: Any
    """A function, a runnable, a model, the name of a node; None to write nothing."""
    refusal: BudgetExceededError
    closing: bool
    """Whether it may use the reserve, because it is the last thing that the agent does."""

    def do(
        self,
        body: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        config: RunnableConfig,
    ) -> Any:
        """Do it: what comes back is the node's update, or what can be awaited for one.

        Args:
            body: The node itself: called again with `model` where it takes one.
            args: The node's arguments.
            kwargs: What LangGraph injected into it.
            config: Under which its calls are attributed.
        """
        action = self.action
        if action is None:
            return None
        if isinstance(action, str):
            return GoTo(goto=action)
        if is_model(action):
            if takes(body, MODEL):
                return body(*args, **{**kwargs, MODEL: action})
            return action.invoke(self._messages(args), config)
        if isinstance(action, Runnable):
            return action.invoke(args[0], config)
        offered = {**kwargs, "config": config, "refusal": self.refusal}
        return action(*args, **accepted(action, offered))

    async def ado(
        self,
        body: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        config: RunnableConfig,
    ) -> Any:
        """Do it where it can be awaited."""
        action = self.action
        if is_model(action) and not takes(body, MODEL):
            return await action.ainvoke(self._messages(args), config)
        if isinstance(action, Runnable) and not is_model(action):
            return await action.ainvoke(args[0], config)
        result = self.do(body, args, kwargs, config)
        return await result if inspect.isawaitable(result) else result

    def as_update(self, result: Any, body: Callable[..., Any]) -> Any:
        """Return what was done as an update of the graph's state."""
        if inspect.isawaitable(result):
            close = getattr(result, "close", None)
            if close is not None:
                close()
            msg = f"What agent {self.agent!r} does at the end of its budget is async; its node not."
            raise ConfigurationError(msg, remedy="What helps: both async, or neither.")
        if is_model(self.action) and not takes(body, MODEL):
            return {"messages": [result]}
        return result

    def _messages(self, args: tuple[Any, ...]) -> Any:
        """Return the messages that a model is given in the place of the node."""
        state = args[0] if args else None
        found = state.get("messages") if isinstance(state, Mapping) else None
        if found is None:
            found = getattr(state, "messages", None)
        if found is not None:
            return found
        msg = (
            f"The fallback of agent {self.agent!r} is a model, but its node takes no parameter "
            f"`{MODEL}`, and the state has no `messages` to give it."
        )
        remedy = f"What helps: def node(state, *, {MODEL}=usual), or a function as the fallback."
        raise ConfigurationError(msg, remedy=remedy)


def is_model(action: Any) -> bool:
    """Return whether a fallback is a model, also one with arguments bound to it."""
    while isinstance(action, RunnableBindingBase):
        action = action.bound
    return isinstance(action, BaseLanguageModel)


def takes(function: Any, name: str) -> bool:
    """Return whether a function has a parameter of this name."""
    parameter = parameters_of(function).get(name)
    return parameter is not None and parameter.kind in _KEYWORDS


def accepted(function: Any, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return of some keyword arguments those that a function takes."""
    return {name: value for name, value in offered.items() if takes(function, name)}


def parameters_of(function: Any) -> Mapping[str, inspect.Parameter]:
    """Return a function's parameters; none where they cannot be seen."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
