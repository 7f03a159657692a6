"""The Redis store: books that many hosts share; Valkey's too.

A command is one script, and so one step: the scripts in `lua/` are the rules once more, in the
server's own language (`stores.redis_scripts`). What is tried when a connection breaks stands in
`stores.redis_access`.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from tbcontracts.books import Statement
from tbcontracts.commands import Command, Reply
from tbcontracts.events import JournalEntry
from tbcontracts.stores import redis_link as link
from tbcontracts.stores import redis_scripts as scripts
from tbcontracts.stores.base import About, Applied, Capabilities, Clock, only_read
from tbcontracts.stores.redis_access import Answer, Ledger, Seen, Steps
from tbcontracts.stores.redis_options import JOURNAL_AT, RedisOptions
from tbcontracts.stores.redis_server import CHECKS, about

if TYPE_CHECKING:
    import asyncio

_PAGE = 1_000  # journal entries to a trip
_inherited: list[object] = []
"""What a forked child got from its parent and must neither use nor close."""


class RedisStore:
    """Keeps books in Redis or Valkey.

    Args:
        options: Which server, where in it, and what is waited for.
        clock: Returns seconds since the epoch, instead of the server's own clock; for tests.

    Raises:
        ConfigurationError: redis-py does not know an option of the URL.
        ImportError: redis-py is not installed.
    """

    in_process = False
    durable = True

    _pid: int
    _ledger: Ledger
    _plain: link.Plain
    _awaited: dict[asyncio.AbstractEventLoop, link.Awaited]

    def __init__(self, options: RedisOptions, *, clock: Clock | None = None) -> None:
        link.check(options)
        self._options = options
        self._clock = clock
        self._begin(Seen(options.shown))

    @property
    def capabilities(self) -> Capabilities:
        """What the store promises: as much as `ack` asks of the server."""
        aof = self._options.ack == "aof"
        return Capabilities("power" if aof else "process", cross_process="network", witness=True)

    @classmethod
    def from_url(
        cls, url: str, *, clock: Clock | None = None, read_only: bool = False
    ) -> RedisStore:
        """Open the server that a URL names; see `RedisOptions.from_url`."""
        return cls(RedisOptions.from_url(url, read_only=read_only), clock=clock)

    # --- commands ---------------------------------------------------------------------------------

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command; returns once it is as safe as `ack` asks for.

        Raises:
            LedgerRegressedError: The scope's books are not those that were there before.
            OutcomeUnknownError: Nobody could find out whether the command took effect.
            StoreError: The server did not answer, or refused; nothing was written.
        """
        self._writable()
        applied: Applied = self._drive(self._ledger.carry_out(scope, command))
        return applied

    async def aapply(self, scope: str, command: Command) -> Applied:
        """Carry out a command without blocking the event loop; see `apply`."""
        self._writable()
        applied: Applied = await self._adrive(self._ledger.carry_out(scope, command))
        return applied

    def accept(self, scope: str) -> None:
        """Go on with a scope's books as they are, after a `LedgerRegressedError`."""
        self._here()
        self._ledger.seen.accept(scope)

    # --- reading ----------------------------------------------------------------------------------

    def read(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment, or None if there is no such scope."""
        return _statement(self._ask(scope, "read"))

    async def aread(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment, without blocking the event loop."""
        return _statement(await self._aask(scope, "read"))

    def journal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq` that are still kept, oldest first."""
        found: list[JournalEntry] = []
        more = True
        while more:
            more = _page(found, self._ask(scope, "journal", _last(found, after_seq), _PAGE))
        return tuple(found)

    async def ajournal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq`, without blocking the event loop."""
        found: list[JournalEntry] = []
        more = True
        while more:
            last = _last(found, after_seq)
            more = _page(found, await self._aask(scope, "journal", last, _PAGE))
        return tuple(found)

    def resolve(self, scope: str, key: str) -> Reply | None:
        """Return what came of a key, or of a hold by its id; None if it is not remembered."""
        return _reply(self._ask(scope, "resolve", key))

    async def aresolve(self, scope: str, key: str) -> Reply | None:
        """Return what came of a key or a hold, without blocking the event loop."""
        return _reply(await self._aask(scope, "resolve", key))

    def scopes(self) -> tuple[str, ...]:
        """Return the names of all scopes, sorted; it looks through all keys of the server."""
        found: set[str] = set()
        cursor, pattern = "0", self._options.metas
        self._here()
        while True:
            trip = [("SCAN", cursor, "MATCH", pattern, "COUNT", 1_000)]
            ((at, metas),) = self._drive(self._ledger.plain(trip))
            found.update(self._options.scope_of(meta.decode()) for meta in metas)
            cursor = at.decode()
            if cursor == "0":
                return tuple(sorted(found))

    def about(self) -> About:
        """Return what there is to know of the server; the size is that of the books alone."""
        keys = [key for scope in self.scopes() for key in self._options.keys(scope)]
        journals = keys[JOURNAL_AT :: len(self._options.keys(""))]
        sizes = [("MEMORY", "USAGE", key) for key in keys]
        said = self._drive(self._ledger.plain(list(CHECKS), refusals=True))
        lengths = self._drive(self._ledger.plain([("XLEN", key) for key in journals]))
        taken = self._drive(self._ledger.plain(sizes, refusals=True))
        return about(self._options, said, sum(lengths), taken)

    def _ask(self, scope: str, script: str, *arguments: scripts.Argument) -> Answer:
        self._here()
        answer: Answer = self._drive(self._ledger.ask(scope, script, *arguments))
        return answer

    async def _aask(self, scope: str, script: str, *arguments: scripts.Argument) -> Answer:
        self._here()
        answer: Answer = await self._adrive(self._ledger.ask(scope, script, *arguments))
        return answer

    # --- the rest ---------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the server's time, as this clock and its last answer tell it."""
        if self._clock is not None:
            return self._clock()
        self._here()
        if self._ledger.behind_s is None:
            ((seconds, micros),) = self._drive(self._ledger.plain([("TIME",)]))
            self._ledger.behind_s = int(seconds) + int(micros) / 1e6 - time.time()
        return time.time() + self._ledger.behind_s

    def close(self) -> None:
        """Close the plain connections; those of an event loop close by `aclose`, or as it ends."""
        self._here()
        self._plain.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and the plain ones."""
        import asyncio

        self.close()
        awaited = self._awaited.pop(asyncio.get_running_loop(), None)
        if awaited is not None:
            await awaited.close()

    def _drive(self, steps: Steps) -> Any:
        """Do what the steps say."""
        answers: Any = None
        trouble: Exception | None = None
        while True:
            try:
                step = steps.send(answers) if trouble is None else steps.throw(trouble)
            except StopIteration as done:
                return done.value
            answers = trouble = None
            if isinstance(step, (int, float)):
                time.sleep(step)
                continue
            try:
                answers = self._plain.run(step)
            except (link.LostError, link.NotSentError) as error:
                trouble = error

    async def _adrive(self, steps: Steps) -> Any:
        """Do what the steps say, without blocking the event loop."""
        import asyncio

        awaited = await self._of_loop(asyncio.get_running_loop())
        answers: Any = None
        trouble: Exception | None = None
        while True:
            try:
                step = steps.send(answers) if trouble is None else steps.throw(trouble)
            except StopIteration as done:
                return done.value
            answers = trouble = None
            if isinstance(step, (int, float)):
                await asyncio.sleep(step)
                continue
            try:
                answers = await awaited.run(step)
            except (link.LostError, link.NotSentError) as error:
                trouble = error

    async def _of_loop(self, loop: asyncio.AbstractEventLoop) -> link.Awaited:
        """Return the connections of the running event loop; waits for nothing."""
        awaited = self._awaited.get(loop)
        if awaited is None:
            for gone in [other for other in tuple(self._awaited) if other.is_closed()]:
                self._awaited.pop(gone, None)
            awaited = self._awaited[loop] = link.Awaited(self._options)
            await awaited.begin()
        return awaited

    def _begin(self, seen: Seen) -> None:
        self._pid = os.getpid()
        self._ledger = Ledger(self._options, self._clock, seen)
        self._plain = link.Plain(self._options)
        self._awaited = {}

    def _writable(self) -> None:
        if self._options.read_only:
            raise only_read(self._options.shown)
        self._here()

    def _here(self) -> None:
        """In a forked child begin anew: the parent's connections are not ours to use or close."""
        if self._pid != os.getpid():
            _inherited.append((self._plain, self._awaited))
            self._begin(self._ledger.seen.fork())


def _statement(answer: Answer) -> Statement | None:
    return None if not answer.reply else scripts.statement_in(answer.reply)


def _reply(answer: Answer) -> Reply | None:
    return None if not answer.reply else scripts.reply_in(answer.reply)


def _last(found: list[JournalEntry], after_seq: int) -> int:
    return found[-1].seq if found else after_seq


def _page(found: list[JournalEntry], answer: Answer) -> bool:
    """Add a page of the journal; return whether there may be more."""
    found.extend(map(scripts.entry_in, answer.entries))
    return len(answer.entries) == _PAGE
