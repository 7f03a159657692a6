"""The state of one scope: accounts, open holds, pool, journal. Data with no rules of its own."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from tbcontracts.commands import Reply
from tbcontracts.contract import BudgetContract
from tbcontracts.events import JournalEntry, Kind, Move
from tbcontracts.reallocation import DonorIndex

JOURNAL_ENTRIES_MAX = 10_000
RESOLVED_HOLDS_MAX = 10_000
KEY_TTL_S = 24 * 3600.0
DENIAL_KEY_TTL_S = 600.0


class Account:
    """An agent's numbers in a scope."""

    __slots__ = (
        "allocated",
        "buckets",
        "confidence",
        "consumed",
        "contract",
        "denials",
        "expired_holds",
        "finished",
        "held",
        "last_denial",
        "owed",
        "tracked",
        "unmeasured",
    )

    def __init__(self, contract: BudgetContract, *, tracked: bool = False) -> None:
        self.contract = contract
        self.allocated = 0 if tracked else contract.max_tokens
        self.consumed = 0
        self.held = 0
        self.owed = 0  # what a smaller contract could not take back; a larger one pays it first
        self.tracked = tracked  # no contract: a line of its own, outside P1 and P2
        self.finished = False
        self.confidence: float | None = None
        self.unmeasured = 0
        self.denials = 0
        self.expired_holds = 0
        # input, output, cached input, cache write, reasoning; micro-dollars, tokens without a price
        self.buckets = [0, 0, 0, 0, 0, 0, 0]
        self.last_denial: tuple[object, ...] | None = None

    @property
    def remaining(self) -> int:
        """What may still be spent; negative is an overdraft."""
        return self.allocated - self.consumed - self.held

    @property
    def surplus(self) -> int:
        """What may be lent."""
        return max(0, self.allocated - self.consumed - self.held - self.contract.reserve)


class Resolution(NamedTuple):
    """How a hold was ended."""

    verb: str
    amount: int | None = None

    def __str__(self) -> str:
        """Return it as a sentence would say it."""
        return self.verb if self.amount is None else f"{self.verb} with {self.amount:,}"


class HoldRecord:
    """Budget set aside for one call, and what became of it."""

    __slots__ = (
        "agent",
        "amount",
        "charged",
        "cost",
        "enforcement",
        "expires_at",
        "hold_id",
        "outcome",
        "status",
        "unpriced",
    )

    def __init__(
        self, hold_id: str, agent: str, amount: int, expires_at: float, enforcement: str
    ) -> None:
        self.hold_id = hold_id
        self.agent = agent
        self.amount = amount
        self.expires_at = expires_at
        self.enforcement = enforcement
        self.status = "open"  # open, settled, voided, expired, or charged by estimate
        self.charged = 0  # how much, while it is charged by estimate
        self.cost = self.unpriced = 0  # what was counted as cost and as unpriced for that
        self.outcome: tuple[Resolution, Reply] | None = None  # the resolution and its first reply


class Remembered(NamedTuple):
    """What a key was used for, and what came of it."""

    command: tuple[object, ...]
    reply: Reply
    until: float


class Books:
    """One scope. Owned by whoever holds it; nothing in here is safe for two threads at once."""

    __slots__ = (
        "accounts",
        "closed",
        "donors",
        "due",
        "holds",
        "journal",
        "keys",
        "keys_due",
        "now",
        "pool",
        "resolved",
        "seq",
        "total",
        "unit",
    )

    def __init__(self, *, journal_entries_max: int | None = JOURNAL_ENTRIES_MAX) -> None:
        self.accounts: dict[str, Account] = {}
        self.pool = 0
        self.total = 0  # sum of allocated plus pool, kept apart so that P1 can be checked
        self.holds: dict[str, HoldRecord] = {}
        self.due: list[tuple[float, str]] = []  # heap of limits; entries of ended holds are skipped
        self.resolved: deque[str] = deque()
        self.keys: dict[str, Remembered] = {}
        self.keys_due: list[tuple[float, str]] = []
        self.donors = DonorIndex()
        self.journal: deque[JournalEntry] = deque(maxlen=journal_entries_max)
        self.seq = 0
        self.now = 0.0
        self.closed = False
        self.unit: str | None = None  # until they are opened

    def log(
        self,
        kind: Kind,
        account: Account | None,
        amount: int,
        hold_id: str | None = None,
        moves: tuple[Move, ...] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> int:
        """Write a journal entry; return its `seq`."""
        self.seq = seq = self.seq + 1
        if account is not None and kind != "denied":
            account.last_denial = None  # the next refusal repeats nothing
        if self.journal.maxlen == 0:
            return seq
        if account is None:
            agent, allocated, consumed, held = None, 0, 0, 0
        else:
            agent = account.contract.agent_name
            allocated, consumed, held = account.allocated, account.consumed, account.held
        self.journal.append(
            JournalEntry(
                seq,
                self.now,
                kind,
                agent,
                amount,
                hold_id,
                moves,
                allocated,
                consumed,
                held,
                self.pool,
                facts or {},
            )
        )
        return seq

    def remember(self, key: str, command: tuple[object, ...], reply: Reply, ttl_s: float) -> None:
        """Keep what a key was used for, until its time is over."""
        self.keys[key] = Remembered(command, reply, self.now + ttl_s)
        heapq.heappush(self.keys_due, (self.now + ttl_s, key))
        while self.keys_due and self.keys_due[0][0] <= self.now:
            due = heapq.heappop(self.keys_due)[1]
            if due in self.keys and self.keys[due].until <= self.now:
                del self.keys[due]

    def is_awaited(self, now: float, *, keys: bool) -> bool:
        """Return whether somebody may come back to these books: to an open hold, or with a key."""
        if any(hold.status == "open" and hold.expires_at > now for hold in self.holds.values()):
            return True
        return keys and any(remembered.until > now for remembered in self.keys.values())

    def retire(self, hold: HoldRecord) -> None:
        """Keep an ended hold among the last ones, so that ending it again can be answered."""
        self.resolved.append(hold.hold_id)
        if len(self.resolved) > RESOLVED_HOLDS_MAX:
            self.holds.pop(self.resolved.popleft(), None)


class AccountView(NamedTuple):
    """An account as a reader sees it; a copy."""

    agent: str
    contract: BudgetContract | None
    """None for a name that has no contract and is only tracked."""
    allocated: int
    consumed: int
    held: int
    unmeasured: int
    """The part of `consumed` that is an estimate."""
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    denials: int
    expired_holds: int
    finished: bool
    confidence: float | None
    owed: int
    """What a smaller contract could not take back of `allocated`; a larger one pays it first."""
    cost_micro_usd: int = 0
    """What its calls cost, in millionths of a dollar, as far as that is known."""
    unpriced_tokens: int = 0
    """The tokens of calls whose price is not known; what they cost is not in `cost_micro_usd`."""

    @property
    def remaining(self) -> int:
        """What may still be spent; negative is an overdraft."""
        return self.allocated - self.consumed - self.held

    @property
    def overdraft(self) -> int:
        """Usage beyond what could be covered; a name that is only tracked has no limit to pass."""
        return 0 if self.contract is None else max(0, -self.remaining)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, with what follows from the numbers."""
        view = self._asdict()
        view["contract"] = None if self.contract is None else self.contract.as_dict()
        view["remaining"] = self.remaining
        view["overdraft"] = self.overdraft
        view["unmeasured_share"] = self.unmeasured / self.consumed if self.consumed else 0.0
        return view


class Statement(NamedTuple):
    """A scope's books at one moment: everything in it belongs to the same `seq`."""

    seq: int
    pool: int
    total: int
    closed: bool
    accounts: tuple[AccountView, ...]
    unit: str = "tokens"
    """What all amounts are in: "tokens", or "usd" for millionths of a dollar."""


def view(account: Account) -> AccountView:
    """Copy an account for a reader."""
    input_tokens, output_tokens, cached, written, reasoning, cost, unpriced = account.buckets
    return AccountView(
        agent=account.contract.agent_name,
        contract=None if account.tracked else account.contract,
        allocated=account.allocated,
        consumed=account.consumed,
        held=account.held,
        unmeasured=account.unmeasured,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
        denials=account.denials,
        expired_holds=account.expired_holds,
        finished=account.finished,
        confidence=account.confidence,
        owed=account.owed,
        cost_micro_usd=cost,
        unpriced_tokens=unpriced,
    )


def state_of(books: Books) -> Statement:
    """Copy the books for a reader."""
    return Statement(
        books.seq,
        books.pool,
        books.total,
        books.closed,
        tuple(view(account) for account in books.accounts.values()),
        books.unit or "tokens",
    )
