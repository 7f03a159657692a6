"""The calls of one run that are under way, and what is known of each."""

from __future__ import annotations

import logging
import threading
from typing import Any

from tbcontracts import BudgetManager, Usage
from tbcontracts.calls import Call
from tbcontracts.endings import Ending
from tbcontracts.tokens import size_request
from tbcontracts_crewai.frames import Frame
from tbcontracts_crewai.usage import failure, seen_output

_log = logging.getLogger("tbcontracts")


class OpenCall:
    """One call under way.

    Args:
        call: Its hold.
        frame: The method call around it, whose end is its end; None if that was not seen.
        step: What was being worked on; the end of that is its end at the latest.
    """

    def __init__(self, call: Call, frame: Frame | None, step: str | None) -> None:
        self.call = call
        self.frame = frame
        self.step = step
        self._tracked: Usage | None = None
        self._completed: Usage | None = None
        self._streamed = False

    @property
    def usage(self) -> Usage | None:
        """What the provider reported.

        A call can send several requests (a tool turn and its sequel): each is tracked, and only the
        last one stands in the event of completion. So the sum of the tracked ones comes first.
        """
        if self._tracked is not None and (self._tracked.measured or self._completed is None):
            return self._tracked
        return self._completed

    def track(self, usage: Usage) -> None:
        """Note the usage of one request."""
        self._tracked = usage if self._tracked is None else self._tracked + usage

    def complete(self, usage: Usage) -> None:
        """Note the usage of the event of completion."""
        if self._completed is None or usage.measured:
            self._completed = usage

    def saw(self, text: str) -> None:
        """Note streamed output."""
        if text:
            self._streamed = True
            self.call.saw(text)

    def end(self, ending: Ending, result: Any = None) -> None:
        """End the call on the books; trouble leaves the hold to its limit. Never raises."""
        try:
            measured = ending.usage is not None and ending.usage.measured
            if not measured and not self._streamed:
                ending = ending._replace(output_tokens_seen=_counted(result))
            self.call.end(ending)
        except Exception:
            _log.exception("A call's end could not be booked; its hold runs out at its limit.")


def _counted(result: Any) -> int | None:
    """Count the output that a call returned; None where it cannot be seen."""
    seen = seen_output(result)
    return None if seen is None else size_request(seen).input_tokens


class OpenCalls:
    """All calls under way, by CrewAI's call id where there is one."""

    def __init__(self, manager: BudgetManager) -> None:
        self._manager = manager
        self._calls: dict[str, OpenCall] = {}
        self._lock = threading.Lock()

    def get(self, call_id: str | None) -> OpenCall | None:
        """Return a call under way."""
        return self._calls.get(call_id or "")

    def add(self, call_id: str, call: OpenCall) -> None:
        """Note a call that begins."""
        with self._lock:
            self._calls[call_id] = call

    def within(self, frame: Frame | None) -> OpenCall | None:
        """Return the call that was begun last in a frame, or in the nearest one around it."""
        while frame is not None:
            for call in reversed(list(self._calls.values())):
                if call.frame is frame:
                    return call
            frame = frame.outer
        return None

    def completed(self, call_id: str | None, response: Any) -> None:
        """End a call that is complete, unless its frame is still to end."""
        call = self.get(call_id)
        if call is not None and call.frame is None:
            self._end(call_id or "", call, Ending(call.usage), response)

    def failed(self, call_id: str | None, error: BaseException | None, text: str) -> None:
        """End a call that failed; of the two events that CrewAI emits, the first one counts."""
        call = self.get(call_id)
        if call is not None:
            self._end(call_id or "", call, failure(error, call.usage, text))

    def frame_ended(self, frame: Frame, error: BaseException | None) -> None:
        """End the calls that were begun in a frame, the innermost first."""
        for call_id, call in self._matching(lambda call: call.frame is frame):
            if error is None:
                self._end(call_id, call, Ending(call.usage), frame.result)
            else:
                self._end(call_id, call, failure(error, call.usage))

    def step_ended(self, step: str) -> None:
        """End calls whose end nobody saw when the work that they belong to is over."""
        for call_id, call in self._matching(lambda call: call.step == step and call.frame is None):
            self._end(call_id, call, Ending(call.usage))

    def leave(self) -> None:
        """Charge what is still under way by estimate; the truth replaces it when it comes."""
        for _, call in self._matching(lambda _: True):
            call.end(Ending(call.usage, given_up=True))

    def _matching(self, wanted: Any) -> list[tuple[str, OpenCall]]:
        with self._lock:
            found = [(call_id, call) for call_id, call in self._calls.items() if wanted(call)]
        return found[::-1]

    def _end(self, call_id: str, call: OpenCall, ending: Ending, result: Any = None) -> None:
        with self._lock:
            if self._calls.pop(call_id, None) is None:
                return
        call.end(ending, result)
