"""The real CrewAI, imported once and quietly, because pages and docstrings use it."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

if find_spec("crewai") is not None:
    # Its import warns of its own business; here, so that ours may be errors everywhere else.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import crewai  # noqa: F401
