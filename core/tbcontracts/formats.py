"""The formats of contract files: what stands in a text of TOML, YAML or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


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
    return tomllib.loads(text)


def _parse_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        msg = 'YAML files need pyyaml. What helps: pip install "tbcontracts[yaml]", or a TOML file.'
        raise ImportError(msg, name="yaml") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        msg = f"{getattr(error, 'problem', None) or error}{where}"
        raise ValueError(msg) from None
    return {} if content is None else content  # an empty file, as an empty TOML file is


PARSERS: dict[str, Callable[[str], Any]] = {
    ".toml": _parse_toml,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".json": json.loads,
}
"""By the ending of a file's name. Each raises `ValueError` for a text that is none of it."""
