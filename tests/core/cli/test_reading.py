"""`tbc show` and `tbc history`: books as they are, and how they came to be."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.core.cli.conftest import Run, write_books
from tests.core.stores.servers import RedisServer, free_port

from tbcontracts import BudgetExceededError, BudgetManager, Usage, open_store
from tbcontracts.cli import history as history_module
from tbcontracts.cli.history import following
from tbcontracts.commands import Charge, Close
from tbcontracts.entry_words import KINDS
from tbcontracts.events import Kind


def test_the_books_of_the_only_scope(run: Run, books: str) -> None:
    """On every store: balances, who gave to whom, what was refused and why."""
    result = run("show", books)
    assert result.code == 0
    assert "Budget of scope 'acme/run-1'" in result.out
    assert "researcher         3      6,100     5,100     0      1,000" in result.out
    assert "Spent 5,150 of 7,610 tokens; pool 1,360." in result.out
    assert "writer -> researcher: 1,100" in result.out
    assert "writer: a call of 5,000 was refused (budget exceeded; 900" in result.out


def test_the_books_for_programs(run: Run, books: str) -> None:
    """The shape of `--json` is documented, and stays."""
    shown = run("show", books, "acme/run-1", "--json").json
    assert {
        name: shown[name] for name in ("scope", "seq", "total", "pool", "consumed", "held")
    } == {
        "scope": "acme/run-1",
        "seq": 17,
        "total": 7_610,
        "pool": 1_360,
        "consumed": 5_150,
        "held": 0,
    }
    assert {agent["agent"] for agent in shown["agents"]} == {"researcher", "writer", "研究員"}
    assert shown["given"] == [{"from": "writer", "to": "researcher", "amount": 1_100}]
    assert [entry["facts"]["code"] for entry in shown["refusals"]] == [
        "budget_exceeded",
        "confident",
    ]


def test_several_scopes_are_listed(run: Run, books: str) -> None:
    """Without a scope it is said which there are; commands that need one name them."""
    write_books(books, "acme/run-2")
    store = open_store(books)
    store.apply("acme/run-2", Close())
    store.close()
    result = run("show", books)
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()[4:]] == ["acme/run-1", "acme/run-2"]
    assert result.out.count("7,610") == 2
    assert result.out.rstrip().endswith("closed")
    listed = run("show", books, "--json").json["scopes"]
    assert [(one["scope"], one["closed"]) for one in listed] == [
        ("acme/run-1", False),
        ("acme/run-2", True),
    ]
    result = run("history", books)
    assert result.code == 2
    assert "has 2 scopes, and one must be named: 'acme/run-1', 'acme/run-2'." in result.err


def test_a_scope_that_is_a_period(run: Run, ledger: Path) -> None:
    """It may be written as in a contract file."""
    manager = BudgetManager(store=f"sqlite:///{ledger}", scope="acme/{utc:%Y-%m}")
    manager.register_agent("a", max_tokens=5)
    manager.remaining("a")
    manager.record_usage("a", 1)
    name = manager.scope_name
    manager.store.close()
    assert f"Budget of scope '{name}'" in run("show", ledger, "acme/{utc:%Y-%m}").out


def test_the_journal_in_words(run: Run, books: str) -> None:
    """A line for each entry; it says what happened, with whom, and what was left."""
    lines = run("history", books).out.splitlines()
    said = [line[29:] for line in lines]  # behind number and time
    assert said[3:] == [
        "researcher  held 3,000; 1,000 left",
        "researcher  spent 2,500 of 3,000 held; 1,500 left",
        "researcher  held 2,500, with 1,000 from writer; 0 left",
        "researcher  spent 2,600 of 2,500 held, with 100 from writer; 0 left",
        "writer      refused 5,000 (budget exceeded: 900 could be reached); 900 left",
        "writer      held 100; 800 left",
        "writer      gave back 100: nothing was billed; 900 left",
        "writer      spent 50 without a hold (by hand); 850 left",
        "研究員      scored 0.9; 100 left",
        "研究員      refused 50 (confident: score 0.9, threshold 0.8); 100 left",
        "the pool    topped up by 500; pool 500",
        "writer      topped up by 10; 860 left",
        "writer      finished: 860 to the pool; 0 left",
        "researcher  contract changed: priority 3, budget 5,000, reserve 500; 1,000 left",
    ]
    assert [int(line[:6]) for line in lines] == list(range(1, 18))


def test_a_part_of_the_journal(run: Run, ledger: Path) -> None:
    """By agent (what it gave, too), by kind, the last ones; as objects, one a line."""
    of_writer = [
        json.loads(line)
        for line in run("history", ledger, "--agent", "writer", "--json").out.splitlines()
    ]
    assert [entry["seq"] for entry in of_writer] == [2, 6, 7, 8, 9, 10, 11, 15, 16]
    refused = run("history", ledger, "--kind", "denied", "--last", "1").out
    assert refused.startswith("    13  ")
    assert len(refused.splitlines()) == 1
    assert run("history", ledger, "--last", "0").out == ""
    both = run("history", ledger, "--kind", "denied", "--kind", "finished").out
    assert len(both.splitlines()) == 3


def test_every_kind_has_words() -> None:
    """And no other kind has."""
    assert set(KINDS) == set(Kind.__args__)  # type: ignore[attr-defined]


def test_journals_that_are_followed(
    run: Run, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes is printed as it comes, and Ctrl-C ends it with exit code 130."""
    store = open_store(f"sqlite:///{ledger}")
    looks: Iterator[int] = iter(range(3))

    def sleep(_: float) -> None:
        look = next(looks)
        if look == 1:
            raise KeyboardInterrupt
        store.apply("acme/run-1", Charge("writer", 7))
        store.apply("acme/run-1", Charge("researcher", 8))

    def follow(books: object, scope: str, after_seq: int, **others: object) -> Iterator[object]:
        return following(books, scope, after_seq, sleep, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(history_module, "following", follow)
    result = run("history", ledger, "--agent", "writer", "--last", "0", "--follow")
    store.close()
    assert result.code == 130
    assert [line[29:] for line in result.out.splitlines()] == [
        "writer      spent 7 without a hold, with 7 from the pool; 0 left"
    ]


def test_the_score_of_a_call_that_observe_mode_let_through(
    run: Run, url: str, tmp_path: Path
) -> None:
    """It is on the books of each store as that of a refused call is, and its page tells it."""
    manager = BudgetManager(store=url, scope="gate", enforcement="observe")
    manager.register_agent("writer", max_tokens=100, confidence_threshold=0.9)
    manager.report_confidence("writer", 0.95)
    with manager.reserve("writer", 5) as hold:
        assert hold.would_deny
    facts = next(one.facts for one in manager.journal() if one.kind == "would_deny")
    manager.store.close()
    assert (facts["score"], facts["threshold"], facts["sizing"]) == (0.95, 0.9, "caller")
    said = run("history", url, "gate", "--kind", "would_deny").out
    assert "would have been refused 5 (confident: score 0.95, threshold 0.9)" in said
    assert run("audit", url, "gate").code == 0
    run("report", url, "gate", "-o", "gate.html")
    page = (tmp_path / "gate.html").read_text(encoding="utf-8")
    assert "its last answer scored 0.95, and at 0.9 its work counts as done." in page


def test_a_journal_is_followed_over_an_outage(
    run: Run, ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `watch` does: it is said once for each time, and no entry is lost or told twice."""
    looks: Iterator[int] = iter(range(6))
    away = tmp_path / "away"

    def sleep(_: float) -> None:
        look = next(looks)
        if look == 5:
            raise KeyboardInterrupt
        if look in (0, 3):
            ledger.rename(away)
        if look in (2, 4):
            away.rename(ledger)
            with contextlib.closing(open_store(f"sqlite:///{ledger}")) as store:
                store.apply("acme/run-1", Charge("researcher", look))

    def follow(books: object, scope: str, after_seq: int, **others: object) -> Iterator[object]:
        return following(books, scope, after_seq, sleep, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(history_module, "following", follow)
    result = run("history", ledger, "--last", "0", "--follow", "--json")
    assert result.code == 130
    assert [json.loads(line)["amount"] for line in result.out.splitlines()] == [2, 4]
    troubles = result.err.splitlines()[:2]
    assert all(line.startswith("no answer, asking again: The ledger") for line in troubles)
    assert result.err.count("no answer") == 2


def test_entries_that_are_not_kept_are_said(run: Run, ledger: Path) -> None:
    """A journal that begins later says so, but not to programs."""
    import sqlite3

    with sqlite3.connect(ledger) as db:
        db.execute("DELETE FROM journal WHERE seq < 9")
    db.close()
    first = run("history", ledger).out.splitlines()[0]
    assert first == "Entries before number 9 are not kept any more."
    assert json.loads(run("history", ledger, "--json").out.splitlines()[0])["seq"] == 9


@pytest.mark.parametrize("command", ["show", "history", "audit"])
def test_what_is_not_there(run: Run, books: str, command: str) -> None:
    """A sentence that names the nearest, and no traceback; nothing is made."""
    result = run(command, books, "acme/run-2")
    assert result.code == 2
    assert "has no scope 'acme/run-2'. Did you mean 'acme/run-1'?" in result.err
    store = open_store(books, read_only=True)
    assert store.scopes() == ("acme/run-1",)
    store.close()


def test_agents_that_are_not_there(run: Run, ledger: Path) -> None:
    """The nearest name is said, and all there are."""
    result = run("history", ledger, "--agent", "writr")
    assert result.code == 2
    assert "Did you mean 'writer'? There are 'researcher', 'writer', '研究員'." in result.err


def test_stores_that_are_not_there(run: Run, tmp_path: Path) -> None:
    """No file is made; whatever stands in the place of one is a sentence."""
    (tmp_path / "text.db").write_text("not a database, but a longer text than a header of one")
    (tmp_path / "empty.db").touch()
    (tmp_path / "folder").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    port = free_port()
    for url, said in (
        ("sqlite:///nothing.db", "There is no ledger"),
        ("sqlite:///tex.db", "Did you mean text.db"),
        ("sqlite:///text.db", "file is not a database"),
        ("empty.db", "the file is empty"),
        ("folder", "is a folder, and no store"),
        ("sqlite:///folder", "is a folder, and no ledger"),
        ("nothing.db", "is no store: neither a URL nor a file"),
        ("memory://", "from outside nothing of them can be seen"),
        ("ftp://me:geheim@host", "URL scheme 'ftp'; known: postgresql, redis, sqlite. What"),
        ("http://x", "What helps: sqlite:///budget.db, redis://host:6379, postgresql://host/data"),
        ("me:geheim@host://", "No store is installed for the URL scheme 'me'"),
        (f"postgresql://127.0.0.1:{port}/x?ledger_timeout_s=1", "tcp/ip connections? What helps"),
        ("redis://[::1", "is no URL"),
        (f"redis://me:geheim@127.0.0.1:{port}/0?deadline_s=0.001", "did not answer"),
        (f"postgresql://me:geheim@127.0.0.1:{port}/x?ledger_timeout_s=1", "did not answer"),
        ("redis://me:ge/heim@host", "has a port that is no number"),
        ("", "is no store"),
        ("sqlite:///" + "x" * 5_000, "name too long"),
    ):
        result = run("show", url)
        assert (result.code, result.out) == (2, ""), url
        assert said.lower() in result.err.lower(), url
        assert "heim" not in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_an_empty_server(run: Run, redis_server: RedisServer) -> None:
    """A server without books has no scope, and gets none."""
    url = f"{redis_server.url}?ledger_prefix=empty"
    result = run("show", url)
    assert result.code == 2
    assert "has no scope yet" in result.err


def test_damaged_books(run: Run, ledger: Path) -> None:
    """Whoever wrote into the file by hand is told so."""
    import sqlite3

    with sqlite3.connect(ledger) as db:
        db.execute("UPDATE account SET contract_json = 'x' WHERE agent = 'writer'")
    db.close()
    result = run("show", ledger)
    assert result.code == 2
    assert "cannot be read, because somebody changed it" in result.err


def test_a_scope_is_there_from_the_first_call_or_look(run: Run, tmp_path: Path) -> None:
    """Registering alone writes nothing, and that is said; then all who have contracts are there."""
    for number, first in enumerate(("reserve", "refused", "report")):
        file = tmp_path / f"{number}.db"
        manager = BudgetManager(store=f"sqlite:///{file}")
        for name in ("a", "b"):
            manager.register_agent(name, max_tokens=100, min_reserve=100)
        for command in ("show", "history", "watch", "report", "audit"):
            empty = run(command, file)
            assert (empty.code, empty.out) == (2, "")
            assert "has no scope yet. A scope comes to be with the first call in it" in empty.err
            assert "registering an agent writes nothing" in empty.err
        if first == "reserve":
            manager.reserve("a", 1)
        elif first == "refused":
            with pytest.raises(BudgetExceededError):
                manager.reserve("a", 1_000)
        else:
            manager.report()
        assert [one["agent"] for one in run("show", file, "--json").json["agents"]] == ["a", "b"]
        manager.store.close()


def test_one_agent_with_one_token(run: Run, tmp_path: Path) -> None:
    """No command speaks of one thing as of many."""
    file = tmp_path / "one.db"
    manager = BudgetManager(store=f"sqlite:///{file}")
    manager.register_agent("a", max_tokens=1)
    manager.record_usage("a", Usage.estimated(1))
    manager.store.close()
    asked = (["show"], ["history"], ["audit"], ["watch", "--once"], ["store", "info"])
    said = "".join(run(*command, file).out for command in asked)
    assert "Spent 1 of 1 token; pool 0." in said
    assert "Of these, 1 is an estimate: the provider did not report it." in said
    assert "1 agent, 1 in all" in said
    assert not re.findall(r"\b1 (?:agents|tokens|calls|entries|ends)\b", said)
