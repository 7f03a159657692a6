"""Books whose writer was killed in the middle are read, whole, by every command that reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.core.cli.test_command import started

WRITER = """
import sys
from tbcontracts import BudgetManager

manager = BudgetManager(store=f"sqlite:///{sys.argv[1]}", scope="s")
manager.register_agent("a", max_tokens=10**9)
while True:
    manager.reserve("a", 100).settle(50)
    print("acknowledged", flush=True)
"""
ACKNOWLEDGED = 20


@pytest.mark.parametrize("torn", [False, True], ids=["killed", "torn"])
def test_what_was_acknowledged_is_read(torn: bool, tmp_path: Path) -> None:
    """Killed while it writes, or with half a transaction at the end of its file."""
    file = tmp_path / "budget.db"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, file], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for _ in range(ACKNOWLEDGED):
        assert writer.stdout.readline() == b"acknowledged\n"
    writer.kill()
    writer.wait()
    writer.stdout.close()
    if torn:
        with Path(f"{file}-wal").open("ab") as log:
            log.write(os.urandom(3_000))
    page = tmp_path / "page.html"
    for command in (
        ("report", str(file), "-o", str(page)),
        ("show", str(file)),
        ("history", str(file)),
        ("watch", str(file), "--once"),
        ("store", "info", str(file)),
    ):
        done = started(*command)
        assert (done.returncode, done.stderr) == (0, b""), command
    audit = started("audit", str(file))
    assert (audit.returncode, audit.stderr) == (0, b"")
    assert b"PROVEN" in audit.stdout
    assert "Budget report" in page.read_text(encoding="utf-8")
    settled = started("history", str(file), "--kind", "settled").stdout.splitlines()
    assert len(settled) >= ACKNOWLEDGED
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []
