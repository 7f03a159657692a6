"""Planted mistakes: random histories, the reference and the audit find every one of them.

Each mutant is the product's own source with one thing wrong. The search that must kill it is the one
that the unchanged rules must survive. What would change nothing that anybody can see is not listed:
a tracked name "that lends", for one, has nothing allocated to lend.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from tbcontracts.books import state_of
from tbcontracts.commands import (
    ChangeContract,
    Charge,
    Command,
    Expire,
    Open,
    Refuse,
    Reply,
    Reserve,
    Settle,
    TopUp,
    Transfer,
    Void,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.testing.audit import Audit, BrokenPromiseError
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import Commands, difference, outcome

HISTORIES = 200
COMMANDS = 100

# In the order in which one imports the other.
MODULES = (
    "confidence_gate",
    "reallocation",
    "books",
    "rules.common",
    "rules.posting",
    "rules.holds",
    "rules.administration",
    "rules",
)


class Rules(NamedTuple):
    """The rules, as they are or with a mistake."""

    step: Callable[[Any, Command, float], Reply]
    make_books: Callable[[], Any]


class Mutant(NamedTuple):
    """A mistake: where, and which text stands in the place of which."""

    what: str
    module: str
    old: str
    new: str


def build(mutant: Mutant | None) -> Rules:
    """Run the source of the rules again, beside the product's own modules, with the mistake in."""
    names = [f"tbcontracts.{name}" for name in MODULES]
    before = {name: sys.modules.pop(name, None) for name in names}
    try:
        for name in names:
            _run_again(name, mutant)
        step = sys.modules["tbcontracts.rules"].step
        return Rules(step, sys.modules["tbcontracts.books"].Books)
    finally:
        for name, module in before.items():
            if module is not None:
                sys.modules[name] = module


def _run_again(name: str, mutant: Mutant | None) -> None:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    if mutant is not None and name == f"tbcontracts.{mutant.module}":
        assert source.count(mutant.old) == 1, f"{mutant.what}: not once in {name}"
        source = source.replace(mutant.old, mutant.new)
    module = ModuleType(name)
    module.__dict__.update(__file__=spec.origin, __package__=spec.parent)
    if spec.submodule_search_locations is not None:
        module.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = module
    exec(compile(source, spec.origin, "exec"), module.__dict__)


def search(rules: Rules) -> str | None:
    """Look for a history in which the rules do something wrong; return what it was."""
    for name, history in itertools.chain(scripted(), made_up(), large()):
        found = first_mistake(rules, history)
        if found is not None:
            return f"{name}: {found}"
    return None


def first_mistake(rules: Rules, history: Iterator[tuple[Command, float]]) -> str | None:
    """Carry out a history in the rules and in the reference; return where they differ."""
    books, reference, audit, now = rules.make_books(), Reference(), Audit(), 1_000_000.0
    for command, pause_s in history:
        now += pause_s
        try:
            reply = outcome(lambda: rules.step(books, command, now))  # noqa: B023 - called here
        except Exception as error:
            return f"{command}: {error!r}"
        expected = outcome(lambda: reference.step(command, now))  # noqa: B023 - called here
        found = difference(reply, expected, books, reference)
        if found is not None:
            return f"{command}: {found}"
        try:
            for entry in list(books.journal)[audit.seq :]:
                audit.hear(entry)
            audit.compare(state_of(books))
        except BrokenPromiseError as error:
            return str(error)
    return None


def made_up() -> Iterator[tuple[str, Iterator[tuple[Command, float]]]]:
    """Yield histories at random, always the same ones."""
    for seed in range(HISTORIES):
        yield f"seed {seed}", _made_up(seed)


def _made_up(seed: int) -> Iterator[tuple[Command, float]]:
    commands = Commands(random.Random(seed), unit="usd" if seed % 3 == 1 else "tokens")
    yield commands.opening(), 0
    for _ in range(COMMANDS):
        yield commands.next()


def scripted() -> Iterator[tuple[str, Iterator[tuple[Command, float]]]]:
    """Yield histories of what chance seldom brings about: crowds and long times."""
    crowd = [BudgetContract(f"a{n}", max_tokens=2, min_reserve=0) for n in range(66)]
    yield (
        "a crowd of donors",
        iter(
            [
                (Open((*crowd, BudgetContract("big", max_tokens=1))), 0),
                (Reserve("big", 130, "too much"), 0),
                (Reserve("big", 129, "just enough"), 0),
                (Charge("big", 200), 0),
                (TopUp(None, 500), 0),
                (Reserve("big", 5, "from the pool"), 0),
            ]
        ),
    )
    many: list[tuple[Command, float]] = [
        (Reserve("a", 1, f"h{n}", ttl_s=5, enforcement="strict" if n % 2 else "expected"), 0)
        for n in range(80)
    ]
    yield (
        "many holds due at once",
        iter(
            [
                (Open((BudgetContract("a", max_tokens=80), BudgetContract("b", max_tokens=0))), 0),
                *many,
                (Reserve("a", 5, "16 end before it"), 5),
                (Expire(1), 0),
                (Refuse("a", 5, "unbounded"), 0),
                (Reserve("a", 80, "all end before it is refused"), 0),
            ]
        ),
    )
    long = Reserve("a", 10, "long", ttl_s=80_000, key="k")
    yield (
        "keys and their time",
        iter(
            [
                (Open((BudgetContract("a", max_tokens=10, min_reserve=0),)), 0),
                (long, 0),
                (Reserve("a", 1, "no", key="no"), 0),
                (Transfer(None, "a", 1, key="none"), 0),
                (TopUp("a", 20, key="more"), 0),
                (Reserve("a", 1, "still not", key="no"), 599),
                (TopUp(None, 20), 0),
                (Transfer(None, "a", 1, key="none"), 0),
                (TopUp("a", 20, key="more"), 0),
                (Reserve("a", 1, "at last", key="no"), 1),
                (Transfer(None, "a", 1, key="none"), 0),
                (TopUp("a", 20, key="more"), 80_000),
                (TopUp("a", 20, key="more"), 6_000),
                (long._replace(hold_id="again"), 60_000),
                (long._replace(hold_id="and again"), 20_000),
            ]
        ),
    )


def large() -> Iterator[tuple[str, Iterator[tuple[Command, float]]]]:
    """Yield a history of numbers as large as books can keep."""
    largest = BudgetContract("largest", max_tokens=2**40, min_reserve=0)
    rich = [BudgetContract(f"r{n}", max_tokens=2**40) for n in range(8_190)]
    yield (
        "as much as books can keep",
        iter(
            [
                (Open((*rich, BudgetContract("poor", max_tokens=0))), 0),
                (Open((largest, BudgetContract("larger", max_tokens=2**40))), 0),
                (Open((largest,)), 0),
                (TopUp(None, 2**40), 0),
                (TopUp("poor", 2**40), 0),
                (ChangeContract(BudgetContract("poor", max_tokens=2**40)), 0),
                (ChangeContract(BudgetContract("poor", max_tokens=2**40 - 1)), 0),
                (TopUp("poor", 1), 0),
                (Charge("poor", 2**40), 0),
                (Settle("forgotten", "poor", 2**40), 0),
                (Settle("forgotten", "poor", 2**40), 0),
                (Void("forgotten"), 0),
            ]
        ),
    )


MUTANTS = [
    # who gives
    Mutant("equals do not share: < for <=", "reallocation", "rank[0] > priority", "rank[0] >= priority"),
    Mutant("budget flows uphill", "reallocation", "if rank[0] > priority:", "if False:"),
    Mutant(
        "least idle first",
        "reallocation",
        "in donors.up_to(taker.contract.priority, accounts):",
        "in sorted(donors.up_to(taker.contract.priority, accounts),"
        " key=lambda one: (one[0], -one[1], one[2])):",
    ),
    Mutant(
        "most important donor first",
        "reallocation",
        "in donors.up_to(taker.contract.priority, accounts):",
        "in sorted(donors.up_to(taker.contract.priority, accounts),"
        " key=lambda one: (-one[0], one[1], one[2])):",
    ),
    Mutant("names in lower case", "reallocation", "else name.encode()", "else name.lower().encode()"),
    Mutant("names as UTF-16", "reallocation", "else name.encode()", 'else name.encode("utf-16-be")'),
    Mutant("an agent gives to itself", "reallocation", "if rank.name == taker.contract.agent_name:", "if False:"),
    Mutant("the pool is not used", "reallocation", "found = min(pool, shortfall)", "found = 0"),
    Mutant(
        "the pool is used after the donors",
        "reallocation",
        "    return Plan(tuple(moves), found, fragmented=False)",
        "    if moves and moves[0].donor is None:\n"
        "        moves.append(moves.pop(0))\n"
        "    return Plan(tuple(moves), found, fragmented=False)",
    ),
    Mutant("more is taken than lacking", "reallocation", "min(-rank.minus_surplus, shortfall - found)", "-rank.minus_surplus"),
    Mutant("one donor too few", "reallocation", "DONORS_MAX = 64", "DONORS_MAX = 63"),
    Mutant("one donor too many", "reallocation", "DONORS_MAX = 64", "DONORS_MAX = 65"),
    Mutant("too many donors are not told", "reallocation", "fragmented=True", "fragmented=False"),
    Mutant("an account that changed keeps its place", "reallocation", "if new == old:", "if old is not None:"),
    Mutant("who has nothing left stays a donor", "reallocation", "self._remove(old)\n                continue", "pass\n                continue"),
    Mutant("the reserve is lent", "books", "self.held - self.contract.reserve)", "self.held)"),
    Mutant("holds are lent", "books", "self.consumed - self.held - self.contract.reserve)", "self.consumed - self.contract.reserve)"),
    Mutant("a change is not noted: donor", "rules.common", "            books.donors.touch(donor_name, books.accounts)\n", ""),
    Mutant("a change is not noted: account", "rules.common", "    books.donors.touch(account.contract.agent_name, books.accounts)\n", ""),
    Mutant("a change is not noted: taker", "rules.holds", "    books.donors.touch(name, books.accounts)\n", ""),
    # conservation
    Mutant("minting: donors keep what they give", "rules.common", "donor.allocated -= amount", "pass"),
    Mutant("minting: the pool keeps what it gives", "rules.common", "books.pool -= amount", "pass"),
    Mutant("minting: a finished agent keeps its rest", "rules.common", "account.allocated -= rest", "pass"),
    Mutant("burning: the rest of a finished agent", "rules.common", "books.pool += rest", "pass"),
    Mutant("burning: takers do not get it", "rules.common", "taker.allocated += amount", "pass"),
    Mutant("minting: a contract opened twice", "rules.administration", "if account is None or account.tracked:", "if True:"),
    Mutant("the total forgets a top-up", "rules.administration", "    books.total += amount\n", ""),
    Mutant("the total forgets a change", "rules.administration", "    books.total += difference\n", ""),
    Mutant("budget without end: a scope", "rules.common", "if books.total + more > TOTAL_MAX:", "if False:"),
    Mutant("budget without end: top-ups", "rules.administration", '    check_total(books, amount, "this top-up")\n', ""),
    Mutant("budget without end: changes", "rules.administration", '    check_total(books, difference, "this contract")\n', ""),
    # admission
    Mutant("one token too much is granted", "rules.holds", "found.found == shortfall", "found.found >= shortfall - 1"),
    Mutant("a refusal moves what there was", "rules.holds", '    code = "budget_exceeded"\n', '    code = "budget_exceeded"\n    move_to(books, account, found.moves)\n'),
    Mutant("leave is ignored", "rules.holds", "amount + command.leave - account.remaining", "amount - account.remaining"),
    Mutant("leave is not checked", "rules.holds", "if command.leave != 0:", "if False:"),
    Mutant("what must stay counts as reachable", "rules.holds", "found.found - command.leave", "found.found"),
    Mutant("a refusal comes before all due holds have ended", "rules.holds", "while denial is not None and sweep", "if denial is not None and sweep"),
    Mutant("the reserve is not named", "rules.holds", "elif found.found + account.remaining >= amount:", "elif False:"),
    Mutant("the gate opens at the threshold", "confidence_gate", "score < contract", "score <= contract"),
    Mutant("a closed scope takes holds", "rules.holds", "    if books.closed:\n", "    if False:\n"),
    Mutant("a closed scope takes top-ups", "rules.administration", '    check_open(books, "top-ups")\n', ""),
    Mutant("a name without a contract is free for all", "rules.common", "if account is not None and (track or not account.tracked):", "if account is not None:"),
    Mutant("observe mode holds what does not fit", "rules.holds", "_open_hold(books, command, 0)", "_open_hold(books, command, command.amount)"),
    Mutant("observe mode refuses", "rules.holds", 'observed = command.enforcement == "observe"', "observed = False"),
    Mutant("a trial leaves a trace", "rules.holds", "if denial is not None and command.trial and not observed:", "if False:"),
    Mutant("a hold is not counted", "rules.holds", "    account.held += amount\n", ""),
    Mutant("a hold does not reopen its agent", "rules.holds", "    account.finished = False\n", ""),
    Mutant("a hold's name is used twice", "rules.holds", "if command.hold_id in books.holds:", "if False:"),
    Mutant("a repeated refusal is not counted", "rules.common", "    account.denials += 1\n", ""),
    Mutant("a repeated refusal is written again", "rules.common", "if account.last_denial == same:", "if False:"),
    # posting
    Mutant("lost overdraft: usage is cut to the hold", "rules.posting", "    account.consumed += amount\n    priced", "    account.consumed += min(amount, hold.amount)\n    priced"),
    Mutant("lost overdraft: it is not told", "rules.common", "    return 0 if account.tracked else max(0, -account.remaining)", "    return 0"),
    Mutant("an overdraft is not covered", "rules.common", "if lacking <= 0 or account.tracked:", "if True:"),
    Mutant("a name without a contract borrows", "rules.common", "if lacking <= 0 or account.tracked:", "if lacking <= 0:"),
    Mutant("a late settlement is dropped", "rules.posting", "    account.consumed += amount\n    priced", '    account.consumed += 0 if hold.status == "expired" else amount\n    priced'),
    Mutant("settled twice, posted twice", "rules.posting", 'earlier = resolved_before(hold, Resolution("settled", amount))', "earlier = None"),
    Mutant("any second ending is the first", "rules.common", "if done == resolution:", "if True:"),
    Mutant("a settled hold stays held", "rules.posting", "        account.held -= hold.amount\n", "        pass\n"),
    Mutant("the truth comes on top of the estimate", "rules.common", "    account.consumed -= hold.charged\n", ""),
    Mutant("an estimate that was replaced stays one", "rules.common", "    account.unmeasured -= hold.charged\n", ""),
    Mutant("unmeasured usage passes for measured", "rules.posting", "    if not usage.measured:\n        account.unmeasured += amount\n", ""),
    Mutant("what was let through borrows", "rules.posting", '() if hold.enforcement == "let_through" else cover(books, account)', "cover(books, account)"),
    Mutant("a forgotten hold is posted each time", "rules.posting", "    books.holds[command.hold_id] = hold\n    books.retire(hold)\n", ""),
    Mutant("a charge is not checked", "rules.posting", '    amount = check_amount(command.amount, f"The usage of agent {command.agent!r}")\n    earlier = replayed', "    amount = command.amount\n    earlier = replayed"),
    # giving back, and limits
    Mutant("void after a charge is not taken back", "rules.holds", "given_back = take_back(account, hold)", "given_back = hold.charged"),
    # money
    Mutant("the cost of an estimate stays beside the truth's", "rules.common", "    account.buckets[_COST] -= hold.cost\n", ""),
    Mutant("the tokens of an estimate stay without a price", "rules.common", "    account.buckets[_UNPRICED] -= hold.unpriced\n", ""),
    Mutant("an unknown price is 0", "rules.common", "(0, tokens) if cost is None else (cost, 0)", "(cost or 0, 0)"),
    Mutant("a cost is not counted", "rules.common", "    account.buckets[_COST] += priced[0]\n", ""),
    Mutant("tokens without a price are not counted", "rules.common", "    account.buckets[_UNPRICED] += priced[1]\n", ""),
    Mutant("dollars cost what the usage says, not what was charged", "rules.common", "priced = amount, 0 if usage", "priced = cost or 0, 0 if usage"),
    Mutant("what was charged at a limit costs nothing", "rules.holds", "priced = count_cost(books, account, hold.amount, None)", "priced = (0, 0)"),
    Mutant("what was counted for an estimate is forgotten", "rules.common", "hold.cost, hold.unpriced = priced", "hold.cost, hold.unpriced = 0, 0"),
    Mutant("dollars are opened beside tokens", "rules.administration", "    check_unit(command.unit, books.unit)\n", ""),
    Mutant("a contract is changed to dollars", "rules.administration", "    check_unit(new.unit, books.unit)\n", ""),
    Mutant("a contract in dollars among those in tokens", "rules.administration", "        check_unit(contract.unit, command.unit)\n", "        pass\n"),
    Mutant("books forget their unit", "rules.administration", "    books.unit = command.unit\n", ""),
    Mutant("voided twice", "rules.holds", 'earlier = resolved_before(hold, Resolution("voided"))', "earlier = None"),
    Mutant("void keeps the hold", "rules.holds", '    if hold.status == "open":\n        account.held -= hold.amount\n', '    if hold.status == "open":\n        pass\n'),
    Mutant("expired without looking at the hold", "rules.holds", 'hold is None or hold.status != "open" or hold.expires_at != limit', "hold is None or hold.expires_at != limit"),
    Mutant("an extended hold ends at its first limit", "rules.holds", 'or hold.status != "open" or hold.expires_at != limit', 'or hold.status != "open"'),
    Mutant("extending is forgotten", "rules.holds", "    heapq.heappush(books.due, (hold.expires_at, hold.hold_id))\n    account = ", "    account = "),
    Mutant("a hold ends a moment late", "rules.holds", "books.due[0][0] <= books.now", "books.due[0][0] < books.now"),
    Mutant("a vanished owner is not charged: strict", "rules.holds", 'charge = hold.enforcement == "strict"', "charge = False"),
    Mutant("a vanished owner is charged: expected", "rules.holds", 'charge = hold.enforcement == "strict"', "charge = True"),
    Mutant("an expired hold blocks for ever", "rules.holds", "        account.held -= hold.amount\n        account.expired_holds += 1\n", "        account.expired_holds += 1\n"),
    Mutant("17 holds end at once", "rules.holds", "SWEEP_MOST = 16", "SWEEP_MOST = 17"),
    Mutant("a refusal does not wait for the sweep", "rules.holds", "while denial is not None and sweep(books, SWEEP_MOST):", "while False:"),
    Mutant("time runs backwards", "rules", "books.now = max(now, books.now)", "books.now = now"),
    # keys
    Mutant("a hold's key is forgotten", "rules.holds", "    if command.key is not None:\n", "    if False:\n"),
    Mutant("a refusal's key is forgotten", "rules.holds", "    if command.key is not None:\n", "    if command.key is not None and not isinstance(reply, Denied):\n"),
    Mutant("a refusal's key is kept for a day", "rules.holds", "DENIAL_KEY_TTL_S if isinstance(reply, Denied) else ", ""),
    Mutant("a long hold's key is kept for a day", "rules.holds", "max(KEY_TTL_S, 2 * command.ttl_s)", "KEY_TTL_S"),
    Mutant("a charge's key is forgotten", "rules.posting", "    if command.key is not None:\n", "    if False:\n"),
    Mutant("a refused transfer's key is forgotten", "rules.administration", "    if command.key is not None:\n", "    if command.key is not None and not isinstance(reply, Denied):\n"),
    Mutant("a key is good for any arguments", "rules.common", "return (type(command).__name__, *command)", "return (type(command).__name__,)"),
    Mutant("a key is good for one hold only", "rules.common", 'command._replace(hold_id="", trial=False)', "command._replace(trial=False)"),
    Mutant("a key is never forgotten", "rules.common", "if found is None or found.until <= books.now:", "if found is None:"),
    # by hand
    Mutant("a transfer uphill", "rules.administration", "uphill = donor.contract.priority > taker.contract.priority", "uphill = False"),
    Mutant("a transfer of nothing uphill", "rules.administration", 'if amount > available or code == "uphill":', "if amount > available:"),
    Mutant("a transfer from the reserve", "rules.administration", "0 if uphill else donor.surplus", "0 if uphill else max(0, donor.remaining)"),
    Mutant("a transfer of what there is", "rules.administration", "moves = (Move(command.donor, amount),)", "moves = (Move(command.donor, amount and amount - 1),)"),
    Mutant("a top-up does not reopen", "rules.administration", "    else:\n        account.finished = False\n", "    else:\n"),
    Mutant("a transfer does not reopen", "rules.administration", "        taker.finished = False\n", ""),
    Mutant("a finished agent keeps its rest", "rules.common", "if account.finished and account.remaining > 0:", "if False:"),
    Mutant("a contract falls below what is used", "rules.administration", "max(wanted, -max(0, account.remaining))", "wanted"),
    Mutant("a contract pays an overdraft", "rules.administration", "-max(0, account.remaining)", "-account.remaining"),
    Mutant("new terms without their budget", "rules.administration", "    account.allocated += difference\n    books.total += difference\n", ""),
    Mutant("old terms stay", "rules.administration", "    account.contract = new\n", ""),
    Mutant("a change undoes another one", "rules.administration", "command.was is not None and command.was.terms != account.contract.terms", "False"),
    Mutant("minting: what a change could not take is forgotten", "rules.administration", "    account.owed += difference - wanted\n", ""),
    Mutant("minting: a larger contract does not pay", "rules.administration", "max(0, wanted - account.owed)", "wanted"),
    Mutant("a score is not kept", "rules.administration", "    account.confidence = score\n", ""),
    # the journal
    Mutant("an entry with the numbers before", "books", "account.allocated, account.consumed, account.held", "account.allocated, account.consumed, 0"),
    Mutant("an entry is numbered twice", "books", "self.seq = seq = self.seq + 1", "self.seq, seq = self.seq + 1, self.seq"),
]  # fmt: skip


def test_the_rules_as_they_are_survive_the_search() -> None:
    """The same search finds nothing in the unchanged source, so what it finds is the mutant."""
    assert search(build(None)) is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_every_mutant_is_killed(mutant: Mutant) -> None:
    """No planted mistake survives the search."""
    assert search(build(mutant)) is not None
