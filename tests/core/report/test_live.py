"""The live view: what moves is told, once, from a store that is watched and from a manager."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

from tbcontracts import BudgetExceededError, BudgetManager, StoreError, Usage
from tbcontracts.books import Statement
from tbcontracts.commands import Charge
from tbcontracts.events import JournalEntry
from tbcontracts.report import live_view
from tbcontracts.report.displays import (
    JsonDisplay,
    PlainDisplay,
    bar,
    entry_line,
    frame_lines,
    remaining,
)
from tbcontracts.report.following import display_for, follow
from tbcontracts.report.live import LAST_EVENTS, LiveBooks
from tbcontracts.report.moving import MovingDisplay, Picture
from tbcontracts.report.replay import Line, Numbers
from tbcontracts.report.words import Amounts


def team() -> BudgetManager:
    """Return a manager with two agents, whose books are open."""
    manager = BudgetManager(clock=lambda: 1_764_042_000.0, scope="run")
    manager.register_agent("boss", priority=3, max_tokens=1_000, min_reserve=100)
    manager.register_agent("helper", priority=1, max_tokens=800, min_reserve=50)
    manager.record_usage("boss", 0)
    return manager


def books_of(manager: BudgetManager, **settings: Any) -> LiveBooks:
    """Return the live books of a manager."""
    return LiveBooks(manager.scope_name, manager.statement(), **settings)


class Turns:
    """A sleep in which a test goes on: one step at each turn, and no time passes."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        """Do the next step."""
        self.slept.append(seconds)
        self.steps.pop(0)()


def watched(
    manager: BudgetManager, turns: Turns, *, json_lines: bool = False, **settings: Any
) -> list[str]:
    """Watch a manager's scope until it is closed; return the lines."""
    lines: list[str] = []
    display = JsonDisplay(lines.append) if json_lines else PlainDisplay(lines.append)

    def read(after_seq: int) -> tuple[Statement, Sequence[JournalEntry]]:
        return manager.statement(), manager.journal(after_seq)

    follow(books_of(manager, **settings), read, display, every_s=0.5, sleep=turns)
    return lines


# --- what is known --------------------------------------------------------------------------------


def test_entries_move_the_books_on_as_a_statement_would() -> None:
    """Numbers of agents, donors, pool and totals, without reading them again."""
    manager = team()
    books = books_of(manager)
    before = books.seq
    manager.reserve("boss", 1_200).settle(Usage(input_tokens=1_300))
    manager.finish("helper")
    manager.top_up("helper", 70)
    manager.change_contract("boss", max_tokens=1_500)
    with pytest.raises(BudgetExceededError):
        manager.reserve("helper", 9_000)
    for entry in manager.journal(before):
        assert books.hear(entry)
    again = books_of(manager)
    assert books.frame()._replace(last=()) == again.frame()
    assert books.frame().denials["helper"] == 1


def test_an_entry_that_was_missed_is_noticed() -> None:
    """Then a statement is needed; one that came late is an event and no news."""
    manager = team()
    books = books_of(manager)
    manager.record_usage("boss", 10)
    manager.record_usage("boss", 20)
    first, second = manager.journal(books.seq)
    assert not books.hear(second)
    books.seed(manager.statement())
    assert books.hear(first)
    frame = books.frame()
    assert frame.consumed == 30
    assert frame.last == (second, first)


def test_a_threshold_is_told_once() -> None:
    """When it is passed, in order, and not again when there is more."""
    manager = team()
    books = books_of(manager, warn_at=(0.95, 0.8))
    assert books.crossed() == []
    manager.record_usage("boss", 800)
    books.seed(manager.statement())
    assert [(one.agent, one.threshold, one.consumed) for one in books.crossed()] == [
        ("boss", 0.8, 800)
    ]
    assert books.crossed() == []
    manager.record_usage("boss", 200)
    books.seed(manager.statement())
    assert [one.threshold for one in books.crossed()] == [0.95]
    assert len(books.frame().warnings) == 2


@pytest.mark.parametrize("bad", [[1.5], [-0.1], [0], [float("nan")], ["0.8"], [True], 0.9, None])
def test_thresholds_must_be_a_list_of_shares(bad: Any) -> None:
    """Of numbers above 0 and up to 1, as everywhere: nobody passes 0."""
    with pytest.raises((TypeError, ValueError), match=r"warn_at must (be a list of|hold) shares"):
        books_of(team(), warn_at=bad)


def test_only_the_last_events_are_kept() -> None:
    """However long it runs."""
    manager = team()
    books = books_of(manager)
    for _ in range(30):
        manager.record_usage("boss", 1)
    for entry in manager.journal(books.seq):
        books.hear(entry)
    assert len(books.frame().last) == LAST_EVENTS


# --- watching -------------------------------------------------------------------------------------


def test_each_change_is_a_line_and_the_end_is_told() -> None:
    """What happened, to whom, how much is left; and thresholds where they are passed."""
    manager = team()

    def call() -> None:
        manager.reserve("boss", 1_100).settle(Usage.estimated(900))

    def refused() -> None:
        for _ in range(2):
            with pytest.raises(BudgetExceededError):
                manager.reserve("helper", 5_000)

    turns = Turns(call, lambda: None, refused, lambda: manager.close_scope("run"))
    lines = watched(manager, turns, warn_at=(0.8,))
    assert lines == [
        "Scope 'run': 0 tokens consumed, budget 1,800, pool 0, entry 3",
        "",
        "boss    [---------------------------rrr]  0 of 1,000 (0 %)",
        "helper  [----------------------------rr]  0 of 800 (0 %)",
        "",
        "# consumed  = held  - remaining  r reserve  ! overdrawn",
        "03:40:00.000  boss: held 1,100, with 100 from helper; 0 left",
        "03:40:00.000  boss: spent 900 of 1,100 held (an estimate); 200 left",
        "WARNING: boss has consumed 82 % of its budget (900 of 1,100), past 80 %",
        "03:40:00.000  helper: refused 5,000 (budget exceeded: 700 could be reached); 700 left",
        "03:40:00.000  the scope: closed: no more holds",
        "End: the scope is closed.",
    ]
    assert turns.slept == [0.5] * 4


def test_a_refusal_that_is_only_counted_is_a_change_too() -> None:
    """It writes no entry; the numbers move nonetheless."""
    manager = team()

    def refused() -> None:
        with pytest.raises(BudgetExceededError):
            manager.reserve("helper", 5_000)

    turns = Turns(refused, refused, lambda: manager.close_scope("run"))
    lines = [json.loads(line) for line in watched(manager, turns, json_lines=True)]
    assert [line["accounts"]["helper"]["denials"] for line in lines[:-1]] == [0, 1, 2, 2]
    assert [len(line["entries"]) for line in lines[:-1]] == [0, 1, 0, 1]
    assert lines[0]["accounts"]["boss"] == {
        "allocated": 1_000,
        "consumed": 0,
        "held": 0,
        "remaining": 1_000,
        "priority": 3,
        "min_reserve": 100,
        "denials": 0,
    }
    assert lines[-1] == {"end": "the scope is closed"}


def test_a_store_that_does_not_answer_is_asked_again() -> None:
    """It is said once for each time that it is away."""
    manager = team()
    lines: list[str] = []
    answers: list[Any] = [StoreError("away"), StoreError("away"), None, StoreError("again"), None]

    def read(after_seq: int) -> tuple[Statement, Sequence[JournalEntry]]:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        if not answers:
            manager.close_scope("run")
        return manager.statement(), manager.journal(after_seq)

    follow(books_of(manager), read, PlainDisplay(lines.append), sleep=lambda _: None)
    assert lines[-4:] == [
        "no answer, asking again: away",
        "no answer, asking again: again",
        "03:40:00.000  the scope: closed: no more holds",
        "End: the scope is closed.",
    ]


def test_trouble_that_is_over_is_not_shown_any_longer() -> None:
    """Also where nothing happened meanwhile, and the next entry may be hours away."""
    manager, lines = team(), []
    answers: list[bool] = [False, True, True]

    def read(after_seq: int) -> tuple[Statement, Sequence[JournalEntry]]:
        if not answers.pop(0):
            msg = "away"
            raise StoreError(msg)
        if not answers:
            manager.close_scope("run")
        return manager.statement(), manager.journal(after_seq)

    display = JsonDisplay(lambda line: lines.append(json.loads(line)))
    follow(books_of(manager), read, display, sleep=lambda _: None)
    began, trouble, answered, closed, _ = lines
    assert trouble == {"trouble": "away"}
    assert answered == began
    assert closed["closed"]


# --- bars and lines -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "drawn"),
    [
        (Numbers(100, 0, 0), "--------rr"),
        (Numbers(100, 50, 20), "#####==-rr"),
        (Numbers(100, 99, 0), "#########r"),
        (Numbers(100, 1, 0), "#-------rr"),
        (Numbers(100, 100, 0), "##########"),
        (Numbers(100, 60, 40), "######===="),
        (Numbers(100, 150, 50), "###==!!!!!"),
        (Numbers(0, 0, 0), " " * 10),
        (Numbers(0, 10, 0), "!!!!!!!!!!"),
    ],
)
def test_bars(numbers: Numbers, drawn: str) -> None:
    """A little is seen, almost all is not all, and the reserve stands at the end."""
    line = Line("boss", numbers, priority=1, reserve=20, tracked=False)
    assert "".join(letters for _, letters in bar(line, 10)) == drawn


def test_a_bar_is_never_longer_than_its_width() -> None:
    """Whatever the numbers are."""
    for allocated in range(0, 40, 3):
        for consumed in range(0, 60, 7):
            for held in range(0, 40, 5):
                line = Line("a", Numbers(allocated, consumed, held), 1, 9, tracked=False)
                drawn = "".join(letters for _, letters in bar(line, 12))
                assert len(drawn) == 12
                assert ("!" in drawn) == (remaining(line) < 0)


def test_strangers_and_hostile_names_are_lines_of_text() -> None:
    """No limit, and nothing that a terminal would obey."""
    manager = team()
    manager._engine.store.apply("run", Charge("stranger", 7, track=True))
    frame = books_of(manager).frame()
    for line in frame.lines:
        line.agent = f"{line.agent}\x1b[31m"  # the doors refuse it; another program may not
    (said,) = [line for line in frame_lines(frame) if "stranger" in line]
    assert said.startswith("stranger\\x1b[31m")
    assert said.endswith("7, no limit")
    entry = manager.journal()[-1]._replace(agent="a\x1b[31m")
    assert entry_line(entry, Amounts("tokens")).startswith("03:40:00.000  a\\x1b[31m: spent 7 ")


# --- with rich ------------------------------------------------------------------------------------


def test_the_moving_table_shows_the_same_numbers() -> None:
    """Names are text and not markup; warnings and events stand below."""
    manager = team()
    books = books_of(manager, warn_at=(0.5,))
    manager._engine.store.apply("run", Charge("[bold]x[/bold]", 7, track=True))
    manager.record_usage("boss", 600)
    for entry in manager.journal(books.seq):
        books.hear(entry)
    books.crossed()
    console = Console(file=io.StringIO(), width=120)
    console.print(Picture(books.frame()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]x[/bold]" in text
    assert "600 of 1,000 (60 %)" in text
    assert "WARNING: boss has consumed 60 % of its budget" in text
    assert "boss: spent 600 without a hold; 400 left" in text


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_a_terminal_gets_the_moving_table_and_a_file_gets_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And without rich a terminal gets lines too."""
    assert isinstance(display_for(Terminal()), MovingDisplay)
    assert isinstance(display_for(Terminal(), plain=True), PlainDisplay)
    assert isinstance(display_for(io.StringIO()), PlainDisplay)
    monkeypatch.setattr("tbcontracts.report.following.find_spec", lambda name: None)
    assert isinstance(display_for(Terminal()), PlainDisplay)


def test_the_moving_table_begins_changes_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last picture stays, with trouble said while there is some."""
    monkeypatch.setenv("TERM", "xterm")
    manager, file = team(), Terminal()
    display = MovingDisplay(file)
    books = books_of(manager)
    display.begin(books, ())
    display.trouble("away")
    console = Console(file=io.StringIO(), width=100)
    console.print(display.draw())
    assert "no answer, asking again: away" in console.file.getvalue()  # type: ignore[attr-defined]
    manager.record_usage("boss", 123)
    books.seed(manager.statement())
    display.change((), ())
    display.end("enough")
    assert "123 of 1,000" in file.getvalue()
    assert "End: enough." in file.getvalue()


# --- inside a program -----------------------------------------------------------------------------


def test_a_block_is_shown_while_it_runs() -> None:
    """Everything that happened in it is told before the block's end is, and nothing after it."""
    manager, file = team(), io.StringIO()
    with live_view(manager, warn_at=(0.5,), file=file) as books:
        manager.reserve("boss", 700).settle(Usage(input_tokens=600))
        manager.scope("other").record_usage("boss", 1)
    manager.record_usage("boss", 1)
    lines = file.getvalue().splitlines()
    assert lines[6:] == [
        "03:40:00.000  boss: held 700; 300 left",
        "03:40:00.000  boss: spent 600 of 700 held; 400 left",
        "WARNING: boss has consumed 60 % of its budget (600 of 1,000), past 50 %",
        "End: the view ended.",
    ]
    assert books.frame().consumed == 600


def test_a_block_that_fails_fails_and_the_view_ends() -> None:
    """The view is in nobody's way."""
    manager, file = team(), io.StringIO()
    with pytest.raises(RuntimeError, match="the user's own"), live_view(manager, file=file):
        raise RuntimeError("the user's own")
    assert file.getvalue().endswith("End: the view ended.\n")


def test_many_threads_end_in_the_right_numbers() -> None:
    """Entries that come out of order are put right by a statement."""
    manager, file = team(), io.StringIO()
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(40):
            manager.record_usage("boss", 1)

    with live_view(manager, file=file) as books:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert books.frame().consumed == 160
    assert file.getvalue().count("boss: spent 1 without a hold;") == 160
