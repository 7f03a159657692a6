"""One LLM call from start to end, as every integration sees it.

`BudgetManager.begin_call` sizes and places the hold, or refuses; `Call.end` decides what the call
is charged. Ending never raises a budget error. Frameworks report some ends twice: the first one
counts, unless it was an estimate and what comes later is the truth.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from tbcontracts.endings import Ending, how_it_ended

if TYPE_CHECKING:
    from tbcontracts.hold import Hold
    from tbcontracts.manager import BudgetManager
    from tbcontracts.sizing import CallShape, HoldSize
    from tbcontracts.usage import Usage


class CallEnd(NamedTuple):
    """What a call was charged."""

    usage: Usage | None
    """None: nothing, the hold was given back."""
    overdraft: int
    final: bool


class Call:
    """An LLM call under way, with its hold."""

    def __init__(
        self, manager: BudgetManager, hold: Hold, shape: CallShape, size: HoldSize
    ) -> None:
        self._manager = manager
        self._lock = threading.Lock()
        self._end: CallEnd | None = None
        self._text_seen: list[str] = []
        self._usage_seen: Usage | None = None
        self.hold = hold
        self.shape = shape
        self.size = size

    @property
    def agent_name(self) -> str:
        """Who is charged."""
        return self.hold.agent_name

    @property
    def ended(self) -> bool:
        """Whether the call has ended."""
        return self._end is not None

    def saw(self, text: str) -> None:
        """Note output that arrived: a broken stream is charged by it. Forgotten at the end."""
        if text:
            self._text_seen.append(text)

    def saw_usage(self, usage: Usage) -> None:
        """Note usage that an inner layer saw; it counts where the outer layer knows of none."""
        with self._lock:
            self._usage_seen = usage if self._usage_seen is None else self._usage_seen + usage

    def end(self, ending: Ending) -> CallEnd:
        """End the call: settle what it used, or give its hold back.

        Args:
            ending: What is known. Output and usage seen on the way count where it says none.

        Returns:
            What was charged; the first answer again if the call had ended for good before.
        """
        with self._lock:
            if self._end is not None and (self._end.final or _still_unknown(ending)):
                return self._end
            usage = self._charge_for(ending)
            final = not ending.given_up or (usage is not None and usage.measured)
            overdraft = 0
            if usage is None:
                self.hold.void()
            else:
                overdraft = self.hold.settle(usage, final=final).overdraft
            self._end = ended = CallEnd(usage, overdraft, final)
            self._text_seen.clear()
        if usage is not None and usage.measured:
            self._manager.learn(self.agent_name, usage.output_tokens)
        return ended

    def _charge_for(self, ending: Ending) -> Usage | None:
        """Decide what to charge, with what was seen on the way."""
        if ending.usage is None and self._usage_seen is not None:
            ending = ending._replace(usage=self._usage_seen)
        if ending.output_tokens_seen is None and self._text_seen:
            seen = self._manager.count_text("".join(self._text_seen))
            ending = ending._replace(output_tokens_seen=seen)
        return how_it_ended(
            ending,
            hold_tokens=self.hold.tokens,
            input_tokens=self.shape.size.input_tokens,
        )


def _still_unknown(ending: Ending) -> bool:
    """Return whether a later end says nothing better than the estimate that was charged."""
    measured = ending.usage is not None and ending.usage.measured
    return ending.given_up or not (measured or ending.unbilled)
