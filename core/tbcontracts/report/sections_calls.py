"""The parts of the page that tell of calls: which were refused, how each ended, every entry."""

from __future__ import annotations

from tbcontracts.events import JournalEntry
from tbcontracts.money import plural
from tbcontracts.report.calls import CallView
from tbcontracts.report.markup import Markup, element, joined, name_of
from tbcontracts.report.moments import BUDGET_CODES, AccountThen, Denial
from tbcontracts.report.sections import ROWS_MAX, folded, said, section
from tbcontracts.report.tables import table
from tbcontracts.report.view import DENIALS_EACH_END, Group, ReportView
from tbcontracts.report.words import (
    Amounts,
    clock,
    code_in_words,
    help_for,
    reason_of,
    why_in_words,
)


def refusals(view: ReportView, amounts: Amounts) -> Markup:
    """Return each refusal, with its reason and the books at that moment."""
    title = "Which calls were refused, and why"
    if not view.refused and not view.groups:
        return section("refused", title, said("No call was refused."))
    rows = [_group_row(group, amounts) for group in view.groups[:ROWS_MAX]]
    headings = ["Agent", "Reason", "Refused", "Asked for in all", "First call", "Last call"]
    parts: list[Markup | None] = [
        said(
            f"Calls are numbered in the order in which they asked for budget. {_sent(view)} Open "
            "one to see the books at that moment: nobody gives from its reserve, nor to an agent "
            "of lower priority.",
            _numbering(view),
            kind="quiet",
        ),
        table("Refusals by agent and reason", headings, rows, numbers=(2, 3, 4, 5)),
        _repeats(view),
    ]
    shown = view.denials
    if view.denials_not_shown:
        first, last = shown[:DENIALS_EACH_END], shown[DENIALS_EACH_END:]
        parts += [_denial(denial, amounts) for denial in first]
        between = f"Calls {first[-1].call + 1:,} to {last[0].call - 1:,}"
        parts.append(
            said(
                f"{between}: {plural(view.denials_not_shown, 'more refusal')}, counted in the "
                "table above and not shown one by one. tbc history lists each.",
                kind="fold",
            )
        )
        shown = last
    parts += [_denial(denial, amounts) for denial in shown]
    return section("refused", title, *parts)


def _sent(view: ReportView) -> str:
    """Say what became of calls that were refused, or would have been."""
    sentences = ["A refused call was not sent, and moved nothing."]
    if view.counts.get("would_deny"):
        sentences.append("What observe mode let through went out, and moved nothing either.")
        if not view.counts.get("denied"):
            del sentences[0]
    return " ".join(sentences)


def _numbering(view: ReportView) -> str | None:
    """Say what numbers mean where the journal was cut."""
    if view.whole:
        return None
    return " The journal was cut: number 1 is the first call that it still holds."


def _repeats(view: ReportView) -> Markup | None:
    if view.repeats is None:
        text = "Refusals before the journal begins are counted with each agent, and not listed."
        return said(text, kind="quiet")
    if view.repeats <= 0:
        return None
    text = (
        f"{plural(view.repeats, 'refusal')} repeated the agent's one before with the same numbers. "
        "Those are counted with each agent and have no number and no entry of their own."
    )
    return said(text, kind="quiet")


def _group_row(group: Group, amounts: Amounts) -> list[object]:
    words = code_in_words(group.code)
    if group.let_through:
        words += " (went out: observe mode)"
    return [
        name_of(group.agent),
        words,
        f"{group.times:,}",
        amounts.short(group.asked),
        f"{group.first_call:,}",
        f"{group.last_call:,}",
    ]


def _denial(denial: Denial, amounts: Amounts) -> Markup:
    """Return one refusal, closed until it is asked for."""
    entry = denial.entry
    verb = "would have been refused, and went out" if denial.let_through else "was refused"
    head = joined(
        element("strong", f"Call {denial.call:,} {verb}"),
        element(
            "span",
            name_of(entry.agent),
            "" if denial.asked is None else f", {amounts.full(denial.asked)}",
            f": {code_in_words(denial.code)}",
        ),
    )
    facts = element(
        "dl",
        _fact("Agent", name_of(entry.agent)),
        _fact("When", clock(entry.at), " UTC"),
        _fact("Journal entry", f"{entry.seq:,}"),
        _fact("Code", element("code", denial.code or "none")),
        _fact("Asked for", amounts.full(denial.asked)),
        _fact("Could be reached", amounts.full(denial.available)),
        class_="facts",
    )
    body = element(
        "div",
        said(element("strong", "Why: "), reason_of(denial, amounts)),
        said(element("strong", "What would have helped: "), help_for(denial, amounts)),
        facts,
        _books(denial, amounts),
        id=f"call-{denial.call}",
        class_="body",
    )
    return element("details", element("summary", head), body, class_="refusal")


def _fact(term: str, *value: object) -> Markup:
    return element("div", element("dt", term), element("dd", *value))


def _books(denial: Denial, amounts: Amounts) -> Markup:
    """Return the state of the books at the moment of a refusal."""
    books = denial.books
    asked_others = denial.code in BUDGET_CODES
    rows = [_then_row(one, amounts, asked_others) for one in (books.taker, *books.others)]
    if books.not_shown:
        others = element("em", plural(books.not_shown, "other agent"))
        gives = amounts.short(books.not_shown_could_give) if asked_others else None
        rows.append([others, *[None] * 6, gives, "together"])
    pool: list[object] = [name_of(None), None, None, None, None, amounts.short(books.pool), None]
    if asked_others:
        rows.append([*pool, amounts.short(books.pool), "is asked first"])
    else:
        rows.append([*pool, None, "was not asked"])
    headings = ["Account", "Priority", "Allocated", "Consumed", "Held", "Remaining", "Reserve"]
    headings += ["Could give", "Why"]
    caption = f"The books when call {denial.call:,} asked, in {amounts.noun}"
    return table(caption, headings, rows, numbers=range(1, 8))


def _then_row(one: AccountThen, amounts: Amounts, asked_others: bool) -> list[object]:
    words: object = why_in_words(one) if asked_others else "was not asked"
    gives = amounts.short(one.could_give) if asked_others else None
    if one.why == "self":
        words, gives = element("strong", "asked for this call"), None
    numbers = (one.allocated, one.consumed, one.held, one.remaining)
    no_limit = one.no_contract
    return [
        name_of(one.agent),
        one.priority if one.priority is not None else "none" if no_limit else "not known",
        *[amounts.short(number) for number in numbers],
        "none" if no_limit else amounts.short(one.reserve),
        gives,
        words,
    ]


def calls(view: ReportView, amounts: Amounts) -> Markup:
    """Return the calls that asked for budget, and how each one ended."""
    if not view.calls:
        return section("calls", "Every call", said("No call asked for budget."))
    first = view.calls[0].at
    refused = {denial.call for denial in view.denials}
    rows = [_call_row(call, first, amounts, call.number in refused) for call in view.calls]
    parts = []
    missing = view.asked - len(view.calls)
    if missing:
        parts.append(
            said(
                f"{plural(view.asked, 'call')} asked. The first and the last "
                f"{len(view.calls) // 2:,} are shown, {missing:,} between them are not.",
                kind="fold",
            )
        )
    headings = ["Call", "Time", "Agent", "Asked for", "Used", "How it ended", "Moved to it"]
    caption = f"Calls in the order in which they asked, in {amounts.noun}"
    listed = table(caption, headings, rows, numbers=(0, 3, 4))
    shown = f"Show {plural(len(view.calls), 'call')}"
    return section("calls", "Every call", *parts, folded(shown, listed))


def _call_row(call: CallView, like: float, amounts: Amounts, explained: bool) -> list[object]:
    number: object = f"{call.number:,}"
    if explained:
        number = element("a", number, href=f"#call-{call.number}")
    used = amounts.short(call.used) if call.used is not None else "nothing yet"
    if call.outcome in ("denied", "voided", "expired") and call.used is None:
        used = "nothing"
    if call.unmeasured:
        used += ", estimated"
    moves = joined(
        *[
            joined(", " if at else None, f"{amounts.short(move.amount)} from ", name_of(move.donor))
            for at, move in enumerate(call.moves)
        ]
    )
    return [
        number,
        clock(call.at, like=like),
        name_of(call.agent),
        amounts.short(call.asked),
        used,
        _ending(call),
        moves,
    ]


def _ending(call: CallView) -> Markup:
    """Return how a call ended, in words."""
    words = {
        "open": "under way",
        "settled": "settled",
        "voided": "given back: nothing was billed",
        "expired": "its hold expired",
        "denied": "refused",
        "would_deny": "would have been refused; went out",
    }[call.outcome]
    if call.let_through and call.outcome != "would_deny":
        words += ", although it would have been refused"
    if call.late:
        words += ", late"
    extra = [text for text in (call.model, call.note) if text]
    return joined(words, *[joined("; ", element("bdi", text)) for text in extra])


_KINDS = {
    "opened": "contract came into force",
    "held": "hold granted",
    "denied": "refused",
    "would_deny": "would have been refused",
    "settled": "settled",
    "voided": "hold given back",
    "expired": "hold expired",
    "extended": "hold extended",
    "charged": "charged",
    "transferred": "moved by hand",
    "topped_up": "topped up",
    "finished": "finished",
    "contract_changed": "contract changed",
    "confidence": "score reported",
    "closed": "scope closed",
}


def journal(view: ReportView, amounts: Amounts) -> Markup:
    """Return the entries of the journal, for whoever wants to check."""
    if not view.entries:
        return section("journal", "The journal", said("The journal holds nothing."))
    first = view.entries[0].at
    rows = [_entry_row(entry, first, amounts) for entry in view.entries]
    total = sum(view.counts.values())
    missing = total - len(view.entries)
    parts = []
    if missing:
        parts.append(
            said(
                f"It holds {plural(total, 'entry', 'entries')}. The first and the last "
                f"{len(view.entries) // 2:,} are shown, {missing:,} between them are not.",
                kind="fold",
            )
        )
    headings = ["Entry", "Time", "What", "Agent", "Amount", "Remaining", "Pool", "Note"]
    caption = f"Entries, and the agent's numbers right after each, in {amounts.noun}"
    listed = table(caption, headings, rows, numbers=(0, 4, 5, 6))
    shown = f"Show {plural(len(view.entries), 'entry', 'entries')}"
    return section("journal", "The journal", *parts, folded(shown, listed))


def _entry_row(entry: JournalEntry, like: float, amounts: Amounts) -> list[object]:
    agent = "the scope" if entry.agent is None else name_of(entry.agent)
    if entry.agent is None and entry.kind == "topped_up":
        agent = name_of(None)
    note = entry.facts.get("note") or entry.facts.get("model") or entry.facts.get("sizing")
    return [
        f"{entry.seq:,}",
        clock(entry.at, like=like),
        _KINDS.get(entry.kind, entry.kind.replace("_", " ")),
        agent,
        amounts.short(entry.asked),
        amounts.short(entry.remaining) if entry.agent is not None else None,
        amounts.short(entry.pool),
        element("bdi", note) if note else None,
    ]
