"""Commands at random, made to collide: few names, scarce budgets, ties, and keys used again.

Whoever chooses may be `random.Random`, or hypothesis behind the same two methods. A history of such
commands, carried out by a store and by `Reference`, must give the same replies and the same books.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from tbcontracts import commands
from tbcontracts.commands import Command, Denied, Granted, Posted, Reply
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import TBCError
from tbcontracts.testing.reference import Reference
from tbcontracts.usage import Usage

T = TypeVar("T")
# Not in the order of their UTF-8 bytes, and in others in lower case and in UTF-16. The last one has
# no contract at first.
AGENTS = ("b", "a", "Z", "é", "\U0001f600", "\uff5a", "z")
STRANGER = "stranger"
_TIMES_S = (0.0, 0.0, 0.0, 0.0, 1.0, 5.0, 60.0, 700.0)
_ODD_TIMES_S = (-30.0, 90_000.0)  # a clock that goes back; a day, after which keys are forgotten
_BAD_AMOUNTS: tuple[Any, ...] = (-1, 2**40 + 1, 1.5, float("nan"), float("inf"), True, "7", None)
_LIMITS_S = (1.0, 5.0, 60.0)


class Choices(Protocol):
    """Where chance comes from."""

    def choice(self, options: Sequence[T], /) -> T:
        """Return one of these."""
        ...

    def randint(self, least: int, most: int, /) -> int:
        """Return a whole number in this range, both ends included."""
        ...


class Commands:
    """Makes commands that have something to do with one another.

    Args:
        choices: Where chance comes from.
        prefix: Begins the ids of this maker's holds, where several work on one scope.
        closes: Whether the scope may be closed on the way, seldom.
        unit: What the books are in.
    """

    def __init__(
        self, choices: Choices, prefix: str = "h", *, closes: bool = True, unit: str = "tokens"
    ) -> None:
        self._closes = closes
        self._unit = unit
        self._choices = choices
        self._prefix = prefix
        self._holds: list[tuple[str, str]] = []
        self._terms: dict[str, BudgetContract] = {}  # the last ones of each agent, perhaps in force
        # Holds and their ends come most often; the rest is what they meet.
        self._makers: list[Callable[[], Command]] = [
            *[self.reserve] * 8,
            *[self.settle] * 5,
            *[self.void] * 2,
            *[self.charge] * 2,
            self.extend,
            self.expire,
            self.transfer,
            *[self.top_up] * 2,
            self.finish,
            *[self.change_contract] * 2,
            self.confidence,
            self.refuse,
            self.open,
            self.odd,
        ]

    def next(self) -> tuple[Command, float]:
        """Return a command, and how many seconds pass before it."""
        make = self._choices.choice(self._makers)
        return make(), self.pause_s()

    def pause_s(self) -> float:
        """Return how many seconds pass."""
        return self._choices.choice(_ODD_TIMES_S if self._seldom() else _TIMES_S)

    def opening(self) -> commands.Open:
        """Return what a scope begins with: contracts for most agents, many of them alike."""
        return commands.Open(tuple(self._contract(name) for name in AGENTS[:-1]), self._unit)

    def open(self) -> Command:
        """Open a contract that may be open already."""
        return commands.Open((self._contract(self._agent()),), self._unit)

    def reserve(self) -> Command:
        """Ask for a hold, of an odd kind at times."""
        agent, pick = self._agent(), self._choices.choice
        if self._holds and self._seldom():
            hold_id = pick(self._holds)[0]
        else:
            hold_id = f"{self._prefix}{len(self._holds)}"
            self._holds.append((hold_id, agent))
        return commands.Reserve(
            agent,
            self._amount(),
            hold_id,
            ttl_s=pick(_LIMITS_S),
            key=self._key(),
            leave=self._amount() if self._rarely() else 0,
            enforcement=pick(("expected", "expected", "strict", "observe")),
            track=self._rarely(),
            trial=self._rarely(),
        )

    def settle(self) -> Command:
        """End a hold by usage: known or not, of before or again, for good or for now."""
        hold_id, agent = self._hold()
        amount = self._amount()
        measured = self._choices.choice((True, True, False))
        usage = Usage(input_tokens=amount, measured=measured, cost_micro_usd=self._cost(amount))
        return commands.Settle(
            hold_id,
            agent,
            amount,
            usage if self._often() else None,
            final=self._often(),
            track=self._rarely(),
        )

    def void(self) -> Command:
        """Give a hold back."""
        return commands.Void(self._hold()[0])

    def extend(self) -> Command:
        """Let a hold live on."""
        return commands.Extend(self._hold()[0], self._choices.choice(_LIMITS_S))

    def expire(self) -> Command:
        """End what is due."""
        return commands.Expire(self._choices.choice((0, 1, 1_000)))

    def charge(self) -> Command:
        """Post usage without a hold."""
        amount = self._amount()
        cost = self._cost(amount)
        usage: Usage | None = Usage(output_tokens=amount, model="m", cost_micro_usd=cost)
        if self._rarely():
            usage = Usage.estimated(amount, cost_micro_usd=cost) if self._rarely() else None
        return commands.Charge(self._agent(), amount, usage, key=self._key(), track=self._rarely())

    def transfer(self) -> Command:
        """Move allocation by hand, uphill too."""
        donor = None if self._rarely() else self._agent()
        return commands.Transfer(donor, self._agent(), self._amount(), key=self._key())

    def top_up(self) -> Command:
        """Add budget to an agent or the pool."""
        agent = None if self._rarely() else self._agent()
        return commands.TopUp(agent, self._choices.choice((0, 10, 40, 80)), key=self._key())

    def finish(self) -> Command:
        """End an agent's work."""
        return commands.Finish(self._agent())

    def change_contract(self) -> commands.ChangeContract:
        """Give an agent other terms."""
        name = self._agent()
        was = self._choices.choice((None, self._terms.get(name)))
        return commands.ChangeContract(self._contract(name), was)

    def confidence(self) -> Command:
        """Report a score, at the threshold too, or forget it."""
        return commands.Confidence(self._agent(), self._choices.choice((None, None, 0.4, 0.5, 0.6)))

    def refuse(self) -> Command:
        """Write down a refusal that was decided elsewhere."""
        return commands.Refuse(
            self._agent(),
            self._amount(),
            "unbounded",
            observed=self._rarely(),
            track=self._rarely(),
            model=self._choices.choice((None, None, "m", "n")),
        )

    def odd(self) -> Command:
        """Ask for what must be refused without a trace; seldom, close the scope."""
        if self._closes and self._seldom():
            return commands.Close()
        agent, amount = self._agent(), self._bad_amount()
        hold_id, key = f"{self._prefix}odd", self._key()
        bad: list[Command] = [
            commands.Reserve(agent, amount, hold_id, key=key, track=True),
            commands.Reserve(agent, 1, hold_id, ttl_s=-1.0),
            commands.Reserve(agent, 1, hold_id, leave=amount, key=key),
            commands.Settle(self._hold()[0], agent, amount, track=True),
            commands.Charge(agent, amount, key=key, track=True),
            commands.Refuse(agent, amount, "unbounded", track=True),
            commands.TopUp(agent, amount, key=key),
            commands.Transfer(None, agent, amount, key=key),
            commands.Expire(amount),
            self._other_unit(),
            commands.Confidence(agent, self._choices.choice((-0.1, 1.1, float("nan")))),
        ]
        return self._choices.choice(bad)

    def _other_unit(self) -> Command:
        """Bring a contract in another unit, which no books take."""
        other = "usd" if self._unit == "tokens" else "tokens"
        contract = BudgetContract(self._agent(), max_tokens=10, unit=other)
        if self._rarely():
            return commands.Open((contract,), self._unit)
        if self._rarely():
            return commands.ChangeContract(contract)
        return commands.Open((contract,), other)

    def _cost(self, amount: int) -> int | None:
        """Return what a usage cost: known or not; in dollars it is the amount."""
        if self._rarely():
            return None
        return amount if self._unit == "usd" else self._choices.randint(0, 9)

    def _bad_amount(self) -> Any:
        return self._choices.choice(_BAD_AMOUNTS)

    def _agent(self) -> str:
        return STRANGER if self._seldom() else self._choices.choice(AGENTS)

    def _hold(self) -> tuple[str, str]:
        if not self._holds or self._seldom():
            return "unknown", self._agent()
        return self._choices.choice(self._holds[-12:])

    def _amount(self) -> int:
        return self._choices.choice((0, 1, 5, 10, 10, 20, 40, self._choices.randint(0, 80)))

    def _key(self) -> str | None:
        return f"k{self._choices.randint(0, 5)}" if self._rarely() else None

    def _contract(self, name: str) -> BudgetContract:
        pick = self._choices.choice
        most = pick((0, 10, 20, 20, 40, 40, 60))
        contract = BudgetContract(
            name,
            priority=pick((1, 1, 2, 2, 3)),
            max_tokens=most,
            min_reserve=pick((None, 0, most // 2, most)),
            confidence_threshold=pick((None, None, 0.5)),
            unit=self._unit,
        )
        self._terms[name] = contract
        return contract

    def _often(self) -> bool:
        return self._choices.randint(0, 4) > 0

    def _rarely(self) -> bool:
        return self._choices.randint(0, 4) == 0

    def _seldom(self) -> bool:
        return self._choices.randint(0, 40) == 0


class AccountNumbers(NamedTuple):
    """What both sides must agree on, for one agent."""

    allocated: int
    consumed: int
    held: int
    unmeasured: int
    denials: int
    expired_holds: int
    finished: bool
    confidence: float | None
    owed: int
    cost_micro_usd: int
    unpriced_tokens: int


class Numbers(NamedTuple):
    """What both sides must agree on, for one scope."""

    seq: int
    pool: int
    total: int
    accounts: dict[str, AccountNumbers]


def numbers_of(books: Any) -> Numbers:
    """Read the numbers of `Books`, of a `Statement`, or of a `Reference`."""
    accounts = books.agents if isinstance(books, Reference) else books.accounts
    if not isinstance(accounts, dict):
        accounts = {account.agent: account for account in accounts}
    return Numbers(
        books.seq,
        books.pool,
        books.total,
        {
            name: AccountNumbers(*(_number(account, field) for field in AccountNumbers._fields))
            for name, account in accounts.items()
        },
    )


_BEHIND_THE_BUCKETS = {"cost_micro_usd": 5, "unpriced_tokens": 6}


def _number(account: Any, field: str) -> Any:
    """Return a number of an account; the rules keep some of them in one list."""
    at, buckets = _BEHIND_THE_BUCKETS.get(field), getattr(account, "buckets", None)
    return getattr(account, field) if at is None or buckets is None else buckets[at]


def outcome(step: Callable[[], Reply]) -> object:
    """Carry out a command; return its reply, or the kind of its error."""
    try:
        return step()
    except (TBCError, TypeError, ValueError) as error:
        return type(error)


def difference(reply: object, expected: object, books: Any, reference: Reference) -> str | None:
    """Say where a reply and the books after it differ from the reference; None if nowhere."""
    if isinstance(reply, (Granted, Denied, Posted)) and isinstance(expected, type(reply)):
        pairs = zip(reply._fields, reply, expected, strict=True)
        wrong = [f"{name}: {got!r}, not {want!r}" for name, got, want in pairs if got != want]
        if wrong:
            return f"{type(reply).__name__}: {'; '.join(wrong)}"
    elif reply != expected:
        return f"{reply!r}, not {expected!r}"
    got, want = numbers_of(books), numbers_of(reference)
    if got == want:
        return None
    for name in want.accounts:
        if got.accounts.get(name) != want.accounts[name]:
            return f"{name}: {got.accounts.get(name)}, not {want.accounts[name]}"
    return f"{got}, not {want}"
