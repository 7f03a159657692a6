"""The page of the command leaves nothing out, and speaks of nothing that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from tbcontracts.cli import traps
from tbcontracts.cli.group import tbc
from tbcontracts.entry_words import KINDS

CONTENT = Path(__file__).parents[2] / "docs" / "content"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in CONTENT.glob("*.md")}


def commands(group: click.Group = tbc, before: str = "tbc") -> Iterator[tuple[str, click.Command]]:
    """Yield each command with its whole name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def options(command: click.Command) -> set[str]:
    """Return the options of a command, as they are typed."""
    return {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }


def test_every_command_is_on_the_page() -> None:
    """In its table, and with a place where it is explained."""
    table = [line for line in PAGES["command.md"].splitlines() if line.startswith("| [`tbc ")]
    listed = {name for line in table for name in re.findall(r"`(tbc [^`]+)`", line)}
    assert listed == {name for name, _ in commands()}


def test_every_option_is_on_a_page_of_its_command() -> None:
    """Where the command is spoken of, its options are."""
    for name, command in commands():
        text = "\n".join(page for page in PAGES.values() if name in page)
        missing = {option for option in options(command) if f"{option}" not in text}
        assert not missing, f"{name}: {missing}"


def test_no_page_speaks_of_what_is_not_there() -> None:
    """Commands and options that pages name exist."""
    known = {name for name, _ in commands()}
    groups = {name.rpartition(" ")[0] for name in known}
    all_options = {option for _, command in commands() for option in options(command)}
    for page, text in PAGES.items():
        for named in re.findall(r"`(tbc [a-z-]+(?: [a-z-]+)?)", text):
            found = named in known | groups or named.rpartition(" ")[0] in known
            assert found, f"{page}: {named}"
    named_options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGES["command.md"]))
    assert named_options <= all_options | {"--help"}


def test_every_trap_is_on_the_page() -> None:
    """By the code that programs see."""
    source = Path(traps.__file__).read_text(encoding="utf-8")
    codes = set(re.findall(r'Trap\(\s*"(\w+)"', source))
    codes |= {"unsupported_version", "environment", "store"}
    table = PAGES["command.md"].partition("| Trap | Found where |")[2]
    rows = set(re.findall(r"^\| `(\w+)` \| ", table, re.MULTILINE))
    assert rows == codes


def test_every_kind_of_entry_is_on_the_page() -> None:
    """As `tbc history --kind` takes it."""
    assert [kind for kind in KINDS if f"`{kind}`" not in PAGES["command.md"]] == []


def test_exit_codes_are_on_the_page() -> None:
    """Each of them, with what it means."""
    for code in ("`0`", "`1`", "`2`", "`130`"):
        assert code in PAGES["command.md"]
