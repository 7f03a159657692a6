"""The books of the reference: numbers, keys, and the few things that all of its rules need.

Slow and plain: it sorts all donors at every need and looks through all holds at every command.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tbcontracts import checks
from tbcontracts.commands import ChangeContract, Command, Confidence, Denied, Reply, Reserve
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import (
    ConfigurationError,
    ContractConflictError,
    HoldResolvedError,
    IdempotencyConflictError,
    ScopeClosedError,
    UnknownAgentError,
)
from tbcontracts.events import Move
from tbcontracts.usage import Usage

if TYPE_CHECKING:
    from typing_extensions import Self

DONORS_MAX = 64
DAY_S, TEN_MINUTES_S = 86_400.0, 600.0
_CHECKS = {
    "amount": checks.check_amount,
    "leave": checks.check_amount,
    "most": checks.check_amount,
    "ttl_s": checks.check_seconds,
}
Moves = tuple[Move, ...]


@dataclass
class Agent:
    """An agent's numbers."""

    contract: BudgetContract
    tracked: bool = False
    allocated: int = 0
    consumed: int = 0
    held: int = 0
    unmeasured: int = 0
    cost_micro_usd: int = 0
    unpriced_tokens: int = 0
    denials: int = 0
    expired_holds: int = 0
    owed: int = 0
    finished: bool = False
    confidence: float | None = None
    said: Any = None  # the refusal that was the last thing written of it

    @property
    def name(self) -> str:
        """What it is called."""
        return self.contract.agent_name

    @property
    def remaining(self) -> int:
        """What is left; negative is an overdraft."""
        return self.allocated - self.consumed - self.held

    @property
    def surplus(self) -> int:
        """What may be lent; a name without a contract has nothing to lend."""
        return 0 if self.tracked else max(0, self.remaining - self.contract.reserve)


@dataclass
class Hold:
    """Budget set aside: open, or ended in some way, or charged by an estimate for now."""

    agent: Agent
    amount: int
    ends: float
    mode: str
    state: str = "open"
    charged: int = 0
    charged_price: tuple[int, int] = (0, 0)
    ended_as: Any = None
    reply: Any = None

    def take_back(self) -> int:
        """Undo what an open hold keeps, or what was charged for it by estimate."""
        taken = self.amount if self.state == "open" else self.charged
        if self.state == "open":
            self.agent.held -= taken
        else:
            self.agent.consumed -= taken
            self.agent.unmeasured -= taken
            self.agent.cost_micro_usd -= self.charged_price[0]
            self.agent.unpriced_tokens -= self.charged_price[1]
        self.state, self.charged, self.charged_price = "taken back", 0, (0, 0)
        return taken

    def end(self, how: str, reply: Reply, amount: int = 0) -> Reply:
        """End for good; returns the reply."""
        self.state, self.ended_as, self.reply = how, (how, amount), reply
        return reply

    def again(self, how: str, amount: int = 0) -> Reply:
        """Answer a second ending: the first reply if it is the same one."""
        if self.ended_as != (how, amount):
            raise HoldResolvedError
        reply: Reply = self.reply
        return reply


class ReferenceBooks:
    """One scope's books, kept in the plainest way."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.holds: dict[str, Hold] = {}
        self.keys: dict[str, tuple[Any, Reply, float]] = {}
        self.pool = self.total = self.seq = 0
        self.now, self.closed, self.unit = 0.0, False, ""

    def copy(self) -> Self:
        """Return the same books again, to try something on."""
        twin = copy.copy(self)
        twin.keys = dict(self.keys)
        twin.agents = {name: copy.copy(agent) for name, agent in self.agents.items()}
        twin.holds = dict(self.holds)
        for name, hold in self.holds.items():
            if hold.ended_as is None:
                twin.holds[name] = copy.copy(hold)
                twin.holds[name].agent = twin.agents[hold.agent.name]
        return twin

    def begin(self, command: Command, now: float) -> Any:
        """Set the time, and return a command with its numbers as they should be, or refuse it."""
        self.now = max(self.now, now)
        for name, check in _CHECKS.items():
            if hasattr(command, name):
                number: Any = check(getattr(command, name), name)
                command = command._replace(**{name: number})
        if isinstance(command, Confidence) and command.score is not None:
            checks.check_score(command.score, "score")
        return command

    def said_before(self, command: Command) -> Reply | None:
        """Return the reply to a key that is remembered."""
        known = self.keys.get(getattr(command, "key", None) or "")
        if known is None or known[2] <= self.now:
            return None
        if known[0] != _essence(command):
            raise IdempotencyConflictError
        return known[1]

    def remember(self, command: Command, reply: Reply) -> Reply:
        """Keep a reply for its key: a day or twice the hold's limit, a refusal for 10 minutes."""
        key, keep_s = getattr(command, "key", None), max(DAY_S, 2 * getattr(command, "ttl_s", 0.0))
        if isinstance(reply, Denied):
            keep_s = 0.0 if getattr(command, "trial", False) else TEN_MINUTES_S
        if key is not None and keep_s:
            self.keys[key] = (_essence(command), reply, self.now + keep_s)
        return reply

    def add(self, amount: int) -> None:
        """Count budget that is new to the scope; all of it must stay exact in every store."""
        if self.total + amount > checks.TOTAL_MAX:
            raise ValueError(amount)
        self.total += amount

    def enter(self, unit: str, contracts: tuple[BudgetContract, ...]) -> None:
        """Refuse contracts in another unit than the books'; the first ones decide on that."""
        if any(one != (self.unit or unit) for one in (unit, *(each.unit for each in contracts))):
            raise ConfigurationError(unit)

    def pay(
        self, agent: Agent, amount: int, usage: Usage | None, *, guess: bool = False
    ) -> tuple[int, int]:
        """Count a charge: in dollars it is its cost; else what is known of that, or its tokens."""
        agent.consumed += amount
        if guess or (usage is not None and not usage.measured):
            agent.unmeasured += amount
        known = usage is not None and usage.cost_micro_usd is not None
        tokens = amount if usage is None else usage.total_tokens
        cost = (usage.cost_micro_usd if usage is not None else None) or 0
        unpriced = 0 if known else tokens
        if self.unit == "usd":
            cost, unpriced = amount, 0 if usage is None else unpriced
        agent.cost_micro_usd += cost
        agent.unpriced_tokens += unpriced
        return cost, unpriced

    def write(self, agent: Agent | None) -> int:
        """Write an entry; return its number."""
        if agent is not None:
            agent.said = None
        self.seq += 1
        return self.seq

    def find(self, name: str, *, track: bool = False) -> Agent:
        """Return an agent; without `track` it must have a contract."""
        agent = self.agents.get(name) or Agent(BudgetContract(name, max_tokens=0), tracked=True)
        if agent.tracked and not track:
            raise UnknownAgentError(name)
        return agent

    def check_open(self) -> None:
        """Refuse what a closed scope does not take."""
        if self.closed:
            raise ScopeClosedError

    def to_change(self, command: ChangeContract) -> Agent:
        """Return the agent whose terms are to be changed, if they are still those read before."""
        self.check_open()
        self.enter(command.contract.unit, ())
        agent = self.find(command.contract.agent_name)
        if command.was is not None and command.was.terms != agent.contract.terms:
            raise ContractConflictError
        return agent

    def gifts(self, taker: Agent, need: int) -> tuple[Moves, int, bool]:
        """Return who gives how much, what is still needed, and whether donors were too many."""
        moves = [Move(None, min(self.pool, need))] if need > 0 and self.pool else []
        need -= sum(move.amount for move in moves)
        donors = sorted(
            (agent.contract.priority, -agent.surplus, name.encode(), name)
            for name, agent in self.agents.items()
            if agent is not taker and agent.surplus > 0
            if agent.contract.priority <= taker.contract.priority
        )
        for _, minus_surplus, _, name in donors[:DONORS_MAX]:
            if need > 0:
                moves.append(Move(name, min(-minus_surplus, need)))
                need -= moves[-1].amount
        return tuple(moves), max(0, need), need > 0 and len(donors) > DONORS_MAX

    def give(self, taker: Agent, moves: Moves) -> Moves:
        """Move allocation."""
        for donor, amount in moves:
            taker.allocated += amount
            if donor is None:
                self.pool -= amount
            else:
                self.agents[donor].allocated -= amount
        return moves

    def tidy(self) -> None:
        """Let finished agents give up what they have."""
        for agent in self.agents.values():
            if agent.finished and agent.remaining > 0:
                self.pool += agent.remaining
                agent.allocated -= agent.remaining

    def sweep(self, most: int) -> int:
        """End the oldest holds whose limit has passed."""
        holds = [(hold.ends, name) for name, hold in self.holds.items() if hold.state == "open"]
        due = sorted(one for one in holds if one[0] <= self.now)[:most]
        for _, name in due:
            hold = self.holds[name]
            agent, strict = hold.agent, hold.mode == "strict"
            hold.state, hold.charged = ("charged", hold.amount) if strict else ("expired", 0)
            agent.held -= hold.amount
            agent.expired_holds += 1
            if strict:
                hold.charged_price = self.pay(agent, hold.charged, None, guess=True)
            self.tidy()
            self.write(agent)
        return len(due)

    def no(self, agent: Agent, asked: int, reach: int, code: str, **facts: Any) -> Denied:
        """Return a refusal."""
        lacking = max(0, asked - reach)
        return Denied(agent.name, asked, max(0, reach), lacking, code, self.seq, **facts)

    def say_no(self, agent: Agent, no: Denied, model: str | None = None) -> Denied:
        """Put a refusal on the books; one that was just said is only counted."""
        self.agents.setdefault(no.agent, agent)
        agent.denials += 1
        if agent.said != (no.code, no.requested, no.available, model):
            self.write(agent)
            agent.said = (no.code, no.requested, no.available, model)
        return no._replace(seq=self.seq)


def _essence(command: Command) -> tuple[Any, ...]:
    """Return what must be the same where a key is used again."""
    if isinstance(command, Reserve):
        command = command._replace(hold_id="", trial=False)
    return type(command), *command
