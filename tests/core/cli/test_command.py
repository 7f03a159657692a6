"""The command as a whole: its start, its exit codes, and that it never shows a traceback."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.core.cli.conftest import Run

from tbcontracts import open_store
from tbcontracts.cli.group import tbc

TBC = [sys.executable, "-c", "from tbcontracts.cli import main; main()"]
HEAVY = (
    "asyncio",
    "email",
    "importlib.metadata",
    "psycopg",
    "pydantic",
    "redis",
    "rich",
    "sqlite3",
    "ssl",
    "tbcontracts.manager",
    "tiktoken",
    "yaml",
)


def started(
    *arguments: str, folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `tbc` in a process of its own."""
    return subprocess.run(
        [*TBC, *arguments],
        capture_output=True,
        check=False,
        cwd=folder,
        env={**os.environ, **variables},
        timeout=60,
    )


def test_the_help_loads_nothing_heavy() -> None:
    """It answers at once: what a command needs is loaded by that command."""
    code = (
        "import sys\nfrom tbcontracts.cli import main\ntry: main()\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    asked = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(asked, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert "Commands:" in done.stdout


def test_exit_codes_and_streams(tmp_path: Path) -> None:
    """0 good, 1 a finding, 2 wrong use; findings are output, and troubles are not."""
    (tmp_path / "good.toml").write_text("[agents.a]\n[agents.b]\npriority = 2\n")
    (tmp_path / "bad.toml").write_text("polcy = 1\n")
    good, bad = (started("check", f"{name}.toml", folder=tmp_path) for name in ("good", "bad"))
    assert (good.returncode, good.stderr) == (0, b"")
    assert (bad.returncode, bad.stderr) == (1, b"")
    assert b"polcy" in bad.stdout
    none = started("check", "none.toml", folder=tmp_path)
    assert (none.returncode, none.stdout) == (2, b"")
    assert none.stderr.startswith(b"tbc: none.toml cannot be read")
    assert started("--version").stdout.startswith(b"tbc, version 0")


def test_a_command_that_is_none(run: Run) -> None:
    """The nearest is named."""
    result = run("chekc", "x")
    assert result.code == 2
    assert "There is no command 'chekc'. Did you mean 'check'?" in result.err
    assert "There are check, " in run("xyz").err


def test_colours_only_where_somebody_looks(tmp_path: Path) -> None:
    """A pipe gets plain text, and so does a terminal with NO_COLOR."""
    if sys.platform == "win32":
        pytest.skip("no terminals of this kind")
    import pty

    (tmp_path / "good.toml").write_text("[agents.a]\n")

    def on_terminal(**variables: str) -> bytes:
        ours, theirs = pty.openpty()
        subprocess.run(
            [*TBC, "check", "good.toml"],
            stdout=theirs,
            check=True,
            cwd=tmp_path,
            env={**os.environ, "TERM": "xterm", **variables},
        )
        os.close(theirs)
        said = os.read(ours, 100_000)
        os.close(ours)
        return said

    assert b"\x1b[32mgood" in on_terminal()
    assert b"\x1b" not in on_terminal(NO_COLOR="1")
    assert b"\x1b" not in started("check", "good.toml", folder=tmp_path).stdout


def test_readers_that_go_away(ledger: Path) -> None:
    """`tbc history ... | head -1`: the command ends, quietly and well."""
    for number in range(40):
        demo = started("demo", "--store", str(ledger), "--scope", f"run-{number}")
        assert demo.returncode == 0, demo.stderr
        if number:
            break
    process = subprocess.Popen(
        [*TBC, "history", str(ledger), "run-0", "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert b"opened" in process.stdout.readline()
    process.stdout.close()
    started("top-up", str(ledger), "run-0", "writer", "5")  # what is told to nobody
    assert process.stderr.read() == b""
    assert process.wait(60) == 0
    process.stderr.close()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes there do not tell")
@pytest.mark.parametrize("command", [["history", "--follow"], ["watch"], ["watch", "--json"]])
def test_readers_that_go_away_end_it_while_nothing_happens(
    command: list[str], ledger: Path
) -> None:
    """`| head` is over at once, and does not wait for the next entry, which may never come."""
    once = [one for one in command if one != "--follow"]
    once += ["--once"] if "watch" in command else []
    lines = len(started(*once, str(ledger)).stdout.splitlines())
    process = subprocess.Popen(
        [*TBC, *command, str(ledger)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(lines):  # all that it has to say
        assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_names_that_a_terminal_cannot_show(ledger: Path) -> None:
    """They are written in another way, and break nothing."""
    done = started("show", str(ledger), PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert done.returncode == 0
    assert b"\\u7814\\u7a76\\u54e1" in done.stdout


def test_a_closed_output(ledger: Path) -> None:
    """There is nobody to speak to: no traceback."""
    script = f'"{sys.executable}" -c "from tbcontracts.cli import main; main()" show "{ledger}" >&-'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False, timeout=60)
    assert b"Traceback" not in done.stderr


WORDS = (
    "", "-", "--", "-x", "--json", "--follow", "--pool", "--last", "-1", "9" * 50, "1e999", "nan",
    "acme/run-1", "writer", "研究員", "é", "\u202eevil", "a\nb", "x" * 300, "{utc:%Y}", "{utc:}",
    "{",
    "sqlite:///budget.db", "sqlite:///", "sqlite://", "redis://", "redis://[", "postgresql://",
    "postgresql:///?host=/nowhere&connect_timeout=2", "memory://", "://", "a://b", "budget.db",
    "budget.db-turn", ".", "/", "/dev/null", "/etc", "no.toml", "--kind", "denied", "--agent",
    "set", "init", "info", "--max-tokens", "--confidence-threshold", "-o", "--store", "--scope",
    "--key",
    "\udcff", "~", "*", "%s", "\\", "'", '"', "${HOME}", "check", "\x7f", "\u2028",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_no_use_shows_a_traceback(run: Run, ledger: Path, seed: int) -> None:
    """Arguments at random: each ends with 0, 1 or 2, and what went wrong is said in words."""
    chance = random.Random(seed)
    commands = [name for name in tbc.list_commands(None) if name != "watch"]  # type: ignore[arg-type]
    for _ in range(12):
        arguments = [chance.choice(WORDS) for _ in range(chance.randint(0, 5))]
        if "--follow" in arguments:  # it would not end
            arguments.append("--no-such-option")
        result = run(chance.choice(commands), *arguments)
        assert result.code in (0, 1, 2), arguments
        if result.code == 2:
            assert result.err.strip(), arguments
    assert ledger.exists()


def test_files_without_rights(run: Run, tmp_path: Path) -> None:
    """What may not be read is a sentence; root may read all, so a device stands in for it."""
    result = run("show", "sqlite:////dev/null")
    assert result.code == 2
    assert "ledger" in result.err
    target = tmp_path / "gone.db"
    (tmp_path / "link.db").symlink_to(target)
    assert run("show", "sqlite:///link.db").code == 2
    assert not target.exists()


def test_the_demo_is_always_the_same(run: Run, tmp_path: Path) -> None:
    """Two runs print the same; with --store the books stay, and are proven."""
    first, second = run("demo"), run("demo")
    assert first == second
    assert first.code == 0
    for part in ("held 1,500", "gave 740", "is not sent", "0.95", "Budget of scope 'demo'"):
        assert part in first.out
    kept = run("demo", "--store", "demo.db")
    assert "tbc show sqlite:///demo.db demo" in kept.out
    assert run("audit", "demo.db").out.endswith("PROVEN\n")
    again = run("demo", "--store", "demo.db")
    assert (again.code, again.out) == (2, "")
    assert "has a scope 'demo' already" in again.err
    assert run("demo", "--store", "demo.db", "--scope", "other").code == 0
    store = open_store("sqlite:///demo.db", read_only=True)
    assert store.scopes() == ("demo", "other")
    store.close()
    shown = run("demo", "--json").json
    assert len(shown["steps"]) == 5
    assert {agent["agent"]: agent["consumed"] for agent in shown["agents"]} == {
        "researcher": 4_590,
        "writer": 1_200,
        "checker": 800,
    }
