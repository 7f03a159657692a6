"""The page in a real browser: nothing in it runs, nothing leaves, and everybody can read it."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.core.report.books import History, kept, large
from tests.core.report.chromium import Chromium

from tbcontracts import BudgetContract, Usage
from tbcontracts.commands import Charge, Command, Finish, Open, Refuse, Reserve, Settle
from tbcontracts.report.html import page
from tbcontracts.report.view import view_of

HOSTILE = (
    "<script>ran('script')</script>",
    "<img src=x onerror=ran('img')>",
    "<svg/onload=ran('svg')>",
    "</title><script>ran('title')</script>",
    "</style><script>ran('style')</script>",
    "</script><script>ran('close')</script>",
    "\"><script>ran('quote')</script>",
    "' onmouseover='ran(1)' x='",
    '" autofocus onfocus="ran(2)" tabindex="1',
    "javascript:ran('url')",
    "<a href=javascript:ran('a')>click</a>",
    "<iframe src=https://example.com></iframe>",
    "<link rel=stylesheet href=https://example.com/a.css>",
    "<style>@import 'https://example.com/b.css';*{background:url(https://example.com/c)}</style>",
    "}*{background:url(https://example.com/d)}",
    "url(https://example.com/e)",
    "&lt;script&gt;ran('entity')&lt;/script&gt;",
    "&#60;script&#62;ran('number')&#60;/script&#62;",
    "<!--",
    "-->",
    "]]><![CDATA[",
    "<foreignObject><body onload=ran('foreign')>",
    '<animate onbegin=ran("animate") attributeName=x dur=1s>',
    "<use href=https://example.com/f.svg#x>",
    "<base href=https://example.com/>",
    "<meta http-equiv=refresh content='0;url=https://example.com'>",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "abc\u202egnp.exe",
    "\u2066\u2067left\u2069",
    "a\u0000b\u0007\u001b[31m",
    "line\nbreak\r\n\u2028\u2029",
    "\ufeff\u200b\u200d",
    "שלום عليكم",
    "x" * 200,
    "\U0001f600" * 50,
)


HIDDEN = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
"""What turns text around or ends lines, unseen."""


def history_of(words: list[str]) -> History:
    """Return books in which each word is an agent, a note, a model and a reason."""
    steps: list[tuple[Command, float]] = [(Open((BudgetContract("calm", max_tokens=5_000),)), 0.0)]
    for at, word in enumerate(words):
        # The rules take what the doors would refuse: other programs may have written to a store.
        contract = BudgetContract("placeholder", priority=1 + at % 3, max_tokens=100)
        object.__setattr__(contract, "agent_name", word)
        steps += [
            (Open((contract,)), 1.0),
            (Reserve(word, 120, f"a{at}", sizing=word), 1.0),
            (Settle(f"a{at}", word, 90, Usage(input_tokens=90), word), 1.0),
            (Reserve(word, 90_000, f"b{at}"), 1.0),
            (Refuse(word, 10, word), 1.0),
            (Charge(word, 400, Usage.estimated(400), word), 1.0),
        ]
    if words:
        steps.append((Finish(words[0]), 1.0))
    return kept(steps)


def hostile_facts(history: History, words: list[str]) -> History:
    """Put words where only another program could have put them: into facts of every other entry."""
    names = ("model", "code", "note", "score", "threshold")
    journal = tuple(
        entry._replace(facts={**entry.facts, **dict.fromkeys(names, words[entry.seq % len(words)])})
        if entry.seq % 2
        else entry
        for entry in history.journal
    )
    return history._replace(journal=journal)


def written(folder: Path, history: History, scope: str = "acme/run-7") -> Path:
    """Write the page of a history."""
    path = folder / "report.html"
    path.write_text(page(view_of(history.statement, history.journal, scope)), encoding="utf-8")
    return path


def open_all(opened: Any) -> None:
    """Open what is folded, as a reader does, and move over everything."""
    opened.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    opened.evaluate(
        """document.querySelectorAll('*').forEach(one => {
             for (const kind of ['mouseover', 'focus', 'load', 'error', 'begin'])
               one.dispatchEvent(new Event(kind));
           })"""
    )


def text_of(opened: Any) -> str:
    """Return all text of the page, folded or not."""
    open_all(opened)
    return str(opened.evaluate("document.body.textContent"))


@pytest.mark.parametrize("first", range(0, len(HOSTILE), 5))
def test_hostile_words_are_shown_and_do_nothing(
    chromium: Chromium, tmp_path: Path, first: int
) -> None:
    """As agent, note, model, reason and scope: no script runs, nothing is asked for."""
    words = list(HOSTILE[first : first + 5])
    history = hostile_facts(history_of([*words, "calm neighbour"]), words)
    path = written(tmp_path, history, scope=words[0])
    visit = chromium.visit(path, text_of)
    assert visit.ran == []
    assert visit.messages == []
    assert visit.requests == [path.as_uri()]
    assert [word for word in words if shown(word) not in visit.found] == []
    assert set(HIDDEN) & set(visit.found) == set()


def shown(word: str) -> str:
    """Return how a word is to be read on the page: literally, what cannot be seen spelled out."""
    return "".join(
        letter.encode("unicode_escape").decode() if letter < " " or letter in HIDDEN else letter
        for letter in word
    )


def test_hostile_words_glued_together_at_random(chromium: Chromium, tmp_path: Path) -> None:
    """Pieces of them in any order, many on one page."""
    rnd = random.Random(11)
    pieces = [piece for word in HOSTILE for piece in re.split(r"(?<=[<>\"'/=;])", word)]
    for _ in range(5):
        words = ["".join(rnd.choices(pieces, k=rnd.randint(2, 9))) or "x" for _ in range(40)]
        words = list(dict.fromkeys(words))
        path = written(tmp_path, hostile_facts(history_of(words), words[:5]), words[1])
        visit = chromium.visit(path, text_of)
        assert visit.ran == []
        assert visit.messages == []
        assert visit.requests == [path.as_uri()]
        for word in words[:20]:
            assert shown(word) in visit.found


def test_the_browser_would_have_seen_it(chromium: Chromium, tmp_path: Path) -> None:
    """A page that escapes nothing runs the script, and asks for what is elsewhere."""
    path = tmp_path / "open.html"
    beside = tmp_path / "picture.png"
    path.write_text(
        f"<img src='{beside.name}'><script>ran('script'); console.log('said')</script>", "utf-8"
    )
    visit = chromium.visit(path, text_of)
    assert visit.ran == ["script"]
    assert visit.requests == [path.as_uri(), beside.as_uri()]
    assert any("said" in message for message in visit.messages)


def busy() -> History:
    """Return books with something of everything on them."""
    return history_of(["planner", "researcher with a rather long name", "writer", "checker"])


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(
    chromium: Chromium, tmp_path: Path, width: int, scheme: str
) -> None:
    """With everything open, and names without a blank of 200 bytes: tables scroll, the page not."""
    history = history_of(["planner", "x" * 200, "w" * 100 + " " + "y" * 99])
    path = written(tmp_path, history, "s" * 200)

    def look(opened: Any) -> tuple[int, int]:
        open_all(opened)
        wide = opened.evaluate("document.documentElement.scrollWidth")
        return wide, opened.evaluate("window.innerWidth")

    viewport = {"width": width, "height": 800}
    visit = chromium.visit(path, look, viewport=viewport, color_scheme=scheme)
    assert visit.found == (width, width)


def test_light_dark_and_paper_have_their_colours(chromium: Chromium, tmp_path: Path) -> None:
    """The page follows the reader's scheme, and paper is white in both."""
    path = written(tmp_path, busy())

    def ground(opened: Any) -> str:
        return str(opened.evaluate("getComputedStyle(document.body).backgroundColor"))

    def printed(opened: Any) -> tuple[str, str, str]:
        opened.emulate_media(media="print")
        nav = opened.evaluate("getComputedStyle(document.querySelector('nav')).display")
        first = "document.querySelector('.refusal .body')"
        seen = opened.evaluate(f"{first}.checkVisibility({{contentVisibilityAuto: true}})")
        return ground(opened), nav, str(seen)

    assert chromium.visit(path, ground, color_scheme="light").found == "rgb(255, 255, 255)"
    assert chromium.visit(path, ground, color_scheme="dark").found == "rgb(17, 21, 27)"
    found = chromium.visit(path, printed, color_scheme="dark").found
    assert found == ("rgb(255, 255, 255)", "none", "True")


def test_paper_shows_all_that_is_folded(chromium: Chromium, tmp_path: Path) -> None:
    """Nobody can open anything there: calls, journal and the table of times are printed, too."""
    path = written(tmp_path, busy())
    look = """[...document.querySelectorAll('details table')].map(
                one => one.checkVisibility({contentVisibilityAuto: true}))"""
    # What was locked away is laid out with the frame after next, as it is before it is printed.
    frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

    def printed(opened: Any) -> tuple[list[bool], list[bool]]:
        before = opened.evaluate(look)
        opened.emulate_media(media="print")
        opened.evaluate(frames)
        return before, opened.evaluate(look)

    before, after = chromium.visit(path, printed).found
    assert len(after) > 3
    assert not any(before)
    assert all(after)


def test_a_table_that_scrolls_says_so(chromium: Chromium, tmp_path: Path) -> None:
    """In words where it is always wider than a telephone, and nowhere else: not on paper either."""
    path = written(tmp_path, busy())
    look = """[...document.querySelectorAll('.scroll:has(.wide)')].map(one => {
                const said = getComputedStyle(one.querySelector('caption'), '::after')
                const seen = parseFloat(said.width) <= one.clientWidth  // or it would run out of it
                return [one.scrollWidth > one.clientWidth, said.content.includes('scroll') && seen]
              })"""

    def looked(opened: Any) -> tuple[list[list[bool]], list[list[bool]]]:
        open_all(opened)
        seen = opened.evaluate(look)
        opened.emulate_media(media="print")
        return seen, opened.evaluate(look)

    for width in (360, 1280):
        seen, on_paper = chromium.visit(
            path, looked, viewport={"width": width, "height": 800}
        ).found
        assert len(seen) > 3
        assert seen == [[width == 360, width == 360]] * len(seen)
        assert not any(told for _, told in on_paper)


def test_a_shadow_is_where_a_table_goes_on(chromium: Chromium, tmp_path: Path) -> None:
    """At its right edge before it is scrolled, at its left edge after; none where all is seen."""
    path = written(tmp_path, busy())

    def edges(opened: Any) -> tuple[bool, bool]:
        """Return whether the left and the right edge of the first table are not the page."""
        found = []
        box = opened.locator(".scroll").first.bounding_box()
        for x in (box["x"], box["x"] + box["width"] - 3):
            clip = {"x": x, "y": box["y"] + 2, "width": 3, "height": 8}
            found.append(opened.screenshot(clip=clip, full_page=True))
        blank = opened.screenshot(clip={"x": 2, "y": 2, "width": 3, "height": 8})
        left, right = (drawn != blank for drawn in found)
        return left, right

    def looked(opened: Any) -> list[tuple[bool, bool]]:
        opened.evaluate("document.querySelector('.scroll caption').style.visibility = 'hidden'")
        first = edges(opened)
        opened.evaluate("document.querySelector('.scroll').scrollLeft = 1e6")
        return [first, edges(opened)]

    wide = chromium.visit(path, looked, viewport={"width": 1280, "height": 800})
    assert wide.found == [(False, False), (False, False)]
    narrow = chromium.visit(path, looked, viewport={"width": 360, "height": 800})
    assert narrow.found == [(False, True), (True, False)]


def test_the_style_is_in_force(chromium: Chromium, tmp_path: Path) -> None:
    """The policy lets the page's own style through: its hash is right."""
    path = written(tmp_path, busy())
    look = "getComputedStyle(document.querySelector('.tiles')).display"
    assert chromium.visit(path, lambda opened: opened.evaluate(look)).found == "grid"


def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    chromium: Chromium, tmp_path: Path
) -> None:
    """Tab comes to the skip link first, then to links, tables and refusals; Enter opens one."""
    path = written(tmp_path, busy())

    def look(opened: Any) -> tuple[list[str], bool, str]:
        names = []
        opened.keyboard.press("Tab")
        for _ in range(60):
            focused = opened.evaluate(
                """(() => { const one = document.activeElement;
                   const style = getComputedStyle(one);
                   return [one.tagName + '.' + one.className, one.textContent.slice(0, 30),
                           style.outlineStyle + ' ' + style.outlineWidth]; })()"""
            )
            names.append(focused)
            if focused[0] == "SUMMARY." and focused[1].startswith("Call 2 "):
                break
            opened.keyboard.press("Tab")
        opened.keyboard.press("Enter")
        is_open = opened.evaluate("document.activeElement.parentElement.open")
        outlines = {name[2] for name in names}
        return [name[0] for name in names], is_open, str(outlines)

    kinds, is_open, outlines = chromium.visit(path, look).found
    assert kinds[0] == "A.skip"
    assert {"A.skip", "A.", "DIV.scroll", "SUMMARY."} <= set(kinds)
    assert kinds[-1] == "SUMMARY."
    assert is_open
    assert outlines == "{'solid 3px'}"


def test_a_link_to_a_refusal_opens_it(chromium: Chromium, tmp_path: Path) -> None:
    """`report.html#call-2` is something to send to a colleague."""
    path = written(tmp_path, busy())

    def look(opened: Any) -> bool:
        opened.goto(f"{path.as_uri()}#call-2")
        opened.wait_for_function("document.querySelector('#call-2').parentElement.open")
        return bool(opened.locator("#call-2").is_visible())

    assert chromium.visit(path, look).found


def test_what_is_not_seen_is_told(chromium: Chromium, tmp_path: Path) -> None:
    """The tree that screen readers read: landmarks, headings, named tables, described pictures."""
    path = written(tmp_path, busy())

    def look(opened: Any) -> str:
        open_all(opened)
        return str(opened.locator("body").aria_snapshot())

    tree = chromium.visit(path, look).found
    for landmark in ("banner", "main", 'navigation "Parts of this page"', "contentinfo"):
        assert f"- {landmark}" in tree
    assert '- heading "acme/run-7" [level=1]' in tree
    headings = re.findall(r'heading "(.+)" \[level=2\]', tree)
    assert len(headings) == 8
    assert 'table "Each agent, in tokens"' in tree
    assert 'table "The books when call 2 asked, in tokens"' in tree
    assert 'columnheader "Remaining"' in tree
    assert re.search(r'rowheader "planner', tree)
    for picture in ("Budget of each agent", "What happened when", "Who gave to whom"):
        assert re.search(rf'img "{picture}', tree), picture


def test_a_large_page_is_a_small_document(chromium: Chromium, tmp_path: Path) -> None:
    """100,000 entries: less than 40,000 nodes to build, which is what takes the time."""
    path = written(tmp_path, large(100_000))
    count = "document.querySelectorAll('*').length"
    visit = chromium.visit(path, lambda opened: opened.evaluate(count))
    assert 5_000 < visit.found < 40_000
    assert visit.messages == []


@pytest.mark.anyio
async def test_awaited_tests_run_beside_the_browser(
    chromium: Chromium, anyio_backend: str, tmp_path: Path
) -> None:
    """Playwright's event loop is on another thread, and in nobody's way."""
    assert anyio_backend == "asyncio"
    path = written(tmp_path, busy())
    assert chromium.visit(path, lambda opened: opened.title()).found == "Budget of acme/run-7"
    assert sys.modules["playwright.sync_api"]
