"""`tbc audit`: books that were tampered with are found out, and whole ones proven."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.core.cli.conftest import Run

from tbcontracts.stores import open_store
from tbcontracts.testing.audit import BrokenPromiseError
from tbcontracts.testing.audit_tail import TailAudit


def tamper(ledger: Path, how: str) -> None:
    """Change a file behind the store's back."""
    with sqlite3.connect(ledger) as db:
        assert db.execute(how).rowcount > 0
    db.close()


def test_books_are_proven(run: Run, books: str) -> None:
    """On every store: promise by promise, with the entries that each was asked of."""
    result = run("audit", books)
    assert result.code == 0
    assert "17 entries, 1 to 17." in result.out
    kept = [line.split()[0] for line in result.out.splitlines() if line.endswith("  kept")]
    assert kept == ["order", "P1", "P2", "P3", "P4", "P5", "P6", "P7"]
    assert result.out.endswith(
        "The books are what the journal says: 3 agents, 7,610 in all, 1,360 of it in the pool.\n"
        "PROVEN\n"
    )
    shown = run("audit", books, "--json").json
    assert (shown["result"], shown["entries"], shown["broken"]) == ("proven", 17, None)
    assert {one["promise"]: one["checked"] for one in shown["promises"]} == {
        "order": 17,
        "P1": 17,
        "P2": 3,
        "P3": 2,
        "P4": 2,
        "P5": 4,
        "P6": 2,
        "P7": 0,
    }


TAMPERED = [
    ("UPDATE journal SET amount = amount - 1 WHERE seq = 5", 5, None),
    ("DELETE FROM journal WHERE seq = 6", 7, "order"),
    ("DELETE FROM journal WHERE seq = 17", None, None),
    ("UPDATE journal SET at_s = at_s - 9 WHERE seq = 12", 12, "order"),
    ("UPDATE journal SET moves_json = '[]' WHERE seq = 6", 6, "P2"),
    ("UPDATE account SET consumed = consumed - 10 WHERE agent = 'researcher'", None, None),
    ("UPDATE scope SET pool = pool + 1", None, None),
    ("UPDATE scope SET total = total + 1", None, None),
    ("UPDATE journal SET kind = 'boom' WHERE seq = 4", 4, None),
    ("UPDATE journal SET facts_json = '{}' WHERE seq = 4", 4, None),
    ("UPDATE journal SET facts_json = 'x' WHERE seq = 4", None, None),
]


@pytest.mark.parametrize(("how", "seq", "promise"), TAMPERED)
def test_what_was_changed_by_hand_is_found(
    run: Run, ledger: Path, how: str, seq: int | None, promise: str | None
) -> None:
    """A changed amount, a deleted entry, another account: which entry breaks what; exit code 1."""
    tamper(ledger, how)
    result = run("audit", ledger)
    assert result.code == 1
    assert "PROVEN" not in result.out
    assert "BROKEN" in result.out
    shown = run("audit", ledger, "--json").json
    assert shown["result"] == "broken"
    assert (shown["broken"]["entry"] or {}).get("seq") == seq
    assert shown["broken"]["promise"] == promise
    if seq is not None:
        assert f"at entry {seq}: " in result.out


@pytest.mark.parametrize("first", range(2, 18))
def test_a_journal_that_was_cut_is_no_false_alarm(run: Run, ledger: Path, first: int) -> None:
    """What is left is proven, and what cannot be told any more is said."""
    tamper(ledger, f"DELETE FROM journal WHERE seq < {first}")
    result = run("audit", ledger)
    assert result.code == 0, result.out
    assert f"The entries before number {first} are gone" in result.out
    assert result.out.count("cannot be told") == 4
    assert f"PROVEN IN PART: what happened from entry {first} on." in result.out
    assert run("audit", ledger, "--json").json["result"] == "proven_in_part"


@pytest.mark.parametrize(
    "how",
    [
        "UPDATE journal SET amount = amount - 1 WHERE seq = 11",
        "UPDATE journal SET consumed = consumed + 1 WHERE seq = 11",
        "UPDATE journal SET held = held + 1 WHERE seq = 9",
        "UPDATE journal SET allocated = allocated + 1 WHERE seq = 15",
        "UPDATE journal SET pool = pool + 1 WHERE seq = 14",
        "UPDATE journal SET moves_json = '[]' WHERE seq = 7",
        "DELETE FROM journal WHERE seq = 12",
        "DELETE FROM journal WHERE seq = 17",
        "UPDATE account SET consumed = consumed - 10 WHERE agent = 'researcher'",
        "UPDATE scope SET pool = pool + 1",
        "UPDATE scope SET total = total + 1",
    ],
)
def test_what_is_left_of_a_journal_is_looked_at(run: Run, ledger: Path, how: str) -> None:
    """Also without its beginning, numbers that do not follow from one another are found."""
    tamper(ledger, "DELETE FROM journal WHERE seq < 4")
    assert run("audit", ledger).code == 0
    tamper(ledger, how)
    result = run("audit", ledger)
    assert result.code == 1, result.out
    assert "BROKEN" in result.out


def test_a_journal_of_which_nothing_is_left(run: Run, ledger: Path) -> None:
    """Then nothing is proven, and that is no success."""
    tamper(ledger, "DELETE FROM journal")
    result = run("audit", ledger)
    assert result.code == 2
    assert "nothing can be proven" in result.err


def test_refusals_that_moved_something(ledger: Path) -> None:
    """The end of a journal shows that, too."""
    store = open_store(f"sqlite:///{ledger}", read_only=True)
    statement = store.read("acme/run-1")
    entries = store.journal("acme/run-1", after_seq=5)
    store.close()
    assert statement is not None
    refused = next(entry for entry in entries if entry.kind == "denied")
    tail = TailAudit(statement)
    with pytest.raises(BrokenPromiseError, match="P6: a refusal moved something"):
        tail.hear(refused._replace(moves=entries[0].moves))
