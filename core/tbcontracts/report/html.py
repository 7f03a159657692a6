"""The page: one file that needs nothing else, no script and no request.

It says so itself: its policy allows no source of anything but its own style, which it names by its
hash.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from tbcontracts.money import plural
from tbcontracts.report import sections, sections_calls, sections_costs, svg
from tbcontracts.report.markup import Markup, element, joined
from tbcontracts.report.view import ReportView
from tbcontracts.report.words import Amounts, moment, share

GENERATOR = "tbcontracts report"
"""What the page says that it was made by."""
_MARK = f'<meta name="generator" content="{GENERATOR}">'
PARTS = (
    ("balances", "Agents"),
    ("timeline", "Time"),
    ("flows", "Gifts"),
    ("refused", "Refusals"),
    ("costs", "Cost"),
    ("calls", "Calls"),
    ("journal", "Journal"),
    ("words", "Words"),
)


def is_report(beginning: str) -> bool:
    """Return whether a file that begins so is such a page."""
    return beginning.startswith("<!DOCTYPE html>") and _MARK in beginning


def page(view: ReportView) -> str:
    """Return the page of a scope."""
    amounts = Amounts(view.unit)
    style = _style()
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Markup(_MARK),
        element("meta", http_equiv="Content-Security-Policy", content=policy(style)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"Budget of {view.scope}"),
        element("style", style),
    )
    main = element(
        "main",
        sections.balances(view, amounts),
        sections.timeline(view, amounts),
        sections.flows(view, amounts),
        sections_calls.refusals(view, amounts),
        sections_costs.costs(view, amounts),
        sections_calls.calls(view, amounts),
        sections_calls.journal(view, amounts),
        _words(),
        id="main",
        tabindex=-1,
    )
    skip = element("a", "Skip to the agents", href="#main", class_="skip")
    body = element("body", skip, svg.hatch(), _header(view, amounts), main, _footer(view))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def policy(style: str) -> str:
    """Return what the page may load: nothing but its style."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@cache
def _style() -> Markup:
    """Return the style, which is a file of this package."""
    return Markup(files("tbcontracts.report").joinpath("style.css").read_text(encoding="utf-8"))


def _header(view: ReportView, amounts: Amounts) -> Markup:
    """Return what the page is about, and the whole in one look."""
    state = "closed: it takes no more calls" if view.statement.closed else "open"
    when = "nothing has happened yet"
    if view.from_at is not None:
        when = f"{moment(view.from_at)} to {moment(view.to_at)}"
    links = [element("li", element("a", words, href=f"#{key}")) for key, words in PARTS]
    return element(
        "header",
        element("p", "Budget report", class_="kicker"),
        element("h1", element("bdi", view.scope)),
        element("p", f"{when}. The scope is {state}.", class_="quiet"),
        element("p", _in_words(view, amounts), class_="lead"),
        _cut(view),
        sections.summary(view, amounts),
        element("nav", element("ul", *links), aria_label="Parts of this page"),
    )


def _in_words(view: ReportView, amounts: Amounts) -> str:
    """Return what happened, in two sentences."""
    budgeted = sum(one.consumed for one in view.accounts if one.contract is not None)
    total = view.statement.total
    text = f"{plural(len(view.accounts), 'agent')} consumed {amounts.full(view.consumed)}"
    used = share(budgeted, total).replace(" %", "\N{NO-BREAK SPACE}%")
    text += f". The budget is {amounts.full(total)}; {used} of it is used."
    if not view.refused:
        return f"{text} No call was refused."
    through = view.counts.get("would_deny", 0)
    refused = view.refused - through
    was = "was" if refused == 1 else "were"
    sentences = [f"{plural(refused, 'call')} {was} refused."] if refused else []
    if through:
        calls = plural(through, "call")
        sentences.append(f"{calls} would have been refused, and went out: observe mode.")
    return " ".join([text, *sentences])


def _cut(view: ReportView) -> Markup | None:
    """Say from where the page starts, if that is not the beginning."""
    if view.whole:
        return None
    if view.from_at is None:
        text = "Of these books no journal is kept: only the numbers at the end are known."
        return element("p", text, class_="fold")
    text = (
        f"The journal was cut. This page starts at entry {view.first_seq:,}, "
        f"{moment(view.from_at)}; what happened before is in the numbers of each agent, and in "
        "nothing else here."
    )
    return element("p", text, class_="fold")


def _footer(view: ReportView) -> Markup:
    """Return what the page was made from."""
    entries = plural(sum(view.counts.values()), "entry", "entries")
    return element(
        "footer",
        element(
            "p",
            f"Made by tbcontracts from {entries} of the journal; the books stood at "
            f"{view.statement.seq:,}. Times are those of the store's clock. A budget is best "
            "effort against the provider's bill, not a guarantee.",
        ),
    )


_WORDS = (
    ("allocated", "what an agent may spend in this scope, gifts and top-ups counted"),
    ("consumed", "what its calls used, as the provider reported it or, if it did not, estimated"),
    ("held", "set aside for calls that are under way"),
    ("remaining", "allocated minus consumed minus held"),
    ("reserve", "the part of an agent's budget that no other agent may take"),
    ("pool", "budget that belongs to no agent; it is used before any agent gives"),
    ("priority", "higher is more important; budget flows to equal or higher priorities only"),
    ("overdrawn", "used more than could be covered; the next call is refused until that is paid"),
    ("estimated", "the provider reported no usage; unknown is never counted as zero"),
    ("refused", "a call that could not be paid for and was not sent"),
)


def _words() -> Markup:
    """Return what the words of the page mean."""
    lines = [joined(element("dt", term), element("dd", meaning)) for term, meaning in _WORDS]
    meanings = element("dl", *lines, class_="words")
    return sections.section("words", "What the words mean", meanings)
