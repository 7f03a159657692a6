"""One course of action for a model call, for callers that wait and for callers that await.

A course is a generator: it yields what is to be done, a model call (`Attempt`) or a question to the
books (`Lookup`), and is sent what came of it, or thrown what went wrong. What it puts around a
yield, a `with` block for instance, is around what is done.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple


class Attempt(NamedTuple):
    """A model call to make."""

    request: Any


class Lookup(NamedTuple):
    """Something to find out or do, in the way of either caller."""

    now: Callable[[], Any]
    awaited: Callable[[], Any]
    """Returns the same, or something to await for it."""


Course = Generator[Attempt | Lookup, Any, Any]


def drive(course: Course, call: Callable[[Any], Any]) -> Any:
    """Follow a course to its end; return what it returns.

    Args:
        course: What is to be done.
        call: Makes a model call.
    """
    try:
        step = next(course)
        while True:
            try:
                done = call(step.request) if isinstance(step, Attempt) else step.now()
            except BaseException as error:
                step = course.throw(error)
            else:
                step = course.send(done)
    except StopIteration as end:
        return end.value


async def adrive(course: Course, call: Callable[[Any], Awaitable[Any]]) -> Any:
    """Follow a course to its end where model calls are awaited."""
    try:
        step = next(course)
        while True:
            try:
                if isinstance(step, Attempt):
                    done = await call(step.request)
                else:
                    done = step.awaited()
                    if inspect.isawaitable(done):
                        done = await done
            except BaseException as error:
                step = course.throw(error)
            else:
                step = course.send(done)
    except StopIteration as end:
        return end.value
