"""The group of commands: each is loaded when asked for, and a user's mistake is a sentence."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from tbcontracts.errors import TBCError

_COMMANDS: dict[str, tuple[str, str]] = {}
"""By name: the module of this package and what it is called there."""


class _Failed(click.ClickException):
    """What could not be done, said without a traceback."""

    exit_code = 2

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - errors go where errors go
        """Say it where errors are said."""
        click.echo(f"tbc: {self.message}", err=True)


class Commands(click.Group):
    """A group that knows its commands by name, and loads one when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return all names, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, or None if there is none of this name."""
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"tbcontracts.cli.{module}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it raises of ours, and what is not installed, is said."""
        try:
            return super().invoke(ctx)
        except (TBCError, OSError) as error:
            raise _Failed(str(error)) from None
        except ImportError as error:  # an extra that is missing says what to install
            raise _Failed(str(error)) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tbcontracts", prog_name="tbc")
def tbc() -> None:
    """Token budget contracts: check them, watch them, explain them."""
