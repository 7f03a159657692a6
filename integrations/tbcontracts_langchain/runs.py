"""The runs of one manager that are under way, whichever of its handlers was told of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tbcontracts.calls import Call
from tbcontracts_langchain.attribution import RunTree

if TYPE_CHECKING:
    import asyncio

_GIVEN_UP_MAX = 1_000
_TURNS_MAX = 10_000
_CAUSES_MAX = 16
_STARTS = frozenset(("on_chat_model_start", "on_llm_start"))
_CALLS_HANDLERS = frozenset(("handle_event", "_ahandle_event_for_handler"))


class OpenCall:
    """A model call under way.

    Args:
        call: Its hold and its end.
        run_id: LangChain's name for it.
        parent_run_id: The run that made it.
        prompts: The prompts that one `generate` asked together with it, if there are others.
    """

    __slots__ = ("call", "growing", "parent_run_id", "prompts", "run_id", "told_by")

    def __init__(
        self, call: Call, run_id: UUID, parent_run_id: UUID | None, prompts: Prompts | None
    ) -> None:
        self.call: Call = call
        self.run_id: UUID = run_id
        self.parent_run_id: UUID | None = parent_run_id
        self.prompts: Prompts | None = prompts
        self.told_by: set[object] = set()
        self.growing: asyncio.Task[None] | None = None
        """Asks for more where the answer outgrew its hold, in an event loop."""

    def is_among(self, run_ids: frozenset[UUID]) -> bool:
        """Whether it, or another prompt that was to be sent together with it, is one of these."""
        together = self.prompts.calls if self.prompts is not None else (self,)
        return any(one.run_id in run_ids for one in together)


class Prompts:
    """The prompts of one `generate`, in order; LangChain tells of each as of a run of its own."""

    def __init__(self, parent_run_id: UUID | None, size: int, *, chat: bool) -> None:
        self.asked_by: tuple[UUID | None, int, bool] = (parent_run_id, size, chat)
        self.started = 0
        self.chat = chat
        self.calls: list[OpenCall] = []
        self.measured = False
        """Whether the provider reported what all of them used together."""

    def others(self, open_call: OpenCall) -> tuple[list[OpenCall], list[OpenCall]]:
        """Return the calls before and after one."""
        at = self.calls.index(open_call)
        return self.calls[:at], self.calls[at + 1 :]


_together: ContextVar[Prompts | None] = ContextVar("tbcontracts_prompts", default=None)


def prompts_of(parent_run_id: UUID | None, size: int, *, chat: bool) -> Prompts | None:
    """Return the prompts that a starting call belongs to; None if it is alone.

    The starts of one `generate` follow one another in one thread or task.
    """
    if size <= 1:
        return None
    prompts = _together.get()
    if prompts is None or prompts.asked_by != (parent_run_id, size, chat):
        prompts = Prompts(parent_run_id, size, chat=chat)
    prompts.started += 1
    _together.set(prompts if prompts.started < size else None)
    return prompts


def no_more_prompts() -> None:
    """Say that the prompts that started here will not be sent."""
    _together.set(None)


class Turns:
    """Of a gate and a guard that are told the same events, the one that is told first acts.

    A call that is awaited tells the gate first, any other the guard. Each notes that it acted, and
    the other one takes the note away.
    """

    def __init__(self) -> None:
        self._notes: dict[tuple[UUID, str], int] = {}
        self._lock = threading.Lock()

    def is_first(self, run_id: UUID, event: str, *, gate: bool) -> bool:
        """Return whether to act: the other one has not. Notes that it is acted on."""
        mine = 1 if gate else -1
        with self._lock:
            note = self._notes.pop((run_id, event), 0)
            first = note * mine >= 0
            note += mine
            if note:
                self._notes[run_id, event] = note
                if len(self._notes) > _TURNS_MAX:  # the other one is not there, or was not told
                    del self._notes[next(iter(self._notes))]
        return first

    def take_back(self, run_id: UUID, event: str) -> None:
        """Forget a note: the other one will not be told."""
        with self._lock:
            self._notes.pop((run_id, event), None)


class Runs:
    """The runs of one manager."""

    def __init__(self) -> None:
        self.tree: RunTree = RunTree()
        self.turns: Turns = Turns()
        self._calls: dict[UUID, list[OpenCall]] = {}  # several where a caller gave one id twice
        self._children: dict[UUID, list[OpenCall]] = {}
        self._given_up: dict[UUID, OpenCall] = {}  # charged by estimate; the truth may still come
        self._lock = threading.Lock()

    def get(self, run_id: UUID) -> OpenCall | None:
        """Return a call that is open."""
        calls = self._calls.get(run_id)
        return calls[0] if calls else None

    def is_known(self, run_id: UUID, teller: object) -> bool:
        """Return whether another handler told of this call already.

        A handler that tells twice of one id tells of two calls: LangChain lets its users choose it.
        """
        if run_id not in self._calls:
            return False
        with self._lock:
            for open_call in self._calls.get(run_id, ()):
                if teller not in open_call.told_by:
                    open_call.told_by.add(teller)
                    return True
        return False

    def add(self, open_call: OpenCall, teller: object) -> None:
        """Note a call."""
        open_call.told_by.add(teller)
        with self._lock:
            self._calls.setdefault(open_call.run_id, []).append(open_call)
            if open_call.parent_run_id is not None:
                self._children.setdefault(open_call.parent_run_id, []).append(open_call)
        if open_call.prompts is not None:
            open_call.prompts.calls.append(open_call)

    def take(self, run_id: UUID) -> OpenCall | None:
        """Forget a call that ended, and return it."""
        with self._lock:
            calls = self._calls.get(run_id)
            if not calls:
                return self._given_up.pop(run_id, None)
            open_call = calls.pop(0)
            self._forget(open_call)
            return open_call

    def take_this(self, open_call: OpenCall) -> bool:
        """Forget a call; return whether it was open."""
        with self._lock:
            calls = self._calls.get(open_call.run_id, [])
            if open_call not in calls:
                return False
            calls.remove(open_call)
            self._forget(open_call)
            return True

    def _forget(self, open_call: OpenCall) -> None:
        """Leave no empty list behind."""
        if not self._calls.get(open_call.run_id):
            self._calls.pop(open_call.run_id, None)
        parent = open_call.parent_run_id
        siblings = self._children.get(parent) if parent is not None else None
        if parent is not None and siblings is not None:
            siblings.remove(open_call)
            if not siblings:
                del self._children[parent]

    def give_up(self, parent_run_id: UUID) -> list[OpenCall]:
        """Return the calls that are still open when the run that made them ends."""
        if parent_run_id not in self._children:
            return []
        with self._lock:
            left = self._children.pop(parent_run_id, [])
            for open_call in left:
                self._calls[open_call.run_id].remove(open_call)
                self._forget(open_call)
                self._given_up[open_call.run_id] = open_call
            while len(self._given_up) > _GIVEN_UP_MAX:
                self._given_up.pop(next(iter(self._given_up)))
        for open_call in left:
            self.turns.take_back(open_call.run_id, "start")
        return left


def stopped_at_start(error: BaseException | None) -> frozenset[UUID]:
    """Return the model calls that an error stopped before they were sent.

    A handler that raises when a call starts stops it, and LangChain tells nobody of its end. The
    error's way out leads through LangChain's own frame, which knows the call.
    """
    found: set[UUID] = set()
    for cause in _causes(error):
        trace: TracebackType | None = cause.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            if frame.f_code.co_name in _CALLS_HANDLERS:
                found.update(_started_in(frame.f_locals))
            trace = trace.tb_next
    return frozenset(found)


def _started_in(names: Mapping[str, Any]) -> Iterable[UUID]:
    """Return the run that was starting in a frame of LangChain's, if that is what it did."""
    keywords = names.get("kwargs")
    if names.get("event_name") in _STARTS and isinstance(keywords, Mapping):
        run_id = keywords.get("run_id")
        if isinstance(run_id, UUID):
            yield run_id


def _causes(error: BaseException | None) -> Iterable[BaseException]:
    """Yield an error, and what it was raised from or during."""
    seen: list[BaseException] = []
    while error is not None and error not in seen and len(seen) < _CAUSES_MAX:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__
