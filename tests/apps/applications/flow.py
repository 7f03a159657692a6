"""The Flow of a project that `crewai create flow NAME` made: a crew of three, started in a step."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tbcontracts_crewai import govern_crew

INPUTS: dict[str, Any] = {}


def build() -> Any:
    """Return the Flow; the project's src/ is on the path."""
    return import_module("blog.main").ContentFlow()


def governed(flow: Any, contracts: Any) -> Any:
    """Return the block in which it is under contracts."""
    return govern_crew(flow, contracts)
