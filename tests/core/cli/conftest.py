"""The command `tbc`, run as its users run it, and books for it to look at."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tbcontracts import BudgetExceededError, BudgetManager, Usage
from tbcontracts.cli.group import tbc


class Result(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What was printed, for programs."""
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `tbc` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("TBCONTRACTS_", "OPENAI_"))]:
        monkeypatch.delenv(name)

    def go(*arguments: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            tbc.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        assert "Traceback" not in said.err
        return Result(code, said.out, said.err)

    return go


def write_books(store: str, scope: str = "acme/run-1") -> None:
    """Write books in which all that can be shown happens."""
    manager = BudgetManager(store=store, scope=scope)
    manager.register_agent("researcher", priority=3, max_tokens=4_000)
    manager.register_agent("writer", priority=1, max_tokens=2_000)
    manager.register_agent("研究員", priority=2, max_tokens=100, confidence_threshold=0.8)
    manager.reserve("researcher", 3_000).settle(Usage(input_tokens=2_000, output_tokens=500))
    manager.reserve("researcher", 2_500).settle(2_600)
    with pytest.raises(BudgetExceededError):
        manager.reserve("writer", 5_000)
    manager.reserve("writer", 100).void()
    manager.record_usage("writer", 50, note="by hand")
    manager.report_confidence("研究員", 0.9)
    with pytest.raises(BudgetExceededError):
        manager.reserve("研究員", 50)
    manager.top_up(None, 500)
    manager.top_up("writer", 10)
    manager.finish("writer")
    manager.change_contract("researcher", max_tokens=5_000)
    manager.store.close()


@pytest.fixture
def books(url: str) -> str:
    """Return the URL of a store with books, in each store that others can look into."""
    write_books(url)
    return url


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Return a SQLite file with books."""
    path = tmp_path / "budget.db"
    write_books(f"sqlite:///{path}")
    return path
