"""`tbc` on books in dollars: amounts are read and written in dollars, never as millionths."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.cli.group import tbc

FILE = """
unit = "usd"

[agents.writer]
priority = 3
max_usd = "2.50"

[agents."helper_*"]
max_usd = 1

[prices.cheap]
input = "0.15"
output = "0.60"
"""


@pytest.fixture
def books(tmp_path: Path) -> str:
    """Return the path of books on which a hold borrowed, and one was refused."""
    file = tmp_path / "budget.toml"
    file.write_text(FILE, encoding="utf-8")
    path = str(tmp_path / "b.db")
    manager = BudgetManager.from_config(file, store=f"sqlite:///{path}")
    manager.record_usage("helper_1", Decimal("0.10"))
    manager.reserve("writer", Decimal("2.75")).settle(Decimal("0.002"))
    with suppress(BudgetExceededError):
        manager.reserve("helper_1", Decimal("9.99"))
    manager.store.close()
    return path


def run(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(tbc, arguments, catch_exceptions=False)


def test_a_contract_file_is_shown_in_dollars(tmp_path: Path) -> None:
    """The headings are the keys that the file has, and a pattern is no agent."""
    file = tmp_path / "budget.toml"
    file.write_text(FILE, encoding="utf-8")
    said = run("check", str(file)).output
    assert "1 agent, $2.50 in each scope; 1 pattern, with a contract for each agent" in said
    assert said.splitlines()[3].split()[:4] == ["agent", "priority", "max_usd", "min_reserve_usd"]
    assert ["writer", "3", "$2.50", "$0.25", "$2.25", "raise"] in map(str.split, said.splitlines())


def test_the_journal_is_told_in_dollars(books: str) -> None:
    """Holds, gifts, spending and refusals."""
    said = run("history", books).output
    assert "held $2.75, with $0.25 from helper_1; $0.00 left" in said
    assert "spent $0.002 of $2.75 held; $2.748 left" in said
    assert "refused $9.99 (budget exceeded: $0.65 could be reached)" in said
    assert "2 agents, $3.50 in all, $0.00 of it in the pool" in run("audit", books).output


def test_dollars_are_added(books: str) -> None:
    """As people write them; millionths are the books' business."""
    said = run("top-up", books, "default", "writer", "0.5").output
    assert "writer was topped up by $0.50.\nIn scope 'default' writer has $3.25 allocated" in said
    assert (
        "The pool was topped up by $2.00." in run("top-up", books, "default", "--pool", "$2").output
    )
    refused = run("top-up", books, "default", "writer", "0.0000001")
    assert (refused.exit_code, "at most six decimal places" in refused.output) == (2, True)


def test_a_contract_is_changed_in_dollars(books: str) -> None:
    """The option says the unit; the other one is refused with the name of the right one."""
    said = run("contract", "set", books, "default", "writer", "--max-usd", "3").output
    assert ["max_usd", "$2.50", "$3.00"] in map(str.split, said.splitlines())
    refused = run("contract", "set", books, "default", "writer", "--max-tokens", "5")
    assert (refused.exit_code, "give max_usd" in refused.output) == (2, True)
