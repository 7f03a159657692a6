"""How the books of an application are compared with the provider's log.

The provider tells agents apart by the system prompts that the application sends. It knows nothing
of contracts, so that a call on a wrong account shows.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tbcontracts import BudgetManager
from tbcontracts.testing import LoggedRequest

LARGE = 1_000_000
_DRAWN_ANEW = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|call_\d+_\d+|\d{4}-\d\d-\d\dT[\d:.]+"
)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an application does when its budgets do not suffice; measured once, then a claim."""

    after_refusal: int = 0
    """Requests sent after the first refusal, at 40 % of what is needed."""
    rich: str
    """The one agent that has budget, while all others have one token."""
    refused: tuple[str, ...]
    """Who may be refused first then: several where they are asked at once; nobody where the
    application asks that errors of tools be told to the model, and therefore goes on."""
    sent: int
    """How many requests the rich one has sent until the end."""
    again: int = 0
    """Requests that are sent again when it resumes."""
    why: str = "A refusal comes out of every layer as itself, so that nothing follows it."
    """Why `after_refusal` and `again` are what they are."""


class Books(NamedTuple):
    """What a manager's books say."""

    consumed: dict[str, int]
    held: int
    unmeasured: int

    @classmethod
    def of(cls, manager: BudgetManager) -> Books:
        """Read them."""
        accounts = manager.accounts().values()
        return cls(
            {account.agent: account.consumed for account in accounts if account.consumed},
            sum(account.held for account in accounts),
            sum(account.unmeasured for account in accounts),
        )


def agent_of(request: LoggedRequest, prompts: Mapping[str, str]) -> str:
    """Return whose request it is, by what its prompt says.

    Raises:
        AssertionError: The prompt is nobody's.
    """
    told = request.system_text or request.last_text
    for part, agent in prompts.items():
        if part in told:
            return agent
    msg = f"No agent of the application has the prompt {told[:200]!r}."
    raise AssertionError(msg)


def billed(log: tuple[LoggedRequest, ...], prompts: Mapping[str, str]) -> dict[str, int]:
    """Return what the provider bills for each agent."""
    total: Counter[str] = Counter()
    for request in log:
        if request.billed_tokens:
            total[agent_of(request, prompts)] += request.billed_tokens
    return dict(total)


def prompts_sent(log: tuple[LoggedRequest, ...]) -> list[str]:
    """Return what was sent, without what is drawn anew in each run, in an order of its own."""
    return sorted(as_said(request.body) for request in log)


def as_said(value: object) -> str:
    """Return plain data as text without ids and times, which each run draws anew."""
    return _DRAWN_ANEW.sub("<anew>", json.dumps(value, sort_keys=True, default=str))


def sent_after_refusal(manager: BudgetManager, log: tuple[LoggedRequest, ...]) -> int:
    """Return how many requests were sent after the first refusal.

    Each request that was admitted has a hold in the journal. What the provider has beyond the holds
    before the first denial came after it, whether it had a hold or not.
    """
    before = 0
    for entry in manager.journal():
        if entry.kind == "denied":
            return len(log) - before
        before += entry.kind == "held"
    msg = "Nothing was refused."
    raise AssertionError(msg)


def contracts(budgets: Mapping[str, int]) -> BudgetManager:
    """Return a manager with one contract for each agent, all of one priority."""
    manager = BudgetManager()
    for agent, tokens in budgets.items():
        manager.register_agent(agent, max_tokens=tokens, min_reserve=0)
    return manager


def large(agents: Mapping[str, str]) -> BudgetManager:
    """Return contracts that never stop anybody."""
    return contracts(dict.fromkeys(agents.values(), LARGE))


def check_books(
    manager: BudgetManager, log: tuple[LoggedRequest, ...], prompts: Mapping[str, str]
) -> dict[str, int]:
    """Return what each agent used, after comparing the books with the provider's log."""
    books = Books.of(manager)
    truth = billed(log, prompts)
    assert books.consumed == truth, "the books are not the provider's log, agent by agent"
    assert set(manager.accounts()) <= set(manager.contracts), "a call was attributed to nobody"
    assert books.held == 0, "a hold was left open"
    return truth


Call = Callable[..., Any]
