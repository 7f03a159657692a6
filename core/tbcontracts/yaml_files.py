"""YAML as contract files have it: read as YAML 1.2 reads it, with keys that are text."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

_VALUES_MAX = 100_000
"""How many values a file may come to where its aliases are written out."""
_TAG = "tag:yaml.org,2002:"
# The core schema of YAML 1.2 (chapter 10.3), with the underscores that our TOML files have: `yes`,
# `017` and `1:30` are text there, and numbers or truth values in YAML 1.1.
_FLOAT = (
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_KINDS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("merge", "<<", "<"),
)


def parse(text: str) -> Any:
    """Return what a YAML text says; nothing is nothing.

    Raises:
        ImportError: pyyaml is not installed.
        ValueError: It is no YAML, or its aliases make too much of it.
    """
    try:
        import yaml
    except ImportError as error:
        msg = 'YAML files need pyyaml. What helps: pip install "tbcontracts[yaml]", or a TOML file.'
        raise ImportError(msg, name="yaml") from error
    reader = _loader()(text)
    try:
        node = reader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return reader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        said = (getattr(error, "context", None), getattr(error, "problem", None))
        msg = f"{', '.join(filter(None, said)) or error}{where}"
        raise ValueError(msg) from None
    finally:
        reader.dispose()


@cache
def _loader() -> Any:
    """Return the class that reads."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads values by YAML 1.2, and keys as they are spelt."""

        yaml_implicit_resolvers = {}  # noqa: RUF012 - each class has its own, so pyyaml wants it

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            """Take each key as the text that it is, also where another mapping merges it."""
            node = super().compose_node(parent, index)
            is_key = isinstance(parent, yaml.MappingNode) and index is None
            if is_key and isinstance(node, yaml.ScalarNode) and node.tag != f"{_TAG}merge":
                node.tag = f"{_TAG}str"
            return node

    for kind, pattern, first in _KINDS:
        starts = ["" if one == "\0" else one for one in first]
        Loader.add_implicit_resolver(f"{_TAG}{kind}", re.compile(f"^(?:{pattern})$"), starts)
    return Loader


def _check_size(root: yaml.Node) -> None:
    """Refuse what a few lines of aliases can make: more than anybody can read.

    Raises:
        ValueError: It is too much, or an alias stands in itself.
    """
    sizes: dict[int, int | None] = {}

    def size(node: Any) -> int:
        known = sizes.get(id(node), 0)
        if known is None:
            msg = "An alias stands in what it is an alias of."
            raise ValueError(msg)
        if known:
            return known
        sizes[id(node)] = None
        inner = node.value if isinstance(node.value, list) else []
        parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
        sizes[id(node)] = found = 1 + sum(map(size, parts))
        return found

    if size(root) > _VALUES_MAX:
        msg = f"Its aliases make more than {_VALUES_MAX:,} values of it."
        raise ValueError(msg)
