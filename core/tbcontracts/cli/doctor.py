"""`tbc doctor`: what is installed, and what lies in wait."""

from __future__ import annotations

import os
import platform
from typing import Any

import click

from tbcontracts.cli.installed import Package, packages, version_of
from tbcontracts.cli.output import bad, faint, found, good, json_option, odd, say, say_json, table
from tbcontracts.cli.reading import about, open_books
from tbcontracts.cli.traps import Machine, Trap, traps
from tbcontracts.stores.urls import masked

_STATES = {"ok": "ok", "missing": "not installed", "unsupported": "NOT SUPPORTED"}


@click.command(short_help="Say what is installed, and find traps.")
@click.option("--store", "url", metavar="URL", help="Look at this store, too.")
@json_option
def doctor(url: str | None, as_json: bool) -> None:
    """Say what is installed, and which traps lie on this machine.

    Exit code 1 if one was found, or a package has a version that is not supported. Extras that are
    not installed are no finding.
    """
    needed = packages()
    found_traps = [
        *(_unsupported(package) for package in needed if package.state == "unsupported"),
        *traps(Machine(os.environ, version_of)),
        *(() if url is None else _of_store(url)),
    ]
    if as_json:
        say_json(_as_json(needed, found_traps))
    else:
        _print(needed, found_traps)
    if found_traps:
        found()


def _unsupported(package: Package) -> Trap:
    return Trap(
        "unsupported_version",
        f"{package.name} {package.version} is installed; supported is {package.supported}.",
        f'pip install "{package.name}{package.supported}".',
    )


def _of_store(url: str) -> list[Trap]:
    """Return what a store says that may cost books there."""
    facts = about(open_books(url))
    dangers = () if facts is None else facts.dangers
    helps = "the server's settings; the page on stores says which."
    return [Trap("store", f"{masked(url)}: {danger}", helps) for danger in dangers]


def _print(needed: list[Package], found_traps: list[Trap]) -> None:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    say(f"tbcontracts {version_of('tbcontracts')} on {python}, {platform.system()}")
    say()
    rows: list[tuple[object, ...]] = [("extra", "package", "installed", "supported", "")]
    rows += [
        (one.extra, one.name, one.version, one.supported or "any", _STATES[one.state])
        for one in needed
    ]
    states = {"NOT SUPPORTED": bad, "not installed": faint}
    for line in table(rows, align="<<<<<"):
        colour = next((states[word] for word in states if line.endswith(word)), None)
        say(line if colour is None else colour(line))
    say()
    if not found_traps:
        say(good("No trap was found."))
        return
    say(odd("One trap was found:" if len(found_traps) == 1 else f"{len(found_traps)} traps:"))
    for trap in found_traps:
        say(f"  {trap.said}")
        say(f"    What helps: {trap.helps}")


def _as_json(needed: list[Package], found_traps: list[Trap]) -> dict[str, Any]:
    return {
        "tbcontracts": version_of("tbcontracts"),
        "python": platform.python_version(),
        "packages": [{**package._asdict(), "state": package.state} for package in needed],
        "traps": [trap._asdict() for trap in found_traps],
    }
