"""What can go wrong, each with a code, the facts, and what would help.

Every error derives from `TBCError` and pickles with its facts, so that it survives a process pool.
"""

from __future__ import annotations

from typing import Any


def _rebuild(cls: type[TBCError], arguments: dict[str, Any]) -> TBCError:
    """Make an error again from its keyword arguments (pickle calls this)."""
    return cls(**arguments)


class TBCError(Exception):
    """The base of everything that tbcontracts raises.

    Attributes:
        code: A short, stable name of what happened, for programs.
        remedy: What the reader can do about it; may be empty.
    """

    code: str = "error"

    def __init__(self, message: str = "", *, code: str | None = None, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        if code is not None:
            self.code = code
        super().__init__(message)

    def __str__(self) -> str:
        """Return what happened, then what would help."""
        return f"{self.message} {self.remedy}".strip()

    def facts(self) -> dict[str, Any]:
        """Return what is known, as the keyword arguments that make this error again."""
        return {"message": self.message, "code": self.code, "remedy": self.remedy}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by keyword, because the text is made from the facts."""
        return (_rebuild, (type(self), self.facts()))


class BudgetExceededError(TBCError, RuntimeError):
    """A call was refused before it was sent, or posted usage left an overdraft.

    It is a `RuntimeError` because the retry policies of graph frameworks retry a plain
    `Exception`, and a refusal does not get better by being repeated.

    Attributes:
        agent_name: Whose budget it was.
        requested: What the call asked for, in tokens or, as `unit` says, millionths of a dollar.
        available: What the agent could have reached: its own, the pool's and the donors'.
        reason: The refusal in words, without the remedy.
        scope: The set of books that refused.
        lacking: What a top-up would have to add; an overdraft, which is paid first, counts.
        unit: What these numbers are: "tokens", or "usd" for millionths of a dollar.
    """

    code = "budget_exceeded"

    def __init__(
        self,
        agent_name: str,
        requested: int,
        available: int,
        *,
        code: str | None = None,
        reason: str = "",
        scope: str = "default",
        remedy: str | None = None,
        lacking: int | None = None,
        unit: str = "tokens",
    ) -> None:
        self.unit = unit
        self.agent_name = agent_name
        self.requested = requested
        self.available = available
        self.scope = scope
        self.lacking: int = max(0, requested - available) if lacking is None else lacking
        tokens = "token" if requested == 1 else "tokens"
        self.reason: str = reason or (
            f"Agent {agent_name!r} asked for {requested:,} {tokens}, and {available:,} can be "
            f"reached (its own, the pool's and its donors') in scope {scope!r}."
        )
        if remedy is None:
            remedy = (
                f"What helps: manager.top_up({agent_name!r}, {max(1, self.lacking)}), "
                f"a higher max_tokens for {agent_name!r}, or another scope."
            )
        super().__init__(self.reason, code=code, remedy=remedy)

    def facts(self) -> dict[str, Any]:
        """Return what is known, as the keyword arguments that make this error again."""
        return {
            "agent_name": self.agent_name,
            "requested": self.requested,
            "available": self.available,
            "code": self.code,
            "reason": self.reason,
            "scope": self.scope,
            "remedy": self.remedy,
            "lacking": self.lacking,
            "unit": self.unit,
        }


class ConfidenceGateError(BudgetExceededError):
    """A call was refused because the agent's last answer was already good enough.

    Attributes:
        score: The confidence that was reported last, 0..1.
        threshold: The contract's `confidence_threshold`.
    """

    code = "confident"

    def __init__(
        self,
        agent_name: str,
        requested: int,
        available: int,
        *,
        score: float,
        threshold: float,
        **facts: Any,
    ) -> None:
        self.score = score
        self.threshold = threshold
        facts["reason"] = facts.get("reason") or (
            f"Agent {agent_name!r} reported a confidence of {score:g}, at or above its "
            f"threshold of {threshold:g}: its work is good enough."
        )
        if facts.get("remedy") is None:
            facts["remedy"] = (
                f"What helps: manager.reset_confidence({agent_name!r}) before new work, "
                "or another scope."
            )
        super().__init__(agent_name, requested, available, **facts)

    def facts(self) -> dict[str, Any]:
        """Return what is known, as the keyword arguments that make this error again."""
        return {**super().facts(), "score": self.score, "threshold": self.threshold}


class UnknownAgentError(TBCError, KeyError):
    """No contract has this name."""

    code = "unknown_agent"

    def __str__(self) -> str:
        """Return the sentence; a `KeyError` would print its repr."""
        return TBCError.__str__(self)


class ContractConflictError(TBCError):
    """An agent has another contract already, or its contract was changed meanwhile."""

    code = "contract_conflict"


class IdempotencyConflictError(TBCError):
    """A key was used again for something else."""

    code = "idempotency_conflict"


class HoldResolvedError(TBCError):
    """A hold has ended already: it cannot end differently, nor may a call go out on it."""

    code = "hold_resolved"


class ScopeClosedError(TBCError):
    """The scope was closed: it takes no budget and no other terms, but still what was used."""

    code = "scope_closed"


class ConfigurationError(TBCError, ValueError):
    """A setting has a value that cannot work."""

    code = "configuration"


class StoreError(TBCError):
    """The store could not answer; no call goes out."""

    code = "store"


_LOOK = "a look at the books (manager.statement(), or tbc show); it has no key to ask by"


class OutcomeUnknownError(StoreError):
    """The store did not say whether a command took effect.

    Attributes:
        key: The idempotency key of the command, or the hold's id; `manager.resolve(key)` finds out.
            Empty for commands that have neither, such as `finish`: the books say what came of them.
    """

    code = "outcome_unknown"

    def __init__(self, key: str, message: str = "", **facts: Any) -> None:
        self.key = key
        looked_up = f"manager.resolve({key!r})" if key else _LOOK
        facts.setdefault("remedy", f"What helps: {looked_up}.")
        which = f"the command with key {key!r}" if key else "a command without a key"
        super().__init__(message or f"The outcome of {which} is unknown.", **facts)

    def facts(self) -> dict[str, Any]:
        """Return what is known, as the keyword arguments that make this error again."""
        return {**super().facts(), "key": self.key}


class LedgerRegressedError(StoreError):
    """The books of a scope are not those that were there before: something was lost.

    So it is after a failover to a replica that was behind, or when a server was restored or
    emptied. No more holds are granted on them by this store until somebody looked at them.

    Attributes:
        scope: The set of books.
    """

    code = "ledger_regressed"

    def __init__(self, scope: str, message: str = "", **facts: Any) -> None:
        self.scope = scope
        facts.setdefault(
            "remedy",
            f"What helps: see what is missing, post it, then store.accept({scope!r}).",
        )
        super().__init__(message or f"The books of scope {scope!r} went backwards.", **facts)

    def facts(self) -> dict[str, Any]:
        """Return what is known, as the keyword arguments that make this error again."""
        return {**super().facts(), "scope": self.scope}
