"""Contracts that cannot be registered or changed: refused at both doors, without a trace."""

from __future__ import annotations

from tests.core.bad_input.conftest import Books, both_doors, seen

from tbcontracts import ContractConflictError


def test_a_second_registration(books: Books) -> None:
    """The same one changes nothing; a different one says both, and what to call."""
    same = {"priority": 3, "max_tokens": 1_000, "confidence_threshold": 0.9}
    books.manager.register_agent(" boss ", **same)  # type: ignore[arg-type]
    assert seen(books.manager) == books.before
    words = ("Agent 'boss' is registered already", "max_tokens=1000", "max_tokens=2000")
    books.refuses(
        ContractConflictError,
        (*words, "manager.change_contract('boss', ...)"),
        lambda: books.manager.register_agent("boss", priority=3, max_tokens=2_000),
    )
    books.refuses(TypeError, ("must be a BudgetContract, not str",), books.manager.register, "boss")


@both_doors
def test_changes_that_no_contract_has(books: Books, door: str) -> None:
    """A field that does not exist is named, beside those that do; a name is not changed."""
    words = ("no field 'max_token'", "min_reserve", "Did you mean 'max_tokens'?")
    books.refuses(TypeError, words, books.call, door, "change_contract", "boss", max_token=10)
    books.refuses(
        TypeError,
        ("Agent 'boss' keeps its name",),
        books.call,
        door,
        "change_contract",
        "boss",
        agent_name="helper",
    )
    books.refuses(
        ValueError,
        ("min_reserve of agent 'boss'", "1,000", "1,001"),
        books.call,
        door,
        "change_contract",
        "boss",
        min_reserve=1_001,
    )
