"""The page as text: what is data stays data, it says what it must, and it stays small."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from tests.core.report.books import START, History, kept, large

from tbcontracts import BudgetContract, Usage
from tbcontracts.commands import Charge, Close, Command, Finish, Open, Reserve, Settle, TopUp
from tbcontracts.report.html import is_report, page
from tbcontracts.report.markup import Markup, element, joined, name_of
from tbcontracts.report.view import view_of
from tbcontracts.report.words import CODES, Amounts, clock, code_in_words, dollars, moment, share

CSS = files("tbcontracts.report").joinpath("style.css").read_text(encoding="utf-8")


def run(*more: tuple[Command, float]) -> History:
    """Return what happened to two agents."""
    contracts = (
        BudgetContract("boss", priority=3, max_tokens=1_000, min_reserve=100),
        BudgetContract("helper", priority=1, max_tokens=800, min_reserve=50),
    )
    return kept([(Open(contracts), 0.0), *more])


def page_of(history: History, cut: int = 0, unit: str = "tokens") -> str:
    """Return the page, without the first entries of the journal."""
    return page(view_of(history.statement, history.journal[cut:], "acme/run-7", unit=unit))


class Reader(HTMLParser):
    """Reads the text of a page, and where elements open and close."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that ends where it begins."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the element that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data if "style" not in self.open else ""


def read(text: str) -> Reader:
    """Read a page; every element is closed where it must be."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


# --- markup ---------------------------------------------------------------------------------------


def test_text_is_escaped_wherever_it_stands() -> None:
    """As a child, as an attribute, and inside what was built before."""
    hostile = "<script>\"&'</script>"
    built = element("p", hostile, element("b", hostile), title=hostile)
    assert built.count("<script") == 0
    assert built == (
        '<p title="&lt;script&gt;&quot;&amp;&#x27;&lt;/script&gt;">'
        "&lt;script&gt;&quot;&amp;&#x27;&lt;/script&gt;"
        "<b>&lt;script&gt;&quot;&amp;&#x27;&lt;/script&gt;</b></p>"
    )
    assert joined(hostile, Markup("<br>")).endswith("<br>")


def test_characters_that_turn_text_around_are_spelled_out() -> None:
    """A name that reads otherwise than it is written is shown as it is written."""
    assert "\\u202e" in name_of("abc\u202egnp")
    assert "\u202e" not in name_of("abc\u202egnp")
    assert name_of(None) == "<em>the pool</em>"


# --- words ----------------------------------------------------------------------------------------


def test_numbers_in_words() -> None:
    """Unknown is said, a little is not nothing, and money keeps its last digit."""
    assert Amounts("tokens").full(1) == "1 token"
    assert Amounts("tokens").full(1_234) == "1,234 tokens"
    assert Amounts("tokens").full(None) == Amounts("usd").short(None) == "not known"
    assert [dollars(one) for one in (0, 1, 1_500_000, -20_000, 1_234_567_890)] == [
        "$0.00",
        "$0.000001",
        "$1.50",
        "-$0.02",
        "$1,234.56789",
    ]
    assert [share(1, 1_000), share(999, 1_000), share(1, 2), share(0, 0), share(3, 0)] == [
        "under 1 %",
        "over 99 %",
        "50 %",
        "0 %",
        "more than 100 %",
    ]


def test_times_in_words() -> None:
    """In UTC; what no calendar has is told in seconds."""
    assert moment(START) == "2025-11-25 03:40:00 UTC"
    assert clock(START + 0.5, like=START) == "03:40:00.500"
    assert clock(START + 86_400) == "2025-11-26 03:40:00.000"
    assert moment(None) == "not known"
    assert moment(1e18) == "1e+18 s"


def test_every_code_of_a_refusal_has_words() -> None:
    """Those of the rules and of the manager; one that is not known is shown as it is."""
    text = files("tbcontracts.rules").joinpath("holds.py").read_text(encoding="utf-8")
    given = set(re.findall(r'code = "(\w+)"|0, "(\w+)", books|remaining, "(\w+)", books', text))
    codes = {next(filter(None, found)) for found in given}
    assert {"budget_exceeded", "fragmented", "reserve_kept", "scope_closed", "confident"} == codes
    assert codes <= set(CODES)
    assert code_in_words("some_new_code") == "some new code"


# --- the page -------------------------------------------------------------------------------------


def test_a_page_tells_why_a_call_was_refused() -> None:
    """Who asked for how much, who had what at that moment, and what would have helped."""
    text = read(page_of(run((Reserve("helper", 900, "h1"), 1.0)))).text
    assert "Call 1 was refused" in text
    assert "It asked for 900 tokens; it had 800 tokens left of its own." in text
    assert "The pool had 0 tokens, and others could have given 0 tokens." in text
    assert "100 tokens more by a top-up" in text
    assert "has a higher priority" in text
    assert "budget_exceeded" in text


def test_the_page_says_what_it_is_and_allows_nothing() -> None:
    """Its policy names its own style by its hash, and no script is on it."""
    text = page_of(run())
    assert is_report(text)
    assert not is_report("<!DOCTYPE html><p>something else")
    reader = read(text)
    metas = [attributes for tag, attributes in reader.tags if tag == "meta"]
    (policy,) = [meta["content"] for meta in metas if "http-equiv" in meta]
    assert str(policy).startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in str(policy)
    assert {tag for tag, _ in reader.tags} & {"script", "link", "img", "iframe", "object"} == set()
    assert all("style" not in attributes for _, attributes in reader.tags)
    assert "url(" not in re.sub(r'url\("#', "", text)


def test_headings_are_in_order_and_tables_have_names() -> None:
    """One first heading, no level left out; captions and scopes on all tables."""
    history = run((Reserve("boss", 1_200, "h1"), 1.0), (Reserve("helper", 900, "h2"), 1.0))
    reader = read(page_of(history))
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("table") == tags.count("caption") == tags.count("thead") > 5
    scopes = {attributes.get("scope") for tag, attributes in reader.tags if tag == "th"}
    assert scopes == {"col", "row"}
    for landmark in ("header", "main", "nav", "footer"):
        assert tags.count(landmark) == 1
    ids = [attributes["id"] for _, attributes in reader.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert {str(link).removeprefix("#") for link in links} <= set(ids)


def test_every_picture_has_a_text_and_a_table_beside_it() -> None:
    """A title, a description, and the numbers once more."""
    history = run(
        (Reserve("boss", 1_200, "h1"), 1.0),
        (Settle("h1", "boss", 1_100, Usage(input_tokens=1_100)), 1.0),
    )
    text = page_of(history)
    pictures = re.findall(r'<svg role="img" aria-labelledby="(\S+) (\S+)"', text)
    assert len(pictures) == 3
    for title, description in pictures:
        assert re.search(rf'<title id="{title}">[^<]+</title>', text)
        assert re.search(rf'<desc id="{description}">[^<]+</desc>', text)
    assert "boss: 1,100 tokens consumed, 0 held, 100 remaining of 1,200" in text
    assert "helper gave 200 tokens to boss" in text
    assert "At the end 1,100 tokens of 1,800 consumed" in text


def test_estimates_overdrafts_and_unknown_costs_are_said() -> None:
    """Each in a sentence, and unknown is never zero."""
    history = run(
        (Reserve("helper", 100, "h1"), 1.0),
        (Settle("h1", "helper", 300, Usage.estimated(300)), 1.0),
        (Charge("helper", 900), 1.0),
    )
    text = read(page_of(history)).text
    assert "300 tokens, 25 % of what was consumed, are an estimate" in text
    assert "helper is overdrawn by 400 tokens" in text
    assert "what the calls cost is not known here" in text
    assert "$0.00" not in text


def test_a_page_of_nothing_and_of_a_closed_scope() -> None:
    """Nothing happened, and that is what it says."""
    text = read(page_of(kept([]))).text
    assert "nothing has happened yet" in text
    assert "No call was refused." in text
    closed = read(page_of(run((Finish("helper"), 1.0), (Close(), 1.0)))).text
    assert "closed: it takes no more calls" in closed


def test_a_cut_journal_says_from_where_the_page_starts() -> None:
    """And a scope of which no journal is kept says that."""
    history = run((Reserve("helper", 900, "h1"), 1.0), (TopUp(None, 10), 1.0))
    text = read(page_of(history, cut=2)).text
    assert "The journal was cut. This page starts at entry 3, 2025-11-25 03:40:01 UTC" in text
    assert "number 1 is the first call that it still holds" in text
    nothing = read(page_of(history, cut=4)).text
    assert "no journal is kept" in nothing


def test_books_in_dollars_are_shown_in_dollars() -> None:
    """Amounts are millionths of a dollar there."""
    text = read(page_of(run((Reserve("helper", 900, "h1"), 1.0)), unit="usd")).text
    assert "It asked for $0.0009; it had $0.0008 left of its own." in text
    assert not re.search(r"\d tokens", text)


def test_100_000_entries_stay_a_small_page() -> None:
    """Below 5 MB and 40,000 elements; what was folded is said."""
    text = page_of(large(100_000))
    assert len(text.encode()) < 1_500_000
    reader = read(text)
    assert len(reader.tags) < 40_000
    assert "The first and the last 100 are shown" in reader.text
    assert re.search(r"Calls \d[\d,]* to \d[\d,]*: [\d,]+ more refusals", reader.text)


def test_thousands_of_agents_stay_a_small_page() -> None:
    """The table has the most important ones, and one line for the rest."""
    text = page_of(large(20_000, agents=5_000))
    assert len(text.encode()) < 1_500_000
    reader = read(text)
    assert "4,800 other agents together" in reader.text
    assert len(reader.tags) < 40_000


# --- the style ------------------------------------------------------------------------------------


def variables(block: str) -> dict[str, str]:
    """Return the colours that a block of the style sets."""
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def schemes() -> dict[str, dict[str, str]]:
    """Return the colours of each scheme."""
    light = CSS[: CSS.index("@media")]
    dark = CSS[CSS.index("@media (prefers-color-scheme: dark)") : CSS.index("*,\n*::before")]
    printed = CSS[CSS.index("@media print") :]
    return {"light": variables(light), "dark": variables(dark), "print": variables(printed)}


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_and_shapes_stand_out(scheme: str) -> None:
    """Text 4.5:1 on every ground it stands on, shapes 3:1, in each scheme (WCAG 1.4.3, 1.4.11)."""
    colours = schemes()[scheme]
    for text in ("text", "quiet", "link"):
        for ground in ("page", "raised"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for shape in ("consumed", "held", "edge", "danger"):
        assert contrast(colours[shape], colours["page"]) >= 3, shape
    # Letters over the bands of the flow picture have a halo of the page's colour around them.
    assert contrast(colours["held"], colours["held-ground"]) >= 3
    assert contrast(colours["danger"], colours["danger-ground"]) >= 3


def test_all_schemes_set_the_same_colours_and_paper_is_light() -> None:
    """None is forgotten, and a dark screen prints on white."""
    light, dark, printed = schemes().values()
    assert set(light) == set(dark)
    assert light == printed
    assert len(light) >= 12


def test_contrast_is_what_the_standard_says() -> None:
    """Black on white is 21, and a colour on itself 1."""
    assert round(contrast("#000000", "#ffffff"), 1) == 21
    assert contrast("#777777", "#777777") == 1
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48


def test_names_of_one_beginning_are_told_apart_in_pictures() -> None:
    """A picture has room for twenty letters; names that differ at their end keep it."""
    names = [f"research_europe_finance_north_{number}" for number in (1, 2)]
    steps: list[tuple[Command, float]] = [
        (Open(tuple(BudgetContract(name, max_tokens=100) for name in names)), 0.0)
    ]
    history = kept(steps)
    text = page(view_of(history.statement, history.journal, "run"))
    labels = re.findall(r'class="label">([^<]+)<', text)
    assert labels == ["research...e_north_1", "research...e_north_2"]
