"""`tbc report` and `tbc watch`, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tbcontracts import BudgetExceededError, BudgetManager, Usage
from tbcontracts.cli import watch as watch_module
from tbcontracts.cli.group import tbc


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """Return a ledger with two scopes, in one of which a call was refused."""
    path = tmp_path / "budget.db"
    manager = BudgetManager(store=f"sqlite:///{path}", scope="acme/run-7")
    manager.register_agent("writer", priority=3, max_tokens=2_000)
    manager.register_agent("helper", max_tokens=1_000)
    manager.reserve("writer", 2_500).settle(Usage(input_tokens=2_400))
    with pytest.raises(BudgetExceededError):
        manager.reserve("helper", 900)
    manager.scope("acme/run-8").record_usage("writer", 1)
    return path


def run(*arguments: object) -> Result:
    """Run `tbc` with these arguments."""
    return CliRunner().invoke(tbc, [str(argument) for argument in arguments])


def test_a_report_is_written_and_said(books: Path, tmp_path: Path) -> None:
    """Where it is, how large, and of which scope; again it is replaced."""
    path = tmp_path / "r.html"
    for _ in range(2):
        done = run("report", books, "acme/run-7", "-o", path)
        assert (done.exit_code, done.stderr) == (0, "")
        size = f"{path.stat().st_size / 1000:,.0f} kB"
        assert done.stdout == (
            f"Wrote {path} ({size}): scope 'acme/run-7'. Open it in any browser.\n"
        )
    text = path.read_text(encoding="utf-8")
    assert "Call 2 was refused" in text
    assert run("report", books, "acme/run-7", "-o", "-").stdout == text


def test_a_program_is_told_where_the_page_is(books: Path, tmp_path: Path) -> None:
    """With how large it is, and how many calls were refused."""
    path = tmp_path / "r.html"
    said = json.loads(run("report", books, "acme/run-7", "-o", path, "--json").stdout)
    size = path.stat().st_size
    assert said == {"scope": "acme/run-7", "path": str(path), "bytes": size, "refused": 1}
    both = run("report", books, "acme/run-7", "-o", "-", "--json")
    assert both.exit_code == 2
    assert "one of them" in both.stderr


def test_the_default_name_is_report_html(
    books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder where one is."""
    monkeypatch.chdir(tmp_path)
    assert run("report", f"sqlite:///{books}", "acme/run-8").exit_code == 0
    assert (tmp_path / "report.html").exists()


def test_what_is_no_report_stays(books: Path, tmp_path: Path) -> None:
    """Exit code 2, one sentence, and how to do it nonetheless."""
    notes = tmp_path / "notes.txt"
    notes.write_text("mine", encoding="utf-8")
    done = run("report", books, "acme/run-7", "-o", notes)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"tbc: '{notes}' is there already, and is no report")
    assert "--replace" in done.stderr
    assert notes.read_text(encoding="utf-8") == "mine"
    assert run("report", books, "acme/run-7", "-o", notes, "--replace").exit_code == 0


def test_places_where_no_page_can_be(books: Path, tmp_path: Path) -> None:
    """A folder, one that is not there, and one that takes no file: in the name that was given."""
    for place, said in (
        (tmp_path, f"'{tmp_path}' is a folder, and a report is a file. What helps: '{tmp_path}/"),
        (tmp_path / "none" / "x.html", f"There is no folder '{tmp_path}/none' for 'x.html'. What"),
        (Path("/proc/x.html"), "/proc/x.html: No such file or directory."),
    ):
        for more in ((), ("--replace",)):
            done = run("report", books, "acme/run-7", "-o", place, *more)
            assert (done.exit_code, done.stdout) == (2, "")
            assert done.stderr.startswith(f"tbc: {said}")
            assert "replace" not in done.stderr


@pytest.mark.parametrize("command", ["report", "watch"])
def test_mistakes_are_sentences(books: Path, tmp_path: Path, command: str) -> None:
    """No store, no scope, a scope that is not there: exit code 2, no traceback, nothing made."""
    for arguments, said in (
        ((tmp_path / "nowhere.db",), "is no store"),
        ((books,), "2 scopes, and one must be named"),
        ((books, "acme/run-9"), "has no scope 'acme/run-9'"),
        (("memory://",), "memory:// means books inside one process"),
    ):
        done = run(command, *arguments)
        assert done.exit_code == 2
        assert said in done.stderr
        assert "Traceback" not in done.output
    assert not (tmp_path / "nowhere.db").exists()
    assert run(command, books, "acme/run-7", "-o", tmp_path / "no" / "r.html").exit_code == 2


def test_once_shows_one_frame(books: Path) -> None:
    """As text and as JSON, with the thresholds that are passed."""
    done = run("watch", books, "acme/run-7", "--once", "--warn-at", "0.8,0.95")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "Scope 'acme/run-7': 2,400 tokens consumed, budget 3,000, pool 0, entry 5"
    assert [line.split(",")[0] for line in lines if line.startswith("WARNING")] == [
        "WARNING: writer has consumed 96 % of its budget (2"
    ] * 2
    data = json.loads(run("watch", books, "acme/run-7", "--once", "--json").stdout)
    assert data["accounts"]["helper"]["denials"] == 1


@pytest.mark.parametrize("bad", ["1.5", "many", "0.5,nan", "0"])
def test_a_threshold_that_is_none_is_refused(books: Path, bad: str) -> None:
    """With the value and an example of a right one."""
    done = run("watch", books, "acme/run-7", "--warn-at", bad)
    assert done.exit_code == 2
    assert "no list of shares such as 0.8,0.95" in done.stderr


def test_watching_tells_what_happens_until_the_scope_is_closed(
    books: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process goes on; the watcher reads what is new, and ends with the scope."""
    worker = BudgetManager(store=f"sqlite:///{books}", scope="acme/run-7")
    worker.register_agent("writer", priority=3, max_tokens=2_000)
    steps: list[Callable[[], object]] = [
        lambda: worker.top_up("writer", 500),
        lambda: worker.reserve("writer", 300).settle(Usage(input_tokens=250)),
        lambda: worker.close_scope("acme/run-7"),
    ]
    monkeypatch.setattr(watch_module, "_sleep", lambda _: steps.pop(0)())
    done = run("watch", books, "acme/run-7")
    assert done.exit_code == 0
    assert [line[14:] for line in done.stdout.splitlines()[6:-1]] == [
        "writer: topped up by 500; 600 left",
        "writer: held 300; 300 left",
        "writer: spent 250 of 300 held; 350 left",
        "the scope: closed: no more holds",
    ]
    assert done.stdout.endswith("End: the scope is closed.\n")
    again = run("watch", books, "acme/run-7", "--json")
    assert json.loads(again.stdout.splitlines()[-1]) == {"end": "the scope is closed"}


def test_ctrl_c_ends_it_and_the_books_go_on(books: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a traceback, and with the code that shells have for it."""

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch_module, "_sleep", interrupted)
    done = run("watch", books, "acme/run-7")
    assert done.exit_code == 130
    assert done.stdout.endswith("End: stopped by you; the books go on.\n")
