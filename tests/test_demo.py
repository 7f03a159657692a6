"""One test for each claim that the demo prints."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def printed() -> str:
    """Run the demo as `make demo` does, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "examples/demo.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def section(printed: str, number: int) -> str:
    """Return one half of what was printed."""
    found = re.split(r"^(?=\d\. )", printed, flags=re.MULTILINE)
    return next(part for part in found if part.startswith(f"{number}. "))


def numbers(line: str) -> list[int]:
    """Return the numbers in a line."""
    return [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*", line)]


def halves() -> list[int]:
    """Return the halves that run on this Python."""
    return [1, 2] if find_spec("crewai") else [1]


@pytest.mark.parametrize("half", [1, 2])
def test_books_equal_the_servers_log(printed: str, half: int) -> None:
    """The books of each half are the provider's log, to the token."""
    if half not in halves():
        pytest.skip("CrewAI is not installed (Python 3.14)")
    line = re.search(r"^books (\S+) = server (\S+)", section(printed, half), re.MULTILINE)
    assert line is not None
    assert line[1] == line[2] != "0"


def test_the_statement_adds_up(printed: str) -> None:
    """What the agents consumed is what the line below says, and what the books say."""
    graph = section(printed, 1)
    table = re.search(r"^-+\n((?:\w+ .*\n)+)", graph.split("Budget of scope")[1], re.MULTILINE)
    assert table is not None
    rows = [numbers(row) for row in table[1].splitlines()]
    spent = re.search(r"Spent (\S+) of (\S+) tokens", graph)
    assert spent is not None
    assert sum(row[2] for row in rows) == numbers(spent[1])[0]
    assert sum(row[1] for row in rows) == numbers(spent[2])[0]
    for _priority, allocated, consumed, held, remaining, _refused in rows:
        assert remaining == allocated - consumed - held
        assert held == 0


def test_the_loop_was_refused_before_it_was_sent(printed: str) -> None:
    """The researcher is refused once, and that call is not among the requests sent."""
    graph = section(printed, 1)
    assert "refused before it was sent" in graph
    assert re.search(r"researcher: a call of \d+ was refused", graph)
    paid = re.search(r"^(\d+) calls were paid for", graph, re.MULTILINE)
    sent = re.search(r"\((\d+) requests sent\)", graph)
    assert paid is not None
    assert sent is not None
    assert paid[1] == sent[1]


def test_budget_flowed_to_the_agent_that_matters(printed: str) -> None:
    """The writer, highest in priority, was lent what it lacked; nobody lent to a lower one."""
    graph = section(printed, 1)
    assert "-> writer: " in graph
    assert "-> critic: " not in graph
    assert "planner -> researcher" not in graph  # the planner stands above it


def test_the_refusal_says_what_would_help(printed: str) -> None:
    """Each half shows a refusal with a remedy."""
    for half in halves():
        words = " ".join(section(printed, half).split())
        assert re.search(r"What helps: manager\.top_up\('[^']+', \d+\)", words), words


@pytest.mark.skipif(find_spec("crewai") is None, reason="CrewAI is not installed (Python 3.14)")
def test_the_crew_keeps_what_was_finished(printed: str) -> None:
    """After the refusal the finished tasks are readable, and the analyst was lent budget."""
    crew = section(printed, 2)
    assert "Finished and readable: Collect facts, Judge them." in crew
    assert "Scout -> Senior {topic} Analyst: " in crew
    assert "'Senior {topic} Analyst' is one account, whatever {topic} is filled with." in crew


def test_a_live_run_needs_a_key_and_asks_first() -> None:
    """`--live` without a key, or without a yes, spends nothing and says why."""

    def live(key: str | None, answer: str) -> subprocess.CompletedProcess[str]:
        import os

        environment = {
            name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"
        }
        if key:
            environment["OPENAI_API_KEY"] = key
        return subprocess.run(
            [sys.executable, "examples/demo.py", "--live"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            input=answer,
            env=environment,
        )

    without_key = live(None, "")
    assert without_key.returncode == 2
    assert "--live needs OPENAI_API_KEY" in without_key.stderr
    declined = live("test", "n\n")
    assert declined.returncode == 2
    assert "at most about" in declined.stdout
