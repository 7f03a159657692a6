"""Which contracts there are: by name, by pattern, and which of them answers for a name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tbcontracts.compat import takes_agent_name
from tbcontracts.contract import BudgetContract, contract_fields
from tbcontracts.engine import Engine
from tbcontracts.errors import ConfigurationError
from tbcontracts.patterns import AGENTS_MAX, ContractPattern

if TYPE_CHECKING:
    from decimal import Decimal

_MAX_TOKENS = 1_000


class ContractDoor:
    """The part of a manager that knows contracts; it touches no store."""

    _engine: Engine

    @property
    @abstractmethod
    def scope_name(self) -> str:
        """The name of the books."""

    @property
    def contracts(self) -> Mapping[str, BudgetContract]:
        """All contracts by agent, with those that patterns made in this scope; read-only."""
        engine = self._engine
        if not engine.patterns:
            return MappingProxyType(engine.contracts)
        seen = {contract.agent_name: contract for contract in engine.patterns.seen(self.scope_name)}
        return MappingProxyType({**seen, **engine.contracts})

    @property
    def patterns(self) -> tuple[ContractPattern, ...]:
        """All patterns, the most specific first; `agent_name` is the pattern."""
        return tuple(self._engine.patterns)

    def is_registered(self, name: str) -> bool:
        """Return whether an agent has a contract of its own name, and not by pattern."""
        return name in self._engine.contracts

    def pattern_of(self, name: str) -> ContractPattern | None:
        """Return the most specific pattern that a name matches."""
        return self._engine.patterns.match(name)

    def contract_of(self, name: str) -> BudgetContract | None:
        """Return the contract that answers for a name in this scope: its own, or by pattern.

        None where there is none, or where its pattern made as many agents as it may.
        """
        engine = self._engine
        contract = engine.contracts.get(name)
        if contract is not None or not engine.patterns:
            return contract
        scope = self.scope_name
        contract = engine.patterns.contract(scope, name)
        if contract is None:
            pattern = engine.patterns.match(name)
            if pattern is not None:
                topic = f"full {pattern.agent_name} {scope}"
                engine.warn_once(topic, engine.patterns.said_full(scope, pattern))
        return contract

    def contract_in(self, scope: str, name: str) -> BudgetContract | None:
        """Return the contract that answers for a name in any scope; for listeners."""
        return self._engine.contract_in(scope, name)

    @takes_agent_name
    def register_agent(
        self,
        name: str,
        priority: int = 1,
        max_tokens: int = 1000,
        min_reserve: int | None = None,
        confidence_threshold: float | None = None,
        *,
        max_output_tokens: int | None = None,
        on_exceeded: str | Mapping[str, Any] = "raise",
        confidence_key: str | None = None,
        warn_at: Sequence[float] | None = None,
        max_usd: Decimal | str | int | None = None,
        min_reserve_usd: Decimal | str | int | None = None,
    ) -> BudgetContract:
        """Give an agent a contract, in force in every scope of this manager.

        The same registration again changes nothing. `BudgetContract` describes the arguments;
        where budgets are in dollars, `max_usd` and `min_reserve_usd` stand in the place of
        `max_tokens` and `min_reserve`, and are dollars: `max_usd=Decimal("2.50")`.

        Raises:
            ConfigurationError: The budget is in another unit than this manager's.
            ContractConflictError: The agent has a different contract already.
            TypeError: A value has the wrong type.
            ValueError: A value is out of range.
        """
        budget = self._budget(name, max_tokens, min_reserve, max_usd, min_reserve_usd)
        return self.register(
            BudgetContract(
                name,
                priority,
                confidence_threshold=confidence_threshold,
                max_output_tokens=max_output_tokens,
                on_exceeded=on_exceeded,
                confidence_key=confidence_key,
                warn_at=warn_at,
                **budget,
            )
        )

    def register(self, contract: BudgetContract) -> BudgetContract:
        """Put a contract in force, as `register_agent` does."""
        return self._engine.register(contract)

    def register_pattern(
        self,
        pattern: str,
        priority: int = 1,
        max_tokens: int = 1000,
        min_reserve: int | None = None,
        confidence_threshold: float | None = None,
        *,
        max_output_tokens: int | None = None,
        on_exceeded: str | Mapping[str, Any] = "raise",
        confidence_key: str | None = None,
        warn_at: Sequence[float] | None = None,
        max_usd: Decimal | str | int | None = None,
        min_reserve_usd: Decimal | str | int | None = None,
        agents_max: int = AGENTS_MAX,
    ) -> ContractPattern:
        """Give every agent whose name matches a contract of its own, once it is first seen.

        A contract of an agent's own name comes first, then the pattern with the most literal
        characters.

        Args:
            pattern: May hold `*` (any text), `?` (one character) and `[...]` (one of these); it is
                compared with the whole name, upper and lower case apart.
            priority: This and the following are the terms; `BudgetContract` describes them.
            max_tokens: The budget of each such agent, not of all together.
            min_reserve: What no transfer may take from one.
            confidence_threshold: At or above this score its next call is refused.
            max_output_tokens: The longest answer to expect of one call.
            on_exceeded: What happens when its budget is used up.
            confidence_key: Where a score stands in what it returns.
            warn_at: Shares of its budget at which to warn, in the place of the manager's.
            max_usd: Its budget where budgets are in dollars, in the place of `max_tokens`.
            min_reserve_usd: What no transfer may take from one, in dollars.
            agents_max: How many agents it makes in one scope at most; further names are treated as
                if no contract were there for them, and one warning says so.

        Raises:
            ConfigurationError: Another pattern is just as specific and can match the same name, or
                the budget is in another unit than this manager's.
            ContractConflictError: The pattern is registered with other terms.
            TypeError: A value has the wrong type.
            ValueError: A value is out of range.

        Example:
            `manager.register_pattern("research_*", priority=2, max_tokens=4000)`
        """
        terms = ContractPattern(
            pattern,
            priority,
            confidence_threshold=confidence_threshold,
            max_output_tokens=max_output_tokens,
            on_exceeded=on_exceeded,
            confidence_key=confidence_key,
            warn_at=warn_at,
            agents_max=agents_max,
            **self._budget(pattern, max_tokens, min_reserve, max_usd, min_reserve_usd),
        )
        self._engine.register(terms)
        return terms

    def _budget(
        self, name: str, max_tokens: Any, min_reserve: Any, max_usd: Any, min_reserve_usd: Any
    ) -> dict[str, Any]:
        """Return budget and reserve as the fields of a contract, in the unit of this manager.

        Raises:
            ConfigurationError: Budgets are in dollars, and none is given.
        """
        unit = self._engine.settings.unit
        given = {
            "max_tokens": None if unit == "usd" and max_tokens == _MAX_TOKENS else max_tokens,
            "min_reserve": min_reserve,
            "max_usd": max_usd,
            "min_reserve_usd": min_reserve_usd,
        }
        if unit == "usd" and max_usd is None and given["max_tokens"] is None:
            msg = f"Agent {name!r} needs a budget in dollars."
            raise ConfigurationError(msg, remedy='What helps: max_usd=Decimal("2.50").')
        return contract_fields(given, unit, name)
