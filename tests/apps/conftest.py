"""The real CrewAI, kept to this machine: no telemetry, no questions, its files in a temp folder."""

from __future__ import annotations

import os
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

_FOLDER = tempfile.TemporaryDirectory(prefix="tbcontracts-crewai-", ignore_cleanup_errors=True)
os.environ.setdefault("CREWAI_STORAGE_DIR", _FOLDER.name)

if find_spec("crewai") is not None:
    # Its import warns of its own business; here, so that ours may be errors everywhere else.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import crewai  # noqa: F401


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave the crews alone where CrewAI is not installed."""
    needs_it = collection_path.name in ("test_crews.py", "test_planted_crews.py")
    return True if needs_it and find_spec("crewai") is None else None
