"""The parts of the page about budget: in one look, per agent, over time, who gave to whom."""

from __future__ import annotations

from collections.abc import Sequence

from tbcontracts.money import plural
from tbcontracts.report import svg
from tbcontracts.report.markup import Markup, element, joined, name_of
from tbcontracts.report.tables import table
from tbcontracts.report.timeline import Part
from tbcontracts.report.view import Balance, Flow, ReportView
from tbcontracts.report.words import Amounts, clock, dollars, moment, share

ROWS_MAX = 200
_LONG = 10
"""From so many letters on a number is written smaller, so that it stays on one line."""


def section(key: str, title: str, *parts: object) -> Markup:
    """Return a section with its heading."""
    heading = element("h2", title, id=f"{key}-heading")
    return element("section", heading, *parts, id=key, aria_labelledby=f"{key}-heading")


def said(*parts: object, kind: str | None = None) -> Markup:
    """Return a paragraph."""
    return element("p", *parts, class_=kind)


def folded(summary: object, *parts: object) -> Markup:
    """Return something that opens when it is asked for."""
    return element("details", element("summary", summary), *parts)


def summary(view: ReportView, amounts: Amounts) -> Markup:
    """Return the whole in one look."""
    statement, consumed = view.statement, view.consumed
    budgeted = sum(one.consumed for one in view.accounts if one.contract is not None)
    overdraft = sum(account.overdraft for account in view.accounts)
    moved = sum(flow.amount for flow in view.flows if flow.taker is not None)
    unit = "" if view.unit == "usd" else f"{amounts.noun}, "
    tiles = [
        _tile(
            "Consumed",
            amounts.short(consumed),
            f"{unit}{share(budgeted, statement.total)} of {amounts.short(statement.total)}",
        ),
        _tile("Held now", amounts.short(view.held), f"{unit}set aside for calls under way"),
        _tile("Calls refused", f"{view.refused:,}", _refused_note(view)),
        _tile("Moved", amounts.short(moved), f"{unit}between agents or from the pool"),
        _tile(
            "Estimated",
            share(view.unmeasured, consumed),
            "of what was consumed: the provider did not report it",
        ),
        _tile("Overdrawn", amounts.short(overdraft), f"{unit}used beyond what could be covered"),
    ]
    if view.unit == "usd":
        if view.costs.unpriced_tokens:
            note = "tokens, whose holds were charged instead"
            tiles.append(_tile("Price unknown", f"{view.costs.unpriced_tokens:,}", note))
    elif view.costs.known:
        cost = dollars(view.costs.cost_micro_usd)
        tiles.append(_tile("Cost", cost, _unpriced_note(view)))
    return element("dl", *tiles, class_="tiles")


def _tile(term: str, value: str, note: str) -> Markup:
    kind = "value" if len(value) < _LONG else "value long"
    number = element("dd", value, class_=kind)
    return element("div", element("dt", term), number, element("dd", note, class_="note"))


def _refused_note(view: ReportView) -> str:
    if not view.refused:
        return "every call that asked went out"
    through = view.counts.get("would_deny", 0)
    if through:
        return f"{through:,} of them went out all the same: observe mode"
    if view.repeats is None:
        return "those before the journal begins are counted too"
    return f"of {plural(view.asked + view.repeats, 'call')} that asked"


def _unpriced_note(view: ReportView) -> str:
    unpriced = view.costs.unpriced_tokens
    if not unpriced:
        return "every call had a known price"
    return f"and what {plural(unpriced, 'token')} cost, whose price is unknown"


def balances(view: ReportView, amounts: Amounts) -> Markup:
    """Return what each agent has, and how that came."""
    legend = element(
        "ul",
        _key("consumed", "consumed"),
        _key("held", "held for calls under way"),
        _key("free", "remaining"),
        _key("reserve", "right of this line: the reserve, which nobody may take"),
        _key("over", "overdrawn: beyond the budget"),
        class_="legend",
    )
    shown = view.balances[:ROWS_MAX]
    rows = [_balance_row(row, amounts) for row in shown]
    if len(view.balances) > len(shown):
        rows.append(_other_agents(view.balances[ROWS_MAX:], amounts))
    headings = ["Agent", "Priority", "Allocated", "Consumed", "Held", "Remaining"]
    headings += ["Reserve", "Gave", "Received", "Estimated", "Refused"]
    pool = f"The pool, which belongs to nobody, has {amounts.full(view.statement.pool)}."
    if view.whole:
        pool += " Gave and received: all moves since the books were opened."
    else:
        pool += " Gave and received: the moves that the journal still holds."
    note = None
    if len(view.balances) > svg.BARS_MAX:
        note = f"The picture shows the first {svg.BARS_MAX} of {len(view.balances):,} agents."
    return section(
        "balances",
        "What each agent has",
        legend,
        element("figure", svg.balances(view.balances, amounts)),
        said(note, kind="quiet") if note else None,
        table(f"Each agent, in {amounts.noun}", headings, rows, numbers=range(1, 11)),
        said(pool, kind="quiet"),
    )


def _key(kind: str, words: str) -> Markup:
    """Return one line of a legend."""
    if kind == "reserve":
        sample = element("line", class_="reserve", x1=12, x2=12, y1=0, y2=14)
    else:
        sample = element("rect", class_=kind, x=1, y=1, width=22, height=12)
    drawn = element("svg", sample, width=24, height=14, aria_hidden="true")
    return element("li", drawn, " ", words)


def _balance_row(row: Balance, amounts: Amounts) -> list[object]:
    account = row.account
    contract = account.contract
    name = name_of(account.agent)
    marks = [word for word, is_so in _marks(row) if is_so]
    if marks:
        name = joined(name, " ", element("span", ", ".join(marks), class_="mark"))
    numbers: list[object] = [
        amounts.short(account.allocated),
        amounts.short(account.consumed),
        amounts.short(account.held),
        amounts.short(account.remaining),
        amounts.short(contract.reserve) if contract else "none",
        amounts.short(row.given),
        amounts.short(row.received),
        share(account.unmeasured, account.consumed),
        f"{account.denials:,}",
    ]
    if contract is None:
        numbers[0] = numbers[3] = "no limit"
    return [name, contract.priority if contract else "none", *numbers]


def _marks(row: Balance) -> tuple[tuple[str, bool], ...]:
    """Return what else is to be said of an agent, as a word beside its name."""
    account = row.account
    return (
        ("no contract", account.contract is None),
        ("overdrawn", account.overdraft > 0),
        ("finished", account.finished),
        (f"{plural(account.expired_holds, 'hold')} expired", account.expired_holds > 0),
    )


def _other_agents(rows: Sequence[Balance], amounts: Amounts) -> list[object]:
    """Return the line of all agents that have none of their own."""
    accounts = [row.account for row in rows]
    limited = [one for one in accounts if one.contract is not None]
    return [
        element("em", f"{len(rows):,} other agents together"),
        None,
        amounts.short(sum(one.allocated for one in limited)),
        amounts.short(sum(one.consumed for one in accounts)),
        amounts.short(sum(one.held for one in accounts)),
        amounts.short(sum(one.remaining for one in limited)),
        amounts.short(sum(row.reserve or 0 for row in rows)),
        amounts.short(sum(row.given for row in rows)),
        amounts.short(sum(row.received for row in rows)),
        share(sum(one.unmeasured for one in accounts), sum(one.consumed for one in accounts)),
        f"{sum(one.denials for one in accounts):,}",
    ]


def timeline(view: ReportView, amounts: Amounts) -> Markup:
    """Return what happened when."""
    parts = view.timeline.parts
    if not parts:
        return section("timeline", "What happened when", said("The journal holds nothing."))
    what = "Each column is an equal part of the time"
    if not view.timeline.by_time:
        what = "All of it happened at one moment, so columns are entries in their order"
    legend = element(
        "ul",
        _key("consumed", "consumed in all"),
        _key("held", "held at that time"),
        element("li", "The line at the top is the budget of the scope."),
        class_="legend",
    )
    lines = [_part_row(part, parts[0].from_at, amounts) for part in parts if part.counts]
    headings = ["From", "Holds", "Held", "Posted", "Used", "Moves", "Moved", "Refused"]
    headings += ["Consumed in all"]
    caption = f"What happened in each part of the time, in {amounts.noun}; empty parts left out"
    return section(
        "timeline",
        "What happened when",
        said(what, f", from {moment(view.from_at)} to {moment(view.to_at)}.", kind="quiet"),
        legend,
        element("figure", svg.timeline(view.timeline, amounts)),
        folded("The same as a table", table(caption, headings, lines, numbers=range(1, 9))),
    )


def _part_row(part: Part, like: float, amounts: Amounts) -> list[object]:
    counts, sums = part.counts, part.amounts
    row: list[object] = [clock(part.from_at, like=like)]
    for lane in ("held", "posted", "moved"):
        row += [f"{counts.get(lane, 0):,}", amounts.short(sums.get(lane, 0))]
    return [*row, f"{counts.get('refused', 0):,}", amounts.short(part.consumed)]


def flows(view: ReportView, amounts: Amounts) -> Markup:
    """Return who gave to whom."""
    if not view.flows:
        nothing = "Nobody gave anything to anybody: each agent lived on its own budget."
        if not view.whole:
            nothing = "The journal holds no move; what was moved before it begins is not known."
        return section("flows", "Who gave to whom", said(nothing))
    shown = view.flows[:ROWS_MAX]
    rows = [_flow_row(flow, amounts) for flow in shown]
    more = view.flows[ROWS_MAX:]
    if more:
        amount = amounts.short(sum(flow.amount for flow in more))
        times = f"{sum(flow.times for flow in more):,}"
        rows.append([element("em", f"{len(more):,} other pairs"), None, amount, times])
    caption = f"Every gift, in {amounts.noun}, the largest first"
    return section(
        "flows",
        "Who gave to whom",
        said(
            "An agent that lacks budget takes from the pool first, then from agents whose priority "
            "is not higher than its own. None gives from its reserve. What an agent that has "
            "finished leaves goes to the pool.",
            kind="quiet",
        ),
        element("figure", svg.flows(view.flows, amounts)),
        table(caption, ["Giver", "Taker", "Amount", "Times"], rows, numbers=(2, 3)),
    )


def _flow_row(flow: Flow, amounts: Amounts) -> list[object]:
    number = amounts.short(flow.amount)
    return [name_of(flow.donor), name_of(flow.taker), number, f"{flow.times:,}"]
