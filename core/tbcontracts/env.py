"""Environment variables: where a deployment says otherwise than the contract file.

They count where this library makes the manager from a file or for a crew: an argument in code comes
first, then the environment, then the file, then the default. `BudgetManager(...)` itself reads only
`TBCONTRACTS_DISABLED`, so that neither tests nor libraries are changed from outside unawares.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from tbcontracts.checks import nearest
from tbcontracts.errors import ConfigurationError

PREFIX = "TBCONTRACTS_"
_log = logging.getLogger("tbcontracts")


class Variable(NamedTuple):
    """A variable, and the key of a contract file that it stands for."""

    name: str
    key: str | None
    """None for those that are no setting of a manager."""
    meaning: str
    is_list: bool = False
    """Whether it holds numbers, with commas between them."""


CONFIG = Variable(
    "TBCONTRACTS_CONFIG", None, "The contract file, where code names neither file nor manager."
)
DISABLED = Variable(
    "TBCONTRACTS_DISABLED",
    None,
    "`1` in an emergency: every manager only observes. Calls are recorded, none is refused.",
)
STORE = Variable("TBCONTRACTS_STORE", "store", "Where the books are, as a URL.")
SCOPE = Variable("TBCONTRACTS_SCOPE", "scope", "The name of the books; may hold `{utc:%Y-%m}`.")
ENFORCEMENT = Variable(
    "TBCONTRACTS_ENFORCEMENT", "enforcement", "`observe`, `expected` or `strict`."
)
UNATTRIBUTED = Variable("TBCONTRACTS_UNATTRIBUTED", "unattributed", "`track` or `deny`.")
ON_CONTRACT_CHANGE = Variable(
    "TBCONTRACTS_ON_CONTRACT_CHANGE", "on_contract_change", "`keep`, `apply` or `raise`."
)
ON_STORE_ERROR = Variable("TBCONTRACTS_ON_STORE_ERROR", "on_store_error", "`deny` or `allow`.")
OUTBOX = Variable(
    "TBCONTRACTS_OUTBOX", "outbox", "A file in which this process notes what was used."
)
WARN_AT = Variable(
    "TBCONTRACTS_WARN_AT", "warn_at", "Shares of a budget at which to warn: `0.8, 0.95`.", True
)
TELEMETRY = Variable("TBCONTRACTS_TELEMETRY", "telemetry", "`otel`, for OpenTelemetry.")
VARIABLES = (
    CONFIG,
    DISABLED,
    STORE,
    SCOPE,
    ENFORCEMENT,
    UNATTRIBUTED,
    ON_CONTRACT_CHANGE,
    ON_STORE_ERROR,
    OUTBOX,
    WARN_AT,
    TELEMETRY,
)
"""All of them."""

_YES = frozenset(("1", "true", "yes", "on"))
_NO = frozenset(("0", "false", "no", "off"))


def value_of(variable: Variable) -> str | None:
    """Return what a variable says; an empty one says nothing."""
    return os.environ.get(variable.name, "").strip() or None


def settings_given() -> dict[Variable, str]:
    """Return the settings that stand in the environment, as text.

    Raises:
        ConfigurationError: The store's URL is none.
    """
    for said in unknown():
        warnings.warn(said, UserWarning, stacklevel=4)
    given = as_text()
    check_url(given.get(STORE, ""))
    return given


def as_text() -> dict[Variable, str]:
    """Return the settings that stand in the environment, whatever they say."""
    found = {variable: value_of(variable) for variable in VARIABLES if variable.key is not None}
    return {variable: value for variable, value in found.items() if value is not None}


def check_url(text: str) -> None:
    """Refuse as a store's URL what is none.

    Raises:
        ConfigurationError: It is none. What `urlsplit` says of it is not passed on: that would show
            the URL, which may hold a password.
    """
    from urllib.parse import urlsplit  # slow to import

    try:
        urlsplit(text)
    except ValueError:
        msg = f"{STORE.name} is not a URL."
        raise ConfigurationError(msg, remedy=f"What helps: {STORE.name}=memory://") from None


def is_disabled() -> bool:
    """Return whether every manager is to observe only.

    Raises:
        ConfigurationError: The variable says neither yes nor no.
    """
    value = value_of(DISABLED)
    if value is None or value.lower() in _NO:
        return False
    if value.lower() in _YES:
        return True
    msg = f"{DISABLED.name} must be 1 or 0, not {value!r}."
    raise ConfigurationError(msg, remedy=f"What helps: {DISABLED.name}=1, or unset it.")


def unless_disabled(enforcement: str, on_contract_change: str) -> tuple[str, str]:
    """Return how a manager behaves: as it was told, or in an emergency so that nothing is refused.

    Raises:
        ConfigurationError: The variable says neither yes nor no.
    """
    if not is_disabled():
        return enforcement, on_contract_change
    _log.warning(
        '%s is set: this manager only observes (enforcement="observe" instead of %r). '
        "What is used is recorded, and nothing is refused.",
        DISABLED.name,
        enforcement,
    )
    return "observe", "keep" if on_contract_change == "raise" else on_contract_change


def unknown() -> Iterator[str]:
    """Say of each variable that looks like ours and is none what may have been meant."""
    names = [variable.name for variable in VARIABLES]
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in names:
            # Without what all of them begin with, which would make any two names look alike.
            ends = [known.removeprefix(PREFIX) for known in names]
            near = nearest(name.removeprefix(PREFIX), ends)
            hint = f"Did you mean {PREFIX}{near}?" if near else f"There are {', '.join(names)}."
            yield f"{name} is no variable of tbcontracts. {hint}"
