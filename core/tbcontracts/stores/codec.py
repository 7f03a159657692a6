"""Replies, contracts, journal facts and usage as JSON text, for what outlives the process.

Only our own values have a form here; what comes back equals what went in. A contract's
`on_exceeded` may hold a function of this process, and is left out: the books do not act on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from tbcontracts import commands
from tbcontracts.books import Resolution
from tbcontracts.contract import BudgetContract
from tbcontracts.events import Move
from tbcontracts.usage import Usage

_TYPE = "_"
_TUPLES: dict[str, Callable[..., Any]] = {
    kind.__name__: kind
    for kind in (
        commands.Charge,
        commands.Confidence,
        commands.Denied,
        commands.Done,
        commands.Granted,
        commands.Posted,
        commands.Settle,
        commands.Void,
        Move,
        Resolution,
    )
}
_FIELDS = (
    "agent_name",
    "priority",
    "max_tokens",
    "min_reserve",
    "confidence_threshold",
    "max_output_tokens",
    "unit",
)


_SCALARS = frozenset((type(None), str, int, float, bool))
# Made once: `json.dumps` makes an encoder for every call whose arguments are not its defaults.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dump(value: object) -> str:
    """Return a value as JSON text.

    Raises:
        TypeError: It is none of our values.
    """
    return _encode(_plain(value))


def load(text: str) -> Any:
    """Return the value that was dumped."""
    return _value(json.loads(text))


def _plain(value: Any) -> Any:
    """Return what JSON can hold, with a type beside the fields."""
    if type(value) in _SCALARS:
        return value
    kind = type(value).__name__
    if kind in _TUPLES:
        named = {name: _plain(part) for name, part in value._asdict().items()}
        return {_TYPE: kind, **named}
    if isinstance(value, Usage):
        return {_TYPE: kind, **{field.name: getattr(value, field.name) for field in fields(value)}}
    if isinstance(value, BudgetContract):
        return {_TYPE: kind, **{name: getattr(value, name) for name in _FIELDS}}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    msg = f"The books hold no {kind}."
    raise TypeError(msg)


def _value(plain: Any) -> Any:
    """Return what a plain value stood for; lists are tuples, as all of our sequences are."""
    if isinstance(plain, list):
        return tuple(_value(part) for part in plain)
    if not isinstance(plain, dict):
        return plain
    named = {name: _value(part) for name, part in plain.items() if name != _TYPE}
    kind = plain.get(_TYPE)
    if kind is None:
        return named
    if kind == "Usage":
        return Usage(**named)
    if kind == "BudgetContract":
        return BudgetContract(**named)
    return _TUPLES[kind](**named)
