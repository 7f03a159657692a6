"""Where in a contract file a key stands, so that an error can name its line.

The readers of the formats do not say. YAML, and JSON with it, is composed once more with its marks;
TOML is read line by line. What cannot be found has no line, and a key that is missing has that of
its table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

_HEADER = re.compile(r"\s*\[(?P<key>[^\[\]]+)\]\s*(#.*)?$")
_ONE = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_PART = re.compile(_ONE)
_KEY = re.compile(rf"\s*(?P<key>{_ONE}(?:\s*\.\s*{_ONE})*)\s*=")
_LONG = re.compile(r"\"\"\"|'''")

Place = tuple[str, ...]


def line_of(text: str, suffix: str, place: Sequence[str]) -> int | None:
    """Return the line of a key, or of the table that it should be in; None if it is not found.

    Args:
        text: What stands in the file.
        suffix: The file's ending, such as ".toml".
        place: The key's path.
    """
    known = dict(_toml_keys(text)) if suffix == ".toml" else _yaml_keys(text)
    for length in range(len(place), 0, -1):
        line = known.get(tuple(place[:length]))
        if line is not None:
            return line
    return None


def _toml_keys(text: str) -> Iterator[tuple[Place, int]]:
    """Yield each key of a TOML file with its line."""
    table: Place = ()
    until = ""  # what ends the long text that the line is in
    for number, line in enumerate(text.splitlines(), start=1):
        if until:
            until = "" if until in line else until
            continue
        header = _HEADER.match(line)
        key = _KEY.match(line)
        if header:
            table = _parts(header["key"])
            yield table, number
        elif key:
            yield (*table, *_parts(key["key"])), number
        opened = _LONG.search(line)
        if opened and line.count(opened[0]) == 1:
            until = opened[0]


def _parts(key: str) -> Place:
    return tuple(part.strip("\"'") for part in _PART.findall(key))


def _yaml_keys(text: str) -> dict[Place, int]:
    """Return each key of a YAML or JSON file with its line; nothing without a reader of marks."""
    try:
        import yaml
    except ImportError:
        return {}
    found: dict[Place, int] = {}

    def note(node: Any, place: Place) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*place, str(key.value))
                found.setdefault(inner, key.start_mark.line + 1)
                note(value, inner)

    try:
        note(yaml.compose(text, Loader=yaml.SafeLoader), ())
    except (yaml.YAMLError, RecursionError):
        return {}
    return found
