"""The budget manager: what users and integrations hold.

It turns what is asked of it into commands for the store, and a store's refusals into errors. It has
no lock around the books and no rules of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tbcontracts import commands
from tbcontracts.calls import Call
from tbcontracts.checks import check_timeout, check_wait
from tbcontracts.commands import Command, Posted, Reply
from tbcontracts.compat import takes_agent_name
from tbcontracts.contract import BudgetContract
from tbcontracts.engine import Engine
from tbcontracts.env import unless_disabled
from tbcontracts.errors import ConfigurationError
from tbcontracts.hold import Hold
from tbcontracts.listeners import Listener
from tbcontracts.manager_async import AsyncMethods
from tbcontracts.posting import open_outbox
from tbcontracts.settings import Settings, check_scope, open_prices
from tbcontracts.sizing import BEYOND, OUTGROWN, CallShape, Unbounded
from tbcontracts.stores.base import Clock, Store, is_store
from tbcontracts.stores.opening import open_store
from tbcontracts.usage import Count, Usage

if TYPE_CHECKING:
    from decimal import Decimal

    from typing_extensions import Self

    from tbcontracts.pricing import Prices
    from tbcontracts.telemetry import OpenTelemetry


class BudgetManager(AsyncMethods):
    """Keeps agents to their contracts.

    Args:
        store: A store, or its URL; "memory://" keeps the books in this process.
        scope: The name of the books; `{utc:%Y-%m}` in it makes new ones each month.
        enforcement: "expected" holds what a call will probably use, "strict" what it cannot pass,
            "observe" refuses nothing and writes down what it would have refused.
        unit: "tokens", or "usd": budgets in US dollars. The books are then in millionths of a
            dollar: where an amount is asked for, a whole number is these, and a `Decimal` dollars.
        count: "total", "uncached", or a weight for each bucket of a usage.
        policy: "priority": the pool, then lower or equal priorities lend.
        unattributed: What happens to calls that no contract answers for: "track" gives each name a
            line of its own without limit, "deny" refuses them, a contract pays for all of them.
        on_contract_change: What happens when the books were opened with another contract: "keep",
            "apply" or "raise". In memory every scope is opened with this manager's contracts.
        on_store_error: What happens while the store does not answer. "deny": no call goes out that
            it did not allow. "allow": calls go out without a hold, and what they use is posted
            when it answers; strict mode does not take this.
        outbox: The path of a file in which this process notes what was used before the store is
            told, so that it is posted even if the process dies before the store answers. Each
            process needs a file of its own, and finds it again when it starts.
        warn_at: Shares of its budget, such as [0.8, 0.95]. When an agent has used as much, a
            warning is logged, once, and what `on_threshold` was given is called. A contract's own
            `warn_at` counts before it.
        prices: What models cost. None knows no costs in tokens, and in dollars the list of known
            models that the extra "prices" brings; "genai-prices" is that list; a table, in dollars
            for a million tokens, is asked before it: {"my-model": {"input": "0.15", "output":
            "0.60"}}; or a `PriceSource`.
        telemetry: "otel" or an `OpenTelemetry`; or a listener, told of every journal entry.
        clock: Returns seconds since the epoch; for tests.

    Raises:
        ConfigurationError: A setting has a value that is not known, or the outbox cannot be used.
        ImportError: `prices="genai-prices"` and it is not installed.
    """

    def __init__(
        self,
        *,
        store: Store | str = "memory://",
        scope: str = "default",
        enforcement: str = "expected",
        unit: str = "tokens",
        count: Count = "total",
        policy: str = "priority",
        unattributed: str | BudgetContract = "track",
        on_contract_change: str = "keep",
        on_store_error: str = "deny",
        outbox: str | os.PathLike[str] | None = None,
        warn_at: Sequence[float] = (),
        prices: Prices = None,
        telemetry: Listener | OpenTelemetry | str | None = None,
        clock: Clock | None = None,
    ) -> None:
        enforcement, on_contract_change = unless_disabled(enforcement, on_contract_change)
        settings = Settings(
            enforcement=enforcement,
            unit=unit,
            count=count,
            policy=policy,
            unattributed=unattributed,
            on_contract_change=on_contract_change,
            on_store_error=on_store_error,
            warn_at=warn_at,
        )
        self._scope = check_scope(scope)
        opened = open_store(store, clock=clock) if isinstance(store, str) else store
        if not is_store(opened):
            msg = f"store must be a URL or a store, not {type(opened).__name__}."
            raise ConfigurationError(msg, remedy='What helps: store="memory://".')
        known = open_prices(prices, unit)
        self._engine = Engine(opened, settings, open_outbox(outbox), clock, known)
        self._outer: tuple[BudgetManager, str] | None = None
        if isinstance(unattributed, BudgetContract):
            self._engine.register(unattributed)
        if telemetry is not None:
            from tbcontracts.telemetry import listener_for

            self.add_listener(listener_for(telemetry, self))

    @classmethod
    def from_config(
        cls, source: str | os.PathLike[str] | Mapping[str, Any] | None = None, **changes: Any
    ) -> Self:
        """Return a manager for a contract file, with all its contracts registered.

        Environment variables `TBCONTRACTS_*` count instead of what the file says.

        Args:
            source: A path ending in .toml, .yaml, .yml or .json, or a mapping of the same keys. If
                not given, the file that `TBCONTRACTS_CONFIG` names.
            changes: Arguments of `BudgetManager` that count instead of file and environment.

        Raises:
            ConfigurationError: Something in the file cannot be; the text names the place.
            ImportError: pydantic, or what the file's format needs, is not installed.

        Example:
            `manager = BudgetManager.from_config({"agents": {"writer": {"max_tokens": 4_000}}})`
        """
        from tbcontracts.deployment import load_any, make

        settings, contracts = load_any(source)
        manager = make(cls, settings, changes)
        for contract in contracts:
            manager.register(contract)
        return manager

    def reserve(
        self,
        name: str,
        tokens: int | Decimal,
        *,
        key: str | None = None,
        ttl_s: float | None = None,
        wait_s: float = 0,
    ) -> Hold:
        """Set budget aside before a call.

        Args:
            name: The agent.
            tokens: How much; granted whole or not at all. In dollars a `Decimal`.
            key: The same key again returns the same hold, whose limit then counts anew, or the
                same refusal.
            ttl_s: After how many seconds the hold stops blocking budget if its owner vanished.
            wait_s: How many seconds to wait for budget at most; the most important agent is served
                first. In an event loop only `areserve` can wait.

        Returns:
            The hold: `settle` it, `void` it, or use it as a context manager.

        Raises:
            BudgetExceededError: It does not fit, even with pool and donors; nothing moved.
            HoldResolvedError: The hold of this key has ended or expired: no call may go out on it.
            UnknownAgentError: The agent has no contract.
            TypeError: `tokens` is no whole number.
            ValueError: `tokens` is out of range.
        """
        command = self._reserve_command(name, tokens, key, ttl_s)
        return self._hold(command, wait_s=check_wait(wait_s))

    @takes_agent_name
    def record_usage(
        self,
        name: str,
        tokens_or_usage: int | Decimal | Usage,
        note: str = "usage",
        confidence: float | None = None,
        *,
        key: str | None = None,
    ) -> Posted:
        """Charge usage that had no hold. It is posted in full, whatever the budget says.

        Where the store does not answer, it is kept and posted later (`unposted`).

        Args:
            name: The agent.
            tokens_or_usage: A number of tokens, or a `Usage`. In dollars a `Decimal`, or a usage
                whose price is known: by its model, or by its `cost_micro_usd`.
            note: Your words for the journal, cut at 200 characters; never a prompt.
            confidence: How good the answer was, 0..1, for the confidence gate.
            key: The same key again posts nothing and returns the first reply.

        Raises:
            BudgetExceededError: It was posted, and an overdraft is left, here or on the books of a
                manager that this one is within; the error names agent and scope.
            UnknownAgentError: The agent has no contract; nothing was posted.
            ValueError: The budget is in dollars, and what the usage costs is not known; nothing
                was posted.
        """
        command = self._charge_command(name, tokens_or_usage, note, key)
        scored = None if confidence is None else self._confidence_command(name, confidence)
        posted = self._post(command)
        if scored is not None:
            self._engine.post(self.scope_name, scored)
        return self._all_covered(posted)

    def begin_call(
        self, agent: str | None, shape: CallShape, *, note: str = "", apart: bool = False
    ) -> Call:
        """Hold budget for an LLM call; what integrations use.

        Args:
            agent: Who calls, as far as the integration knows; None asks `acting_as`.
            shape: What is known of the call.
            note: A word for the journal.
            apart: It is never the call that a layer around it holds for already.

        Raises:
            BudgetExceededError: The call cannot be paid for and must not be sent.
        """
        command, size = self._call_command(agent, shape)
        inner = self._inner_call(command.agent, shape, apart=apart)
        if isinstance(size, Unbounded):
            assert isinstance(command, commands.Refuse)
            reply = self._engine.refuse(self.scope_name, command)
            if not command.observed:
                if inner is not None:
                    inner.was_refused()
                raise self._refusal(reply, size)
            command, size = self._let_through(command, shape)
        if inner is not None:
            beyond = self._beyond(inner, command)
            tokens = max(0, size.tokens - inner.hold._tokens_in_all)
            try:
                more = self.hold_more(inner.hold, beyond, BEYOND, tokens=tokens) if beyond else None
            except BaseException:
                inner.was_refused()
                raise
            return inner.with_more(more)
        assert isinstance(command, commands.Reserve)
        around = self._call_around()
        hold = self._hold(command, note)._is_for(size.tokens)
        return Call(self, hold, shape, size, around=around)

    def hold_more(
        self, hold: Hold, amount: int, sizing: str = OUTGROWN, *, tokens: int | None = None
    ) -> Hold:
        """Hold more for the agent of a hold, on the same books; for a call that outgrows it.

        Args:
            hold: The hold.
            amount: How much more, in the unit of the books.
            sizing: How that was found.
            tokens: How many tokens it is for; the same number if not given.

        Raises:
            BudgetExceededError: It does not fit; nothing moved.
        """
        more = self.scope(hold.scope)._hold(self._more_command(hold, amount, sizing))
        return more._is_for(amount if tokens is None else tokens)

    def charge_beside(self, hold: Hold, usage: Usage) -> None:
        """Charge what was used beside a call that has a hold, on the same books; for integrations.

        It is posted in full; an overdraft blocks the next hold and is not raised here.
        """
        self.scope(hold.scope)._post(self._beside_command(hold, usage))

    def top_up(self, name: str | None, tokens: int | Decimal, *, key: str | None = None) -> None:
        """Add new budget to an agent, or to the pool if `name` is None; dollars as a `Decimal`.

        Raises:
            UnknownAgentError: The agent has no contract.
        """
        self._do(self._top_up_command(name, tokens, key))

    def finish(self, name: str) -> int:
        """Say that an agent is done: what it has left, its reserve too, goes to the pool.

        Returns:
            How much went to the pool. A later hold reopens the agent, from pool and donors.
        """
        return self._do(commands.Finish(self._known(name)))

    def change_contract(self, name: str, **fields: Any) -> BudgetContract:
        """Change an agent's contract, in this scope and for scopes opened later.

        Only the fields that are named change, whatever else the scope's contract says.
        `allocated` moves by the difference of `max_tokens`, never below what is used or held.

        Raises:
            TypeError: There is no such field, or a value has the wrong type.
            ValueError: A value is out of range.
        """
        return self._engine.change(self.scope_name, self._known(name), fields)

    def report_confidence(self, name: str, score: float) -> None:
        """Say how good an agent's last answer was, 0..1; at its threshold the next hold is denied.

        Raises:
            ValueError: The score is NaN or outside 0..1.
        """
        self._do(self._confidence_command(name, score))

    def reset_confidence(self, name: str) -> None:
        """Forget an agent's score, before it begins something new."""
        self._do(self._confidence_command(name, None))

    def close_scope(self, path: str | None = None) -> None:
        """Close a scope (this one if no path is given): it takes no more holds."""
        view = self if path is None else self.scope(path)
        view._do(commands.Close())

    def flush(self, timeout_s: float | None = None) -> bool:
        """Post what was used while the store did not answer, now rather than soon.

        Args:
            timeout_s: When to stop. A command that is under way is not interrupted.

        Returns:
            Whether all that was used in this process is on the books; `unposted` says what is not.
        """
        return self._engine.backlog.flush(check_timeout(timeout_s))

    def apply_to(self, scope: str, command: Command) -> Reply:
        """Carry out a command in a given scope; for holds, which stay with theirs."""
        if isinstance(command, (commands.Settle, commands.Void)):
            return self._engine.post(scope, command)
        return self._engine.apply(scope, command)

    def _post(self, command: commands.Charge) -> list[Posted]:
        """Post a charge, without raising for an overdraft; return what each of the books says."""
        outer = []
        if self._outer is not None:
            parent, agent = self._outer
            outer = parent._post(self._outer_charge(command, agent))
        reply = self._engine.post(self.scope_name, command)
        assert isinstance(reply, Posted)
        return [reply, *outer]

    def _do(self, command: Command) -> int:
        """Carry out a command whose reply is a number."""
        reply = self._engine.apply(self.scope_name, command)
        assert isinstance(reply, commands.Done)
        return reply.amount
