"""`tbc watch` on a real terminal: it fits, it tells what matters, and it leaves all as it was."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.columns import width_of

if sys.platform == "win32":
    pytest.skip("no terminals of this kind", allow_module_level=True)

import fcntl
import pty
import select
import termios

pytest.importorskip("rich")

PATIENCE_S = 60
"""For a machine that is busy; nothing here takes a time that is measured."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9|10)\d(?:;\d+)*m")


class Terminal:
    """A terminal with a command on it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.theirs)
        self.said = ""

    def resize(self, columns: int, rows: int) -> None:
        """Make it larger or smaller."""
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, text: str, after: int = 0) -> int:
        """Read until a text was said; return where it ends."""
        while text not in self.said[after:]:
            ready, _, _ = select.select([self.ours], [], [], PATIENCE_S)
            assert ready, f"{text!r} was not said: {self.said[-2_000:]!r}"
            self.said += os.read(self.ours, 100_000).decode(errors="replace")
        return self.said.index(text, after) + len(text)

    def picture(self) -> list[str]:
        """Return the last picture as lines, without what colours and moves it."""
        last = self.said[self.said.rindex("Scope '") :]
        return [line.rstrip() for line in _CONTROL.sub("", last).replace("\r", "").split("\n")]


@contextmanager
def watching(
    file: Path, columns: int, rows: int, *more: str, **variables: str
) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """Watch a scope on a terminal of this size."""
    environ = {name: value for name, value in os.environ.items() if name not in _SIZE}
    terminal = Terminal(columns, rows)
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, "watch", str(file), "s", "--every", "0.1", *more],
        stdin=terminal.theirs,
        stdout=terminal.theirs,
        stderr=terminal.theirs,
        env={**environ, "TERM": "xterm-256color", **variables},
    )
    try:
        yield terminal, process
    finally:
        process.kill()
        process.wait()
        os.close(terminal.ours)
        os.close(terminal.theirs)


# A shell that runs tests in the background leaves them deaf to SIGINT, and so their children.
_COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from tbcontracts.cli import main
main()
"""
_SIZE = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def _books(path: Path, agents: int) -> BudgetManager:
    manager = BudgetManager(store=f"sqlite:///{path}", scope="s")
    manager.register_agent("boss", priority=9, max_tokens=1_000)
    manager.register_agent("研究員 with a long name, and more of it than fits", max_tokens=1_000)
    for number in range(agents - 2):
        manager.register_agent(f"agent-{number:03}", max_tokens=1_000)
    manager.record_usage("boss", 900)
    with pytest.raises(BudgetExceededError):
        manager.reserve("boss", 10**9)
    return manager


@pytest.mark.parametrize(
    ("columns", "rows", "agents"),
    [(40, 24, 3), (80, 24, 3), (200, 50, 3), (80, 24, 60), (80, 50, 60), (60, 16, 60)],
)
def test_it_fits_and_ends_as_it_began(columns: int, rows: int, agents: int, tmp_path: Path) -> None:
    """Whatever the size: the warning is there, bars are whole, and Ctrl-C gives all back."""
    _books(tmp_path / "b.db", agents).store.close()
    with watching(tmp_path / "b.db", columns, rows, "--warn-at", "0.8") as (terminal, process):
        terminal.read_until("past 80")
        process.send_signal(signal.SIGINT)
        terminal.read_until("the books go on.")
        assert process.wait(PATIENCE_S) == 130
        assert termios.tcgetattr(terminal.theirs) == terminal.before
        assert terminal.said.count("\x1b[?25l") == terminal.said.count("\x1b[?25h") > 0
        lines = terminal.picture()
    shown = lines[: next(at for at, line in enumerate(lines) if line.startswith("End"))]
    assert len(shown) <= rows
    assert max(map(width_of, shown)) <= columns
    (boss,) = [line for line in shown if line.startswith("boss")]
    assert "900 of 1,000 (90 %)" in boss
    assert boss.count("[") == boss.count("]") >= (columns >= 60)
    assert "1 refused" in " ".join(" ".join(shown).split())
    assert not any("…" in line for line in shown)
    counted = [line for line in shown if re.match(r"(boss|agent-\d+|研)", line)]
    (others,) = [line for line in shown if line.startswith("and ")] or ["and 0 more"]
    assert len(counted) + int(others.split()[1]) == agents
    assert "Traceback" not in terminal.said


def test_it_follows_the_size_of_the_window(tmp_path: Path) -> None:
    """A narrower window gets a narrower picture at the next turn."""
    manager = _books(tmp_path / "b.db", 3)
    with watching(tmp_path / "b.db", 120, 40) as (terminal, process):
        at = terminal.read_until("900 of 1,000")
        assert "[" in _CONTROL.sub("", terminal.said)
        terminal.resize(50, 20)
        manager.record_usage("agent-000", 111)
        at = terminal.read_until("111 of 1,000", at)
        terminal.read_until("111 of 1,000", at)
        process.send_signal(signal.SIGTERM)
        terminal.read_until("the books go on.")
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
        assert terminal.said.count("\x1b[?25l") == terminal.said.count("\x1b[?25h") > 0
        assert max(map(width_of, terminal.picture())) <= 50


def test_no_color_has_no_colours(tmp_path: Path) -> None:
    """Letters say all that colours do."""
    _books(tmp_path / "b.db", 3).store.close()
    for variables, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        with watching(tmp_path / "b.db", 100, 30, **variables) as (terminal, process):
            terminal.read_until("overdrawn")
            process.send_signal(signal.SIGINT)
            terminal.read_until("the books go on.")
            assert process.wait(PATIENCE_S) == 130
        assert bool(_COLOUR.search(terminal.said)) == coloured


def test_it_ends_with_the_scope_and_a_scope_that_is_none_is_said(tmp_path: Path) -> None:
    """Exit code 0 where the scope was closed, 2 where there is none; nothing is hidden after."""
    manager = _books(tmp_path / "b.db", 3)
    with watching(tmp_path / "b.db", 80, 24) as (terminal, process):
        terminal.read_until("900 of 1,000")
        manager.close_scope("s")
        terminal.read_until("End: the scope is closed.")
        assert process.wait(PATIENCE_S) == 0
        assert terminal.said.count("\x1b[?25l") == terminal.said.count("\x1b[?25h") > 0
    other = BudgetManager(store=f"sqlite:///{tmp_path}/c.db", scope="t")
    other.report()
    with watching(tmp_path / "c.db", 80, 24) as (terminal, process):
        assert process.wait(PATIENCE_S) == 2
        terminal.read_until("has no scope 's'")
        assert "\x1b" not in terminal.said
