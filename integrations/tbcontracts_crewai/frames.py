"""Calls of models as frames: where one begins and how it ends, seen around the method itself.

Events announce most calls, but not how all of them end: a cancelled `acall` emits nothing, nor does
a tool turn through LiteLLM, and a model class of the user's own may emit no event at all. So the
methods of the model classes are wrapped, once for the whole process, while any run is active. A
call that no run watches goes straight through.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from tbcontracts import BudgetManager

_NAMES = ("messages", "tools", "callbacks", "available_functions", "from_task", "from_agent")


class Frame:
    """One call of a model's method, from its beginning to its end."""

    def __init__(
        self, llm: Any, arguments: Mapping[str, Any], outer: Frame | None, *, silent: bool
    ) -> None:
        self.llm = llm
        self.arguments = arguments
        self.outer = outer
        self.silent = silent
        """Nobody announces this call: the hold is placed where the frame begins."""
        self.stack: ExitStack = ExitStack()
        self.result: Any = None


class Watcher(Protocol):
    """Who is told of frames: an active run."""

    def frame_began(self, frame: Frame) -> None:
        """A frame begins; what this raises keeps the method from being called."""

    def frame_ended(self, frame: Frame, error: BaseException | None) -> None:
        """A frame has ended."""

    def usage_tracked(self, reported: Any) -> None:
        """A provider reported usage within the current frame."""

    def holds(self, call_id: str, manager: BudgetManager) -> bool:
        """Return whether this run holds for the call with this id, on `manager`."""
        ...


_watchers: ContextVar[tuple[Watcher, ...]] = ContextVar("tbcontracts_crewai_watchers", default=())
_frame: ContextVar[Frame | None] = ContextVar("tbcontracts_crewai_frame", default=None)
_tracking: ContextVar[bool] = ContextVar("tbcontracts_crewai_tracking", default=False)


def current_frame() -> Frame | None:
    """Return the innermost call under way here."""
    return _frame.get()


def watchers() -> tuple[Watcher, ...]:
    """Return who is told of the calls made here, the outermost first."""
    return _watchers.get()


def watch(watcher: Watcher) -> None:
    """Have a watcher told of the calls made in this context and in those copied from it."""
    _watchers.set((*_watchers.get(), watcher))


def unwatch(watcher: Watcher) -> None:
    """Take a watcher out of this context."""
    _watchers.set(tuple(known for known in _watchers.get() if known is not watcher))


@contextmanager
def _framed(
    llm: Any, arguments: Mapping[str, Any], watchers: tuple[Watcher, ...], *, silent: bool
) -> Iterator[Frame]:
    """Tell watchers of a call from its beginning to its end."""
    frame = Frame(llm, arguments, _frame.get(), silent=silent)
    token = _frame.set(frame)
    failed: BaseException | None = None
    try:
        for watcher in watchers:
            watcher.frame_began(frame)
        yield frame
    except BaseException as error:
        failed = error
        raise
    finally:
        _frame.reset(token)
        frame.stack.close()
        for watcher in watchers:
            watcher.frame_ended(frame, failed)


def _wrap_call(original: Callable[..., Any], silent: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        watchers = _watchers.get()
        if not watchers:
            return original(self, *args, **kwargs)
        with _framed(self, _arguments(args, kwargs), watchers, silent=silent) as frame:
            frame.result = original(self, *args, **kwargs)
            return frame.result

    return call


def _wrap_acall(original: Callable[..., Any], silent: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        watchers = _watchers.get()
        if not watchers:
            return await original(self, *args, **kwargs)
        with _framed(self, _arguments(args, kwargs), watchers, silent=silent) as frame:
            frame.result = await original(self, *args, **kwargs)
            return frame.result

    return acall


def _wrap_track(original: Callable[..., Any], silent: bool) -> Callable[..., Any]:
    del silent

    @functools.wraps(original)
    def track(self: Any, *args: Any, **kwargs: Any) -> Any:
        watchers = _watchers.get()
        if not watchers or _tracking.get():
            return original(self, *args, **kwargs)
        token = _tracking.set(True)  # an override that calls its base reports once
        try:
            for watcher in watchers:
                watcher.usage_tracked(args[0] if args else next(iter(kwargs.values()), None))
            return original(self, *args, **kwargs)
        finally:
            _tracking.reset(token)

    return track


def _wrap_instructor(original: Callable[..., Any], silent: bool) -> Callable[..., Any]:
    del silent

    @functools.wraps(original)
    def to_pydantic(self: Any, *args: Any, **kwargs: Any) -> Any:
        watchers = _watchers.get()
        if not watchers:
            return original(self, *args, **kwargs)
        arguments = {
            "messages": str(getattr(self, "content", "")),
            "response_model": getattr(self, "model", None),
            "from_agent": getattr(self, "agent", None),
        }
        llm = getattr(self, "llm", None)
        with _framed(llm, arguments, watchers, silent=True) as frame, _heard(self, watchers):
            frame.result = original(self, *args, **kwargs)
            return frame.result

    return to_pydantic


@contextmanager
def _heard(instructor: Any, watchers: tuple[Watcher, ...]) -> Iterator[None]:
    """Hear the usage of every try that the instructor library makes."""
    client: Any = getattr(instructor, "_client", None)
    if not (hasattr(client, "on") and hasattr(client, "off")):
        yield
        return

    def heard(response: Any) -> None:
        for watcher in watchers:
            watcher.usage_tracked(response)

    client.on("completion:response", heard)
    try:
        yield
    finally:
        client.off("completion:response", heard)


def _arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    return {**dict(zip((*_NAMES, "response_model"), args, strict=False)), **kwargs}


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
    """The wrapped methods of this process, there while any run is active."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._wrapped: list[_Wrapped] = []
        self._covered: set[type] = set()

    def acquire(self) -> None:
        """Wrap the model classes that are known, if nobody has yet."""
        from crewai.llms.base_llm import BaseLLM

        with self._lock:
            self._users += 1
            self._cover_all(BaseLLM)
            if self._users == 1:
                self._cover_instructor()

    def release(self) -> None:
        """Put everything back when the last run has ended."""
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
            self._put(InternalInstructor, "to_pydantic", original, _wrap_instructor(original, True))

    def _put(
        self, owner: type, name: str, original: Callable[..., Any], wrapper: Callable[..., Any]
    ) -> None:
        setattr(owner, name, wrapper)
        self._wrapped.append(_Wrapped(owner, name, original, wrapper))


wraps = Wraps()
