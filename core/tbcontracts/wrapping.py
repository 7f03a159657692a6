"""Functions of every kind, wrapped: plain ones, coroutines, generators and async generators.

A generator runs in its consumer's context, so what it is to find there (its agent, its hold) is
set around each step of it and taken back before a piece is handed out.
"""

from __future__ import annotations

import functools
import inspect
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any, TypeVar

from tbcontracts.calls import Call
from tbcontracts.endings import Ending
from tbcontracts.govern import Governed, Instead, awaited
from tbcontracts.streams import Stream, text_in

_log = logging.getLogger("tbcontracts")
Function = TypeVar("Function", bound=Callable[..., Any])


def wrap(governed: Governed, function: Function) -> Function:
    """Return a function of the same kind that passes the gate before it runs.

    Raises:
        TypeError: It cannot be called.
    """
    if not callable(function):
        msg = f"govern({governed.name!r}) decorates a function, not {type(function).__name__}."
        raise TypeError(msg)
    if _is(inspect.isasyncgenfunction, function):
        wrapper = _async_generator(governed, function)
    elif _is(inspect.iscoroutinefunction, function):
        wrapper = _coroutine(governed, function)
    elif _is(inspect.isgeneratorfunction, function):
        wrapper = _generator(governed, function)
    else:
        wrapper = _plain(governed, function)
    return wrapper  # type: ignore[return-value]


def _is(kind: Callable[[Any], bool], function: Any) -> bool:
    """Return whether a function, or an object that is called like one, is of some kind."""
    return kind(function) or kind(getattr(type(function), "__call__", None))  # noqa: B004 - not asked


def _plain(governed: Governed, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        admitted = governed.admit(args, kwargs)
        if isinstance(admitted, Instead):
            return admitted(*args, **kwargs)
        try:
            with governed.inside(admitted):
                result = function(*args, **kwargs)
        except BaseException as error:
            governed.failed(admitted, error)
            raise
        if inspect.isawaitable(result):
            return _given_back_unused(_finish(governed, admitted, result), admitted)
        if inspect.isgenerator(result):
            return _given_back_unused(_drive(governed, admitted, result), admitted)
        if inspect.isasyncgen(result):
            begun = _adrive(governed, lambda: _ready(admitted), lambda: result)
            return _given_back_unused(begun, admitted)
        governed.succeeded(admitted, result)
        governed.note_score(governed.score(result))
        return result

    return wrapper


def _given_back_unused(result: Any, call: Call) -> Any:
    """Return a coroutine or generator whose hold is given back if nobody ever begins it."""
    weakref.finalize(result, _give_back, call).atexit = False
    return result


def _give_back(call: Call) -> None:
    """Give the hold of a call back that never began; one that began has ended by itself."""
    if not call.begun:
        call.end(Ending(unbilled=True))


def _coroutine(governed: Governed, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        admitted = await governed.aadmit(args, kwargs)
        if isinstance(admitted, Instead):
            return await awaited(admitted(*args, **kwargs))
        return await _finish(governed, admitted, function(*args, **kwargs))

    return wrapper


async def _finish(governed: Governed, call: Call, result: Awaitable[Any]) -> Any:
    """Await a result, and end its call."""
    call.begun = True
    try:
        with governed.inside(call):
            value = await result
    except BaseException as error:
        await governed.afailed(call, error)
        raise
    await governed.asucceeded(call, value)
    await governed.anote_score(await governed.ascore(value))
    return value


def _generator(governed: Governed, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        admitted = governed.admit(args, kwargs)
        if isinstance(admitted, Instead):
            pieces = admitted(*args, **kwargs)
            return None if pieces is None else (yield from pieces)
        return (yield from _drive(governed, admitted, function(*args, **kwargs)))

    return wrapper


def _drive(
    governed: Governed, call: Call, pieces: Generator[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    """Hand out what a generator yields, hand in what it is sent, and end its call."""
    call.begun = True
    stream, kept = Stream(), _Kept(governed)
    step: Callable[[], Any] = functools.partial(next, pieces)
    try:
        while True:
            with governed.inside(call):
                piece = step()
            _saw(call, stream, kept, piece)
            try:
                step = functools.partial(pieces.send, (yield piece))
            except GeneratorExit:
                with governed.inside(call):
                    pieces.close()
                raise
            except BaseException as thrown:
                step = functools.partial(pieces.throw, thrown)
    except StopIteration as stop:
        governed.succeeded(call, kept.pieces, stream)
        governed.note_score(governed.score(kept.pieces))
        return stop.value
    except BaseException as error:
        governed.failed(call, error, stream)
        raise


def _async_generator(governed: Governed, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return _adrive(
            governed,
            lambda: governed.aadmit(args, kwargs),
            lambda: function(*args, **kwargs),
            lambda instead: instead(*args, **kwargs),
        )

    return wrapper


async def _adrive(
    governed: Governed,
    admit: Callable[[], Awaitable[Call | Instead]],
    begin: Callable[[], Any],
    do_instead: Callable[[Instead], Any] = lambda _: None,
) -> AsyncIterator[Any]:
    """Hand out what an async generator yields, hand in what it is sent, and end its call."""
    call = await admit()
    if isinstance(call, Instead):
        other = do_instead(call)
        if other is not None:
            async for piece in other:
                yield piece
        return
    call.begun = True
    stream, kept = Stream(), _Kept(governed)
    pieces = begin()
    step: Callable[[], Any] = functools.partial(anext, pieces)
    try:
        while True:
            with governed.inside(call):
                piece = await step()
            _saw(call, stream, kept, piece)
            try:
                step = functools.partial(pieces.asend, (yield piece))
            except GeneratorExit:
                with governed.inside(call):
                    await pieces.aclose()
                raise
            except BaseException as thrown:
                step = functools.partial(pieces.athrow, thrown)
    except StopAsyncIteration:
        await governed.asucceeded(call, kept.pieces, stream)
        await governed.anote_score(await governed.ascore(kept.pieces))
    except BaseException as error:
        await governed.afailed(call, error, stream)
        raise


async def _ready(call: Call) -> Call:
    """Return a call that is there already, where one is awaited."""
    return call


class _Kept:
    """The pieces of a stream, if anybody wants to see all of them at its end."""

    def __init__(self, governed: Governed) -> None:
        self.pieces: list[Any] | None = [] if governed.keeps_pieces else None


def _saw(call: Call, stream: Stream, kept: _Kept, piece: Any) -> None:
    """Note a piece that came by: its text, in case the stream breaks off, and its usage."""
    try:
        call.saw(text_in(piece))
        stream.saw(piece)
    except Exception:  # the stream is the user's, whatever its pieces are
        _log.exception("A piece of a governed stream could not be read.")
    if kept.pieces is not None:
        kept.pieces.append(piece)
