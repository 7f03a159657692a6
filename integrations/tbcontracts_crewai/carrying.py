"""Work that stays with a run wherever it is done: in a plain thread, or after the block was left.

What a run is, stands in context variables. A copy of the context is what has to be carried.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")
Around = Callable[[], AbstractContextManager[Any]]


def carried_function(function: Callable[_P, _R], around: Around) -> Callable[_P, _R]:
    """Return a function that runs in a copy of the present context.

    It may be called from several threads at once: each call gets a copy of its own.

    Args:
        function: What is called.
        around: What has to be in place while it runs.
    """
    context = contextvars.copy_context()

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with around():
            return context.copy().run(function, *args, **kwargs)

    return wrapped


def carried(pieces: Any, around: Around) -> Any:
    """Return an iterator, plain or async, whose every step runs in a copy of the present context.

    Args:
        pieces: What is iterated.
        around: What has to be in place from the first step to the last.
    """
    context = contextvars.copy_context()
    if hasattr(pieces, "__anext__"):
        return _asteps(pieces, context, around)
    return _steps(pieces, context, around)


def _steps(pieces: Any, context: contextvars.Context, around: Around) -> Iterator[Any]:
    with around():
        try:
            while True:
                try:
                    piece = context.run(next, pieces)
                except StopIteration:
                    return
                yield piece
        finally:
            context.run(getattr(pieces, "close", _nothing))


async def _asteps(pieces: Any, context: contextvars.Context, around: Around) -> AsyncIterator[Any]:
    with around():
        try:
            while True:
                # A task begins in a copy of the context in which it is made.
                try:
                    piece = await context.run(_task, pieces.__anext__())
                except StopAsyncIteration:
                    return
                yield piece
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await context.run(_task, close())


def _task(step: Any) -> asyncio.Task[Any]:
    return asyncio.ensure_future(_awaited(step))


async def _awaited(step: Any) -> Any:
    return await step


def _nothing() -> None:
    """Close nothing."""
