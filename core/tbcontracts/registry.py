"""The contracts of a manager: by name, by pattern, and which of them answers for whom."""

from __future__ import annotations

import threading
import warnings

from tbcontracts import attribution
from tbcontracts.commands import Command, agent_of
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ContractConflictError, UnknownAgentError
from tbcontracts.patterns import ContractPattern, Patterns
from tbcontracts.settings import check_unit

_WARNED_MAX = 1_000


class Registry:
    """Which contracts there are; it touches no store."""

    contracts: dict[str, BudgetContract]
    """By agent, as they were registered."""
    patterns: Patterns
    _lock: threading.RLock
    _version: int
    """How many contracts there were so far; a scope is open up to some version."""

    def _begin_registry(self, unit: str) -> None:
        """Begin without contracts.

        Args:
            unit: What their budgets must be in.
        """
        self._unit = unit
        self.contracts = {}
        self.patterns = Patterns()
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread
        self._version = 0
        self._warned: set[str] = set()

    def register(self, contract: BudgetContract) -> BudgetContract:
        """Add a contract; the same one again changes nothing.

        Raises:
            ContractConflictError: The agent has another contract already.
            TypeError: It is no contract.
        """
        if not isinstance(contract, BudgetContract):
            msg = f"What is registered must be a BudgetContract, not {type(contract).__name__}."
            raise TypeError(msg)
        check_unit(contract, self._unit)
        if isinstance(contract, ContractPattern):
            return self.patterns.add(contract)
        name = contract.agent_name
        with self._lock:
            known = self.contracts.get(name)
            if known is None:
                self.contracts[name] = contract
                self._version += 1
                return contract
        if known != contract:
            msg = f"Agent {name!r} is registered already, as {known}, not as {contract}."
            remedy = f"What helps: manager.change_contract({name!r}, ...)."
            raise ContractConflictError(msg, remedy=remedy)
        return known

    def contract_in(self, scope: str, name: str) -> BudgetContract | None:
        """Return the contract that answers for a name in a scope: its own, or by pattern."""
        contract = self.contracts.get(name)
        if contract is None and self.patterns:
            return self.patterns.contract(scope, name)
        return contract

    def contract(self, name: str) -> BudgetContract:
        """Return an agent's contract.

        Raises:
            UnknownAgentError: It has none.
        """
        contract = self.contracts.get(name)
        if contract is None:
            near = attribution.nearest(name, self.contracts)
            hint = f" Did you mean {near!r}?" if near else ""
            pattern = self.patterns.match(name)
            if pattern is not None:
                hint = f" The pattern {pattern.agent_name!r} makes no more agents here."
            msg = f"No agent {name!r} is registered.{hint}"
            remedy = f"What helps: manager.register_agent({name!r}, max_tokens=...)."
            raise UnknownAgentError(msg, remedy=remedy)
        return contract

    def priority_of(self, agent: str) -> int:
        """Return an agent's priority; a name without a contract has the lowest."""
        contract = self.contracts.get(agent) or self.patterns.match(agent)
        return 1 if contract is None else contract.priority

    def first_seen(self, scope: str, command: Command) -> BudgetContract | None:
        """Return the contract of the agent of a command, where a pattern has to make it first."""
        agent = agent_of(command)
        if agent is None or agent in self.contracts or self.patterns.is_seen(scope, agent):
            return None
        return self.patterns.contract(scope, agent)

    def warn_once(self, topic: str, message: str) -> None:
        """Warn, but only once for each topic, and of at most 1,000 topics."""
        with self._lock:
            if topic in self._warned or len(self._warned) >= _WARNED_MAX:
                return
            self._warned.add(topic)
        warnings.warn(message, UserWarning, stacklevel=2)
