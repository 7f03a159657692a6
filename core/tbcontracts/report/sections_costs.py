"""The part of the page about cost: what is known of it, and how sure the numbers are."""

from __future__ import annotations

from tbcontracts.money import plural
from tbcontracts.report.costs import AccountCost, Costs
from tbcontracts.report.markup import Markup, element, joined, name_of
from tbcontracts.report.sections import ROWS_MAX, said, section
from tbcontracts.report.tables import table
from tbcontracts.report.view import ReportView
from tbcontracts.report.words import Amounts, dollars, share


def costs(view: ReportView, amounts: Amounts) -> Markup:
    """Return what it cost, and how sure these numbers are."""
    title = "What it cost, and how sure that is"
    if not view.costs.known and view.unit != "usd":
        nothing = "There are no prices on these books, so what the calls cost is not known here."
        return section("costs", title, _sure(view, amounts), said(nothing))
    in_dollars = view.unit == "usd"
    tables = (_by_agent(view.costs, in_dollars=in_dollars), _by_model(view.costs))
    sentence = _sentence(view.costs, in_dollars=in_dollars)
    return section("costs", title, _sure(view, amounts), said(sentence), *tables)


def _sentence(found: Costs, *, in_dollars: bool) -> str:
    """Return the cost in a sentence; what is unknown is in no sum.

    Books in dollars must charge something nonetheless: there it is the hold.
    """
    if not found.known:
        return "No call had a known price: what they cost is unknown."
    if in_dollars:
        charged = f"{dollars(found.cost_micro_usd)} were charged."
        if not found.unpriced_tokens:
            return charged
        unpriced = plural(found.unpriced_tokens, "token")
        return f"{charged} The price of {unpriced} is unknown: what was held for them was charged."
    sentence = f"The calls whose price is known cost {dollars(found.cost_micro_usd)}."
    if found.unpriced_tokens:
        sentence += (
            f" What {plural(found.unpriced_tokens, 'token')} of other calls cost is unknown, and "
            "in no sum."
        )
    return sentence


def _by_agent(found: Costs, *, in_dollars: bool) -> Markup:
    """Return the cost of each agent."""
    rows = [
        [name_of(line.agent), _cost_of(line, in_dollars=in_dollars), f"{line.unpriced_tokens:,}"]
        for line in found.accounts[:ROWS_MAX]
    ]
    headings = ["Agent", "Cost", "Tokens without a price"]
    return table("Cost of each agent", headings, rows, numbers=(1, 2))


def _by_model(found: Costs) -> Markup | None:
    """Return the cost of each model."""
    if not found.models:
        return None
    rows = [
        [
            element("bdi", line.model) if line.model else element("em", "model not told"),
            f"{line.calls:,}",
            f"{line.tokens:,}",
            dollars(line.cost_micro_usd) if line.unpriced_calls < line.calls else "unknown",
            f"{line.unpriced_calls:,}",
        ]
        for line in found.models[:ROWS_MAX]
    ]
    headings = ["Model", "Calls", "Tokens", "Cost", "Calls without a price"]
    caption = "Cost of each model, of the calls that the journal holds"
    return table(caption, headings, rows, numbers=range(1, 5))


def _cost_of(line: AccountCost, *, in_dollars: bool) -> str:
    """Return what an agent's calls cost; a part that is unknown is said, and never zero."""
    if not line.unpriced_tokens or (in_dollars and line.cost_micro_usd):
        return dollars(line.cost_micro_usd)
    return f"{dollars(line.cost_micro_usd)} + unknown" if line.cost_micro_usd else "unknown"


def _sure(view: ReportView, amounts: Amounts) -> Markup:
    """Say which numbers are estimates, and who is overdrawn."""
    if not view.consumed:
        sentence = "Nothing was consumed."
    elif view.unmeasured:
        sentence = (
            f"{amounts.full(view.unmeasured)}, {share(view.unmeasured, view.consumed)} of what was "
            "consumed, are an estimate: the provider did not report them."
        )
    else:
        sentence = "All that was consumed was reported; none of it is an estimate."
    over = [account for account in view.accounts if account.overdraft]
    then = "its next call is refused until that is paid."
    if view.counts.get("would_deny"):
        then = "its next call does not fit until that is paid, and goes out in observe mode alone."
    lines = [
        element(
            "li",
            name_of(account.agent),
            f" is overdrawn by {amounts.full(account.overdraft)}; {then}",
        )
        for account in over[:ROWS_MAX]
    ]
    listed = element("ul", *lines) if lines else said("Nobody is overdrawn.")
    return joined(said(sentence), listed)
