"""What is asked of every application, and how its books are compared with the provider's log.

The provider tells agents apart by the system prompts that the application sends. It knows nothing
of contracts, so that a call on a wrong account shows.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.roster import Roster
from tbcontracts.testing import LoggedRequest

LARGE = 1_000_000
_DRAWN_ANEW = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|call_\d+_\d+|\d{4}-\d\d-\d\dT[\d:.]+"
)
_needs: dict[str, dict[str, int]] = {}


class Ran(NamedTuple):
    """A run: what came of it, what the provider logged, and the refusal that ended it."""

    outcome: str
    log: tuple[LoggedRequest, ...]
    error: BudgetExceededError | None = None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an application does when its budgets do not suffice; measured once, then a claim."""

    rich: str
    """The one agent that has budget, while all others have one token."""
    refused: tuple[str, ...]
    """Who may be refused first then: several where they are asked at once; nobody where the
    application asks that errors of tools be told to the model, and therefore goes on."""
    sent: int
    """How many requests the rich one has sent until the end."""
    after_refusal: int = 0
    """Requests sent after the first refusal, at 40 % of what is needed."""
    again: int = 0
    """Requests that are sent again when it resumes."""
    why: str = "A refusal comes out of every layer as itself, so that nothing follows it."
    """Why `after_refusal` and `again` are what they are."""


@dataclass(frozen=True, kw_only=True)
class Application(ABC):
    """An application, what the provider answers it, and what it is expected to do."""

    doors: ClassVar[tuple[str, ...]]
    """The other ways in which the framework lets it be run."""
    lost: ClassVar[tuple[str, ...]] = ()
    """Those of them that lose the callbacks on this Python."""

    name: str
    prompts: Mapping[str, str]
    """The agent of each system prompt, as the books call it."""
    script: Callable[[], Any]
    """What the provider answers, anew for each run."""
    expected: Expected
    idle: tuple[str, ...] = ()
    """Agents that the library adds, and that do nothing here."""
    faults: int = 0
    """How many of its requests the provider fails, at no cost."""

    @abstractmethod
    def roster(self, manager: BudgetManager) -> Roster:
        """Return what `agents_of` says of it."""

    @abstractmethod
    def run(self, manager: BudgetManager | None, door: str = "") -> Ran:
        """Run it until it is done or refused; plain where there is no manager."""


def agent_of(request: LoggedRequest, prompts: Mapping[str, str]) -> str:
    """Return whose request it is, by what its prompt says.

    Raises:
        AssertionError: The prompt is nobody's.
    """
    for told in (request.system_text, request.last_text):
        for part, agent in prompts.items():
            if part in told:
                return agent
    msg = f"No agent of the application has the prompt {request.system_text[:200]!r}."
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


def contracts(
    application: Application, budgets: Mapping[str, int], important: str = ""
) -> BudgetManager:
    """Return a manager with one contract for each agent; one may be more important."""
    manager = BudgetManager()
    for agent, tokens in {**dict.fromkeys(application.idle, 1), **budgets}.items():
        priority = 2 if agent == important else 1
        manager.register_agent(agent, max_tokens=tokens, priority=priority, min_reserve=0)
    return manager


def large(application: Application) -> BudgetManager:
    """Return contracts that never stop anybody."""
    return contracts(application, dict.fromkeys(application.prompts.values(), LARGE))


def scarce(application: Application) -> BudgetManager:
    """Return contracts over 40 % of what each agent needs."""
    needed = needs(application)
    return contracts(
        application, {agent: max(1, tokens * 2 // 5) for agent, tokens in needed.items()}
    )


def needs(application: Application) -> dict[str, int]:
    """Return what each agent uses when nothing stops it."""
    if application.name not in _needs:
        manager = large(application)
        _needs[application.name] = check_books(application, manager, application.run(manager).log)
    return _needs[application.name]


def check_books(
    application: Application, manager: BudgetManager, log: tuple[LoggedRequest, ...]
) -> dict[str, int]:
    """Return what each agent used, after comparing the books with the provider's log."""
    accounts = manager.accounts()
    consumed = {name: account.consumed for name, account in accounts.items() if account.consumed}
    truth = billed(log, application.prompts)
    assert consumed == truth, "the books are not the provider's log, agent by agent"
    assert set(accounts) <= set(manager.contracts), "a call was attributed to nobody"
    assert not any(account.held for account in accounts.values()), "a hold was left open"
    return truth


# --- what is asked of each ------------------------------------------------------------------------


def changes_nothing(application: Application) -> tuple[int, int]:
    """Contracts change neither prompts nor outputs, and the books are the provider's log.

    Returns:
        How many requests were sent, and what they cost.
    """
    plain = application.run(None)
    manager = large(application)
    governed = application.run(manager)
    assert governed.error is None
    assert prompts_sent(governed.log) == prompts_sent(plain.log)
    assert governed.outcome == plain.outcome
    assert sum(request.status != 200 for request in governed.log) == application.faults
    truth = check_books(application, manager, governed.log)
    assert set(truth) == set(application.prompts.values()), "an agent did nothing"
    return len(governed.log), sum(truth.values())


def stops(application: Application) -> None:
    """With 40 % of what it needs it stops, and what is sent after the first refusal is known."""
    manager = scarce(application)
    ran = application.run(manager)
    assert isinstance(ran.error, BudgetExceededError)
    check_books(application, manager, ran.log)
    assert sum(account.consumed for account in manager.accounts().values()) < sum(
        needs(application).values()
    )
    after, why = application.expected.after_refusal, application.expected.why
    assert sent_after_refusal(manager, ran.log) == after, why


def starves(application: Application) -> None:
    """One agent has all that it wants, the others one token: they are refused, it is not."""
    expected = application.expected
    budgets = {
        agent: LARGE if agent == expected.rich else 1 for agent in application.prompts.values()
    }
    manager = contracts(application, budgets, important=expected.rich)
    ran = application.run(manager)
    spent = check_books(application, manager, ran.log)
    assert set(spent) <= {expected.rich}
    assert len(ran.log) == expected.sent
    assert getattr(ran.error, "agent_name", None) in (expected.refused or (None,))


def is_listed(application: Application) -> None:
    """Each agent is found before anything runs, with the contract that pays in the run."""
    roster = application.roster(large(application))
    used = {*application.prompts.values(), *application.idle}
    assert {one.contract for one in roster.agents if one.asks_models} == used
    assert roster.findings == ()
    assert {one.contract for one in roster.agents} >= set(needs(application))


def same_through(application: Application, door: str) -> None:
    """Through another of the framework's doors the books are the same."""
    manager = large(application)
    ran = application.run(manager, door)
    assert ran.error is None
    assert check_books(application, manager, ran.log) == needs(application)
