"""Every number that a command takes: what is none is said at its door, and nothing was done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from tests.core.cli.conftest import Run

from tbcontracts import BudgetManager, open_store
from tbcontracts.cli.group import tbc

NUMBERS = ("AMOUNT", "DOLLARS", "N", "SCORE", "SECONDS", "SHARES", "TOKENS")
"""How the help calls what is a number."""
TEXTS = ("AGENT", "FILE", "FILE...", "KEY", "KIND", "MODULE:NAME", "NAME", "SCOPE", "STORE", "URL")
"""How it calls what is text: whatever is typed there is a name, and not wrong as a number."""
BAD = ("inf", "-inf", "nan", "1e308", "-1e308", "1e12", "-1", str(10**30), "9" * 5_000, "0x10", "")
DO_NO_HARM = {
    ("history", "--last"): (str(10**30),),
    ("watch", "--warn-at"): ("",),
}
"""More entries than there are, all of them; a list of no shares."""


class Door(NamedTuple):
    """A number that a command takes."""

    command: tuple[str, ...]
    option: str


def _leaves(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _leaves(found, (*path, name))


def _parameters() -> Iterator[tuple[tuple[str, ...], click.Parameter, str]]:
    """Yield each command, each parameter with a value, and what the help calls that value."""
    for path, command in _leaves(tbc):
        for parameter in command.params:
            if not (isinstance(parameter, click.Option) and parameter.is_flag):
                yield path, parameter, (parameter.metavar or "?").strip("[]").split()[-1]


DOORS = [
    Door(path, max(parameter.opts, key=len) if isinstance(parameter, click.Option) else called)
    for path, parameter, called in _parameters()
    if called in NUMBERS
]


def test_each_parameter_is_a_number_or_a_text() -> None:
    """A new option says by what it is called which it is, so that no number stays untried."""
    kinds = (click.types.IntParamType, click.types.FloatParamType)
    for path, parameter, called in _parameters():
        where = f"{' '.join(path)} {parameter.opts} has the metavar {called}"
        assert called in (*NUMBERS, *TEXTS), f"{where}: is it a number?"
        assert called in NUMBERS or not isinstance(parameter.type, kinds), where
    assert {door.option for door in DOORS} >= {"--every", "--last", "--max-tokens", "AMOUNT"}


@pytest.fixture(params=["tokens", "usd"])
def unit_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a file with an agent `a` in scope `s`, in either unit."""
    path = tmp_path / "budget.db"
    manager = BudgetManager(store=f"sqlite:///{path}", scope="s", unit=request.param)
    if request.param == "usd":
        manager.register_agent("a", max_usd="1.00")
    else:
        manager.register_agent("a", max_tokens=1_000)
    manager.reserve("a", 10).void()
    manager.store.close()
    return path


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[:12] or "nothing")
@pytest.mark.parametrize("door", DOORS, ids=lambda door: " ".join((*door.command, door.option)))
def test_what_is_no_number_is_refused_at_the_door(
    door: Door, bad: str, unit_ledger: Path, run: Run
) -> None:
    """Exit code 2, the door named, no traceback; the books are as they were."""
    before = _books(unit_ledger)
    where = [*door.command, unit_ledger, "s"]
    if door.command == ("contract", "set"):
        where.append("a")
    if door.option.startswith("--"):
        ends = ["--once"] if door.command == ("watch",) else []
        result = run(*where, *ends, f"{door.option}={bad}")
    else:
        result = run(*where, "a", "--", bad)
    assert _books(unit_ledger) == before
    if bad in DO_NO_HARM.get((" ".join(door.command), door.option), ()):
        assert (result.code, result.err) == (0, "")
        return
    assert (result.code, result.out) == (2, "")
    named = door.option.removeprefix("--").removesuffix("-usd").replace("-", "_")
    assert named in result.err.replace("-", "_")


def _books(path: Path) -> tuple[object, ...]:
    store = open_store(f"sqlite:///{path}", read_only=True)
    found = (store.read("s"), store.journal("s"))
    store.close()
    return found


@pytest.mark.parametrize("seconds", ["0.1", "86400", "2.5"])
def test_seconds_in_range_are_taken(seconds: str, unit_ledger: Path, run: Run) -> None:
    """The ends of the range are in it."""
    assert run("watch", unit_ledger, "s", "--once", f"--every={seconds}").code == 0


def test_the_range_of_seconds_is_said(unit_ledger: Path, run: Run) -> None:
    """Whoever gets it wrong reads what would be right."""
    for bad in ("inf", "nan"):
        result = run("watch", unit_ledger, "s", "--every", bad)
        assert f"'--every': {bad} is not in the range 0.1<=x<=86400." in result.err
