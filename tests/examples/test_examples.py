"""Every numbered example runs offline as it stands, and shows what it says it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
CLAIMS = {
    "01_research_team.py": ["researcher lent writer 479 tokens", "researcher -> writer: 479"],
    "02_agent_with_tools.py": [
        "8 calls, 4 of them to the expert, then it ended",
        "last message kept: Manhole covers are round",
        "refused 1 call, which was not sent",
    ],
    "03_subgraphs.py": ["ran: skim, summary, write", "deep: 0 tokens, 1 refused"],
    "04_send_map_reduce.py": ["2 parts, 38 left out", "40 workers, 2 requests sent, 38 refused"],
    "05_human_grants_a_top_up.py": [
        "sent so far: 0 requests",
        "granted 208: Tides follow the moon.",
        "allocated 308",
    ],
    "06_degrade_to_a_cheaper_model.py": [
        "3 chapters by the strong model",
        "3 by the cheap one",
        "stopped: 66 tokens left, 69 needed",
    ],
    "07_agent_that_winds_down.py": [
        "gpt-4o: told it has about 4,000 left",
        "gpt-4o-mini: told it has about 2,400 left",
        "the last call had no tools",
        "last message: Suspension bridges carry the longest spans.",
    ],
    "08_a_budget_in_dollars.py": [
        "stopped: Agent 'analyst' asked for $0.001539",
        "not sent: A call of agent 'clerk' is not sent. What model 'somebody-elses' costs is not",
        "clerk -> analyst: $0.001117",
        "books 6346 millionths of a dollar, provider 6346",
    ],
}

CREWS = {"12_hierarchical_crew.py", "13_flow_with_two_crews.py", "14_shared_model_totals.py"}


def test_every_numbered_example_is_here() -> None:
    """No example stands there untested; those of crews are tested with CrewAI."""
    assert {path.name for path in EXAMPLES.glob("[0-9]*.py")} == set(CLAIMS) | CREWS


@pytest.mark.parametrize("name", CLAIMS)
def test_an_example_runs_and_its_books_equal_the_providers(name: str, tmp_path: Path) -> None:
    """It needs no network, no key and no argument; warnings are errors."""
    environment = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    environment.pop("OPENAI_API_KEY", None)
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    for claim in CLAIMS[name]:
        assert claim in finished.stdout
    books, provider = re.findall(r"books (\d+) tokens, provider (\d+) tokens", finished.stdout)[0]
    assert books == provider != "0"
    assert list(tmp_path.iterdir()) == []
