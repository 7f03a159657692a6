"""The rules and the reference in step, command by command, and every promise asked after each.

Hypothesis chooses, so a history that fails is shown at its shortest. `TBC_SOAK=1` (`make soak`)
looks much longer, and elsewhere each time.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import assume, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tbcontracts.books import Books, state_of
from tbcontracts.commands import (
    ChangeContract,
    Charge,
    Close,
    Command,
    Denied,
    Granted,
    Reply,
    Reserve,
    TopUp,
    Transfer,
)
from tbcontracts.errors import IdempotencyConflictError
from tbcontracts.rules import step
from tbcontracts.testing.audit import Audit
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import Commands, Numbers, difference, numbers_of, outcome

T = TypeVar("T")
SOAK = os.environ.get("TBC_SOAK") == "1"
CHANCE = st.randoms(use_true_random=False)
KEYED = (Charge, Reserve, TopUp, Transfer)


class Drawn:
    """Chance from whichever source the present rule was given."""

    source: random.Random

    def choice(self, options: Sequence[T]) -> T:
        """Return one of these."""
        return self.source.choice(options)

    def randint(self, least: int, most: int) -> int:
        """Return a whole number in this range."""
        return self.source.randint(least, most)


class InStep(RuleBasedStateMachine):
    """One scope, kept twice."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.reference = Reference()
        self.audit = Audit()
        self.now = 1_000_000.0
        self.drawn = Drawn()
        self.make = Commands(self.drawn)
        self.keyed: list[tuple[Command, object, float]] = []

    @initialize(chance=CHANCE)
    def begin(self, chance: random.Random) -> None:
        """Open contracts, many of them alike."""
        self.drawn.source = chance
        self.make = Commands(self.drawn, unit=self.drawn.choice(("tokens", "tokens", "usd")))
        self.carry_out(self.make.opening())

    @rule(chance=CHANCE)
    def reserve(self, chance: random.Random) -> None:
        """Ask for a hold."""
        self.drawn.source = chance
        self.carry_out(self.make.reserve())

    @rule(chance=CHANCE)
    def reserve_again(self, chance: random.Random) -> None:
        """Ask for another: there is nothing that is done more often."""
        self.reserve(chance)

    @rule(chance=CHANCE)
    def settle(self, chance: random.Random) -> None:
        """End a hold by usage."""
        self.drawn.source = chance
        self.carry_out(self.make.settle())

    @rule(chance=CHANCE)
    def void(self, chance: random.Random) -> None:
        """Give a hold back."""
        self.drawn.source = chance
        self.carry_out(self.make.void())

    @rule(chance=CHANCE)
    def charge(self, chance: random.Random) -> None:
        """Post usage without a hold."""
        self.drawn.source = chance
        self.carry_out(self.make.charge())

    @rule(chance=CHANCE)
    def live_on(self, chance: random.Random) -> None:
        """Extend a hold, or end those that are due."""
        self.drawn.source = chance
        self.carry_out(chance.choice((self.make.extend, self.make.expire))())

    @rule(chance=CHANCE)
    def move(self, chance: random.Random) -> None:
        """Move or add allocation by hand."""
        self.drawn.source = chance
        self.carry_out(chance.choice((self.make.transfer, self.make.top_up))())

    @rule(chance=CHANCE)
    def administer(self, chance: random.Random) -> None:
        """Change terms, finish, report a score, refuse, open."""
        self.drawn.source = chance
        makers = (
            self.make.change_contract,
            self.make.finish,
            self.make.confidence,
            self.make.refuse,
            self.make.open,
        )
        self.carry_out(chance.choice(makers)())

    @rule(chance=CHANCE)
    def change_and_back(self, chance: random.Random) -> None:
        """Change an agent's terms and change them back: what was owed or free decides, no more."""
        self.drawn.source = chance
        command = self.make.change_contract()
        account = self.books.accounts.get(command.contract.agent_name)
        assume(account is not None and not account.tracked and not self.books.closed)
        assert account is not None
        before, contract = numbers_of(self.books), account.contract
        smaller = command.contract.max_tokens <= contract.max_tokens
        self.carry_out(command)
        self.carry_out(ChangeContract(contract))
        after = numbers_of(self.books)
        assert after.total <= before.total or not smaller
        if smaller and not before.accounts[contract.agent_name].owed:
            assert after._replace(seq=before.seq) == before

    @rule(chance=CHANCE)
    def blunder(self, chance: random.Random) -> None:
        """Give bad numbers: an error, and nothing on the books changes."""
        self.drawn.source = chance
        command = self.make.odd()
        before = numbers_of(self.books)
        reply = self.carry_out(command)
        assert isinstance(command, Close) or isinstance(reply, type), reply
        assert isinstance(command, Close) or numbers_of(self.books) == before

    @rule(chance=CHANCE)
    def wait(self, chance: random.Random) -> None:
        """Let time pass; at times the clock goes back."""
        self.drawn.source = chance
        self.now += self.make.pause_s()

    @rule(chance=CHANCE)
    def send_again(self, chance: random.Random) -> None:
        """Give a command with the same key again: the first reply, and no effect."""
        assume(self.keyed)
        command, reply, until = chance.choice(self.keyed)
        before = numbers_of(self.books)
        again = self.carry_out(command)
        if self.books.now < until:
            assert again == reply
            assert numbers_of(self.books) == before

    @rule(chance=CHANCE)
    def misuse_a_key(self, chance: random.Random) -> None:
        """Use a key again for something else: an error, and no effect."""
        assume(self.keyed)
        command, _, until = chance.choice(self.keyed)
        assert isinstance(command, KEYED)
        before = numbers_of(self.books)
        reply = self.carry_out(command._replace(amount=command.amount + 1))
        if self.books.now < until:
            assert reply is IdempotencyConflictError
            assert numbers_of(self.books) == before

    def carry_out(self, command: Command) -> object:
        """Carry out a command on both sides and compare all that can be seen."""
        note(f"{self.now}: {command}")
        before = numbers_of(self.books)
        seq = self.books.seq
        reply = outcome(lambda: step(self.books, command, self.now))
        expected = outcome(lambda: self.reference.step(command, self.now))
        assert difference(reply, expected, self.books, self.reference) is None
        for entry in list(self.books.journal)[seq:]:
            self.audit.hear(entry)
        if isinstance(reply, Granted):
            self.check_granted(command, reply)
        if isinstance(reply, Denied):
            self.check_denied(command, before)
        if isinstance(command, KEYED) and command.key is not None and not isinstance(reply, type):
            self.remember(command, reply)
        return reply

    def check_granted(self, command: Command, reply: Granted) -> None:
        """P2: a granted hold fits; it is as large as was asked."""
        account = self.books.accounts[reply.agent]
        replayed = self.books.holds[reply.hold_id].status != "open" or reply.seq < self.books.seq
        if reply.would_deny is None and not account.tracked and not replayed:
            assert account.consumed + account.held <= account.allocated
            assert isinstance(command, Reserve)
            assert reply.amount == command.amount

    def check_denied(self, command: Command, before: Numbers) -> None:
        """P6: a denial moves nothing; only what expired on the way is given back."""
        after = numbers_of(self.books)
        assert after.total == before.total
        for name, then in before.accounts.items():
            now = after.accounts[name]
            if now.expired_holds == then.expired_holds:
                assert (now.allocated, now.consumed, now.held) == then[:3], name
        if isinstance(command, Reserve) and after.seq > before.seq:
            # P7: nothing was refused for the sake of a hold whose limit has passed.
            now_s = self.books.now
            open_holds = [hold for hold in self.books.holds.values() if hold.status == "open"]
            assert all(hold.expires_at > now_s for hold in open_holds)

    def remember(self, command: Command, reply: object) -> None:
        """Keep what was said to a key, and until when it is good."""
        key = getattr(command, "key", None)
        if any(known == key and until > self.books.now for known, until in self.kept()):
            return
        keep_s = 86_400.0
        if isinstance(reply, Denied):
            keep_s = 0.0 if getattr(command, "trial", False) else 600.0
        if keep_s:
            self.keyed.append((command, reply, self.books.now + keep_s))

    def kept(self) -> list[tuple[str | None, float]]:
        """Return the keys that were used, and until when they are good."""
        return [(getattr(command, "key", None), until) for command, _, until in self.keyed]

    @invariant()
    def promises_hold(self) -> None:
        """P1, and that the journal, the holds and the accounts all say the same."""
        books = self.books
        allocated = sum(account.allocated for account in books.accounts.values())
        assert allocated + books.pool == books.total
        promised = sum(one.contract.max_tokens for one in books.accounts.values())
        owed = sum(account.owed for account in books.accounts.values())
        added = sum(entry.amount for entry in books.journal if entry.kind == "topped_up")
        assert books.total == promised + added + owed
        assert books.pool >= 0
        for name, account in books.accounts.items():
            mine = [hold for hold in books.holds.values() if hold.agent == name]
            assert account.held == sum(hold.amount for hold in mine if hold.status == "open")
            assert min(account.allocated, account.consumed, account.held, account.owed) >= 0
            assert 0 <= account.unmeasured <= account.consumed
        assert [entry.seq for entry in books.journal] == list(range(1, books.seq + 1))
        self.audit.compare(state_of(books))


InStep.TestCase.settings = settings(
    max_examples=3_000 if SOAK else 150,
    stateful_step_count=100 if SOAK else 50,
    derandomize=not SOAK,
    deadline=None,
    database=None,
)
TestInStep = InStep.TestCase


def test_the_same_choices_give_the_same_books() -> None:
    """Neither the rules nor the reference look at anything but state, command and time."""

    def run() -> tuple[list[Reply | object], object]:
        commands, books, now = Commands(random.Random(7)), Books(), 0.0
        replies = [outcome(lambda: step(books, commands.opening(), now))]
        for _ in range(300):
            command, pause_s = commands.next()
            now += pause_s
            replies.append(outcome(lambda: step(books, command, now)))  # noqa: B023 - called here
        return replies, state_of(books)

    assert run() == run()
