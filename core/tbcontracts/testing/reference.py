"""The rules said a second time, to check every store against: slow, plain, without an index.

Written from the promises and the design, not from `tbcontracts.rules`. Where the two differ, one of
them is wrong.
"""

from __future__ import annotations

from typing import Any

from tbcontracts import checks, commands
from tbcontracts.commands import Command, Denied, Done, Granted, Posted, Reply
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import HoldResolvedError, IdempotencyConflictError
from tbcontracts.events import Move
from tbcontracts.testing.reference_books import Agent, Hold, Moves, ReferenceBooks
from tbcontracts.usage import Usage

DAY_S = 24 * 3600.0


class Reference(ReferenceBooks):
    """One scope's books; `step` does what `tbcontracts.rules.step` does."""

    def step(self, command: Command, now: float) -> Reply:
        """Carry out a command; the same key again gives the first reply again."""
        self.now = max(self.now, now)
        for name, check in (("amount", checks.check_amount), ("ttl_s", checks.check_seconds)):
            if hasattr(command, name):
                check(getattr(command, name), name)
        key, asked = getattr(command, "key", None), command
        if isinstance(asked, commands.Reserve):
            asked = asked._replace(hold_id="", trial=False)
        known = self.keys.get(key or "")
        if known is not None and known[2] > self.now:
            if (type(known[0]), known[0]) != (type(asked), asked):
                raise IdempotencyConflictError
            return known[1]
        reply: Reply = getattr(self, f"_{type(command).__name__.lower()}")(command)
        keep_s = max(DAY_S, 2 * getattr(command, "ttl_s", 0.0))
        if isinstance(reply, Denied):
            final = isinstance(command, commands.Reserve) and not command.trial
            keep_s = 600.0 if final and reply.code != "scope_closed" else 0.0
        if key is not None:
            self.keys[key] = (asked, reply, self.now + keep_s)
        return reply

    def _open(self, command: commands.Open) -> Reply:
        new: dict[str, BudgetContract] = {}
        for contract in reversed(command.contracts):
            known = self.agents.get(contract.agent_name)
            if known is None or known.tracked:
                new[contract.agent_name] = contract
        if new:
            self.check_open()
        for name in dict.fromkeys(contract.agent_name for contract in command.contracts):
            if name in new:
                self._bring_in(new[name])
        return Done(sum(contract.max_tokens for contract in new.values()), self.seq)

    def _bring_in(self, contract: BudgetContract) -> None:
        agent = self.agents.setdefault(contract.agent_name, Agent(contract))
        agent.contract, agent.allocated, agent.tracked = contract, contract.max_tokens, False
        self.total += contract.max_tokens
        self.write(agent)

    def _reserve(self, command: commands.Reserve) -> Reply:
        if command.hold_id in self.holds:
            raise IdempotencyConflictError
        agent, name = self.find(command.agent, track=command.track), command.agent
        observed = command.enforcement == "observe"
        if self.closed and not observed:
            return self.no(agent, command.amount, 0, "scope_closed")
        self.sweep(16)
        moves, no = self._decide(agent, command)
        while no is not None and self.sweep(16):
            moves, no = self._decide(agent, command)
        if no is not None and not observed:
            return no if command.trial else self.say_no(agent, no)
        if agent.tracked:
            self.agents.setdefault(name, agent)
        ends, mode = self.now + command.ttl_s, "let through" if no else command.enforcement
        hold = Hold(agent, 0 if no else command.amount, ends, mode)
        self.holds[command.hold_id] = hold
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
        code = "fragmented" if too_many else code
        return (), self.no(agent, amount, reach - command.leave, code)

    def _refuse(self, command: commands.Refuse) -> Reply:
        agent = self.find(command.agent, track=command.track)
        self.agents.setdefault(command.agent, agent)
        no = self.no(agent, command.amount, agent.remaining, command.code)
        if not command.observed:
            return self.say_no(agent, no)
        agent.denials += 1
        return no._replace(seq=self.write(agent))

    def _settle(self, command: commands.Settle) -> Reply:
        hold = self.holds.get(command.hold_id)
        if hold is None:
            agent = self.find(command.agent)
            return self._post(agent, command.amount, command.usage, late=True)
        late = hold.state != "open"
        if hold.ended_as is not None:
            return self._again(hold, ("settled", command.amount))
        self._take_back(hold)
        hold.state = "settled" if command.final else "charged"
        hold.charged = 0 if command.final else command.amount
        hold.agent.unmeasured += hold.charged
        borrows = hold.mode != "let through"
        reply = self._post(
            hold.agent,
            command.amount,
            command.usage if command.final else None,
            late=late,
            borrows=borrows,
        )
        if command.final:
            hold.ended_as, hold.reply = ("settled", command.amount), reply
        return reply

    def _post(
        self, agent: Agent, amount: int, usage: Usage | None, *, late: bool, borrows: bool = True
    ) -> Posted:
        agent.consumed += amount
        agent.unmeasured += amount if usage is not None and not usage.measured else 0
        moves: Moves = ()
        if borrows and not agent.tracked:
            moves = self.give(agent, self.gifts(agent, -agent.remaining)[0])
        self.tidy()
        overdraft = 0 if agent.tracked else max(0, -agent.remaining)
        name = agent.contract.agent_name
        return Posted(name, amount, overdraft, moves, self.write(agent), late)

    def _take_back(self, hold: Hold) -> int:
        """Undo what an open hold keeps, or what was charged for it by estimate."""
        taken = hold.amount if hold.state == "open" else hold.charged
        if hold.state == "open":
            hold.agent.held -= taken
        else:
            hold.agent.consumed -= taken
            hold.agent.unmeasured -= taken
        return taken

    def _again(self, hold: Hold, ending: tuple[Any, ...]) -> Reply:
        if hold.ended_as != ending:
            raise HoldResolvedError
        reply: Reply = hold.reply
        return reply

    def _void(self, command: commands.Void) -> Reply:
        hold = self.holds.get(command.hold_id)
        if hold is None:
            return Done(0, self.seq)
        if hold.ended_as is not None:
            return self._again(hold, ("voided",))
        given_back = self._take_back(hold)
        self.tidy()
        hold.state, hold.charged, hold.ended_as = "voided", 0, ("voided",)
        hold.reply = Done(given_back, self.write(hold.agent))
        return self._again(hold, ("voided",))

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
        return self._post(agent, command.amount, command.usage, late=False)

    def _transfer(self, command: commands.Transfer) -> Reply:
        self.check_open()
        taker, reach, code = self.find(command.taker), self.pool, "budget_exceeded"
        if command.donor is not None:
            donor = self.find(command.donor)
            if donor is taker:
                raise ValueError(command.donor)
            uphill = donor.contract.priority > taker.contract.priority
            reach, code = (0, "uphill") if uphill else (donor.surplus, code)
        if taker.tracked or command.amount > reach:
            return self.say_no(taker, self.no(taker, command.amount, reach, code))
        taker.finished = False
        self.give(taker, (Move(command.donor, command.amount),))
        return Done(command.amount, self.write(taker))

    def _topup(self, command: commands.TopUp) -> Reply:
        self.check_open()
        agent = None if command.agent is None else self.find(command.agent)
        if agent is None:
            self.pool += command.amount
        else:
            self.find(f"{command.agent}?" if agent.tracked else agent.contract.agent_name)
            agent.finished = False
            agent.allocated += command.amount
        self.total += command.amount
        return Done(command.amount, self.write(agent))

    def _finish(self, command: commands.Finish) -> Reply:
        agent = self.find(command.agent)
        if agent.finished or agent.tracked:
            return Done(0, self.seq)
        rest = max(0, agent.remaining)
        agent.finished = True
        self.tidy()
        return Done(rest, self.write(agent))

    def _changecontract(self, command: commands.ChangeContract) -> Reply:
        self.check_open()
        agent, new = self.find(command.contract.agent_name), command.contract
        if agent.tracked:
            self._bring_in(new)
            return Done(new.max_tokens, self.seq)
        least = min(agent.allocated, agent.consumed + agent.held)
        wanted = agent.allocated + new.max_tokens - agent.contract.max_tokens
        difference = max(wanted, least) - agent.allocated
        agent.contract = new
        agent.allocated += difference
        self.total += difference
        self.tidy()
        return Done(difference, self.write(agent))

    def _confidence(self, command: commands.Confidence) -> Reply:
        if command.score is not None:
            checks.check_score(command.score, "confidence")
        agent = self.find(command.agent)
        agent.confidence = command.score
        return Done(0, self.write(agent))

    def _close(self, _: commands.Close) -> Reply:
        seq = self.seq if self.closed else self.write(None)
        self.closed = True
        return Done(0, seq)
