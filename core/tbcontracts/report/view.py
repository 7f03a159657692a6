"""The view: all that the page shows of a scope, as plain values that never change.

It is made in two turns over the journal: the first counts, the second replays the books and keeps
what the page has room for. Sums are over everything that the journal still holds; what is kept of
single calls, refusals and entries are the first and the last ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tbcontracts.books import AccountView, Statement
from tbcontracts.events import JournalEntry
from tbcontracts.report.calls import CallLog, CallView
from tbcontracts.report.costs import Costs, costs_of
from tbcontracts.report.moments import Denial, denial_at
from tbcontracts.report.replay import Replay, is_whole
from tbcontracts.report.timeline import Timeline, TimelineView

ASKS = ("held", "denied", "would_deny")
"""The entries by which a call asks for budget; calls are numbered by them."""
REFUSALS = ("denied", "would_deny")
DENIALS_EACH_END = 50
CALLS_EACH_END = 100
ENTRIES_EACH_END = 100


class Balance(NamedTuple):
    """An agent's account at the end, and what others gave to it and had from it."""

    account: AccountView
    given: int
    received: int
    returned: int
    """What went to the pool when it had finished."""

    @property
    def reserve(self) -> int | None:
        """What nobody may take from it; None without a contract."""
        contract = self.account.contract
        return None if contract is None else contract.reserve


class Flow(NamedTuple):
    """What one gave to another, in all."""

    donor: str | None
    """None is the pool."""
    taker: str | None
    amount: int
    times: int


class Group(NamedTuple):
    """Refusals of one agent for one reason."""

    agent: str
    code: str
    let_through: bool
    times: int
    asked: int | None
    """All of it; None where the price of the model was not known."""
    first_call: int
    last_call: int


class ReportView(NamedTuple):
    """What happened in a scope."""

    scope: str
    unit: str
    statement: Statement
    whole: bool
    """Whether the journal is there from its first entry on."""
    first_seq: int
    from_at: float | None
    """None where the journal holds nothing."""
    to_at: float | None
    counts: dict[str, int]
    """Entries by kind."""
    asked: int
    """Calls that asked for budget, of those that the journal holds."""
    balances: tuple[Balance, ...]
    flows: tuple[Flow, ...]
    timeline: TimelineView
    groups: tuple[Group, ...]
    denials: tuple[Denial, ...]
    denials_not_shown: int
    repeats: int | None
    """Refusals that repeated the one before; None where the journal does not tell."""
    calls: tuple[CallView, ...]
    entries: tuple[JournalEntry, ...]
    costs: Costs

    @property
    def accounts(self) -> tuple[AccountView, ...]:
        """The accounts at the end."""
        return self.statement.accounts

    @property
    def consumed(self) -> int:
        """What all agents have consumed."""
        return sum(account.consumed for account in self.accounts)

    @property
    def held(self) -> int:
        """What is held now."""
        return sum(account.held for account in self.accounts)

    @property
    def unmeasured(self) -> int:
        """The part of what was consumed that is an estimate."""
        return sum(account.unmeasured for account in self.accounts)

    @property
    def refused(self) -> int:
        """How many calls were refused, or would have been."""
        return sum(account.denials for account in self.accounts)


def view_of(
    statement: Statement, journal: Iterable[JournalEntry], scope: str, *, unit: str | None = None
) -> ReportView:
    """Return the view of a scope.

    Args:
        statement: The books, read before the journal.
        journal: The entries that are kept, oldest first.
        scope: The name of the books.
        unit: What amounts are, if not what the statement says: "tokens", or "usd" for millionths of
            a dollar.
    """
    entries = [entry for entry in journal if entry.seq <= statement.seq]
    turn = _Turn(statement, entries)
    for position, entry in enumerate(entries):
        turn.hear(position, entry)
    whole = is_whole(statement, entries)
    repeats = sum(account.denials for account in statement.accounts) - turn.refusals.seen
    return ReportView(
        scope=scope,
        unit=unit or unit_of(statement),
        statement=statement,
        whole=whole,
        first_seq=entries[0].seq if entries else statement.seq + 1,
        from_at=entries[0].at if entries else None,
        to_at=entries[-1].at if entries else None,
        counts=dict(Counter(entry.kind for entry in entries)),
        asked=turn.calls.asked,
        balances=tuple(_balance(account, turn) for account in _in_order(statement.accounts)),
        flows=_flows(turn.flows),
        timeline=turn.timeline.view(),
        groups=tuple(turn.groups.values()),
        denials=tuple(turn.denials),
        denials_not_shown=turn.refusals.total - len(turn.denials),
        repeats=repeats if whole else None,
        calls=turn.calls.view(),
        entries=tuple(_ends(entries, ENTRIES_EACH_END)),
        costs=costs_of(statement.accounts, entries, unit or unit_of(statement)),
    )


def unit_of(statement: Statement) -> str:
    """Return what the amounts of a statement are; one that does not say is in tokens."""
    return statement.unit


def _asks(entry: JournalEntry) -> bool:
    """Return whether a call asked for budget with this entry."""
    return entry.kind in ASKS and not _comes_before_its_call(entry)


def _comes_before_its_call(entry: JournalEntry) -> bool:
    """Return whether observe mode says of the next call that it would have been refused.

    So it is where no size was found for a call, as the price of its model is not known: the books
    were not asked, and the call that goes out then has an entry of its own.
    """
    return entry.kind == "would_deny" and entry.hold_id is None


class _Ends:
    """Knows which of many are among the first or the last ones."""

    def __init__(self, total: int, each_end: int) -> None:
        self.total = total
        self.seen = 0
        self._each_end = each_end

    def next_is_kept(self) -> bool:
        """Count one more; return whether it is kept."""
        self.seen += 1
        return self.seen <= self._each_end or self.seen > self.total - self._each_end


class _Turn:
    """The second turn over the journal: replays the books, and keeps what is shown."""

    def __init__(self, statement: Statement, entries: Sequence[JournalEntry]) -> None:
        refused = sum(entry.kind in REFUSALS for entry in entries)
        asks = sum(map(_asks, entries))
        self.replay = Replay(statement, entries)
        self.timeline = Timeline(entries)
        self.calls = CallLog(asks, CALLS_EACH_END)
        self.refusals = _Ends(refused, DENIALS_EACH_END)
        self.denials: list[Denial] = []
        self.groups: dict[tuple[str, str, bool], Group] = {}
        self.flows: dict[tuple[str | None, str | None], Flow] = {}
        self.given: Counter[str | None] = Counter()
        self.received: Counter[str | None] = Counter()
        self.returned: Counter[str | None] = Counter()
        self._to_go_out: set[str | None] = set()

    def hear(self, position: int, entry: JournalEntry) -> None:
        """Take the next entry."""
        rest = self.replay.hear(entry)
        if rest > 0:
            self.returned[entry.agent] += rest
            self._flow(entry.agent, None, rest)
        for donor, amount in entry.moves:
            self.given[donor] += amount
            self.received[entry.agent] += amount
            self._flow(donor, entry.agent, amount)
        self._hear_call(entry)
        if entry.kind in REFUSALS:
            self._refusal(entry)
        self.timeline.hear(position, entry, self.replay)

    def _hear_call(self, entry: JournalEntry) -> None:
        """Take an entry of a call; what is noted before its call is said of it."""
        if _comes_before_its_call(entry):
            self._to_go_out.add(entry.agent)
            return
        through = entry.kind == "would_deny"
        if _asks(entry) and entry.agent in self._to_go_out:
            self._to_go_out.remove(entry.agent)
            through = True
        self.calls.hear(entry, asks=_asks(entry), let_through=through)

    def _flow(self, donor: str | None, taker: str | None, amount: int) -> None:
        before = self.flows.get((donor, taker), Flow(donor, taker, 0, 0))
        self.flows[donor, taker] = Flow(donor, taker, before.amount + amount, before.times + 1)

    def _refusal(self, entry: JournalEntry) -> None:
        """Count a refusal, and keep it with the books of its moment if it is shown."""
        call = self.calls.asked + _comes_before_its_call(entry)
        if self.refusals.next_is_kept():
            self.denials.append(denial_at(call, entry, self.replay))
        let_through = entry.kind == "would_deny"
        key = (str(entry.agent), str(entry.facts.get("code", "")), let_through)
        group = self.groups.get(key) or Group(*key, 0, 0, call, call)
        asked = None
        if entry.asked is not None and group.asked is not None:
            asked = group.asked + entry.asked
        self.groups[key] = group._replace(times=group.times + 1, asked=asked, last_call=call)


def _in_order(accounts: Sequence[AccountView]) -> list[AccountView]:
    """Sort accounts as a reader looks for them: the most important first, strangers last."""

    def place(account: AccountView) -> tuple[bool, int, str]:
        priority = 0 if account.contract is None else account.contract.priority
        return account.contract is None, -priority, account.agent

    return sorted(accounts, key=place)


def _balance(account: AccountView, turn: _Turn) -> Balance:
    """Return an account with what it gave and received."""
    agent = account.agent
    return Balance(account, turn.given[agent], turn.received[agent], turn.returned[agent])


def _flows(flows: dict[tuple[str | None, str | None], Flow]) -> tuple[Flow, ...]:
    """Sort flows, the largest first."""
    return tuple(
        sorted(flows.values(), key=lambda one: (-one.amount, one.donor or "", one.taker or ""))
    )


def _ends(entries: Sequence[Any], each_end: int) -> Sequence[Any]:
    """Return the first and the last ones."""
    if len(entries) <= 2 * each_end:
        return entries
    return [*entries[:each_end], *entries[-each_end:]]
