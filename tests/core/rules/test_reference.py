"""The reference stays what it is for: small, plain, and not the rules again."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from tbcontracts.books import Books
from tbcontracts.rules import step
from tbcontracts.testing import reference, reference_books
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import Commands, difference, numbers_of, outcome

RULES = Path(str(reference.__file__))
DATA = Path(str(reference_books.__file__))


def test_it_is_small_enough_to_be_read_in_one_go() -> None:
    """At most 200 lines of rules; the books under them are plain data with a few verbs."""
    assert len(RULES.read_text(encoding="utf-8").splitlines()) <= 200
    assert len(DATA.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", [RULES, DATA], ids=lambda path: path.name)
def test_it_uses_none_of_what_it_checks(path: Path) -> None:
    """Only the words that both speak: commands, contracts, moves, errors, checks of numbers."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    imported = {
        name
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [f"{node.module}.{alias.name}" for alias in node.names]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    for module in ("rules", "books", "reallocation", "confidence_gate", "stores"):
        assert not any(f"tbcontracts.{module}" in name for name in imported), module


def test_a_copy_is_on_its_own() -> None:
    """What is tried on a copy leaves the original alone, and goes the same way there."""
    commands, original, now = Commands(random.Random(5)), Reference(), 0.0
    original.step(commands.opening(), now)
    for _ in range(200):
        twin = original.copy()
        before = numbers_of(original)
        command, pause_s = commands.next()
        now += pause_s
        tried = outcome(lambda: twin.step(command, now))  # noqa: B023 - called here
        assert numbers_of(original) == before
        assert outcome(lambda: original.step(command, now)) == tried  # noqa: B023 - called here
        assert numbers_of(original) == numbers_of(twin)


def test_a_difference_is_told() -> None:
    """The comparison says what is wrong: a reply, a number of an account, a number of the scope."""
    books, other = Books(), Reference()
    opening = Commands(random.Random(1)).opening()
    reply, expected = step(books, opening, 0.0), other.step(opening, 0.0)
    assert difference(reply, expected, books, other) is None
    assert "not None" in str(difference(reply, None, books, other))
    books.accounts["a"].held += 1
    assert str(difference(reply, expected, books, other)).startswith("a: ")
    books.accounts["a"].held -= 1
    books.pool += 1
    assert "pool=1" in str(difference(reply, expected, books, other))
