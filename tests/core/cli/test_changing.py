"""`tbc top-up` and `tbc contract set`: on books that are there, and once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.core.cli.conftest import Run

from tbcontracts import OutcomeUnknownError, open_store
from tbcontracts.books import AccountView
from tbcontracts.cli import changing
from tbcontracts.commands import ChangeContract, Close, Command
from tbcontracts.stores.base import Applied


def account(url: str, agent: str) -> AccountView:
    """Return an agent's account."""
    store = open_store(url, read_only=True)
    statement = store.read("acme/run-1")
    store.close()
    assert statement is not None
    return next(one for one in statement.accounts if one.agent == agent)


def test_an_agent_is_topped_up_once_for_each_key(run: Run, books: str) -> None:
    """On every store; the same key again says that nothing was added."""
    before = account(books, "researcher").allocated
    result = run("top-up", books, "acme/run-1", "researcher", "500", "--key", "k")
    assert result.code == 0
    assert result.out == (
        "researcher was topped up by 500.\n"
        "In scope 'acme/run-1' researcher has 6,600 allocated, 5,100 consumed, 0 held and "
        "1,500 remaining.\n"
    )
    again = run("top-up", books, "acme/run-1", "researcher", "500", "--key", "k")
    assert (again.code, again.out.splitlines()[0]) == (
        0,
        "Nothing was added: the key 'k' was used before.",
    )
    assert account(books, "researcher").allocated == before + 500
    other = run("top-up", books, "acme/run-1", "researcher", "600", "--key", "k")
    assert other.code == 2
    assert "k" in other.err
    without = [run("top-up", books, "acme/run-1", "researcher", "1").code for _ in range(2)]
    assert without == [0, 0]
    assert account(books, "researcher").allocated == before + 502


def test_the_pool_is_topped_up(run: Run, books: str) -> None:
    """What is added belongs to no agent."""
    result = run("top-up", books, "acme/run-1", "--pool", "40", "--json")
    assert result.code == 0
    assert result.json["pool"] == 1_400
    assert (result.json["agent"], result.json["added"], result.json["account"]) == (None, 40, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("acme/run-1", "writr", "5"), "Did you mean 'writer'?"),
        (("acme/run-9", "writer", "5"), "Did you mean 'acme/run-1'?"),
        (("acme/run-1", "writer"), "AGENT and AMOUNT, or --pool and AMOUNT"),
        (("acme/run-1", "writer", "5", "6"), "AGENT and AMOUNT"),
        (("acme/run-1", "writer", "5", "--pool"), "stand --pool and AMOUNT"),
        (("acme/run-1", "writer", "many"), "AMOUNT must be a whole number, not 'many'"),
        (("acme/run-1", "writer", "0"), "between 1 and"),
        (("acme/run-1", "writer", "9" * 40), "a larger number"),
        (("acme/run-1", "writer", "9" * 9_000), "AMOUNT must be a whole number"),
        (("acme/run-1", "writer", "1.5"), "AMOUNT must be a whole number"),
        (("acme/run-1", "writer", "-5"), "-5"),
        (("acme/run-1", "--", "-writer", "5"), "no agent '-writer'"),
        (("acme/run-1", "writer", "5", "--key", ""), "key must not be empty"),
        (("", "writer", "5"), "scope name must not be empty"),
    ],
)
def test_top_ups_that_cannot_be(
    run: Run, ledger: Path, arguments: tuple[str, ...], said: str
) -> None:
    """A sentence, exit code 2, and the books as they were: no scope is made."""
    before = ledger.read_bytes()
    result = run("top-up", ledger, *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert ledger.read_bytes() == before


def test_a_ledger_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    """Neither a file nor a scope comes to be by topping up."""
    assert run("top-up", "sqlite:///none.db", "s", "a", "5").code == 2
    assert run("contract", "set", "sqlite:///none.db", "s", "a", "--priority", "5").code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_closed_scope(run: Run, ledger: Path) -> None:
    """It takes no budget, and says so."""
    store = open_store(f"sqlite:///{ledger}")
    store.apply("acme/run-1", Close())
    store.close()
    result = run("top-up", ledger, "acme/run-1", "writer", "5")
    assert result.code == 2
    assert "closed" in result.err


def test_an_outcome_that_nobody_knows(
    run: Run, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the key is said with which the same command finds out."""
    store: Any = open_store(f"sqlite:///{ledger}")

    def lost(scope: str, command: Any) -> Applied:
        raise OutcomeUnknownError(command.key, "The connection was lost.")

    monkeypatch.setattr(store, "apply", lost)
    monkeypatch.setattr(changing, "open_books", lambda *_, **__: store)
    result = run("top-up", ledger, "acme/run-1", "writer", "5", "--key", "k")
    store.close()
    assert result.code == 2
    assert "The connection was lost. What helps: the same command again with --key k" in result.err


def test_a_contract_is_changed_in_what_is_named(run: Run, books: str) -> None:
    """On every store; what is not named stays, and a reserve by default follows."""
    result = run("contract", "set", books, "acme/run-1", "researcher", "--max-tokens", "6000")
    assert result.code == 0
    assert result.out == (
        "researcher            before    now\n"
        "-----------------------------------\n"
        "priority                   3      3\n"
        "max_tokens             5,000  6,000\n"
        "min_reserve              500    600\n"
        "confidence_threshold       -      -\n"
        "\n"
        "In scope 'acme/run-1' researcher has 7,100 allocated, 5,100 consumed, 0 held and "
        "2,000 remaining.\n"
    )
    changed = run(
        "contract", "set", books, "acme/run-1", "研究員", "--priority", "9",
        "--min-reserve", "7", "--confidence-threshold", "none", "--json",
    ).json  # fmt: skip
    assert changed["before"]["confidence_threshold"] == 0.8
    contract = account(books, "研究員").contract
    assert contract is not None
    assert contract.terms == (9, 100, 7, None)
    assert changed["after"] == contract.as_dict()


def test_what_is_used_is_not_taken(run: Run, ledger: Path) -> None:
    """It is owed, and that is said."""
    result = run("contract", "set", ledger, "acme/run-1", "researcher", "--max-tokens", "100")
    assert result.code == 0
    assert "3,900 could not be taken from what it has used, and is owed." in result.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("writer",), "Say what is to change"),
        (("writer", "--priority", "0"), "0 is not in the range"),
        (("writer", "--max-tokens", "9" * 40), "is not in the range"),
        (("writer", "--min-reserve", "9999"), "must be at most its max_tokens"),
        (("writer", "--confidence-threshold", "7"), "between 0 and 1"),
        (("writer", "--confidence-threshold", "nan"), "between 0 and 1"),
        (("writer", "--confidence-threshold", "high"), "not 'none'"),
        (("writr", "--priority", "5"), "Did you mean 'writer'?"),
    ],
)
def test_contracts_that_cannot_be(
    run: Run, ledger: Path, arguments: tuple[str, ...], said: str
) -> None:
    """A sentence, exit code 2, and the books as they were."""
    before = ledger.read_bytes()
    result = run("contract", "set", ledger, "acme/run-1", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert ledger.read_bytes() == before


def test_an_agent_without_a_contract(run: Run, ledger: Path) -> None:
    """It is only counted: there is nothing to change."""
    from tbcontracts.commands import Charge

    store = open_store(f"sqlite:///{ledger}")
    store.apply("acme/run-1", Charge("stranger", 5, track=True))
    store.close()
    result = run("contract", "set", ledger, "acme/run-1", "stranger", "--priority", "5")
    assert result.code == 2
    assert "'stranger' has no contract" in result.err


@pytest.mark.parametrize("times", [1, 99])
def test_somebody_else_changes_the_contract_meanwhile(
    run: Run, ledger: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Neither change is lost; one that never gets its turn says so."""
    store: Any = open_store(f"sqlite:///{ledger}")
    apply, others = store.apply, iter(range(times))

    def interrupted(scope: str, command: Command) -> Applied:
        if isinstance(command, ChangeContract) and (number := next(others, None)) is not None:
            contract = store.read(scope).accounts[0].contract
            assert contract.agent_name == "researcher"
            apply(scope, ChangeContract(contract.changed(priority=10 + number)))
        done: Applied = apply(scope, command)
        return done

    monkeypatch.setattr(store, "apply", interrupted)
    monkeypatch.setattr(changing, "open_books", lambda *_, **__: store)
    result = run("contract", "set", ledger, "acme/run-1", "researcher", "--max-tokens", "9000")
    store.close()
    if times == 1:
        assert result.code == 0
        contract = account(f"sqlite:///{ledger}", "researcher").contract
        assert contract is not None
        assert contract.terms[:2] == (10, 9_000)
    else:
        assert result.code == 2
        assert "was changed meanwhile" in result.err
