"""The crew of a project that `crewai create crew NAME --classic` made, run as its main.py does."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tbcontracts_crewai import govern_crew

INPUTS = {"topic": "Tides", "current_year": "2026"}


def build() -> Any:
    """Return the crew; the project's src/ is on the path."""
    return import_module("news_room.crew").NewsRoom().crew()


def governed(crew: Any, contracts: Any) -> Any:
    """Return the block in which it is under contracts."""
    return govern_crew(crew, contracts)
