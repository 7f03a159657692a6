"""The rules said a second time, to check every store against: slow, plain, without an index.

Written from the promises and the design, not from `tbcontracts.rules`. Where the two differ, one of
them is wrong.
"""

from __future__ import annotations

from tbcontracts import commands
from tbcontracts.commands import Command, Denied, Done, Granted, Posted, Reply
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import HoldResolvedError, IdempotencyConflictError
from tbcontracts.events import Move
from tbcontracts.testing.reference_books import Agent, Hold, Moves, ReferenceBooks


class Reference(ReferenceBooks):
    """One scope's books; `step` does what `tbcontracts.rules.step` does."""

    def step(self, command: Command, now: float) -> Reply:
        """Carry out a command; the same key again gives the first reply again."""
        command = self.begin(command, now)
        reply = self.said_before(command)
        if reply is not None:
            return reply
        return self.remember(command, getattr(self, f"_{type(command).__name__.lower()}")(command))

    def _open(self, command: commands.Open) -> Reply:
        self.enter(command.unit, command.contracts)
        new: dict[str, BudgetContract] = {}
        for contract in command.contracts:
            known = self.agents.get(contract.agent_name)
            if known is None or known.tracked:
                new.setdefault(contract.agent_name, contract)
        added = sum(contract.max_tokens for contract in new.values())
        self.add(added)
        self.unit = command.unit
        for name, contract in new.items():
            agent = self.agents.setdefault(name, Agent(contract))
            agent.contract, agent.allocated, agent.tracked = contract, contract.max_tokens, False
            self.write(agent)
        return Done(added, self.seq)

    def _reserve(self, command: commands.Reserve) -> Reply:
        if command.hold_id in self.holds:
            raise IdempotencyConflictError
        agent, name = self.find(command.agent, track=command.track), command.agent
        self.sweep(16)
        moves, no = self._decide(agent, command)
        while no is not None and self.sweep(16):
            moves, no = self._decide(agent, command)
        if no is not None and command.enforcement != "observe":
            return no if command.trial else self.say_no(agent, no)
        self.agents.setdefault(name, agent)
        ends, mode = self.now + command.ttl_s, "let through" if no else command.enforcement
        hold = self.holds[command.hold_id] = Hold(agent, 0 if no else command.amount, ends, mode)
        if no is None:
            agent.finished = False
            self.give(agent, moves)
        agent.held += hold.amount
        agent.denials += no is not None
        seq = self.write(agent)
        return Granted(command.hold_id, name, hold.amount, ends, moves, seq, no)

    def _decide(self, agent: Agent, command: commands.Reserve) -> tuple[Moves, Denied | None]:
        amount, left, score = command.amount, agent.remaining, agent.confidence
        threshold = agent.contract.confidence_threshold
        if self.closed:
            return (), self.no(agent, amount, 0, "scope_closed")
        if agent.tracked:
            return (), None
        if score is not None and threshold is not None and score >= threshold:
            return (), self.no(agent, amount, left, "confident", score=score, threshold=threshold)
        need = amount + command.leave - left
        moves, missing, too_many = self.gifts(agent, need)
        if not missing:
            return moves, None
        reach = left + need - missing
        code = "reserve_kept" if reach >= amount else "budget_exceeded"
        return (), self.no(agent, amount, reach - command.leave, "fragmented" if too_many else code)

    def _refuse(self, command: commands.Refuse) -> Reply:
        agent = self.find(command.agent, track=command.track)
        no = self.no(agent, command.amount, agent.remaining, command.code)
        if not command.observed:
            return self.say_no(agent, no, command.model)
        self.agents.setdefault(command.agent, agent)
        agent.denials += 1
        return no._replace(seq=self.write(agent))

    def _settle(self, command: commands.Settle) -> Reply:
        hold, amount = self.holds.get(command.hold_id), command.amount
        if hold is None:
            agent = self.find(command.agent, track=command.track)
            self.agents.setdefault(command.agent, agent)
            # One that is forgotten was ended long ago.
            hold = self.holds[command.hold_id] = Hold(agent, 0, self.now, "expected", "expired")
        if hold.ended_as is not None:
            return hold.again("settled", amount)
        late = hold.state != "open"
        hold.take_back()
        price = self.pay(hold.agent, amount, command.usage, guess=not command.final)
        if not command.final:
            hold.state, hold.charged, hold.charged_price = "charged", amount, price
        reply = self._post(hold.agent, amount, late, borrows=hold.mode != "let through")
        return hold.end("settled", reply, amount) if command.final else reply

    def _post(self, agent: Agent, amount: int, late: bool, borrows: bool = True) -> Posted:
        moves: Moves = ()
        if borrows and not agent.tracked:
            moves = self.give(agent, self.gifts(agent, -agent.remaining)[0])
        self.tidy()
        overdraft = 0 if agent.tracked else max(0, -agent.remaining)
        return Posted(agent.name, amount, overdraft, moves, self.write(agent), late)

    def _void(self, command: commands.Void) -> Reply:
        hold = self.holds.get(command.hold_id)
        if hold is None:
            return Done(0, self.seq)
        if hold.ended_as is not None:
            return hold.again("voided")
        given_back = hold.take_back()
        self.tidy()
        return hold.end("voided", Done(given_back, self.write(hold.agent)))

    def _extend(self, command: commands.Extend) -> Reply:
        hold = self.holds.get(command.hold_id)
        if hold is None or hold.state != "open":
            raise HoldResolvedError
        hold.ends = self.now + command.ttl_s
        return Done(hold.amount, self.write(hold.agent))

    def _expire(self, command: commands.Expire) -> Reply:
        return Done(self.sweep(command.most), self.seq)

    def _charge(self, command: commands.Charge) -> Reply:
        agent = self.find(command.agent, track=command.track)
        self.agents.setdefault(command.agent, agent)
        self.pay(agent, command.amount, command.usage)
        return self._post(agent, command.amount, late=False)

    def _transfer(self, command: commands.Transfer) -> Reply:
        self.check_open()
        taker, reach, code = self.find(command.taker), self.pool, "budget_exceeded"
        if command.donor is not None:
            donor = self.find(command.donor)
            if donor is taker:
                raise ValueError(command.donor)
            uphill = donor.contract.priority > taker.contract.priority
            reach, code = (0, "uphill") if uphill else (donor.surplus, code)
        if command.amount > reach or code == "uphill":
            return self.say_no(taker, self.no(taker, command.amount, reach, code))
        taker.finished = False
        self.give(taker, (Move(command.donor, command.amount),))
        return Done(command.amount, self.write(taker))

    def _topup(self, command: commands.TopUp) -> Reply:
        self.check_open()
        agent = None if command.agent is None else self.find(command.agent)
        self.add(command.amount)
        if agent is None:
            self.pool += command.amount
        else:
            agent.finished = False
            agent.allocated += command.amount
        return Done(command.amount, self.write(agent))

    def _finish(self, command: commands.Finish) -> Reply:
        agent = self.find(command.agent)
        if agent.finished:
            return Done(0, self.seq)
        rest = max(0, agent.remaining)
        agent.finished = True
        self.tidy()
        return Done(rest, self.write(agent))

    def _changecontract(self, command: commands.ChangeContract) -> Reply:
        agent, new = self.to_change(command), command.contract
        least = min(agent.allocated, agent.consumed + agent.held)
        more = new.max_tokens - agent.contract.max_tokens
        paid = min(agent.owed, more) if more > 0 else min(0, agent.allocated + more - least)
        self.add(more - paid)
        agent.contract, agent.owed = new, agent.owed - paid
        agent.allocated += more - paid
        self.tidy()
        return Done(more - paid, self.write(agent))

    def _confidence(self, command: commands.Confidence) -> Reply:
        agent = self.find(command.agent)
        agent.confidence = command.score
        return Done(0, self.write(agent))

    def _close(self, _: commands.Close) -> Reply:
        if not self.closed:
            self.closed = self.write(None) > 0
        return Done(0, self.seq)
