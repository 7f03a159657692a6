"""Where a configuration comes from: a mapping, or a file in one of the formats that we read."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tbcontracts.errors import ConfigurationError
from tbcontracts.file_lines import Key, keys_of

Source = str | os.PathLike[str] | Mapping[str, Any]
"""A file's path, or what stands in such a file."""

_SHOWN_MAX = 60
_TWICE = re.compile(
    r"(?:Cannot (?:declare|mutate|overwrite|redefine)|Duplicate) .*\(at line (?P<line>\d+),"
)
"""What the TOML reader says of a key or table that stands there already."""


class GivenTwiceError(ValueError):
    """Something stands in a file twice, and so the file has no meaning."""


class Given(NamedTuple):
    """A mapping: it shows values as Python does, and has no lines."""

    mapping: Mapping[str, Any]

    def content(self) -> Mapping[str, Any]:
        """Return it."""
        return self.mapping

    def shown(self, value: object) -> str:
        """Show a value in an error, short."""
        return _cut(repr(value))

    def keys(self) -> list[Key]:
        """Return none: a mapping has no lines."""
        return []


class File(NamedTuple):
    """A file that was read: it shows values as they are spelt there."""

    path: Path
    text: str
    parse: Callable[[str], Any]

    def content(self) -> Mapping[str, Any]:
        """Return what stands in it.

        Raises:
            GivenTwiceError: The format takes no key twice, and one is.
            ValueError: It is not written as its format asks, or holds no table.
        """
        try:
            content = self.parse(self.text)
        except RecursionError:
            msg = "It is nested too deeply to be read."
            raise ValueError(msg) from None
        if not isinstance(content, Mapping):
            msg = f"It holds {self.shown(content)}, not a table of keys."
            raise ValueError(msg)  # noqa: TRY004 - it is the file that is wrong, not a caller
        return content

    def shown(self, value: object) -> str:
        """Show a value in an error, short: `null` and `true`, not None and True."""
        if isinstance(value, str):
            return _cut(repr(value))
        return _cut(json.dumps(value, ensure_ascii=False, default=str))

    def keys(self) -> list[Key]:
        """Return its keys with their lines, as far as they can be found."""
        return keys_of(self.text, self.path.suffix.lower())


def open_source(source: Source) -> Given | File:
    """Return a source, ready to be looked at.

    Raises:
        ConfigurationError: It is none, or cannot be read.
    """
    if isinstance(source, Mapping):
        return Given(source)
    if not isinstance(source, (str, os.PathLike)):
        msg = f"A configuration is a file's path or a mapping, not {type(source).__name__}."
        raise ConfigurationError(msg, remedy='What helps: "budget.toml".')
    path = Path(source)
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        msg = f"{path} has no ending that says its format."
        raise ConfigurationError(msg, remedy=f"What helps: one of {', '.join(_PARSERS)}.")
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark in front
    except (OSError, ValueError) as error:  # no text, or no path
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"{path} cannot be read: {reason}."
        raise ConfigurationError(msg, remedy="What helps: the path of a contract file.") from None
    return File(path, text, parse)


def _parse_toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as error:
            msg = (
                'TOML files need tomli on Python 3.10. What helps: pip install "tbcontracts[cli]".'
            )
            raise ImportError(msg, name="tomli") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        twice = _TWICE.match(str(error))
        if twice is None:
            raise
        msg = f"line {twice['line']}: this key or table was begun above already. What helps: "
        msg += "all that belongs to one table in one place."
        raise GivenTwiceError(msg) from None


def _parse_yaml(text: str) -> Any:
    from tbcontracts.yaml_files import parse  # only where a file is YAML

    content = parse(text)
    return {} if content is None else content  # an empty file, as an empty TOML file is


_PARSERS: dict[str, Callable[[str], Any]] = {
    ".toml": _parse_toml,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".json": json.loads,
}


def _cut(text: str) -> str:
    """Cut what a value looks like, for an error."""
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
