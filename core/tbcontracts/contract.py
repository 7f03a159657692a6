"""The contract: what an agent is promised and limited to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from tbcontracts.checks import check_amount, check_name, check_score, nearest

PRIORITY_MAX = 4095
ON_EXCEEDED = ("raise", "end", "ask")


@dataclass(frozen=True)
class BudgetContract:
    """What one agent is promised and limited to, within each scope.

    Immutable; `changed` makes another one. Numbers are in the manager's unit (tokens).
    """

    agent_name: str
    """The agent: a graph node, a crew role, a named function. NFC, stripped, 1..200 UTF-8 bytes."""
    priority: int = 1
    """1..4095, higher is more important. Budget never flows to a lower priority."""
    max_tokens: int = 1000
    """The whole budget of the agent in a scope, not the length of one answer."""
    min_reserve: int | None = None
    """What no transfer may take: `max_tokens // 10` if not given. The agent may spend it itself."""
    confidence_threshold: float | None = None
    """At or above this score (0..1) the next call is refused until the score is reset."""
    max_output_tokens: int | None = None
    """The longest answer to expect of one call; sizes holds, and bounds them in strict mode."""
    on_exceeded: str | Mapping[str, Any] = "raise"
    """What happens when the budget is used up: "raise", "end", "ask" or {"fallback": ...}."""
    confidence_key: str | None = None
    """Where a score of 0..1 stands in what the agent returns, such as "answer.confidence"."""

    def __post_init__(self) -> None:
        """Check every field, and put the name into its one spelling."""
        name = check_name(self.agent_name)
        of_agent = f"of agent {name!r}"
        put = object.__setattr__  # the class is frozen for everybody else
        put(self, "agent_name", name)
        put(
            self,
            "priority",
            check_amount(self.priority, f"priority {of_agent}", minimum=1, maximum=PRIORITY_MAX),
        )
        put(self, "max_tokens", check_amount(self.max_tokens, f"max_tokens {of_agent}"))
        reserve = self.max_tokens // 10 if self.min_reserve is None else self.min_reserve
        reserve = check_amount(reserve, f"min_reserve {of_agent}")
        if reserve > self.max_tokens:
            msg = (
                f"min_reserve {of_agent} must be at most its max_tokens "
                f"({self.max_tokens:,}), not {reserve:,}."
            )
            raise ValueError(msg)
        put(self, "min_reserve", reserve)
        if self.confidence_threshold is not None:
            threshold = check_score(self.confidence_threshold, f"confidence_threshold {of_agent}")
            put(self, "confidence_threshold", threshold)
        if self.max_output_tokens is not None:
            cap = check_amount(self.max_output_tokens, f"max_output_tokens {of_agent}", minimum=1)
            put(self, "max_output_tokens", cap)
        _check_on_exceeded(self.on_exceeded, of_agent)
        _check_confidence_key(self.confidence_key, of_agent)

    def __hash__(self) -> int:
        """Hash by name: a fallback may be an object that has no hash."""
        return hash(self.agent_name)

    @property
    def reserve(self) -> int:
        """`min_reserve` as the number that it always is after construction."""
        return self.min_reserve or 0

    @property
    def terms(self) -> tuple[int, int, int, float | None]:
        """What the books decide by: priority, budget, reserve and threshold."""
        return (self.priority, self.max_tokens, self.reserve, self.confidence_threshold)

    @property
    def said(self) -> str:
        """The terms in words, for errors."""
        threshold = self.confidence_threshold
        gate = "" if threshold is None else f", confidence_threshold {threshold:g}"
        return (
            f"priority {self.priority}, max_tokens {self.max_tokens:,}, min_reserve "
            f"{self.reserve:,}{gate}"
        )

    def changed(self, **changes: Any) -> BudgetContract:
        """Return a copy with some fields changed.

        A `min_reserve` that was left to its default follows a new `max_tokens`.

        Raises:
            TypeError: A field of this name does not exist, or a value has the wrong type.
            ValueError: A value is out of range.
        """
        check_fields(changes)
        reserve_was_default = self.min_reserve == self.max_tokens // 10
        if "max_tokens" in changes and "min_reserve" not in changes and reserve_was_default:
            changes["min_reserve"] = None
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data, in their order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def check_fields(names: Iterable[str]) -> None:
    """Refuse fields that no contract has, with the nearest one that it has.

    Raises:
        TypeError: There is such a field among them.
    """
    known = [field.name for field in fields(BudgetContract)]
    unknown = sorted(set(names) - set(known))
    if not unknown:
        return
    near = [found for found in (nearest(name, known) for name in unknown) if found]
    hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
    msg = (
        f"A contract has no field {', '.join(map(repr, unknown))}; it has {', '.join(known)}.{hint}"
    )
    raise TypeError(msg)


def _check_confidence_key(value: object, of_agent: str) -> None:
    """Refuse what is no path of fields."""
    if value is None:
        return
    if not isinstance(value, str):
        msg = f"confidence_key {of_agent} must be text, not {type(value).__name__}."
        raise TypeError(msg)
    if not all(part.strip() for part in value.split(".")):
        msg = (
            f'confidence_key {of_agent} must be a path such as "answer.confidence", not {value!r}.'
        )
        raise ValueError(msg)


def _check_on_exceeded(value: object, of_agent: str) -> None:
    """Refuse what is none of the four ways to go on at the end of a budget."""
    if isinstance(value, str) and value in ON_EXCEEDED:
        return
    if isinstance(value, Mapping) and set(value) == {"fallback"}:
        if value["fallback"] not in (None, ""):
            return
        msg = f"on_exceeded {of_agent} names no fallback: {value['fallback']!r}."
        raise ValueError(msg)
    msg = (
        f'on_exceeded {of_agent} must be "raise", "end", "ask" or {{"fallback": ...}}, '
        f"not {value if isinstance(value, str) else type(value).__name__!r}."
    )
    raise ValueError(msg)
