"""Projects as CrewAI's own command makes them, in a folder of this process."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

_FOLDER = tempfile.TemporaryDirectory(prefix="tbcontracts-apps-", ignore_cleanup_errors=True)
_MODEL = "openai/gpt-4o-mini"
_PEOPLE: Any = [
    {
        "name": name,
        "role": role,
        "goal": goal,
        "backstory": "You have done this for years.",
        "llm": _MODEL,
        "tools": [],
        "planning": False,
        "allow_delegation": False,
    }
    for name, role, goal in (
        ("reader", "Reader of books on {topic}", "Read all about {topic}"),
        ("reviewer", "Reviewer", "Say what is worth reading"),
    )
]
_TASKS: Any = [
    {"name": "reading", "agent": "reader", "context": []},
    {"name": "review", "agent": "reviewer", "context": ["reading"]},
]
_ANSWERS: Any = (
    _PEOPLE,
    [
        {**task, "description": f"Do the {task['name']}.", "expected_output": "A short text"}
        for task in _TASKS
    ],
    {"process": "sequential", "memory": True, "inputs": {}},
)
"""What a person answers to the questions of `crewai create crew`."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Work in the folder of the projects, which hold what their crews write too."""
    before = Path.cwd()
    os.chdir(_FOLDER.name)
    try:
        yield Path(_FOLDER.name)
    finally:
        os.chdir(before)


@functools.cache
def created() -> None:
    """Make the projects, once."""
    from crewai_cli import create_json_crew
    from crewai_cli.create_crew import create_crew
    from crewai_cli.create_flow import create_flow

    asked = mock.patch.object(create_json_crew, "_wizard_agents_and_tasks", return_value=_ANSWERS)
    no_git = mock.patch("crewai_cli.git.Repository.is_git_installed", return_value=False)
    quietly = contextlib.redirect_stdout(io.StringIO())
    with folder() as here, asked, no_git, quietly:
        create_crew("news_room", skip_provider=True)
        create_json_crew.create_json_crew("reading_room", skip_provider=True)
        create_flow("blog")
        sys.path += [str(here / name / "src") for name in ("news_room", "blog")]
