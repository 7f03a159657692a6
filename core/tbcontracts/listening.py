"""A ready listener: the journal as lines of the standard log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, get_args

from tbcontracts.checks import nearest
from tbcontracts.entry_words import on_behalf_of
from tbcontracts.errors import ConfigurationError
from tbcontracts.events import JournalEntry, Kind
from tbcontracts.money import figure, said

if TYPE_CHECKING:
    from tbcontracts.manager import BudgetManager

OVERDRAFT = "overdraft"
"""A word for `levels`: usage that left an overdraft, of whichever kind the entry is."""
LEVELS: Mapping[str, int] = {
    "denied": logging.WARNING,
    "would_deny": logging.WARNING,
    "expired": logging.WARNING,
    OVERDRAFT: logging.WARNING,
}
"""What is a warning; everything else is written for debugging."""
_PRIVATE = frozenset(("note", "raw"))


def log_entries(
    manager: BudgetManager,
    logger: logging.Logger | None = None,
    levels: Mapping[str, int] | None = None,
) -> Callable[[], None]:
    """Write each journal entry of a manager to a log, on the thread of the listeners.

    The record's `tbcontracts` holds the entry as plain data, for structured logs. Notes, and what a
    provider reported that was no usage, are left out.

    Args:
        manager: Whose entries, in all its scopes.
        logger: Where they go; "tbcontracts.journal" if not given.
        levels: The level of each kind of entry, and of "overdraft", where it is to be another than
            in `LEVELS`.

    Returns:
        A function that ends it.

    Raises:
        ConfigurationError: There is no such kind of entry.
    """
    kinds = (*get_args(Kind), OVERDRAFT)
    for kind in levels or {}:
        if kind not in kinds:
            near = nearest(str(kind), kinds)
            hint = f" Did you mean {near!r}?" if near else ""
            msg = f"There is no kind of entry {kind!r}.{hint}"
            raise ConfigurationError(msg, remedy=f"What helps: one of {', '.join(kinds)}.")
    chosen = {**LEVELS, **(levels or {})}
    log = logger or logging.getLogger("tbcontracts.journal")

    def write(scope: str, entry: JournalEntry) -> None:
        limited = manager.contract_in(scope, entry.agent or "") is not None
        over = limited and _posts_overdraft(entry)  # a name without limit has none
        level = chosen.get(OVERDRAFT if over else entry.kind, logging.DEBUG)
        if log.isEnabledFor(level):
            data = {"scope": scope, **entry.as_dict()}
            data["facts"] = {key: one for key, one in data["facts"].items() if key not in _PRIVATE}
            text = _line(scope, entry, manager.settings.unit, limited=limited)
            log.log(level, "%s", text, extra={"tbcontracts": data})

    return manager.add_listener(write)


def _posts_overdraft(entry: JournalEntry) -> bool:
    """Return whether an entry posted usage, and more is used than there is."""
    return entry.kind in ("settled", "charged", "expired") and entry.remaining < 0


def _line(scope: str, entry: JournalEntry, unit: str, *, limited: bool) -> str:
    """Return an entry as a line."""
    facts: Mapping[str, Any] = entry.facts
    who = on_behalf_of(entry) if entry.agent is None else f"agent {entry.agent!r}"
    amount = "an amount not known" if entry.asked is None else said(entry.asked, unit)
    parts = [f"{entry.kind} {amount}", who]
    if "code" in facts:
        of = f" of {facts['model']!r}" if facts.get("model") else ""
        parts.append(f"because {facts['code']}{of}")
    if entry.moves:
        given = sum(move.amount for move in entry.moves)
        parts.append(f"with {figure(given, unit)} from {len(entry.moves)}")
    if entry.agent is not None and not limited:
        parts.append(f"{figure(entry.consumed, unit)} used in all, without a contract")
    elif entry.agent is not None:
        left = entry.remaining
        rest = figure(abs(left), unit)
        parts.append(f"{rest} left" if left >= 0 else f"{rest} overdrawn")
    return f"{scope!r} {entry.seq}: {', '.join(parts)}"
