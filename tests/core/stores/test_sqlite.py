"""The SQLite store: equal to the reference, whoever writes, and whenever it is opened anew."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tbcontracts.commands import Command, Reply
from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.stores import open_store
from tbcontracts.stores.base import Store
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import Commands, difference, outcome


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """Return the URL of a ledger that does not exist yet."""
    return f"sqlite:///{tmp_path}/budget.db"


@pytest.fixture
def opened(ledger: str, clock: Clock) -> Iterator[list[Store]]:
    """Return two stores on one file, as two processes have them."""
    stores = [open_store(f"{ledger}?synchronous=off", clock=clock) for _ in range(2)]
    yield stores
    for store in stores:
        store.close()


@pytest.mark.parametrize("seed", range(40))
def test_two_processes_and_reopening_equal_the_reference(
    seed: int, opened: list[Store], ledger: str, clock: Clock
) -> None:
    """Commands go to either of two stores on one file, which are opened anew now and then."""
    chance = random.Random(seed)
    made, reference = Commands(chance), Reference()
    written: list[JournalEntry] = []
    command: Command = made.opening()
    wait_s = 0.0
    for _ in range(80):
        clock.now_s += wait_s
        store = chance.choice(opened)

        def carry_out(store: Store = store, command: Command = command) -> Reply:
            applied = store.apply("run", command)
            written.extend(applied.entries)
            return applied.reply

        reply = outcome(carry_out)
        expected = outcome(lambda command=command: reference.step(command, clock.now_s))  # type: ignore[misc]
        assert difference(reply, expected, store.read("run"), reference) is None, command
        if chance.random() < 0.03:
            at = chance.randrange(2)
            opened[at].close()
            opened[at] = open_store(f"{ledger}?synchronous=off", clock=clock)
        command, wait_s = made.next()
    assert list(opened[0].journal("run")) == written
    assert [entry.seq for entry in written] == list(range(1, len(written) + 1))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://host/x.db", "names no file"),
        ("sqlite:///x.db?synchronous=maybe", "option that is none"),
        ("sqlite:///x.db?fast=1", "option that is none"),
    ],
)
def test_urls_that_are_none(url: str, said: str) -> None:
    """A URL without a file, or with an unknown option, is refused with what helps."""
    with pytest.raises(ConfigurationError, match=said) as refused:
        open_store(url)
    assert "What helps" in str(refused.value)


def test_reading_never_creates(ledger: str, tmp_path: Path) -> None:
    """`mode=ro` on a ledger that is not there is an error, and leaves nothing behind."""
    with pytest.raises(StoreError, match="There is no ledger"):
        open_store(f"{ledger}?mode=ro")
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_file_is_not_touched(tmp_path: Path) -> None:
    """A SQLite file of somebody else, and a file that is none, stay as they were."""
    import sqlite3

    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE account (x)")
    db.close()
    with pytest.raises(StoreError, match="no ledger of tbcontracts"):
        open_store(f"sqlite:///{foreign}")
    assert list(tmp_path.iterdir()) == [foreign]
    text = tmp_path / "text.db"
    text.write_text("not a database, but a longer text than a header of one")
    with pytest.raises(StoreError, match="did not answer"):
        open_store(f"sqlite:///{text}")
    assert text.read_text().startswith("not a database")
