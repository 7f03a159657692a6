"""What both doors of the manager share: commands from what callers give, answers from replies.

The synchronous methods (`manager.py`) and the awaited ones (`manager_async.py`) differ only in how
they wait for the store.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from tbcontracts import attribution, commands
from tbcontracts.books import AccountView, Statement
from tbcontracts.checks import (
    check_key,
    check_name,
    check_score,
    check_seconds,
    cut_note,
)
from tbcontracts.commands import Denied, Granted, Posted, Reply, Reserve
from tbcontracts.compat import takes_agent_name
from tbcontracts.contract_door import ContractDoor
from tbcontracts.errors import UnknownAgentError
from tbcontracts.govern import AskFn, Governed
from tbcontracts.heartbeat import MAX_CALL_S, TTL_S
from tbcontracts.ids import new_id, outer_key
from tbcontracts.money import amount_in
from tbcontracts.refusals import no_price, overdrawn, refusal
from tbcontracts.scores import ScoreSource
from tbcontracts.settings import Settings, check_scope, expand_scope
from tbcontracts.tokens import best_counter
from tbcontracts.usage import Usage, model_name
from tbcontracts.wrapping import Function, wrap

if TYPE_CHECKING:
    from decimal import Decimal

    from typing_extensions import Self

    from tbcontracts.calls import Call
    from tbcontracts.manager import BudgetManager
    from tbcontracts.model_price import ModelPrice
    from tbcontracts.sizing import CallShape
    from tbcontracts.stores.base import Store

_log = logging.getLogger("tbcontracts")


class Door(ContractDoor):
    """A manager without its methods that touch the store."""

    _scope: str
    _outer: tuple[BudgetManager, str] | None

    def scope(self, path: str) -> Self:
        """Return a manager for other books under the same contracts; does no I/O.

        Args:
            path: The whole name of the books, not relative to this manager's; it may hold periods.
        """
        view = copy.copy(self)
        view._scope = check_scope(path)
        return view

    @property
    def settings(self) -> Settings:
        """How this manager behaves."""
        return self._engine.settings

    @property
    def store(self) -> Store:
        """Where the books are."""
        return self._engine.store

    @property
    def scope_name(self) -> str:
        """The name of the books, with its periods filled in."""
        if "{" not in self._scope:
            return self._scope
        return expand_scope(self._scope, self._engine.now())

    @property
    def identity(self) -> tuple[Any, ...]:
        """What makes two managers the same: contracts and store, scope, and the outer manager."""
        return (self._engine, self._scope, self._outer)

    def is_view_of(self, other: Door) -> bool:
        """Return whether both are the same manager, on the same or on different books of it."""
        return self._engine is other._engine

    @property
    def current_agent(self) -> str | None:
        """The agent that `acting_as` names here, if any."""
        return attribution.current_agent(self._engine)

    def calling(self, call: Call) -> AbstractContextManager[None]:
        """Make `call` the one that inner layers find, inside a `with` block."""
        return attribution.calling(self._engine, call)

    def acting_as(self, name: str) -> AbstractContextManager[None]:
        """Make an agent the current one inside a `with` block, for calls that do not say.

        Raises:
            UnknownAgentError: The agent has no contract.
        """
        return attribution.acting_as(self._engine, self._known(check_name(name)))

    @takes_agent_name
    def govern(
        self,
        name: str,
        confidence_fn: ScoreSource | None = None,
        usage_fn: Callable[[Any], Any] | None = None,
        *,
        ask_fn: AskFn | None = None,
        model: str | None = None,
    ) -> Callable[[Function], Function]:
        """Put a function under a contract: `@manager.govern("writer")`.

        Works for `def`, `async def`, generators and async generators. The hold is sized from the
        arguments; the charge is the usage that the result holds (a reply, a LangChain message, the
        pieces of a stream), or what LLM calls inside reported, or an estimate that says so.

        Args:
            name: The agent.
            confidence_fn: Scores a result, 0..1, for the confidence gate: a function, or the path
                of a field ("metadata.confidence"). Of a generator it gets the list of what was
                yielded, as `usage_fn` does. If it fails, the result and the charge stay.
            usage_fn: Returns the usage of a result: a number of tokens, a `Usage`, or what a
                provider reported; in dollars also a `Decimal`, what it cost.
            ask_fn: Called with a `BudgetRequest` where the contract says "ask"; returns how many
                tokens (dollars, as a `Decimal`) are granted, 0 or None for none. May be a coroutine
                for `async def`.
            model: Which model the function asks. A budget in dollars needs it, to know what a call
                will cost; otherwise it gives the cost of what was used.

        Returns:
            A decorator. The function raises `BudgetExceededError` when it is refused, unless the
            contract's `on_exceeded` says otherwise: "end" returns None (a generator yields
            nothing), {"fallback": function} calls that one instead.

        Raises:
            UnknownAgentError: The agent has no contract.
        """
        agent = self._known(name)
        governed = Governed(self._as_manager(), agent, confidence_fn, usage_fn, ask_fn, model)
        governed.check_fallback()
        return partial(wrap, governed)

    def closing(self, name: str) -> AbstractContextManager[None]:
        """Let an agent use its reserve inside a `with` block, to finish with what there is.

        That matters under `on_exceeded="end"`, where other holds leave the reserve alone.

        Raises:
            UnknownAgentError: The agent has no contract.
        """
        return attribution.keeping_reserve(self._engine, self._known(name), keep=False)

    def keeping_reserve(self, name: str) -> AbstractContextManager[None]:
        """Have an agent's holds leave its reserve alone inside a `with` block, as under "end".

        Raises:
            UnknownAgentError: The agent has no contract.
        """
        return attribution.keeping_reserve(self._engine, self._known(name), keep=True)

    def _as_manager(self) -> BudgetManager:
        """Return this as the manager that it is; there are no other doors."""
        return cast("BudgetManager", self)

    def count_text(self, text: str) -> int:
        """Count the tokens of a text, as holds are sized."""
        return best_counter()(text)

    def warn_once(self, topic: str, message: str) -> None:
        """Warn of something, once for each topic in the life of this manager."""
        self._engine.warn_once(topic, message)

    def learn(self, agent: str, output_tokens: int) -> None:
        """Note how long a measured answer was, for the size of later holds."""
        self._engine.forecast(agent).add(output_tokens)

    def weighed(
        self, usage: int | Decimal | Usage, what: str, *, unpriced: int | None = None
    ) -> tuple[int, Usage | None]:
        """Return what a usage takes of a budget, and its buckets if it has any.

        Args:
            usage: A `Usage`, or an amount.
            what: How errors call it.
            unpriced: What it takes of a budget in dollars where its price is not known.

        Raises:
            ValueError: Its price is not known, the budget is in dollars, and nothing stands for it.
        """
        unit = self.settings.unit
        if not isinstance(usage, Usage):
            return amount_in(usage, unit, what), None
        usage = self.priced(usage)
        if unit == "tokens":
            return usage.weigh(self.settings.count), usage
        amount = unpriced if usage.cost_micro_usd is None else usage.cost_micro_usd
        if amount is None:
            raise ValueError(no_price(what, usage))
        return amount, usage

    def price_of(self, model: str | None, provider: str | None = None) -> ModelPrice | None:
        """Return what a model costs; None where nobody knows. Never raises."""
        prices = self._engine.prices
        if prices is None or model is None:
            return None
        try:
            return prices.price_of(model, provider)
        except Exception:
            _log.exception("The price of model %r could not be found.", model)
            return None

    def priced(self, usage: Usage, asked: CallShape | None = None) -> Usage:
        """Return a usage with its model and its cost, as far as these are known.

        Args:
            usage: What was used. The model that it names counts; one whose price is not known has
                that of the model that was asked for.
            asked: What was known of the request.
        """
        model = usage.model or (None if asked is None else model_name(asked.model))
        cost = usage.cost_micro_usd
        if cost is None and (usage.measured or usage.total_tokens):
            cost = self._cost(usage, asked)
        if model == usage.model and cost == usage.cost_micro_usd:
            return usage
        return replace(usage, model=model, cost_micro_usd=cost)

    def _cost(self, usage: Usage, asked: CallShape | None) -> int | None:
        """Return what a usage costs by the model that it names, or else that was asked for."""
        if self._engine.prices is None:
            return None
        wanted = None if asked is None else asked.model
        for model in dict.fromkeys((usage.model, wanted)):
            price = self.price_of(model, None if asked is None else asked.provider)
            cost = None if price is None else price.cost(usage)
            if cost is not None:
                return cost
        return None

    def _known(self, name: str) -> str:
        """Return a name in its one spelling.

        Raises:
            UnknownAgentError: It has no contract.
        """
        name = check_name(name)
        return (self.contract_of(name) or self._engine.contract(name)).agent_name

    def _reserve_command(
        self, name: str, tokens: int | Decimal, key: str | None, ttl_s: float | None
    ) -> Reserve:
        agent = self._known(name)
        if ttl_s is not None:
            ttl_s = check_seconds(ttl_s, f"ttl_s of a hold for agent {agent!r}")
        return Reserve(
            agent=agent,
            amount=amount_in(tokens, self.settings.unit, f"The hold for agent {agent!r}"),
            hold_id=new_id(),
            ttl_s=self._hold_ttl_s if ttl_s is None else ttl_s,
            key=check_key(key),
            leave=self._kept_back(agent),
            enforcement=self.settings.enforcement,
        )

    @property
    def _hold_ttl_s(self) -> float:
        """The limit of a hold that names none.

        In one process an owner cannot vanish alone: there it is the longest that a call may take.
        On books that outlive the process it is shorter, and put off while the process lives.
        """
        return TTL_S if self._engine.store.durable else MAX_CALL_S

    def _kept_back(self, name: str) -> int:
        """Return what a hold must leave: under "end" the reserve, for the call that finishes."""
        contract = self.contract_of(name)
        if contract is None:
            return 0
        keeps = attribution.keeps_reserve(self._engine, name)
        if keeps is None:
            keeps = contract.on_exceeded == "end"
        return contract.reserve if keeps else 0

    def _outer_charge(self, command: commands.Charge, agent: str) -> commands.Charge:
        """Return the charge on an outer manager's agent that goes with a charge."""
        key = command.key
        if key is not None:
            key = outer_key(key, self._engine.store, self.scope_name, agent)
        return command._replace(agent=agent, key=key)

    def _charge_command(
        self, name: str, tokens_or_usage: int | Decimal | Usage, note: str, key: str | None
    ) -> commands.Charge:
        agent = self._known(name)
        amount, usage = self.weighed(tokens_or_usage, f"The usage of agent {agent!r}")
        return commands.Charge(agent, amount, usage, cut_note(note), check_key(key))

    def granted(self, reply: Reply, scope: str, command: Reserve) -> Granted:
        """Return a reply to a command if it grants.

        Raises:
            BudgetExceededError: It does not.
        """
        if isinstance(reply, Denied):
            contract = self.contract_of(reply.agent)
            error = refusal(
                reply, scope, contract, command.sizing, self.settings.unit, kept=command.leave
            )
            self._engine.listeners.refused(error)
            raise error
        assert isinstance(reply, Granted)
        return reply

    def _outwards(self) -> Iterator[BudgetManager]:
        """Yield this manager, the one that it is within, and so on."""
        manager: BudgetManager | None = self._as_manager()
        while manager is not None:
            yield manager
            manager = None if manager._outer is None else manager._outer[0]

    def _all_covered(self, posted: Sequence[Posted]) -> Posted:
        """Return the first of what was posted, here and outwards, where all of it was covered.

        Raises:
            BudgetExceededError: It was posted, and left an overdraft; the innermost is named. The
                one of a manager in observe mode is not raised.
        """
        for manager, one in zip(self._outwards(), posted, strict=True):
            if one.overdraft and manager.settings.enforcement != "observe":
                raise overdrawn(one, manager.scope_name, manager.settings.unit)
        return posted[0]

    def _top_up_command(
        self, name: str | None, tokens: int | Decimal, key: str | None
    ) -> commands.TopUp:
        agent = None if name is None else self._known(name)
        to = "the pool" if agent is None else f"agent {agent!r}"
        amount = amount_in(tokens, self.settings.unit, f"The top-up of {to}")
        return commands.TopUp(agent, amount, check_key(key))

    def _confidence_command(self, name: str, score: float | None) -> commands.Confidence:
        if score is not None:
            score = check_score(score, f"confidence of agent {name!r}")
        return commands.Confidence(self._known(name), score)

    def _account(self, statement: Statement, name: str) -> AccountView:
        """Find an agent's account in a statement."""
        name = check_name(name)
        for account in statement.accounts:
            if account.agent == name:
                return account
        self._engine.contract(name)
        msg = f"No agent {name!r} has an account in scope {self.scope_name!r}."
        raise UnknownAgentError(msg, remedy=f"What helps: manager.reserve({name!r}, ...) opens it.")

    @staticmethod
    def _as_report(statement: Statement) -> dict[str, dict[str, int]]:
        return {
            account.agent: {
                "allocated": account.allocated,
                "consumed": account.consumed,
                "remaining": account.remaining,
            }
            for account in statement.accounts
        }
