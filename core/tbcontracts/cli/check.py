"""`tbc check`: is a contract file right, and what would a person want to know of it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from tbcontracts.checks import printable
from tbcontracts.cli.environment import Around, look_around
from tbcontracts.cli.output import bad, found, good, json_option, odd, say, say_json, table
from tbcontracts.contract import BudgetContract
from tbcontracts.env import CONFIG, DISABLED, SCOPE, STORE, Variable, value_of
from tbcontracts.errors import ConfigurationError
from tbcontracts.money import figure, said
from tbcontracts.patterns import ContractPattern
from tbcontracts.stores.opening import check_url
from tbcontracts.stores.urls import masked

if TYPE_CHECKING:
    from tbcontracts.config import Configuration
    from tbcontracts.config_values import Problem

_APART = (STORE.name, SCOPE.name, CONFIG.name)
"""The first two are said with each file; the last names one, and this command was given some."""


class _Checked(NamedTuple):
    """What came of one file."""

    path: Path
    configuration: Configuration | None
    """What the file says, if it is right."""
    problems: tuple[Problem, ...]
    """What is wrong with it."""


@click.command(short_help="Check contract files.")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, readable=False),
)
@json_option
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Check contract files: TOML, YAML or JSON.

    All that is wrong is said, with its line, its key, the value and the nearest name; of a good
    file its agents are shown, and what is worth a look. So it is with the variables TBCONTRACTS_*,
    which count before a file. Exit code 1 if a file or a variable is not right.
    """
    checked = [_checked(path) for path in files]
    around = look_around([(one.path, one.configuration) for one in checked if one.configuration])
    if as_json:
        listed = [_as_json(one) for one in checked]
        say_json({"files": listed, "environment": around.as_dict()})
    else:
        for number, one in enumerate(checked):
            if number:
                say()
            _print(one)
        _print_environment(around)
    if around.mistakes or any(one.problems for one in checked):
        found()


def _checked(path: Path) -> _Checked:
    from tbcontracts.config import Configuration, examine  # slow to import, as pydantic is

    found = examine(path)
    if isinstance(found, Configuration):
        return _Checked(path, found, ())
    return _Checked(path, None, found)


def _print(checked: _Checked) -> None:
    configuration = checked.configuration
    name = printable(str(checked.path))
    if configuration is None:
        _print_wrong(name, checked.problems)
        return
    settings, contracts = configuration
    say(f"{name}: {good('good')}. {_sums(contracts, settings['unit'])}")
    say(f"Books: {_in_force(STORE, settings)}, scope {_in_force(SCOPE, settings)}.")
    if contracts:
        say()
        for line in _agents(contracts, settings["unit"]):
            say(line)
    _print_notes(list(worth_a_look(contracts, settings)))


def _print_environment(around: Around) -> None:
    """Say what counts before the files, and what is wrong with it."""
    wrong = {mistake.variable for mistake in around.mistakes}
    given = {name: said for name, said in around.given.items() if name not in {*_APART, *wrong}}
    if given:
        say()
        say("The environment counts before a file:")
        for name, value in given.items():
            meant = ": all is only observed, nothing is refused" if name == DISABLED.name else ""
            say(f"  {name}={printable(value)}{meant}")
    if around.mistakes:
        say()
        _print_wrong("The environment", around.mistakes)
    _print_notes(around.worth_a_look)


def _print_wrong(where: str, mistakes: Sequence[object]) -> None:
    what = "One thing is" if len(mistakes) == 1 else f"{len(mistakes):,} things are"
    say(f"{where}: {bad(f'{what} wrong')}.")
    for mistake in mistakes:
        say(f"  {printable(str(mistake))}")


def _print_notes(notes: Sequence[str]) -> None:
    if notes:
        say()
        say(odd("Worth a look:"))
        for note in notes:
            say(f"  {printable(note)}")


def _in_force(variable: Variable, settings: dict[str, Any]) -> str:
    """Return what the environment says of a setting, with the variable's name, or else the file."""
    said = value_of(variable)
    shown = str(settings[str(variable.key)]) if said is None else said
    shown = masked(shown) if variable is STORE else printable(shown)
    return shown if said is None else f"{shown} ({variable.name})"


def _sums(contracts: Sequence[BudgetContract], unit: str) -> str:
    """Say what all budgets come to; what a pattern gives, it gives to each agent that it makes."""
    named = [one for one in contracts if not isinstance(one, ContractPattern)]
    patterns = len(contracts) - len(named)
    agents = "1 agent" if len(named) == 1 else f"{len(named):,} agents"
    total = said(sum(one.max_tokens for one in named), unit)
    if not patterns:
        return f"{agents}, {total} in each scope."
    more = "1 pattern" if patterns == 1 else f"{patterns:,} patterns"
    return f"{agents}, {total} in each scope; {more}, with a contract for each agent that matches."


def _agents(contracts: Sequence[BudgetContract], unit: str) -> list[str]:
    budget, reserve = contracts[0].field_names
    rows: list[tuple[object, ...]] = [
        ("agent", "priority", budget, reserve, "can lend", "when it ends")
    ]
    for contract in sorted(contracts, key=lambda one: (-one.priority, one.agent_name)):
        most, least = contract.max_tokens, contract.reserve
        amounts = (figure(amount, unit) for amount in (most, least, most - least))
        ending = _ending(contract.on_exceeded)
        rows.append((contract.agent_name, contract.priority, *amounts, ending))
    return table(rows, align="<>>>><")


def _ending(on_exceeded: Any) -> str:
    return on_exceeded if isinstance(on_exceeded, str) else f"fallback {on_exceeded['fallback']}"


def worth_a_look(contracts: Sequence[BudgetContract], settings: dict[str, Any]) -> Iterator[str]:
    """Yield what is allowed, and likely not meant."""
    try:
        check_url(settings["store"])
    except ConfigurationError as error:  # where it runs, a package may know that scheme
        yield f"store: {error}"
    if not contracts and settings["unattributed"] == "track":
        yield "There is no agent, so nothing is limited: calls are only counted."
    if len(contracts) > 1 and len({contract.priority for contract in contracts}) == 1:
        yield (
            f"All agents have priority {contracts[0].priority}: all can lend to all, and whoever "
            "comes first gets it."
        )
    for contract in contracts:
        name = repr(contract.agent_name)
        if contract.max_tokens == 0:
            yield f"{name} has no budget of its own: its calls live on what others can lend."
        elif contract.reserve == contract.max_tokens:
            yield f"{name} can never lend: its reserve is all it has."
        cap = contract.max_output_tokens
        if cap is not None and contract.unit == "tokens" and cap > contract.max_tokens:
            yield f"{name} may answer with {cap:,} tokens, more than its whole budget."
        if contract.confidence_threshold == 0:
            yield f"{name} stops after its first score: its confidence_threshold is 0."


def _as_json(checked: _Checked) -> dict[str, Any]:
    configuration = checked.configuration
    shown: dict[str, Any] = {
        "file": str(checked.path),
        "good": configuration is not None,
        "errors": [
            {"line": one.line, "key": list(one.place), "said": one.said} for one in checked.problems
        ],
    }
    if configuration is None:
        return shown
    settings, contracts = configuration
    return {
        **shown,
        "store": masked(settings["store"]),
        "scope": settings["scope"],
        "agents": [contract.as_dict() for contract in contracts],
        "worth_a_look": list(worth_a_look(contracts, settings)),
    }
