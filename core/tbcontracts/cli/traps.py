"""What lies in wait on this machine: settings under which something is sent, asked or not seen.

A trap is a function that looks, and yields what it found. Add one, and name it in `TRAPS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tbcontracts.cli.installed import VersionOf, is_within
from tbcontracts.stores.urls import masked

_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")
_OLDEST_SQLITE = "3.37"


class Trap(NamedTuple):
    """Something that was found, and what to do about it."""

    code: str
    """A short, stable name."""
    said: str
    helps: str


class Machine(NamedTuple):
    """What traps look at."""

    environ: Mapping[str, str]
    version: VersionOf
    """The version of an installed package; None for none."""
    python: tuple[int, int] = sys.version_info[:2]

    def is_on(self, *names: str) -> bool:
        """Return whether one of these variables says yes."""
        return any(self.environ.get(name, "").lower() in _YES for name in names)


def crewai_telemetry(machine: Machine) -> Iterator[Trap]:
    """CrewAI tells its makers about each run unless it is told not to."""
    if machine.version("crewai") is None:
        return
    off = ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_TRACKING", "OTEL_SDK_DISABLED")
    if not machine.is_on(*off):
        yield Trap(
            "crewai_telemetry",
            "CrewAI sends telemetry of each run to its makers.",
            "CREWAI_DISABLE_TELEMETRY=true, if that is not wanted (OTEL_SDK_DISABLED=true would "
            "silence your own OpenTelemetry, too).",
        )


def crewai_prompt(machine: Machine) -> Iterator[Trap]:
    """CrewAI asks at the end of a run whether to show traces, and waits for an answer."""
    if machine.version("crewai") is None:
        return
    said = machine.environ.get("CREWAI_TRACING_ENABLED", "").lower()
    if said not in (*_YES, *_NO):
        yield Trap(
            "crewai_tracing_prompt",
            "CrewAI may stop after a run to ask whether it shall upload a trace.",
            "CREWAI_TRACING_ENABLED=false (or true).",
        )


def tiktoken_encodings(machine: Machine) -> Iterator[Trap]:
    """Nothing is downloaded, so tiktoken without an encoding counts nothing."""
    version = machine.version("tiktoken")
    if version is None:
        return
    from tbcontracts.tokens import best_counter, estimate_tokens

    if best_counter() is estimate_tokens:
        yield Trap(
            "tiktoken_encodings",
            f"tiktoken {version} is installed, and no encoding is on this machine: requests are "
            "estimated by their bytes.",
            "TIKTOKEN_CACHE_DIR, set to a folder with an encoding that tiktoken has downloaded.",
        )


def awaited_nodes(machine: Machine) -> Iterator[Trap]:
    """Python 3.10 hands no context on to what a task awaits."""
    if machine.python < (3, 11) and machine.version("langchain-core") is not None:
        yield Trap(
            "python_3_10_async",
            "On Python 3.10 calls in nodes of awaited LangGraph graphs are not seen by callbacks.",
            "Python 3.11; or nodes that take config and pass it on, budgeted(...), or "
            "BudgetedChatModel.",
        )


def stream_usage(machine: Machine) -> Iterator[Trap]:
    """ChatOpenAI asks a server that is not OpenAI's for no usage in streams."""
    names = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
    found = next((name for name in names if machine.environ.get(name)), None)
    if found is not None and machine.version("langchain-openai") is not None:
        yield Trap(
            "stream_usage",
            f"{found} is set to {masked(machine.environ[found])}: there ChatOpenAI asks for no "
            "usage in streams, and streamed calls are charged by estimate.",
            "ChatOpenAI(stream_usage=True).",
        )


def old_sqlite(_: Machine) -> Iterator[Trap]:
    """A ledger's tables keep to their types, which SQLite has since 3.37."""
    import sqlite3

    if not is_within(sqlite3.sqlite_version, f">={_OLDEST_SQLITE}"):
        yield Trap(
            "old_sqlite",
            f"This Python has SQLite {sqlite3.sqlite_version}: sqlite:/// needs {_OLDEST_SQLITE}.",
            "a newer Python, or another store.",
        )


TRAPS: tuple[Callable[[Machine], Iterator[Trap]], ...] = (
    crewai_telemetry,
    crewai_prompt,
    tiktoken_encodings,
    awaited_nodes,
    stream_usage,
    old_sqlite,
)
"""All that look at the machine; what a store says of itself is asked by `tbc doctor --store`."""


def traps(machine: Machine) -> list[Trap]:
    """Return what lies in wait on a machine."""
    return [trap for look in TRAPS for trap in look(machine)]
