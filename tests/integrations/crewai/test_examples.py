"""The examples for CrewAI run as they stand, and show what they say."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[[str], str]
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs an example and returns what it prints."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "")  # so that what an example sets is put back
    monkeypatch.setattr(sys, "path", list(sys.path))

    def example(path: str) -> str:
        runpy.run_path(str(EXAMPLES / path), run_name="__main__")
        printed = capsys.readouterr().out
        totals = re.search(r"^Books: (\S+) tokens\. Server: (\S+)\.$", printed, re.MULTILINE)
        assert totals is not None
        assert totals[1] == totals[2] != "0"
        return printed

    return example


def test_yaml_crew(run: Run) -> None:
    """The report was lent what the research did not need."""
    printed = run("10_yaml_crew/main.py")
    assert "{topic} Researcher -> {topic} Reporting Analyst: " in printed


def test_json_crew(run: Run) -> None:
    """Both agents of the JSON files have the budgets that stand there."""
    printed = run("11_json_crew/json_crew.py")
    assert re.search(r"\{topic\} Researcher +1 +900 ", printed)
    assert re.search(r"\{topic\} Analyst +3 +350 ", printed)


def test_hierarchical_crew(run: Run) -> None:
    """The second kickoff ends with the coworker's refusal; the manager asked three times in all."""
    printed = run("12_hierarchical_crew.py")
    assert "Kickoff 1: Trees first, then roofs." in printed
    assert "Kickoff 2: Researcher was refused. What helps: manager.top_up('Researcher'" in printed
    assert "The manager made 3 requests, and none after the refusal." in printed


def test_flow_with_two_crews(run: Run) -> None:
    """All three have something on the books."""
    printed = run("13_flow_with_two_crews.py")
    for agent in ("flow", "Researcher", "Writer"):
        row = re.search(rf"^{agent} +\d +[\d,]+ +([\d,]+) ", printed, re.MULTILINE)
        assert row is not None
        assert row[1] != "0"


def test_shared_model_totals(run: Run) -> None:
    """CrewAI's own total is five times what five agents on one model were billed."""
    printed = run("14_shared_model_totals.py")
    told = re.findall(r"^CrewAI: ([\d,]+) tokens\.$", printed, re.MULTILINE)[0]
    billed = re.findall(r"Server: ([\d,]+)\.$", printed, re.MULTILINE)[0]
    assert int(told.replace(",", "")) == 5 * int(billed.replace(",", ""))
