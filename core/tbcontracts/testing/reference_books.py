"""The books of the reference: numbers, and the few things that all of its rules need.

Slow and plain: it sorts all donors at every need and looks through all holds at every command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tbcontracts.commands import Denied, Reply
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ScopeClosedError, UnknownAgentError
from tbcontracts.events import Move

DONORS_MAX = 64
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
    denials: int = 0
    expired_holds: int = 0
    finished: bool = False
    confidence: float | None = None
    said: Any = None  # the refusal that was the last thing written of it

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
    ended_as: Any = None
    reply: Any = None


class ReferenceBooks:
    """One scope's books, kept in the plainest way."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.holds: dict[str, Hold] = {}
        self.keys: dict[str, tuple[Any, Reply, float]] = {}
        self.pool = self.total = self.seq = 0
        self.now, self.closed = 0.0, False

    def write(self, agent: Agent | None) -> int:
        """Write an entry; return its number."""
        if agent is not None:
            agent.said = None
        self.seq += 1
        return self.seq

    def find(self, name: str, *, track: bool = False) -> Agent:
        """Return an agent."""
        if name not in self.agents and not track:
            raise UnknownAgentError(name)
        return self.agents.get(name) or Agent(BudgetContract(name, max_tokens=0), tracked=True)

    def check_open(self) -> None:
        """Refuse what a closed scope does not take."""
        if self.closed:
            raise ScopeClosedError

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
            agent.consumed += hold.charged
            agent.unmeasured += hold.charged
            self.tidy()
            self.write(agent)
        return len(due)

    def no(self, agent: Agent, asked: int, reach: int, code: str, **facts: Any) -> Denied:
        """Return a refusal."""
        lacking, name = max(0, asked - reach), agent.contract.agent_name
        return Denied(name, asked, max(0, reach), lacking, code, self.seq, **facts)

    def say_no(self, agent: Agent, no: Denied) -> Denied:
        """Put a refusal on the books; one that was just said is only counted."""
        agent.denials += 1
        if agent.said != (no.code, no.requested, no.available):
            self.write(agent)
            agent.said = (no.code, no.requested, no.available)
        return no._replace(seq=self.seq)
