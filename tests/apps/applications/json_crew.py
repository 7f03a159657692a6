"""The crew of a project that `crewai create crew NAME` made: JSON, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crewai.project.crew_loader import load_crew

from tbcontracts_crewai import govern_crew

INPUTS = {"topic": "Tides"}


def build() -> Any:
    """Return the crew of the project in this folder."""
    crew, _ = load_crew(Path("reading_room/crew.jsonc"))
    return crew


def governed(crew: Any, contracts: Any) -> Any:
    """Return the block in which it is under contracts."""
    return govern_crew(crew, contracts)
