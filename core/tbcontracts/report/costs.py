"""What it cost, as far as the books know: an unknown price is told as unknown, never as zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tbcontracts.books import AccountView
from tbcontracts.events import JournalEntry


class ModelCost(NamedTuple):
    """What the calls of one model used and cost, of those that the journal still holds."""

    model: str | None
    """None where the call did not say which."""
    calls: int
    tokens: int
    cost_micro_usd: int
    """Of the calls whose price was known."""
    unpriced_calls: int
    """Calls whose price was not known; what they cost is in no sum."""


class AccountCost(NamedTuple):
    """What an agent's calls cost."""

    agent: str
    cost_micro_usd: int
    unpriced_tokens: int


class Costs(NamedTuple):
    """What the calls of a scope cost."""

    known: bool
    """Whether any price is on these books at all."""
    cost_micro_usd: int
    unpriced_tokens: int
    """Tokens whose price was not known; what they cost is in no sum."""
    accounts: tuple[AccountCost, ...]
    models: tuple[ModelCost, ...]


def costs_of(
    accounts: Sequence[AccountView], journal: Iterable[JournalEntry], unit: str = "tokens"
) -> Costs:
    """Add up what is known of costs; `unit` is what the books are in."""
    lines = tuple(
        AccountCost(account.agent, account.cost_micro_usd, account.unpriced_tokens)
        for account in accounts
    )
    models = _models(journal, unit)
    cost = sum(line.cost_micro_usd for line in lines)
    priced = any(line.model is not None and line.unpriced_calls < line.calls for line in models)
    unpriced = sum(line.unpriced_tokens for line in lines)
    return Costs(cost > 0 or priced, cost, unpriced, lines, models)


def _models(journal: Iterable[JournalEntry], unit: str) -> tuple[ModelCost, ...]:
    """Add up usage and cost by model; an estimate that the truth may still replace is left out."""
    found: dict[str | None, ModelCost] = {}
    for entry in journal:
        if entry.kind not in ("settled", "charged") or entry.facts.get("provisional"):
            continue
        said = entry.facts.get("model")
        model = None if said is None else str(said)
        cost, tokens = _cost_and_tokens(entry, unit)
        line = found.get(model) or ModelCost(model, 0, 0, 0, 0)
        if model is None and cost == 0 and not tokens:
            continue  # a part of a hold that grew: the call itself is another entry
        found[model] = ModelCost(
            model,
            line.calls + 1,
            line.tokens + tokens,
            line.cost_micro_usd + (cost or 0),
            line.unpriced_calls + (cost is None),
        )
    return tuple(sorted(found.values(), key=lambda line: (-line.tokens, line.model or "")))


def _cost_and_tokens(entry: JournalEntry, unit: str) -> tuple[int | None, int]:
    """Return what a charge cost, if that is known, and its tokens.

    A charge may be a number alone: then it is the cost or the tokens, whatever the books are in.
    """
    facts = entry.facts
    cost, counted = facts.get("cost_micro_usd"), "input_tokens" in facts
    tokens = sum(int(facts.get(key, 0)) for key in ("input_tokens", "output_tokens"))
    if unit == "usd" and cost is None and not facts.get("unpriced"):
        cost = entry.amount
    if unit == "tokens" and not counted:
        tokens = entry.amount
    return (cost if isinstance(cost, int) else None), tokens
