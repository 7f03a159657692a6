"""The README is true: its examples run as they stand, and the refusal it shows is a real one."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tbcontracts.commands import Denied
from tbcontracts.contract import BudgetContract
from tbcontracts.refusals import refusal
from tbcontracts.testing import FakeOpenAI

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES: list[str] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def example_with(text: str) -> str:
    """Return the README's example that holds a text."""
    return next(example for example in EXAMPLES if text in example)


def run_example(
    text: str, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> dict[str, object]:
    """Run an example against the local provider; return its variables."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    variables: dict[str, object] = {"__name__": "readme"}
    exec(compile(example_with(text), "README.md", "exec"), variables)
    return variables


def test_langgraph_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The LangGraph example runs as it stands; its books equal the log."""
    with FakeOpenAI() as server:
        run_example("govern_graph", server, monkeypatch)
        assert len(server.log) == 2
        assert f"Spent {server.billed_tokens:,} of 6,000 tokens" in capsys.readouterr().out


@pytest.mark.skipif(find_spec("crewai") is None, reason="CrewAI is not installed (Python 3.14)")
def test_crewai_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The CrewAI example runs as it stands; its books equal the log."""
    with FakeOpenAI() as server:
        run_example("govern_crew", server, monkeypatch)
        assert len(server.log) >= 2
        assert f"Spent {server.billed_tokens:,} of 5,000 tokens" in capsys.readouterr().out


def test_plain_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The example without a framework runs, and the critic's refusal is printed."""
    with FakeOpenAI() as server:
        run_example('manager.reserve("critic"', server, monkeypatch)
    assert "'critic' asked for 800 tokens" in capsys.readouterr().out


def test_every_example_is_run() -> None:
    """No example of the README stands there untested."""
    assert len(EXAMPLES) == 3


def test_the_refusal_shown_is_a_real_one() -> None:
    """The error text in the README is word for word what the code says."""
    denied = Denied("researcher", 783, 242, 541, "budget_exceeded", seq=1)
    contract = BudgetContract("researcher", max_tokens=900)
    error = refusal(denied, "default", contract, "output cap of the call")
    shown = next(block for block in re.findall(r"```text\n(.*?)```", README, re.DOTALL))
    assert " ".join(shown.split()) == f"BudgetExceededError: {error}"


def test_commands_of_the_first_screen_exist() -> None:
    """`make demo` and `make test` are in the README's first screen and in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    first_screen = README.splitlines()[:20]
    for command in ("make demo", "make test"):
        assert any(line.startswith(command) for line in first_screen)
        assert f"\n{command.split()[1]}:" in makefile
