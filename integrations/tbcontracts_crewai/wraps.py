"""Methods of CrewAI that are wrapped while any run is active, once for the whole process.

A call that no run watches goes straight through.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from tbcontracts_crewai.carrying import carried
from tbcontracts_crewai.frames import Frame, Watcher, by_name, told, watchers

_tracking: ContextVar[bool] = ContextVar("tbcontracts_crewai_tracking", default=False)
_STREAMS = ("StreamingOutputBase", "StreamSessionBase")


def _wrap_call(original: Callable[..., Any], silent: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        watching = watchers()
        if not watching:
            return original(self, *args, **kwargs)
        frame = Frame(self, by_name(args, kwargs), silent=silent, changeable=not silent)
        try:
            with told(frame, watching):
                frame.result = original(frame.llm, *args, **kwargs)
                return frame.result
        except Exception as error:
            detour = frame.instead_of(error)
            if detour is None:
                raise
        with detour.around():
            return detour.llm.call(**detour.arguments)

    return call


def _wrap_acall(original: Callable[..., Any], silent: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        watching = watchers()
        if not watching:
            return await original(self, *args, **kwargs)
        frame = Frame(self, by_name(args, kwargs), silent=silent, changeable=not silent)
        try:
            with told(frame, watching):
                frame.result = await original(frame.llm, *args, **kwargs)
                return frame.result
        except Exception as error:
            detour = frame.instead_of(error)
            if detour is None:
                raise
        with detour.around():
            return await detour.llm.acall(**detour.arguments)

    return acall


def _wrap_track(original: Callable[..., Any], silent: bool) -> Callable[..., Any]:
    del silent

    @functools.wraps(original)
    def track(self: Any, *args: Any, **kwargs: Any) -> Any:
        watching = watchers()
        if not watching or _tracking.get():
            return original(self, *args, **kwargs)
        token = _tracking.set(True)  # an override that calls its base reports once
        try:
            for watcher in watching:
                watcher.usage_tracked(args[0] if args else next(iter(kwargs.values()), None))
            return original(self, *args, **kwargs)
        finally:
            _tracking.reset(token)

    return track


def _wrap_instructor(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def to_pydantic(self: Any, *args: Any, **kwargs: Any) -> Any:
        watching = watchers()
        if not watching:
            return original(self, *args, **kwargs)
        arguments = {
            "messages": str(getattr(self, "content", "")),
            "response_model": getattr(self, "model", None),
            "from_agent": getattr(self, "agent", None),
        }
        llm = getattr(self, "llm", None)
        frame = Frame(llm, arguments, silent=True)
        try:
            with told(frame, watching), _heard(self, watching):
                frame.result = original(self, *args, **kwargs)
                return frame.result
        except Exception as error:
            detour = frame.instead_of(error)
            if detour is None:
                raise
        other = self
        if detour.llm is not llm:
            other = type(self)(self.content, self.model, self.agent, detour.llm)
        with detour.around():
            return other.to_pydantic(*args, **kwargs)

    return to_pydantic


@contextmanager
def _heard(instructor: Any, watching: tuple[Watcher, ...]) -> Iterator[None]:
    """Hear the usage of every try that the instructor library makes."""
    client: Any = getattr(instructor, "_client", None)
    if not (hasattr(client, "on") and hasattr(client, "off")):
        yield
        return

    def heard(response: Any) -> None:
        for watcher in watching:
            watcher.usage_tracked(response)

    client.on("completion:response", heard)
    try:
        yield
    finally:
        client.off("completion:response", heard)


def _wrap_stream(original: Callable[..., Any]) -> Callable[..., Any]:
    """Let a stream that is made inside a block stay with it, wherever it is read.

    Nothing is sent before the first piece is asked for, and that may be after the block.
    """

    @functools.wraps(original)
    def init(self: Any, sync_iterator: Any = None, async_iterator: Any = None) -> None:
        if watchers():
            sync_iterator = sync_iterator and carried(sync_iterator, wraps.held)
            async_iterator = async_iterator and carried(async_iterator, wraps.held)
        original(self, sync_iterator=sync_iterator, async_iterator=async_iterator)

    return init


class _Wrapped(NamedTuple):
    """A method that was wrapped, for putting it back."""

    owner: type
    name: str
    original: Callable[..., Any]
    wrapper: Callable[..., Any]


_WRAPPERS: dict[str, Callable[[Callable[..., Any], bool], Callable[..., Any]]] = {
    "call": _wrap_call,
    "acall": _wrap_acall,
    "_track_token_usage_internal": _wrap_track,
}


class Wraps:
    """The wrapped methods of this process, there while anybody needs them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._wrapped: list[_Wrapped] = []
        self._covered: set[type] = set()

    def acquire(self) -> None:
        """Wrap what is known, if nobody has yet."""
        from crewai.llms.base_llm import BaseLLM

        with self._lock:
            self._users += 1
            self._cover_all(BaseLLM)
            if self._users == 1:
                self._cover_instructor()
                self._cover_streams()

    def release(self) -> None:
        """Put everything back when nobody needs it any more."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            for owner, name, original, wrapper in reversed(self._wrapped):
                # What somebody else wrapped after us stays: without a watcher ours does nothing.
                if owner.__dict__.get(name) is wrapper:
                    setattr(owner, name, original)
            self._wrapped.clear()
            self._covered.clear()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep everything wrapped inside the block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def cover(self, llm: Any) -> None:
        """Wrap the class of a model that became known after the run began."""
        kind: type[Any] = type(llm)
        if kind in self._covered or not hasattr(kind, "_track_token_usage_internal"):
            return
        with self._lock:
            if self._users:
                for owner in kind.__mro__:
                    if hasattr(owner, "_track_token_usage_internal"):
                        self._cover_class(owner)

    def _cover_all(self, base: type[Any]) -> None:
        self._cover_class(base)
        for kind in base.__subclasses__():
            self._cover_all(kind)

    def _cover_class(self, owner: type) -> None:
        if owner in self._covered:
            return
        self._covered.add(owner)
        # CrewAI's own classes announce their calls by events; of others nobody knows.
        silent = not owner.__module__.startswith("crewai.")
        for name, wrap in _WRAPPERS.items():
            original = owner.__dict__.get(name)
            if callable(original) and not getattr(original, "__isabstractmethod__", False):
                self._put(owner, name, original, wrap(original, silent))

    def _cover_instructor(self) -> None:
        try:
            from crewai.utilities.internal_instructor import InternalInstructor
        except ImportError:
            return  # another way to structured output; its calls are ordinary ones then
        original = InternalInstructor.__dict__.get("to_pydantic")
        if callable(original):
            self._put(InternalInstructor, "to_pydantic", original, _wrap_instructor(original))

    def _cover_streams(self) -> None:
        from crewai.types import streaming

        for name in _STREAMS:
            owner = getattr(streaming, name, None)
            original = None if owner is None else owner.__dict__.get("__init__")
            if owner is not None and callable(original):
                self._put(owner, "__init__", original, _wrap_stream(original))

    def _put(
        self, owner: type, name: str, original: Callable[..., Any], wrapper: Callable[..., Any]
    ) -> None:
        setattr(owner, name, wrapper)
        self._wrapped.append(_Wrapped(owner, name, original, wrapper))


wraps: Wraps = Wraps()
