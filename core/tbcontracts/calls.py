"""One LLM call from start to end, as every integration sees it.

`BudgetManager.begin_call` sizes and places the hold, or refuses; `Call.end` decides what the call
is charged. Ending never raises a budget error. Frameworks report some ends twice: the first one
counts, unless it was an estimate and what comes later is the truth.

One call, one hold: where an outer layer (a governed function, say) holds for a call already, the
first call of the same agent below it is that call, and gets no hold of its own: its end is the
outer one's. Any further call below holds for itself, so that a loop in there is stopped like any
other.
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
    """An LLM call under way, with its hold.

    Args:
        manager: Whose books.
        hold: The budget that was set aside.
        shape: What is known of the request.
        size: How the hold was sized.
        outer: The call whose hold this is, if an outer layer placed it.
    """

    def __init__(
        self,
        manager: BudgetManager,
        hold: Hold,
        shape: CallShape,
        size: HoldSize,
        outer: Call | None = None,
    ) -> None:
        self._manager = manager
        self._outer = outer
        # One lock for all layers of a call: an inner end may change the outer one.
        self._lock: threading.RLock = threading.RLock() if outer is None else outer._lock
        self._end: CallEnd | None = None
        self._inner: Call | None = None
        self._others_below = False
        self._text_seen: list[str] = []
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

    @property
    def is_outer(self) -> bool:
        """Whether calls began below this one: then they know what was used, not its result."""
        return self._inner is not None or self._others_below

    def inner(self, agent: str, scope: str, shape: CallShape) -> Call | None:
        """Return this call as an inner layer sees it, or None if that is another call.

        Args:
            agent: The inner call's agent.
            scope: Its books.
            shape: What is known of its request.
        """
        with self._lock:
            same = agent == self.agent_name and scope == self.hold.scope
            if not same or self._inner is not None or self.ended:
                self._others_below = True
                return None
            self._inner = Call(self._manager, self.hold, shape, self.size, outer=self)
            return self._inner

    def saw(self, text: str) -> None:
        """Note output that arrived: a broken stream is charged by it. Forgotten at the end."""
        if text:
            self._text_seen.append(text)

    def end(self, ending: Ending) -> CallEnd:
        """End the call: settle what it used, or give its hold back.

        Args:
            ending: What is known. Output seen on the way counts where it says none.

        Returns:
            What was charged; the first answer again if the call had ended for good before.
        """
        with self._lock:
            if self._end is not None and (self._end.final or _still_unknown(ending)):
                return self._end
            usage, final = self._charge_for(ending)
            learn = usage is not None and usage.measured and self._inner is None
            self._end = ended = CallEnd(usage, self._post(usage, final=final), final)
            self._text_seen.clear()
        if learn and usage is not None:
            self._manager.learn(self.agent_name, usage.output_tokens)
        return ended

    def _charge_for(self, ending: Ending) -> tuple[Usage | None, bool]:
        """Decide what to charge, with what was seen on the way, and whether that is the truth."""
        if self._inner is not None:
            # It is still under way, else its end would have been this one's.
            return self._inner._charge_for(Ending(error=ending.error, given_up=True))
        if self._others_below and ending.usage is None:
            return None, True  # all that it did are calls with holds of their own
        if ending.output_tokens_seen is None and self._text_seen:
            seen = self._manager.count_text("".join(self._text_seen))
            ending = ending._replace(output_tokens_seen=seen)
        usage = how_it_ended(
            ending,
            hold_tokens=self.hold.tokens,
            input_tokens=self.shape.size.input_tokens,
        )
        measured = usage is not None and usage.measured
        return usage, measured or not ending.given_up

    def _post(self, usage: Usage | None, *, final: bool) -> int:
        """Put the charge on the books; return the overdraft that is left."""
        if self._outer is not None:
            return self._outer._inner_ended(CallEnd(usage, 0, final))
        if usage is None:
            self.hold.void()
            return 0
        return self.hold.settle(usage, final=final).overdraft

    def _inner_ended(self, below: CallEnd) -> int:
        """Take the inner layer's end for this one's, unless this one has ended by the truth."""
        if self._end is not None and self._end.final:
            return 0
        overdraft = self._post(below.usage, final=below.final)
        self._end = below._replace(overdraft=overdraft)
        return overdraft


def _still_unknown(ending: Ending) -> bool:
    """Return whether a later end says nothing better than the estimate that was charged."""
    measured = ending.usage is not None and ending.usage.measured
    return ending.given_up or not (measured or ending.unbilled)
