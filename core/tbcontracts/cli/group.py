"""The group of commands: each is loaded when asked for, and a user's mistake is a sentence."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import Any

import click

from tbcontracts.checks import nearest
from tbcontracts.errors import TBCError

_COMMANDS: dict[str, tuple[str, str]] = {
    "check": ("check", "check"),
    "schema": ("schema", "schema"),
    "show": ("show", "show"),
    "history": ("history", "history"),
    "watch": ("watch", "watch"),
    "report": ("report", "report"),
    "audit": ("audit", "audit"),
    "top-up": ("changing", "top_up"),
    "contract": ("changing", "contract"),
    "store": ("store", "store"),
    "doctor": ("doctor", "doctor"),
    "demo": ("demo", "demo"),
}
"""By name: the module of this package and what it is called there."""

_INTERRUPTED = 130  # as shells count it: 128 and the number of the signal


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed; one that is none is told with the nearest."""
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            ctx.fail(_near_miss(args[0]))
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run with the arguments of this process; what a terminal cannot show is spelt out."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it raises of ours, and what is not installed, is said.

        Whoever reads the output may go away (`tbc history ... | head`): that ends the command, and
        is nobody's mistake.
        """
        try:
            done = super().invoke(ctx)
            if sys.stdout is not None:  # as it is where it was closed (`>&-`)
                sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python flushes at its end
            raise click.exceptions.Exit(0) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(_INTERRUPTED) from None
        except OSError as error:
            named = error.filename is not None and error.strerror is not None
            said = f"{error.filename}: {error.strerror}." if named else str(error)
            raise _Failed(said) from None
        except (TBCError, ValueError) as error:  # a name or a number that is none, too
            raise _Failed(str(error)) from None
        except ImportError as error:  # an extra that is missing says what to install
            raise _Failed(str(error)) from None
        return done


def _near_miss(name: str) -> str:
    """Say which command may be meant by one that is none."""
    near = nearest(name, _COMMANDS)
    meant = f"Did you mean {near!r}?" if near else f"There are {', '.join(_COMMANDS)}."
    return f"There is no command {name!r}. {meant}"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tbcontracts", prog_name="tbc")
@click.pass_context
def tbc(context: click.Context) -> None:
    """Token budget contracts: check them, watch them, explain them.

    Exit codes: 0 good, 1 something was found, 2 it was used wrongly or could not be done.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
