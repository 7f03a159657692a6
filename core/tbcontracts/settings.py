"""How a manager behaves: checked once, then fixed. And scope names that hold a period."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tbcontracts.checks import check_name, check_shares, shown
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError
from tbcontracts.money import UNITS, WORDS
from tbcontracts.usage import Count, check_count

if TYPE_CHECKING:
    from tbcontracts.pricing import Prices, PriceSource

ENFORCEMENTS = ("observe", "expected", "strict")
_CHOICES: dict[str, tuple[str, ...]] = {
    "enforcement": ENFORCEMENTS,
    "unit": UNITS,
    "policy": ("priority",),
    "on_contract_change": ("keep", "apply", "raise"),
    "on_store_error": ("deny", "allow"),
}
_ANOTHER_TIME = 2_071_234_567.5  # not 1970 in any of its parts: year to second, and the weekday
_PERIOD = re.compile(r"\{utc:([^{}]+)\}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all scopes of a manager share."""

    enforcement: str = "expected"
    unit: str = "tokens"
    count: Count = "total"
    policy: str = "priority"
    unattributed: str | BudgetContract = "track"
    on_contract_change: str = "keep"
    on_store_error: str = "deny"
    warn_at: Sequence[float] = ()

    def __post_init__(self) -> None:
        """Refuse what is not known, and say what is."""
        for name, choices in _CHOICES.items():
            _check_choice(name, getattr(self, name), choices)
        if self.enforcement == "strict" and self.on_store_error == "allow":
            msg = 'on_store_error="allow" sends calls without a hold, and strict mode has none.'
            helps = 'What helps: enforcement="expected", or on_store_error="deny".'
            raise ConfigurationError(msg, remedy=helps)
        if self.unit == "usd" and self.count != "total":
            msg = "count says how tokens weigh, and budgets in dollars weigh them by their price."
            raise ConfigurationError(msg, remedy='What helps: no count, or unit="tokens".')
        if isinstance(self.unattributed, BudgetContract):
            check_unit(self.unattributed, self.unit)
        else:
            _check_choice("unattributed", self.unattributed, ("track", "deny"), " or a contract")
        try:
            object.__setattr__(self, "warn_at", check_shares(self.warn_at, "warn_at"))
        except (TypeError, ValueError) as error:
            helps = "What helps: warn_at=[0.8, 0.95]; one agent's own stand in its contract."
            raise ConfigurationError(str(error), remedy=helps) from None
        try:
            object.__setattr__(self, "count", check_count(self.count))
        except (TypeError, ValueError) as error:
            remedy = 'What helps: count="total", or {"cached_input": 0.1}.'
            raise ConfigurationError(str(error), remedy=remedy) from None

    @property
    def denies_unattributed(self) -> bool:
        """Whether a call that no contract answers for is refused."""
        return self.unattributed == "deny" or (
            self.enforcement == "strict" and not isinstance(self.unattributed, BudgetContract)
        )

    @property
    def goes_without_store(self) -> bool:
        """Whether calls go out that the store did not answer for."""
        return self.on_store_error == "allow" or self.enforcement == "observe"

    @property
    def without_store(self) -> str:
        """What becomes of calls while the store does not answer, in words."""
        return _WITHOUT_STORE["observe" if self.enforcement == "observe" else self.on_store_error]


_KEPT = "What they use is kept, and posted when it answers."
_WITHOUT_STORE = {
    "observe": f"Calls go out unobserved. {_KEPT}",
    "allow": f'Calls go out without holds (on_store_error="allow"). {_KEPT}',
    "deny": "No call goes out. What was used is kept, and posted when it answers.",
}


def check_unit(contract: BudgetContract, unit: str) -> None:
    """Refuse a contract in another unit than that of its manager.

    Raises:
        ConfigurationError: It is.
    """
    if contract.unit == unit:
        return
    msg = (
        f"The contract of agent {contract.agent_name!r} is in {WORDS[contract.unit]}, and this "
        f"manager counts {WORDS[unit]}: budget of one unit cannot be lent to the other."
    )
    helps = 'max_usd=Decimal("2.50")' if unit == "usd" else "max_tokens=..., "
    helps += "" if unit == "usd" else 'or BudgetManager(unit="usd")'
    raise ConfigurationError(msg, remedy=f"What helps: {helps}.")


def open_prices(prices: Prices, unit: str) -> PriceSource | None:
    """Return where prices come from; only those who have some load what is behind them.

    Raises:
        ConfigurationError: There are none to be had there.
        ImportError: What was named is not installed.
    """
    if prices is None and unit == "tokens":
        return None
    from tbcontracts.pricing import price_source

    return price_source(prices, unit)


def _check_choice(name: str, value: Any, choices: tuple[str, ...], also: str = "") -> None:
    """Refuse a value that is none of the choices."""
    if isinstance(value, str) and value in choices:
        return
    listed = ", ".join(f'"{choice}"' for choice in choices)
    msg = (
        f"{name} must be {'one of ' if len(choices) > 1 else ''}{listed}{also}, not {shown(value)}."
    )
    raise ConfigurationError(msg, remedy=f"What helps: {name}={next(iter(choices))!r}.")


def check_scope(scope: Any) -> str:
    """Return a scope name, which may hold periods such as `{utc:%Y-%m}`.

    Raises:
        TypeError: It is not text.
        ValueError: It is empty, too long, has control characters or a period that is none.
    """
    name = check_name(scope, "scope name")
    rest = _PERIOD.sub("", name)
    if "{" in rest or "}" in rest:
        msg = f"The scope name {name!r} has braces that are no period like {{utc:%Y-%m}}."
        raise ConfigurationError(msg, remedy="What helps: a name such as 'acme/{utc:%Y-%m}'.")
    for period in _PERIOD.findall(name):
        if expand_scope(f"{{utc:{period}}}", 0) == expand_scope(f"{{utc:{period}}}", _ANOTHER_TIME):
            msg = f"The period {period!r} in the scope name {name!r} never changes."
            raise ConfigurationError(msg, remedy="What helps: {utc:%Y-%m}, as strftime writes it.")
    check_name(expand_scope(name, _ANOTHER_TIME), "scope name")
    return name


def expand_scope(scope: str, now: float) -> str:
    """Fill in the periods of a scope name: a new month is a new name, and needs no reset."""
    if "{" not in scope:
        return scope
    from datetime import datetime, timezone  # slow to import, and most scopes have no period

    moment = datetime.fromtimestamp(now, tz=timezone.utc)
    return _PERIOD.sub(lambda period: moment.strftime(period[1]), scope).strip()
