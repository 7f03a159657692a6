"""One LLM call from start to end, as every integration sees it.

`BudgetManager.begin_call` sizes and places the hold, or refuses; `Call.end` decides what the call
is charged. Ending never raises a budget error. Frameworks report some ends twice: the first one
counts, unless it was an estimate and what comes later is the truth.

One call, one hold: where an outer layer (a governed function, say) holds for a call already, the
first call of the same agent below it is that call, and gets no hold of its own: its end is the
outer one's, and where it needs more, the hold grows. Any further call below holds for itself, so
that a loop in there is stopped like any other; so does a governed function in a governed one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from tbcontracts.abandoned import to_its_end
from tbcontracts.endings import Ending, how_it_ended
from tbcontracts.errors import HoldResolvedError
from tbcontracts.tokens import byte_length

if TYPE_CHECKING:
    from tbcontracts.commands import Posted
    from tbcontracts.hold import Hold
    from tbcontracts.manager import BudgetManager
    from tbcontracts.sizing import CallShape, HoldSize
    from tbcontracts.usage import Usage

_HEARD_MAX = 10_000
MORE_TOKENS = 256
"""By how much a hold grows when its stream passes it."""


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
        around: The call that this one was made in, where it has a hold of its own.
    """

    def __init__(
        self,
        manager: BudgetManager,
        hold: Hold,
        shape: CallShape,
        size: HoldSize,
        outer: Call | None = None,
        around: Call | None = None,
    ) -> None:
        self._manager = manager
        self._outer = outer
        self._around = around if outer is None else outer
        # One lock for all layers of a call: an inner end may change the outer one.
        self._lock: threading.RLock = threading.RLock() if outer is None else outer._lock
        self._end: CallEnd | None = None
        self._inner: Call | None = None
        self._others_below = False
        self._heard: set[Usage] = set()  # what calls below reported, each and in all
        self._heard_in_all: Usage | None = None
        self.begun = False
        """Whether what it holds for has begun to run; for coroutines that nobody awaits."""
        self._text_seen: list[str] = []
        self._answer_begun = False
        self._pieces_counted = self._bytes_uncounted = self._tokens_counted = 0
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

    def other_below(self) -> None:
        """Note that a call below holds for itself, or was refused."""
        with self._lock:
            self._others_below = True

    def with_more(self, more: Hold | None) -> Call:
        """Return this call, its hold grown by another one."""
        if more is not None:
            self.hold._take_in(more)
        return self

    def was_refused(self) -> None:
        """Note that this call, as an inner layer saw it, is not made."""
        with self._lock:
            if self._outer is not None:
                self._outer._inner = None
                self._outer._others_below = True

    def has_heard(self, usage: Usage) -> bool:
        """Whether calls below reported this usage: one of them, or all of them together."""
        return usage in self._heard or usage == self._heard_in_all

    def _hear(self, usage: Usage) -> None:
        """Note what a call below reported; it is on the books already."""
        with self._lock:
            self._heard_in_all = usage if not self._heard_in_all else self._heard_in_all + usage
            if len(self._heard) < _HEARD_MAX:
                self._heard.add(usage)
        if self._around is not None:
            self._around._hear(usage)

    def saw(self, text: str) -> None:
        """Note output that arrived: a broken stream is charged by it. Forgotten at the end.

        A piece without text counts too: an answer that has begun is no longer rejected.
        """
        self._answer_begun = True
        if text:
            self._text_seen.append(text)
            self._bytes_uncounted += byte_length(text)

    def keep_up(self) -> None:
        """Ask for more where the answer of a strict call has passed its hold.

        Raises:
            BudgetExceededError: There is no more; whoever reads the answer must stop.
        """
        while self.has_outgrown_its_hold():
            more = self._manager.hold_more(self.hold, self._next_part, tokens=MORE_TOKENS)
            if not self._took_in(more):
                more.void()

    async def akeep_up(self) -> None:
        """Ask for more without blocking the event loop; see `keep_up`."""
        while self.has_outgrown_its_hold():
            part = self._next_part
            more = await self._manager.ahold_more(self.hold, part, tokens=MORE_TOKENS)
            if not self._took_in(more):
                await more.avoid()

    @property
    def _next_part(self) -> int:
        """By how much its hold grows, in the unit of the books."""
        if self._manager.settings.unit == "tokens":
            return MORE_TOKENS
        price = self._manager.price_of(self.shape.model, self.shape.provider)
        costs = None if price is None else price.most(self.shape.size.input_tokens, MORE_TOKENS)
        inputs = None if price is None else price.most(self.shape.size.input_tokens, 0)
        if costs is None or inputs is None:  # the price was known when the call began
            return max(1, self.hold.tokens)
        return costs - inputs + 1

    def has_outgrown_its_hold(self) -> bool:
        """Whether the answer of a strict call has passed its hold, as far as it was seen.

        Counting waits until the bytes, of which each token has at least one, could have passed it;
        each piece is counted once.
        """
        if self.ended or self._manager.settings.enforcement != "strict":
            return False
        room = self.hold._tokens_in_all - self.shape.size.input_tokens
        if self._tokens_counted + self._bytes_uncounted <= room:
            return False
        pieces = self._text_seen[self._pieces_counted :]
        self._pieces_counted += len(pieces)
        self._bytes_uncounted = 0
        self._tokens_counted += self._manager.count_text("".join(pieces))
        return self._tokens_counted > room

    def _took_in(self, more: Hold) -> bool:
        """Let the hold grow, unless the call ended meanwhile."""
        with self._lock:
            if not self.ended:
                self.hold._take_in(more)
            return not self.ended

    def end(self, ending: Ending) -> CallEnd:
        """End the call: settle what it used, or give its hold back.

        Args:
            ending: What is known. Output seen on the way counts where it says none.

        Returns:
            What was charged; the first answer again if the call had ended for good before.
        """
        decided, to_post = self._decide(ending)
        if not to_post:
            return decided
        try:
            if decided.usage is None:
                self.hold.void()
                return self._posted(decided, 0)
            return self._posted(decided, self.hold.settle(decided.usage, final=decided.final))
        except BaseException as error:
            return self._not_posted(decided, error)

    async def aend(self, ending: Ending) -> CallEnd:
        """End the call without blocking the event loop; see `end`.

        It is ended even if whoever awaits that is cancelled, or the event loop closes.
        """
        store = self._manager.store
        if store.in_process and not store.durable:
            return self.end(ending)  # it answers at once
        return await to_its_end(self._aend(ending), otherwise=lambda: self.end(ending))

    async def _aend(self, ending: Ending) -> CallEnd:
        decided, to_post = self._decide(ending)
        if not to_post:
            return decided
        try:
            if decided.usage is None:
                await self.hold.avoid()
                return self._posted(decided, 0)
            posted = await self.hold.asettle(decided.usage, final=decided.final)
            return self._posted(decided, posted)
        except BaseException as error:
            return self._not_posted(decided, error)

    def _decide(self, ending: Ending) -> tuple[CallEnd, bool]:
        """Decide what a call is charged, and whether that is to be put on the books.

        The decision stands at once, for all layers; what is said of the end meanwhile meets it.
        """
        with self._lock:
            if self._end is not None and (self._end.final or _still_unknown(ending)):
                return self._end, False
            usage, final = self._charge_for(ending)
            self._end = decided = CallEnd(usage, 0, final)
            return decided, self._outer is None or self._outer._takes(decided)

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
        begun = ending.answer_begun or self._answer_begun
        ending = ending._replace(answer_begun=begun)
        in_usd = self._manager.settings.unit == "usd"
        usage = how_it_ended(
            ending,
            hold_tokens=self.hold._tokens_in_all,
            input_tokens=self.shape.size.input_tokens,
            hold_cost=(self.hold._amount_in_all or None) if in_usd else None,
        )
        if usage is not None:
            usage = self._manager.priced(usage, self.shape)
        measured = usage is not None and usage.measured
        return usage, measured or not ending.given_up

    def _takes(self, below: CallEnd) -> bool:
        """Take the inner layer's end for this one's, unless this one has ended by the truth."""
        if self._end is not None and self._end.final:
            return False
        self._end = below
        return self._outer is None or self._outer._takes(below)

    def _posted(self, decided: CallEnd, posted: Posted | int) -> CallEnd:
        """Note that a decision is on the books."""
        overdraft = posted if isinstance(posted, int) else posted.overdraft
        ended = decided._replace(overdraft=overdraft)
        self._replace_end(decided, ended)
        self._text_seen.clear()
        if decided.usage is not None and decided.usage.measured:
            if self._inner is None:
                self._manager.learn(self.agent_name, decided.usage.output_tokens)
            if self._around is not None:
                self._around._hear(decided.usage)
        return ended

    def _not_posted(self, decided: CallEnd, error: BaseException) -> CallEnd:
        """Take a decision back that did not reach the books; one that came too late is no error."""
        with self._lock:
            now = self._end
        if isinstance(error, HoldResolvedError) and now is not None and now is not decided:
            return now  # the truth was faster than the estimate
        self._replace_end(decided, None)
        raise error

    def _replace_end(self, decided: CallEnd, end: CallEnd | None) -> None:
        """Replace a decision, in all layers that took it."""
        with self._lock:
            layer: Call | None = self
            while layer is not None:
                if layer._end is decided:
                    layer._end = end
                layer = layer._outer


def _still_unknown(ending: Ending) -> bool:
    """Return whether a later end says nothing better than the estimate that was charged."""
    measured = ending.usage is not None and ending.usage.measured
    return ending.given_up or not (measured or ending.unbilled)
