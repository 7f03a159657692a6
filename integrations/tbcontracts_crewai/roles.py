"""Roles as account names: one spelling, and templates tied to what became of them.

`agents.yaml` writes most roles as folded blocks, which end in a newline, and fills in `{topic}`
when a kickoff begins. Comparing such texts as they stand matches nothing, and budgets nothing.
"""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
from typing import Any

from tbcontracts import BudgetManager
from tbcontracts.checks import NAME_BYTES_MAX

_DIGEST_CHARACTERS = 8
_AGENTS_KEPT = 10_000
_PLACEHOLDER = re.compile(r"\\\{[^{}]+\\\}")


def normalise(role: object) -> str:
    """Return a role in its one spelling: NFC, stripped, blanks and control characters folded.

    A role too long for an account name is cut, and told from others by a digest of the whole.
    """
    text = unicodedata.normalize("NFC", str(role or ""))
    plain = (
        " " if unicodedata.category(character) in ("Cc", "Cs") else character for character in text
    )
    name = " ".join("".join(plain).split())
    whole = name.encode()
    if len(whole) <= NAME_BYTES_MAX:
        return name
    digest = hashlib.sha256(whole).hexdigest()[:_DIGEST_CHARACTERS]
    room = NAME_BYTES_MAX - _DIGEST_CHARACTERS - 1
    return f"{whole[:room].decode(errors='ignore').rstrip()} {digest}"


def template_of(agent: Any) -> str:
    """Return an agent's role as it was written, before a kickoff filled in its inputs."""
    return normalise(getattr(agent, "_original_role", None) or getattr(agent, "role", None))


class Roles:
    """Finds the account that pays for an agent.

    In this order: the agent that was seen before (by its id), its template, its role, the template
    that such a role came from, a contract whose placeholders fit, and at last the template itself.
    """

    def __init__(self, manager: BudgetManager) -> None:
        self._manager = manager
        self._by_agent: dict[str, str] = {}
        self._by_role: dict[str, str] = {}
        self._lock = threading.Lock()

    def learn(self, agent: Any) -> str | None:
        """Note an agent, and return its account; None if it has no role."""
        role = normalise(getattr(agent, "role", None))
        template = template_of(agent)
        account = self._contract(template) or self._find(role) or template
        if not account:
            return None
        with self._lock:
            self._by_role[role] = account
            self._by_agent[str(getattr(agent, "id", id(agent)))] = account
            for known in (self._by_role, self._by_agent):
                while len(known) > _AGENTS_KEPT:
                    del known[next(iter(known))]
        return account

    def account(self, agent_id: str | None, role: str | None) -> str | None:
        """Return the account of the agent that an event names; None if it names none."""
        known = self._by_agent.get(agent_id or "")
        if known is not None:
            return known
        name = normalise(role)
        return (self._find(name) or name) or None

    def _find(self, role: str) -> str | None:
        """Return the account of a role by its text."""
        return self._contract(role) or self._by_role.get(role) or self._fitting(role)

    def _contract(self, name: str) -> str | None:
        """Return the contract of this name, however its blanks were written."""
        contracts = self._manager.contracts
        if not name or name in contracts:
            return name or None
        return next((known for known in tuple(contracts) if normalise(known) == name), None)

    def _fitting(self, role: str) -> str | None:
        """Return the one contract whose placeholders can be filled to give this role."""
        fitting = [
            known
            for known in tuple(self._manager.contracts)
            if "{" in known and _pattern(normalise(known)).fullmatch(role)
        ]
        return fitting[0] if len(fitting) == 1 else None


def _pattern(template: str) -> re.Pattern[str]:
    """Return what a filled-in template looks like."""
    return re.compile(_PLACEHOLDER.sub("(.+)", re.escape(template)))
