"""`python -m tests.apps`: put every application under contracts, and print a line for each.

The same is asked as in the tests. What is printed are the requests and tokens of its first run with
budgets that suffice: those on the books, which are those of the provider's log, agent by agent.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_DISABLE_VERSION_CHECK", "true")
os.environ.setdefault("OTEL_SDK_DISABLED", "true")
os.environ.setdefault("LANGSMITH_TRACING", "false")
_FOLDER = tempfile.TemporaryDirectory(prefix="tbcontracts-crewai-", ignore_cleanup_errors=True)
os.environ.setdefault("CREWAI_STORAGE_DIR", _FOLDER.name)

from tests.apps import harness


def applications() -> Iterator[harness.Application]:
    """Yield all of them; those of CrewAI where it is installed."""
    from tests.apps.graph_cases import GRAPHS

    yield from GRAPHS
    with contextlib.suppress(ModuleNotFoundError):
        from tests.apps.crew_cases import CREWS

        yield from CREWS


def checks_of(application: harness.Application) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what is asked of one, each by a name."""
    from tests.apps.graphs import Graph, resumes

    yield "40 %", lambda: harness.stops(application)
    yield "one rich", lambda: harness.starves(application)
    for door in (door for door in application.doors if door not in application.lost):
        yield door, lambda door=door: harness.same_through(application, door)  # type: ignore[misc]
    if application.name != "crewai create flow":
        yield "listed", lambda: harness.is_listed(application)
    if isinstance(application, Graph) and application.keeps:
        yield "resumed", lambda: resumes(application)


def left_out() -> Iterator[str]:
    """Yield a sentence for each thing that is not shown on this Python."""
    from tests.apps.graphs import LOST, Graph

    if Graph.lost:
        yield f"{LOST}.\nOf graphs these are not shown here: {', '.join(Graph.lost)}."
    if sys.version_info < (3, 11):
        yield "The application of deepagents is not shown here: that needs Python 3.11 or later."


def line_of(application: harness.Application) -> str:
    """Return the line of one application.

    Raises:
        AssertionError: It does not do what is promised.
    """
    requests, tokens = harness.changes_nothing(application)
    done = ["same prompts"]
    for name, check in checks_of(application):
        check()
        done.append(name)
    return f"{application.name:<44} {requests:>3} requests {tokens:>7,} tokens  {', '.join(done)}"


def main() -> int:
    """Print a line for each application; return 1 if one does not do what is promised."""
    warnings.simplefilter("ignore")  # of libraries; the tests have them as errors
    logging.disable(logging.CRITICAL)
    failed = 0
    for application in applications():
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                line = line_of(application)
        except Exception as error:  # the next one is to be seen too
            failed += 1
            line = f"{application.name:<44} FAILED: {type(error).__name__}: {error}"
        print(line, flush=True)
    print("In each, the tokens on the books are the provider's, agent by agent.")
    for sentence in left_out():
        print(sentence)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
