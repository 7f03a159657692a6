"""The contract: what an agent is promised and limited to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from tbcontracts.checks import check_amount, check_name, check_score, check_shares, nearest
from tbcontracts.money import UNITS, amount_in, as_decimal, figure, micro_usd

if TYPE_CHECKING:
    from decimal import Decimal

PRIORITY_MAX = 4095
ON_EXCEEDED = ("raise", "end", "ask")


@dataclass(frozen=True)
class BudgetContract:
    """What one agent is promised and limited to, within each scope.

    Immutable; `changed` makes another one. `max_tokens` and `min_reserve` are in the contract's
    unit: tokens, or millionths of a dollar; `in_usd` makes one in dollars.
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
    warn_at: Sequence[float] | None = None
    """Shares of its budget at which to warn, in the place of the manager's; () for no warnings."""
    unit: str = "tokens"
    """What its budget is in: "tokens" or "usd"; kept with it on the books, which have one unit."""

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
        if self.unit not in UNITS:
            msg = f'unit {of_agent} must be "tokens" or "usd", not {self.unit!r}.'
            raise ValueError(msg)
        most, least = self.field_names
        put(self, "max_tokens", amount_in(self.max_tokens, self.unit, f"{most} {of_agent}"))
        reserve = self.max_tokens // 10 if self.min_reserve is None else self.min_reserve
        reserve = amount_in(reserve, self.unit, f"{least} {of_agent}")
        if reserve > self.max_tokens:
            msg = (
                f"{least} {of_agent} must be at most its {most} "
                f"({figure(self.max_tokens, self.unit)}), not {figure(reserve, self.unit)}."
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
        if self.warn_at is not None:
            put(self, "warn_at", check_shares(self.warn_at, f"warn_at {of_agent}"))

    @classmethod
    def in_usd(
        cls,
        agent_name: str,
        *,
        max_usd: Decimal | str | int,
        min_reserve_usd: Decimal | str | int | None = None,
        **fields: Any,
    ) -> BudgetContract:
        """Return a contract in dollars.

        Args:
            agent_name: The agent.
            max_usd: Its whole budget in a scope, in dollars: a `Decimal`, text, or a whole number.
            min_reserve_usd: What no transfer may take, in dollars; a tenth of `max_usd`.
            fields: The other fields: priority, confidence_threshold, max_output_tokens, ...

        Raises:
            TypeError: A field does not exist, a value has the wrong type, or a sum is a float.
            ValueError: A value is out of range, or finer than a millionth of a dollar.

        Example:
            `BudgetContract.in_usd("writer", max_usd="2.50")`
        """
        given = {"max_usd": max_usd, "min_reserve_usd": min_reserve_usd}
        return cls(agent_name, **contract_fields({**fields, **given}, "usd", agent_name))

    def __hash__(self) -> int:
        """Hash by name: a fallback may be an object that has no hash."""
        return hash(self.agent_name)

    @property
    def reserve(self) -> int:
        """`min_reserve` as the number that it always is after construction."""
        return self.min_reserve or 0

    @property
    def max_usd(self) -> Decimal | None:
        """The whole budget in dollars; None for a contract in tokens."""
        return as_decimal(self.max_tokens) if self.unit == "usd" else None

    @property
    def field_names(self) -> tuple[str, str]:
        """What budget and reserve are called where somebody gives them."""
        return _IN_USD if self.unit == "usd" else _IN_TOKENS

    @property
    def terms(self) -> tuple[int, int, int, float | None]:
        """What the books decide by: priority, budget, reserve and threshold."""
        return (self.priority, self.max_tokens, self.reserve, self.confidence_threshold)

    @property
    def said(self) -> str:
        """The terms in words, for errors."""
        threshold = self.confidence_threshold
        gate = "" if threshold is None else f", confidence_threshold {threshold:g}"
        most, least = self.field_names
        return (
            f"priority {self.priority}, {most} {figure(self.max_tokens, self.unit)}, {least} "
            f"{figure(self.reserve, self.unit)}{gate}"
        )

    def changed(self, **changes: Any) -> BudgetContract:
        """Return a copy with some fields changed.

        A `min_reserve` that was left to its default follows a new `max_tokens`.

        Raises:
            TypeError: A field of this name does not exist, or a value has the wrong type.
            ValueError: A value is out of range.
        """
        changes = contract_fields(changes, self.unit, self.agent_name)
        check_fields(changes)
        reserve_was_default = self.min_reserve == self.max_tokens // 10
        if "max_tokens" in changes and "min_reserve" not in changes and reserve_was_default:
            changes["min_reserve"] = None
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data, in their order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_IN_TOKENS = ("max_tokens", "min_reserve")
_IN_USD = ("max_usd", "min_reserve_usd")


def contract_fields(
    given: Mapping[str, Any], unit: str, agent: str, *, as_written: bool = False
) -> dict[str, Any]:
    """Return the fields of a contract from what somebody gave, in the unit of their books.

    Args:
        given: Fields of `BudgetContract`; in dollars `max_usd` and `min_reserve_usd` stand in the
            place of `max_tokens` and `min_reserve`.
        unit: What the books are in.
        agent: Whose contract it is, for errors.
        as_written: A float will do for dollars, for what was read from a file.

    Raises:
        TypeError: A sum of dollars is a float, or no number at all.
        ValueError: A budget is in another unit than the books, or a sum cannot be.
    """
    wrong = _IN_TOKENS if unit == "usd" else _IN_USD
    right = _IN_USD if unit == "usd" else _IN_TOKENS
    if given.get("unit", unit) != unit:
        msg = f"The budget of agent {agent!r} is in {given['unit']!r}, and these are in {unit!r}."
        raise ValueError(msg)
    for bad, good in zip(wrong, right, strict=True):
        if given.get(bad) is not None:
            units = ("dollars", "tokens") if unit == "usd" else ("tokens", "dollars")
            msg = (
                f"{bad} of agent {agent!r} is in {units[1]}, and these budgets are in {units[0]}: "
                f"give {good}."
            )
            raise ValueError(msg)
    found = {name: value for name, value in given.items() if name not in (*_IN_USD, "unit")}
    if unit == "usd":
        for name, dollars in zip(_IN_TOKENS, _IN_USD, strict=True):
            if given.get(dollars) is not None:
                what = f"{dollars} of agent {agent!r}"
                found[name] = micro_usd(given[dollars], what, as_written=as_written)
    return {**found, "unit": unit}


def written_contract(
    agent: str, fields: Mapping[str, Any], *, as_written: bool = False
) -> BudgetContract:
    """Return a contract from its fields, in dollars where one of them says dollars.

    Args:
        agent: Whose contract it is.
        fields: Its fields, with `max_tokens` or with `max_usd`.
        as_written: A float will do for dollars, for what was read from a file.

    Raises:
        TypeError: There is no such field, or a value has the wrong type.
        ValueError: A value is out of range, or one sum is in dollars and another in tokens.
    """
    unit = "usd" if any(fields.get(name) is not None for name in _IN_USD) else "tokens"
    return BudgetContract(agent, **contract_fields(fields, unit, agent, as_written=as_written))


BUDGET_FIELDS = ("max_tokens", "max_usd")
"""The fields one of which makes a contract of an annotation."""


def check_fields(names: Iterable[str]) -> None:
    """Refuse fields that no contract has, with the nearest one that it has.

    Raises:
        TypeError: There is such a field among them.
    """
    known = [*(field.name for field in fields(BudgetContract)), *_IN_USD]
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
