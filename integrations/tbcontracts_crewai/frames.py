"""Calls of models as frames: where one begins and how it ends, seen around the method itself.

Events announce most calls, but not how all of them end: a cancelled `acall` emits nothing, nor does
a tool turn through LiteLLM, and a model class of the user's own may emit no event at all. So the
methods of the model classes are wrapped (`wraps.py`) while any run is active. A frame is also the
one place where something else can be done for a call that was refused: whoever made it gets an
answer as from any call, and nothing of CrewAI has to be changed and put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from tbcontracts import BudgetManager

_NAMES = ("messages", "tools", "callbacks", "available_functions", "from_task", "from_agent")


class Detour(NamedTuple):
    """What is done in the place of a call that was refused: another call, which is gated too."""

    refusal: BaseException
    llm: Any
    arguments: Mapping[str, Any]
    around: Callable[[], AbstractContextManager[Any]]
    """What the other call runs in."""


class Frame:
    """One call of a model's method, from its beginning to its end."""

    def __init__(
        self, llm: Any, arguments: Mapping[str, Any], *, silent: bool, changeable: bool = False
    ) -> None:
        self.asked = llm
        """The model that was called."""
        self.llm = llm
        """Who answers: a watcher may put a copy with other settings here before the call."""
        self.arguments = arguments
        self.outer: Frame | None = _frame.get()
        self.silent: bool = silent
        """Nobody announces this call: the hold is placed where the frame begins."""
        self.changeable: bool = changeable
        """Whether `llm` may be replaced, because it is known to do as its settings say."""
        self.stack: ExitStack = ExitStack()
        self.result: Any = None
        self.detour: Detour | None = None

    @property
    def continues(self) -> bool:
        """Whether this is the outer frame's call, taken up again by the model's own machinery."""
        return self.outer is not None and self.outer.llm is self.asked

    @property
    def first(self) -> Frame:
        """The frame in which whoever wanted this call made it."""
        frame = self
        while frame.continues and frame.outer is not None:
            frame = frame.outer
        return frame

    def instead_of(self, error: BaseException) -> Detour | None:
        """Return what is done instead, if this call ended with a refusal that has such a thing."""
        detour = self.detour
        return detour if detour is not None and detour.refusal is error else None


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
def told(frame: Frame, watchers: tuple[Watcher, ...]) -> Iterator[None]:
    """Tell watchers of a call from its beginning to its end."""
    token = _frame.set(frame)
    failed: BaseException | None = None
    try:
        for watcher in watchers:
            watcher.frame_began(frame)
        yield
    except BaseException as error:
        failed = error
        raise
    finally:
        _frame.reset(token)
        frame.stack.close()
        for watcher in watchers:
            watcher.frame_ended(frame, failed)


def by_name(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    return {**dict(zip((*_NAMES, "response_model"), args, strict=False)), **kwargs}
