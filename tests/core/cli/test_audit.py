"""`tbc audit`: books that were tampered with are found out, and whole ones proven."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.core.cli.conftest import Run

from tbcontracts import BudgetContract, BudgetManager, Usage
from tbcontracts.books import RESOLVED_HOLDS_MAX, Statement
from tbcontracts.commands import Charge, Command, Open, Reserve, Settle, Void
from tbcontracts.stores import open_store
from tbcontracts.stores.memory import MemoryStore
from tbcontracts.testing.audit import Audit, BrokenPromiseError
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


OTHER_TOKENS = (
    "UPDATE journal SET facts_json = "
    "json_set(facts_json, '$.input_tokens', 1, '$.output_tokens', 1)"
)
TAMPERED = [
    ("UPDATE journal SET amount = amount - 1 WHERE seq = 5", 5, None),
    ("DELETE FROM journal WHERE seq = 6", 7, "order"),
    ("DELETE FROM journal WHERE seq = 17", None, None),
    ("UPDATE journal SET at_s = at_s - 9 WHERE seq = 12", 12, "order"),
    ("UPDATE journal SET moves_json = '[]' WHERE seq = 6", 6, "P2"),
    ("UPDATE account SET consumed = consumed - 10 WHERE agent = 'researcher'", None, None),
    ("UPDATE scope SET pool = pool + 1", None, None),
    ("UPDATE scope SET total = total + 1", None, None),
    ("UPDATE account SET unmeasured = 1 WHERE agent = 'researcher'", None, "P5"),
    ("UPDATE account SET denials = 0 WHERE denials > 0", None, None),
    ("UPDATE account SET expired_holds = 1 WHERE agent = 'researcher'", None, "P5"),
    *(
        (f"UPDATE account SET buckets_json = json_set(buckets_json, '{place}', 123456)", None, "P5")
        for place in ("$[0]", "$[1]", "$[2]", "$[3]", "$[4]", "$[5]", "$[6]")
    ),
    (
        OTHER_TOKENS,
        None,
        "P5",
    ),
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


def test_an_entry_of_the_pool_is_said_to_be_one(run: Run, tmp_path: Path) -> None:
    """In the words of `tbc history`; what is without an agent otherwise is of the scope."""
    ledger = tmp_path / "b.db"
    with closing(open_store(f"sqlite:///{ledger}")) as store:
        manager = BudgetManager(store=store)
        manager.register_agent("writer", max_tokens=100)
        manager.top_up(None, 5)
    tamper(ledger, "UPDATE journal SET amount = 6 WHERE seq = 2")
    assert "UTC, the pool: topped up by 6\n" in run("audit", ledger).out


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


def heard(unit: str, *steps: tuple[Command, float]) -> tuple[Audit, Statement]:
    """Carry out commands at their times, and return what was heard of it, with the books."""
    now = [0.0]
    store = MemoryStore(clock=lambda: now[0], journal_entries_max=100_000)
    audit = Audit()
    contract = BudgetContract("a", max_tokens=10**9, unit=unit)
    for command, at in ((Open((contract,), unit), 0.0), *steps):
        now[0] = at
        for entry in store.apply("s", command).entries:
            audit.hear(entry)
    statement = store.read("s")
    assert statement is not None
    return audit, statement


@pytest.mark.parametrize("unit", ["tokens", "usd"])
def test_tokens_estimates_and_costs_are_proven_too(unit: str) -> None:
    """Each number that the books keep of usage is one that the journal comes to."""
    priced = Usage(
        input_tokens=70,
        output_tokens=20,
        cached_input_tokens=30,
        cache_write_tokens=5,
        reasoning_tokens=7,
        model="m",
        cost_micro_usd=40,
    )
    unpriced = Usage(input_tokens=7, output_tokens=2, model="n")
    audit, statement = heard(
        unit,
        (Reserve("a", 100, "priced"), 0.0),
        (Settle("priced", "a", 90, priced), 0.0),
        (Reserve("a", 100, "broken off"), 0.0),
        (Settle("broken off", "a", 50, Usage.estimated(50), final=False), 0.0),
        (Settle("broken off", "a", 9, unpriced), 0.0),
        (Reserve("a", 100, "left"), 0.0),
        (Settle("left", "a", 60, Usage.estimated(60, cost_micro_usd=8), final=False), 0.0),
        (Reserve("a", 100, "no answer"), 0.0),
        (Settle("no answer", "a", 60, Usage.estimated(60), final=False), 0.0),
        (Void("no answer"), 0.0),
        (Reserve("a", 30, "vanished", ttl_s=5.0, enforcement="strict"), 0.0),
        (Reserve("a", 31, "forgotten", ttl_s=5.0), 0.0),
        (Charge("a", 11), 9.0),
        (Charge("a", 12, Usage.estimated(8, 4)), 9.0),
        (Reserve("a", 10**10, "too much"), 9.0),
        (Reserve("a", 10**10, "again"), 9.0),
    )
    audit.compare(statement)
    (account,) = statement.accounts
    assert (account.unmeasured, account.denials, account.expired_holds) == (60 + 30 + 12, 2, 2)
    for number in (
        *("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens"),
        *("reasoning_tokens", "unmeasured", "cost_micro_usd", "unpriced_tokens", "expired_holds"),
    ):
        assert getattr(account, number) > 0, number
        other = account._replace(**{number: getattr(account, number) + 1})
        with pytest.raises(BrokenPromiseError, match=f"P5: {number} of 'a' is "):
            audit.compare(statement._replace(accounts=(other,)))
    with pytest.raises(BrokenPromiseError, match="was refused more often than 0 times"):
        audit.compare(statement._replace(accounts=(account._replace(denials=0),)))


def test_a_truth_that_comes_when_its_hold_is_forgotten_is_no_false_alarm() -> None:
    """Books keep 10,000 ended holds: an older estimate stays, and the truth comes on top of it."""
    others = [
        step
        for number in range(RESOLVED_HOLDS_MAX + 1)
        for step in (
            (Reserve("a", 1, f"h{number}"), 20.0),
            (Settle(f"h{number}", "a", 1, Usage(input_tokens=1)), 20.0),
        )
    ]
    audit, statement = heard(
        "tokens",
        (Reserve("a", 100, "vanished", ttl_s=5.0, enforcement="strict"), 0.0),
        (Reserve("a", 100, "broken off"), 0.0),
        (Settle("broken off", "a", 7, final=False), 0.0),
        *others,
        (Settle("vanished", "a", 50, Usage(input_tokens=50)), 20.0),
        (Settle("broken off", "a", 9, Usage(input_tokens=9)), 20.0),
    )
    audit.compare(statement)
    assert statement.accounts[0].consumed == 100 + 7 + RESOLVED_HOLDS_MAX + 1 + 50 + 9
