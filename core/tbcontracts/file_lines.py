"""Where in a contract file a key stands, so that an error can name its line; and keys given twice.

The readers of the formats do not say. YAML is composed once more with its marks; TOML and JSON are
read here, in as much as it takes to know where keys begin. What cannot be found has no line, and a
key that is missing has that of its table. Elements of lists count as keys: 0, 1, 2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

Place = tuple[str, ...]

_TOKEN = re.compile(
    r"[ \t\r]+|\#[^\n]*"
    r'|"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|[\n\[\]{}=:,.]"
    r"|[^\s\[\]{}=:,.#\"']+"
    r"|.",
    re.DOTALL,
)
_END = ""
_MARKS = frozenset((*"\n[]{}=:,.", _END))


class Key(NamedTuple):
    """A key of a file, or an element of a list in it."""

    place: Place
    line: int
    before: int | None = None
    """The line where the same key of the same table stands already, if it does."""


def keys_of(text: str, suffix: str) -> list[Key]:
    """Return each key of a file in its order; nothing where the file cannot be followed.

    Args:
        text: What stands in the file.
        suffix: The file's ending, such as ".toml".
    """
    found: list[Key] = []
    with suppress(RecursionError):
        if suffix == ".toml":
            _Written(text, "=", found).read_lines()
        elif suffix == ".json":
            _Written(text, ":", found).read_value()
        else:
            found.extend(_yaml_keys(text))
    return found


def line_of(keys: Sequence[Key], place: Place) -> int | None:
    """Return the line of a key, or of the table that it should be in; None if it is not found."""
    known = {key.place: key.line for key in keys}  # of a key given twice, the one that counts
    for length in range(len(place), 0, -1):
        line = known.get(place[:length])
        if line is not None:
            return line
    return None


class _Written:
    """TOML or JSON as it is written, token by token.

    Args:
        text: What stands in the file.
        sign: What stands between key and value.
        found: Gets the keys, as far as they can be followed.
    """

    def __init__(self, text: str, sign: str, found: list[Key]) -> None:
        self._sign = sign
        self._found = found
        self._tokens: list[tuple[str, int]] = []
        self._at = 0
        line = 1
        for match in _TOKEN.finditer(text):
            token = match[0]
            if token[0] not in " \t\r#":
                self._tokens.append((token, line))
            line += token.count("\n")
        self._tokens.append((_END, line))

    def read_lines(self) -> None:
        """Go through the lines of a TOML file: headers of tables, and keys."""
        table: Place = ()
        of_table: dict[Place, int] = {}  # the lines of its keys
        lists: dict[Place, Iterator[int]] = {}
        self._skip("\n")
        while self._next() != _END:
            if self._next() == "[":
                table, of_table = self._header(lists), {}
            else:
                self._key(table, of_table)
            while self._next() not in ("\n", _END):
                self._at += 1
            self._skip("\n")

    def read_value(self, place: Place = ()) -> None:
        """Go through a value, and note what stands in it."""
        self._skip("\n" if self._sign == ":" else "")
        if self._next() == "{":
            self._at += 1
            of_table: dict[Place, int] = {}
            while self._goes_on():
                self._key(place, of_table)
        elif self._next() == "[":
            self._at += 1
            number = count()
            while self._goes_on():
                inner = (*place, str(next(number)))
                self._found.append(Key(inner, self._line()))
                self.read_value(inner)
        else:
            while self._next() not in (",", "}", "]", "\n", _END):
                self._at += 1

    def _header(self, lists: dict[Place, Iterator[int]]) -> Place:
        """Go through the header of a table, or of an element of a list of tables."""
        line = self._line()
        self._at += 1
        is_element = self._next() == "["
        self._at += is_element
        place = self._path()
        if is_element:
            place = (*place, str(next(lists.setdefault(place, count()))))
        before = next((key.line for key in self._found if key.place == place), None)
        self._found.append(Key(place, line, before))
        return place

    def _key(self, table: Place, of_table: dict[Place, int]) -> None:
        """Go through a key and its value, or past what is none."""
        line = self._line()
        begun = self._at
        path = self._path()
        if not path or self._next() != self._sign:
            self._at = max(self._at, begun + 1)
            return
        self._found.append(Key((*table, *path), line, of_table.get(path)))
        of_table.setdefault(path, line)
        self._at += 1
        self.read_value((*table, *path))

    def _path(self) -> Place:
        """Go through the parts of a key, with dots between them."""
        parts: list[str] = []
        while self._next() == "." or self._next() not in _MARKS:
            if self._next() != ".":
                parts.append(_unquoted(self._next()))
            self._at += 1
        self._skip("\n" if self._sign == ":" else "")
        return tuple(parts)

    def _goes_on(self) -> bool:
        """Return whether a list or table has another item; go past its end where it has none."""
        self._skip("\n,")
        if self._next() not in ("]", "}", _END):
            return True
        self._at += self._next() != _END
        return False

    def _skip(self, tokens: str) -> None:
        while self._next() != _END and self._next() in tokens:
            self._at += 1

    def _next(self) -> str:
        return self._tokens[self._at][0]

    def _line(self) -> int:
        return self._tokens[self._at][1]


def _unquoted(token: str) -> str:
    """Return the text of a key that may be in quotes."""
    if token[0] == '"':
        try:
            return str(json.loads(token))
        except ValueError:  # an escape that only TOML has, as for one character of a large number
            return token.strip('"')
    return token.strip("'")


def _yaml_keys(text: str) -> Iterator[Key]:
    """Yield each key of a YAML file; nothing without a reader of marks."""
    try:
        import yaml
    except ImportError:
        return
    seen: set[int] = set()  # what stands in two places, by an anchor, is told of in the first

    def inside(node: Any, place: Place) -> Iterator[Key]:
        if id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            of_table: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                inner = (*place, str(key.value))
                line = key.start_mark.line + 1
                same = (key.tag, str(key.value))
                merges = key.tag == "tag:yaml.org,2002:merge"  # each one counts
                yield Key(inner, line, None if merges else of_table.get(same))
                of_table.setdefault(same, line)
                yield from inside(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                inner = (*place, str(number))
                yield Key(inner, value.start_mark.line + 1)
                yield from inside(value, inner)

    with suppress(yaml.YAMLError):
        yield from inside(yaml.compose(text, Loader=yaml.SafeLoader), ())
