"""`tbc doctor`: what is installed, and what lies in wait."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

import click

from tbcontracts.checks import printable
from tbcontracts.cli.environment import look_around
from tbcontracts.cli.installed import Package, packages, version_of
from tbcontracts.cli.output import bad, faint, found, good, json_option, odd, say, say_json, table
from tbcontracts.cli.reading import about, open_books
from tbcontracts.cli.traps import Machine, Trap, traps
from tbcontracts.stores.urls import masked

_STATES = {"ok": "ok", "missing": "not installed", "unsupported": "NOT SUPPORTED"}


@click.command(short_help="Say what is installed, and find traps.")
@click.option("--store", "url", metavar="URL", help="Look at this store, too.")
@click.option("--graph", metavar="MODULE:NAME", help="List the agents of this graph instead.")
@click.option("--crew", metavar="MODULE:NAME", help="List the agents of this crew instead.")
@click.option("--contracts", metavar="FILE", help="The contract file of that graph or crew.")
@json_option
def doctor(
    url: str | None, graph: str | None, crew: str | None, contracts: str | None, as_json: bool
) -> None:
    """Say what is installed, and which traps lie on this machine.

    Exit code 1 if one was found, or a package has a version that is not supported. Extras that are
    not installed are no finding.

    With --graph or --crew: which agents an application has, the contract of each and by what it was
    found. Exit code 1 if there is a contract that nobody uses, an agent without one, or two agents
    of one name.
    """
    targets = {kind: one for kind, one in {"graph": graph, "crew": crew}.items() if one is not None}
    if contracts is not None and not targets:
        msg = "--contracts goes with --graph or --crew."
        raise click.UsageError(msg)
    if targets:
        _list_agents(targets, contracts, as_json=as_json)
        return
    needed = packages()
    found_traps = [
        *(_unsupported(package) for package in needed if package.state == "unsupported"),
        *traps(Machine(os.environ, version_of)),
        *_of_environment(),
        *(() if url is None else _of_store(url)),
    ]
    if as_json:
        say_json(_as_json(needed, found_traps))
    else:
        _print(needed, found_traps)
    if found_traps:
        found()


def _list_agents(targets: Mapping[str, str], contracts: str | None, *, as_json: bool) -> None:
    """Say which agents applications have."""
    from tbcontracts.cli.applications import roster_of  # imports what the application imports

    with _stdout_is_stderr():  # for what an application prints when it is imported
        rosters = {target: roster_of(kind, target, contracts) for kind, target in targets.items()}
    if as_json:
        say_json({target: roster.as_dict() for target, roster in rosters.items()})
    else:
        for number, roster in enumerate(rosters.values()):
            if number:
                say()
            say(str(roster))
            if not roster.findings:
                say()
                say(good("Each agent has a contract, and each contract an agent."))
    if any(roster.findings for roster in rosters.values()):
        found()


@contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """Keep what is printed away from what a command says, also by libraries that are not Python."""
    kept = None
    with suppress(OSError):  # one of them is closed
        kept = os.dup(1)
        if sys.stdout is not None:
            sys.stdout.flush()
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def _unsupported(package: Package) -> Trap:
    return Trap(
        "unsupported_version",
        f"{package.name} {package.version} is installed; supported is {package.supported}.",
        f'pip install "{package.name}{package.supported}".',
    )


def _of_environment() -> list[Trap]:
    """Return variables of ours that are wrong, or name nothing."""
    try:
        around = look_around([])
    except ImportError:  # that pydantic is missing stands in the table of packages
        return []
    found_there: list[Trap] = []
    for text in (*map(str, around.mistakes), *around.worth_a_look):
        said, _, helps = printable(text).partition(" What helps: ")
        found_there.append(Trap("environment", said, helps or "the variable put right, or unset."))
    return found_there


def _of_store(url: str) -> list[Trap]:
    """Return what a store says that may cost books there."""
    facts = about(open_books(url))
    dangers = () if facts is None else facts.dangers
    helps = "the server's settings; the page on stores says which."
    return [Trap("store", f"{masked(url)}: {danger}", helps) for danger in dangers]


def _print(needed: list[Package], found_traps: list[Trap]) -> None:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    version = version_of("tbcontracts") or "(not installed by pip)"
    say(f"tbcontracts {version} on {python}, {platform.system()}")
    say()
    if needed:
        _print_packages(needed)
    else:
        say(odd("What its extras need is not known: this installation does not say."))
    say()
    if not found_traps:
        say(good("No trap was found."))
        return
    say(odd("One trap was found:" if len(found_traps) == 1 else f"{len(found_traps)} traps:"))
    for trap in found_traps:
        say(f"  {trap.said}")
        say(f"    What helps: {trap.helps}")


def _print_packages(needed: list[Package]) -> None:
    rows: list[tuple[object, ...]] = [("extra", "package", "installed", "supported", "")]
    rows += [
        (one.extra, one.name, one.version, one.supported or "any", _STATES[one.state])
        for one in needed
    ]
    states = {"NOT SUPPORTED": bad, "not installed": faint}
    for line in table(rows, align="<<<<<"):
        colour = next((states[word] for word in states if line.endswith(word)), None)
        say(line if colour is None else colour(line))


def _as_json(needed: list[Package], found_traps: list[Trap]) -> dict[str, Any]:
    return {
        "tbcontracts": version_of("tbcontracts"),
        "python": platform.python_version(),
        "packages": [{**package._asdict(), "state": package.state} for package in needed],
        "traps": [trap._asdict() for trap in found_traps],
    }
