"""What a node can reach: graphs, tasks and models that its functions and tools refer to.

LangGraph knows the graphs that are nodes. An agent that is called inside a tool, as deep agents and
"agents as tools" do, is known to the tool's function alone: it stands in its closure.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableBinding, RunnableLambda, RunnableSequence
from langchain_core.tools import BaseTool
from langgraph.pregel import Pregel

_DEPTH = 12
_PARTS_MAX = 200
_HOLD_OTHERS = ("func", "afunc", "coroutine", "bound", "steps", "tools_by_name", "__wrapped__")
"""Attributes under which runnables, tools and wrapped functions hold what they call."""


def is_task(value: object) -> bool:
    """Return whether this is a `@task` of the functional API."""
    return type(value).__name__ == "_TaskFunction"


def reached_from(value: Any) -> Iterator[Any]:
    """Yield the graphs, tasks and models that something refers to, the nearest first.

    What is made while the program runs cannot be seen.
    """
    yield from _reached(value, _DEPTH, set())


def _reached(value: Any, depth: int, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen or depth < 0:
        return
    seen.add(id(value))
    if isinstance(value, (Pregel, BaseLanguageModel)) or is_task(value):
        yield value
        return
    for part in _parts(value):
        yield from _reached(part, depth - 1, seen)


def _parts(value: Any) -> Iterator[Any]:
    """Yield what something is made of, as far as it may lead to a graph."""
    if isinstance(value, FunctionType):
        yield from _named_in(value)
    elif isinstance(value, MethodType):
        yield value.__self__
        yield value.__func__
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, Mapping):
        yield from list(value.values())[:_PARTS_MAX]
    elif isinstance(value, (list, tuple, set)):
        yield from list(value)[:_PARTS_MAX]
    elif isinstance(value, (Runnable, BaseTool, RunnableBinding, RunnableLambda, RunnableSequence)):
        for name in _HOLD_OTHERS:
            part = getattr(value, name, None)
            if part is not None:
                yield part


def _named_in(function: FunctionType) -> Iterator[Any]:
    """Yield what a function refers to: of functions elsewhere only those of its own module."""
    try:
        found = inspect.getclosurevars(function)
    except (TypeError, ValueError):
        return
    yield from found.nonlocals.values()
    for value in found.globals.values():
        elsewhere = getattr(value, "__module__", None) != function.__module__
        if not (isinstance(value, FunctionType) and elsewhere):
            yield value
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        yield wrapped
