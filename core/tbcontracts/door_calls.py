"""What both doors share about model calls: whose they are, how large, and in which layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbcontracts import attribution, commands
from tbcontracts.checks import check_name
from tbcontracts.commands import Denied, Refuse, Reply, Reserve
from tbcontracts.contract import BudgetContract
from tbcontracts.door import Door
from tbcontracts.errors import BudgetExceededError
from tbcontracts.ids import new_id
from tbcontracts.refusals import UNATTRIBUTED, no_contract, unattributed, undecidable
from tbcontracts.sizing import (
    NO_PRICE,
    UNKNOWN_PRICE,
    CallShape,
    HoldSize,
    Unbounded,
    expected_size,
    in_dollars,
    strict_size,
)
from tbcontracts.usage import Usage, model_name

if TYPE_CHECKING:
    from tbcontracts.calls import Call
    from tbcontracts.hold import Hold


class CallDoor(Door):
    """The part of a manager that integrations ask before and after a call."""

    def _inner_call(self, agent: str, shape: CallShape, *, apart: bool) -> Call | None:
        """Return the call that an outer layer holds for, where this is the same one."""
        outer = self._call_around()
        if outer is None:
            return None
        if apart:
            outer.other_below()
            return None
        return outer.inner(agent, self.scope_name, shape)

    def _call_around(self) -> Call | None:
        """Return the call that an outer layer holds for."""
        call: Call | None = attribution.current_call(self._engine)
        return call

    def _beyond(self, inner: Call, command: Reserve | Refuse) -> int:
        """Return what a call needs beyond the hold that its outer layer placed for it."""
        limited = self.contract_of(command.agent) is not None
        return max(0, command.amount - inner.hold._amount_in_all) if limited else 0

    def _more_command(self, hold: Hold, amount: int, sizing: str) -> Reserve:
        """Return what holds more for a call that needs more than its hold."""
        command = self._reserve_command(hold.agent_name, amount, None, None)
        return command._replace(sizing=sizing)

    def _beside_command(self, hold: Hold, usage: Usage) -> commands.Charge:
        """Return the charge for what was used beside a call that has a hold."""
        track = self.contract_of(hold.agent_name) is None
        amount, priced = self.weighed(usage, "The usage", unpriced=hold._amount_in_all)
        return commands.Charge(hold.agent_name, amount, priced, "govern", None, track)

    def _call_command(
        self, agent: str | None, shape: CallShape
    ) -> tuple[Reserve | Refuse, HoldSize | Unbounded]:
        """Return the hold for an LLM call and its size, or the refusal and its reason."""
        name, track = self._account_for(agent)
        enforcement = self.settings.enforcement
        observed = enforcement == "observe"
        contract = self.contract_of(name)
        dollars = self.settings.unit == "usd"
        price = self.price_of(shape.model, shape.provider) if dollars else None
        expected = expected_size(shape, contract, self._engine.forecast(name), price)
        size: HoldSize | Unbounded = expected
        if track and self.settings.denies_unattributed and not observed:
            size = unattributed(name, self.contracts)
        elif enforcement == "strict":
            size = strict_size(shape, contract)
        if dollars and isinstance(size, HoldSize):
            size = in_dollars(size, shape, price, strict=enforcement == "strict")
        if isinstance(size, Unbounded):
            asked = 0 if dollars else expected.tokens
            model = model_name(shape.model) if size.code == UNKNOWN_PRICE else None
            return Refuse(name, asked, size.code, observed, track, model), size
        return self._call_hold(name, size, track=track), size

    def _call_hold(self, name: str, size: HoldSize, *, track: bool) -> Reserve:
        """Return the hold for a call of a known size."""
        leave, ttl_s = self._kept_back(name), self._hold_ttl_s
        how = (size.sizing, self.settings.enforcement, track)
        return Reserve(name, size.amount, new_id(), ttl_s, None, leave, *how)

    def _let_through(self, refused: Refuse, shape: CallShape) -> tuple[Reserve, HoldSize]:
        """Return the hold of a call that only observe mode lets through: of nothing."""
        agent = refused.agent
        contract, forecast = self.contract_of(agent), self._engine.forecast(agent)
        size = expected_size(shape, contract, forecast)._replace(sizing=NO_PRICE, amount=0)
        return self._call_hold(agent, size, track=refused.track), size

    def _account_for(self, agent: str | None) -> tuple[str, bool]:
        """Return whose account pays for a call, and whether that name has no contract."""
        found = agent if agent is not None else self.current_agent
        name = UNATTRIBUTED if found is None else check_name(found)
        if self.contract_of(name) is not None:
            return name, False
        payer = self.settings.unattributed
        if isinstance(payer, BudgetContract):
            return payer.agent_name, False
        if not self.settings.denies_unattributed:
            self._engine.warn_once(f"unattributed {name}", no_contract(name, self.contracts))
        return name, True

    def _refusal(self, reply: Reply, size: Unbounded) -> BudgetExceededError:
        """Return the error for a call that was refused before the books were asked."""
        assert isinstance(reply, Denied)
        error = undecidable(reply, size, self.scope_name, self.settings.unit)
        self._engine.listeners.refused(error)
        return error
