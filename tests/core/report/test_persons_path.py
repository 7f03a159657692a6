"""A person's path, followed literally: from a contract file with a typo to a refusal's reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.core.report.chromium import Chromium

EXAMPLE = Path(__file__).parents[3] / "examples" / "30_where_the_budget_went"
BIN = Path(sys.executable).parent


def typed(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, as a person types it there."""
    environment = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    environment.pop("OPENAI_API_KEY", None)
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_from_a_typo_to_the_reason_of_a_refusal(chromium: Chromium, tmp_path: Path) -> None:
    """Write contracts, check them, run, show, report, open the page, find call 17."""
    tbc = BIN / "tbc"
    contracts = tmp_path / "budget.toml"
    right = (EXAMPLE / "budget.toml").read_text(encoding="utf-8")

    contracts.write_text(right.replace("max_tokens = 1_800", "max_token = 1_800"), "utf-8")
    checked = typed(tmp_path, tbc, "check", "budget.toml")
    assert checked.returncode == 1
    line = 1 + contracts.read_text(encoding="utf-8").split("\n").index("max_token = 1_800")
    said = f"line {line}, agents.scout.max_token: there is no such key. Did you mean 'max_tokens'?"
    assert said in checked.stdout

    contracts.write_text(right, encoding="utf-8")
    checked = typed(tmp_path, tbc, "check", "budget.toml")
    assert (checked.returncode, checked.stderr) == (0, "")

    ran = typed(tmp_path, sys.executable, "-W", "error", EXAMPLE / "run.py")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("Call 17 was refused. Agent 'scout' asked for ")
    assert "books 1712 tokens, provider 1712 tokens" in ran.stdout

    shown = typed(tmp_path, tbc, "show", "budget.db")
    assert shown.returncode == 0
    assert "Spent 1,712 of 5,300 tokens" in shown.stdout

    reported = typed(tmp_path, tbc, "report", "budget.db")
    assert (reported.returncode, reported.stderr) == (0, "")
    assert reported.stdout.startswith("Wrote report.html (")

    page = tmp_path / "report.html"
    visit = chromium.visit(page, read_call_17)
    assert visit.requests == [page.as_uri()]
    assert visit.messages == []
    before, why, accounts = visit.found
    assert before == "closed"
    assert "it had 88 tokens left of its own. The pool had 0 tokens" in why
    assert accounts["scout"][5] == "88"
    assert accounts["scout"][-1] == "asked for this call"
    assert accounts["editor"][-2:] == ["0", "has a higher priority"]
    assert accounts["archivist"][-2:] == ["0", "keeps its reserve"]


def read_call_17(opened: Any) -> tuple[str, str, dict[str, list[str]]]:
    """Go to the refusals, open call 17, and read the reason and the books of then."""
    opened.get_by_role("link", name="Refusals").click()
    refusal = opened.locator("details", has_text="Call 17 was refused")
    before = "open" if refusal.evaluate("one => one.open") else "closed"
    refusal.locator("summary").click()
    why = refusal.get_by_text("Why:").locator("..").inner_text()
    rows = [row.locator("th, td").all_inner_texts() for row in refusal.locator("tbody tr").all()]
    return before, why, {row[0]: row for row in rows}
