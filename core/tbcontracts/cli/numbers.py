"""Numbers that options take: what is none, or is out of range, is said at the option."""

from __future__ import annotations

import math
from typing import Any

import click

from tbcontracts.checks import check_score, check_shares

SECONDS_LEAST = 0.1
SECONDS_MOST = 86_400
"""A day; what waits longer is no command, and clocks end somewhere."""


class Seconds(click.FloatRange):
    """A pause between two looks; `nan`, which no comparison finds out of range, is none."""

    def __init__(self) -> None:
        super().__init__(SECONDS_LEAST, SECONDS_MOST)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"nan is not in the range {self.min}<=x<={self.max}.", param, ctx)
        return seconds


def shares(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    """Read `0.8,0.95`."""
    del ctx
    try:
        return check_shares([float(part) for part in value.split(",") if part], "it")
    except ValueError as error:
        msg = f"{_cut(value)} is no list of shares such as 0.8,0.95: {error}"
        raise click.BadParameter(msg, param=parameter) from None


def score_or_none(_: click.Context, __: click.Parameter, value: str | None) -> Any:
    """Read a score, or the word that takes the gate away."""
    if value is None or value == "none":
        return value
    try:
        return check_score(float(value), "it")
    except ValueError:
        msg = f"{_cut(value)} is no number between 0 and 1, and not 'none'."
        raise click.BadParameter(msg) from None


def _cut(value: object) -> str:
    return repr(str(value)[:60])
