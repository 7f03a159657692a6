"""How a command gets to Redis and back: what is tried when, for plain and awaited callers alike.

A command whose answer was lost is sent again, as the same attempt: the scripts know it again, and
nothing is carried out twice. What nobody could find out until the deadline is an
`OutcomeUnknownError`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from tbcontracts.commands import Command
from tbcontracts.errors import LedgerRegressedError, OutcomeUnknownError, StoreError
from tbcontracts.stores import redis_errors as told
from tbcontracts.stores import redis_scripts as scripts
from tbcontracts.stores.base import Applied, Clock
from tbcontracts.stores.messagepack import unpack
from tbcontracts.stores.redis_link import Answers, LostError, NotSentError, Trip, is_refused
from tbcontracts.stores.redis_options import RedisOptions
from tbcontracts.stores.redis_scripts import Call
from tbcontracts.stores.redis_server import CHECKS, examine

Steps = Generator["float | Trip", Any, Any]
"""Yields seconds to wait, or a trip to make; is sent what was answered, or thrown what broke."""

_PAUSE_S, _PAUSE_MOST_S = 0.02, 1.0
_SCOPES_SEEN_MAX = 10_000
_PASSES = ("READONLY", "read only", "BUSY", "LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN")
"""What a server says that may be better in a moment; nothing was written."""


class Answer(NamedTuple):
    """What a script answered."""

    status: str
    epoch: str
    seq: int
    at: float
    reply: Any
    entries: list[Any]

    @classmethod
    def read(cls, raw: bytes) -> Answer:
        """Read it."""
        status, epoch, seq, at, reply, entries = unpack(raw)
        return cls(status, epoch, seq, float(at), reply, entries)

    @property
    def took_effect(self) -> bool:
        """Whether something must not be lost: a refusal need not be safe anywhere."""
        return self.status == "ok" and bool(self.reply) and self.reply[0] != "denied"


class Seen:
    """How far the books of each scope were when this process last heard of them.

    Books that are shorter than that, or others, have lost what was acknowledged: after a failover,
    or because somebody restored or emptied the server.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._lock = threading.Lock()
        self._scopes: dict[str, tuple[str, int]] = {}
        self._regressed: dict[str, LedgerRegressedError] = {}

    def of(self, scope: str, call: Call) -> tuple[str, int] | None:
        """Return what was seen of a scope; None if nothing was.

        Raises:
            LedgerRegressedError: The scope went backwards, and the call is not one that posts.
        """
        regressed = self._regressed.get(scope)
        if regressed is not None and not call.posts:
            raise regressed
        return self._scopes.get(scope)

    def heard(self, scope: str, answer: Answer, before: tuple[str, int] | None) -> None:
        """Note how far a scope is, and whether that is less than before the call."""
        epoch, seq = answer.epoch, answer.seq
        if before is not None and (epoch != before[0] or seq < before[1]):
            self._regressed[scope] = self._error(scope, before, (epoch, seq))
        elif answer.status == "ok":  # else there may be no such scope
            with self._lock:
                known = self._scopes.get(scope)
                if known is None or known[0] != epoch or known[1] < seq:
                    self._scopes[scope] = (epoch, seq)
                if len(self._scopes) > _SCOPES_SEEN_MAX:
                    del self._scopes[next(iter(self._scopes))]

    def accept(self, scope: str) -> None:
        """Take the books as they are now."""
        with self._lock:
            self._scopes.pop(scope, None)
            self._regressed.pop(scope, None)

    def regressed(self, scope: str) -> LedgerRegressedError | None:
        """Return the error of a scope that went backwards."""
        return self._regressed.get(scope)

    def _error(
        self, scope: str, before: tuple[str, int], now: tuple[str, int]
    ) -> LedgerRegressedError:
        what = f"they had {before[1]} entries before and have {now[1]} now"
        if before[0] != now[0]:
            what = f"others stand there ({now[1]} entries) than before ({before[1]} entries)"
        msg = f"The books of scope {scope!r} in {self._shown} went backwards: {what}."
        return LedgerRegressedError(scope, msg)

    def fork(self) -> Seen:
        """Return the same for a forked child."""
        twin = Seen(self._shown)
        twin._scopes.update(self._scopes)
        twin._regressed.update(self._regressed)
        return twin


class Ledger:
    """A ledger on a server: what plain and awaited callers share.

    Args:
        options: Which server, where in it, and what is waited for.
        clock: Returns the time where the server's is not to be used.
        seen: How far each scope was.
    """

    def __init__(self, options: RedisOptions, clock: Clock | None, seen: Seen) -> None:
        self.options = options
        self.seen = seen
        self._clock = clock
        self._latest: dict[str, float] = {}
        self.acks: list[tuple[Any, ...]] | None = [] if options.read_only else None
        """What is sent after each command; None before the server was looked at, which needs not be
        fit to keep books where they are only read."""
        self.behind_s: float | None = None
        """How far this process's clock is behind the server's; None before the first answer."""

    def carry_out(self, scope: str, command: Command) -> Steps:
        """Carry out a command; returns what it came to."""
        try:
            call = scripts.call_of(command)
        except (TypeError, ValueError):
            if self._clock is not None:  # time goes on with a command that is refused, too
                self._latest[scope] = self._time(scope)
            raise
        answer: Answer = yield from self._attempts(scope, call)
        if answer.status == "error":
            raise told.error_of(command, answer.reply)
        entries = tuple(map(scripts.entry_in, answer.entries))
        return Applied(scripts.reply_in(answer.reply), entries)

    def ask(self, scope: str, script: str, *arguments: scripts.Argument) -> Steps:
        """Ask something that changes nothing; returns the script's answer."""
        call = Call(script, arguments, posts=True)
        answer: Answer = yield from self._attempts(scope, call, reads=True)
        return answer

    def plain(self, trip: Trip, *, refusals: bool = False) -> Steps:
        """Send commands that only read; returns what was answered.

        Args:
            trip: The commands.
            refusals: Whether what the server refuses is an answer like others.
        """
        if not trip:
            return []
        return (yield from self._repeated(lambda: _only(trip, refusals=refusals)))

    def _attempts(self, scope: str, call: Call, *, reads: bool = False) -> Steps:
        """Send a call until it is answered."""
        attempt = _Attempt(self, scope, call, reads=reads)
        return (yield from self._repeated(attempt.go, attempt))

    def _repeated(self, go: Callable[[], Steps], attempt: _Attempt | None = None) -> Steps:
        """Do something until it is done or the deadline has passed."""
        until, pause_s = time.monotonic() + self.options.deadline_s, 0.0
        while True:
            try:
                if self.acks is None:
                    self.acks = examine(self.options, (yield CHECKS))
                return (yield from go())
            except (NotSentError, LostError, _NotYetError) as error:
                trouble: Exception = error
                if is_refused(error):
                    break
            if time.monotonic() + pause_s > until:
                break
            yield pause_s
            pause_s = min(max(2 * pause_s, _PAUSE_S), _PAUSE_MOST_S)
        failed = self.options.failed(trouble)
        if attempt is None or not attempt.unsure:
            raise failed from trouble
        said = failed.message.replace(" Nothing was written.", "")
        msg = f"{said} Whether the command took effect is not known."
        raise OutcomeUnknownError(attempt.call.told, msg) from trouble

    def _time(self, scope: str) -> float:
        """Return the time of the clock that was given, or the latest that was known."""
        assert self._clock is not None
        return max(float(self._clock()), self._latest.get(scope, 0.0))

    def header(
        self, scope: str, call: Call, before: tuple[str, int] | None, *, again: bool
    ) -> tuple[scripts.Argument, ...]:
        """Return what every script is told."""
        options = self.options
        epoch, seq = ("", 0) if before is None or call.posts else before
        return (
            "" if self._clock is None else repr(self._time(scope)),
            epoch,
            seq,
            call.attempt or os.urandom(12).hex(),
            int(again),
            "" if options.journal_max is None else options.journal_max,
            repr(options.keep_holds_s),
            call.attempt,
            "" if call.key is None else f"={call.key}",
            call.fingerprint,
        )


class _NotYetError(Exception):
    """The server answered, but not with what is needed."""


class _Attempt:
    """One call on its way; sent more than once, perhaps."""

    def __init__(self, ledger: Ledger, scope: str, call: Call, *, reads: bool) -> None:
        self._ledger = ledger
        self._scope = scope
        self._keys = ledger.options.keys(scope)
        self.call = call
        self._reads = reads
        self.unsure = False
        """Whether a copy of it was sent that was not answered."""

    def go(self) -> Steps:
        """Send it once, and judge the answer."""
        answers = yield from self._send(load=False)
        if _is_unknown_script(answers[0]):
            answers = (yield from self._send(load=True))[1:]
        raw = answers[0]
        if isinstance(raw, Exception):
            said = str(raw)
            if any(word in said for word in _PASSES):
                raise _NotYetError(said) from raw
            raise self._broken(raw) from raw
        return self._judge(Answer.read(raw), answers[1:])

    def _send(self, *, load: bool) -> Steps:
        """Send the script's name, or its text before; nothing has happened where it is unknown."""
        ledger, call = self._ledger, self.call
        name = scripts.script(call.script)
        self._before = None if self._reads else ledger.seen.of(self._scope, call)
        header = ledger.header(self._scope, call, self._before, again=self.unsure)
        run = ("EVALSHA", name.sha, len(self._keys), *self._keys, *header, *call.arguments)
        trip: list[tuple[Any, ...]] = [("SCRIPT", "LOAD", name.text)] if load else []
        trip.append(run)
        if not self._reads:
            trip.extend(ledger.acks or ())
        try:
            answers: Answers = yield trip
        except LostError:
            self.unsure = not self._reads
            raise
        return answers

    def _judge(self, answer: Answer, acks: Answers) -> Answer:
        ledger = self._ledger
        ledger.behind_s = answer.at - time.time()
        if answer.status == "error" and answer.reply[0] == "layout":
            raise told.newer(ledger.options.shown, *answer.reply[1:])
        if self._reads:
            return answer
        ledger.seen.heard(self._scope, answer, self._before)
        regressed = ledger.seen.regressed(self._scope)
        if regressed is not None and (answer.status != "ok" or not self.call.posts):
            raise regressed
        if acks and answer.took_effect and not _is_acknowledged(ledger.options, acks[0]):
            self.unsure = True
            msg = f"it has the command, but not as safe as ack asks for ({acks[0]})"
            raise _NotYetError(msg)
        return answer

    def _broken(self, error: Exception) -> StoreError:
        """Return the error for a script that the server could not run."""
        failed = self._ledger.options.failed(error)
        if not self.unsure:
            return failed
        return OutcomeUnknownError(self.call.told, failed.message)


def _only(trip: Trip, *, refusals: bool) -> Steps:
    answers: Answers = yield trip
    for answer in answers:
        if isinstance(answer, Exception) and not refusals:
            raise _NotYetError(str(answer)) from answer
    return answers


def _is_unknown_script(answer: Any) -> bool:
    return isinstance(answer, Exception) and type(answer).__name__ == "NoScriptError"


def _is_acknowledged(options: RedisOptions, answer: Any) -> bool:
    if isinstance(answer, Exception):
        return False
    if options.ack == "replicas":
        return bool(answer >= options.replicas)
    return bool(answer[0] >= 1)
