"""`make apps` prints a line for each application, and fails where one does not keep a promise."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
from tests.apps import __main__ as command
from tests.apps import harness
from tests.apps.graph_cases import GRAPHS, SWARM
from tests.apps.graphs import Graph


@pytest.fixture(autouse=True)
def _logging_goes_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the command from silencing other tests' logs and warnings."""
    monkeypatch.setattr("logging.disable", lambda level: None)
    with warnings.catch_warnings():
        yield


def test_it_knows_every_application() -> None:
    """Those of the tests, in their order."""
    assert [one.name for one in command.applications()][: len(GRAPHS)] == [
        one.name for one in GRAPHS
    ]


def test_a_line_says_what_was_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Name, requests, tokens, and each check by its name."""
    monkeypatch.setattr(command, "applications", lambda: iter([SWARM]))
    assert command.main() == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.split("  ")[0] == "langgraph-swarm"
    assert "5 requests" in line
    assert line.endswith("stream messages, listed, resumed")


def test_a_lost_door_is_not_shown_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on Python 3.10: what loses the callbacks there is not asked, and nobody misses it."""
    monkeypatch.setattr(command, "applications", lambda: iter([SWARM]))
    monkeypatch.setattr(Graph, "lost", ("ainvoke", "astream_events"))
    assert command.main() == 0
    line, *rest = capsys.readouterr().out.splitlines()
    assert line.endswith("one rich, stream messages, listed, resumed")
    assert "Of graphs these are not shown here: ainvoke, astream_events." in rest
    monkeypatch.setattr(Graph, "lost", ())
    assert not any("Of graphs" in sentence for sentence in command.left_out())


def test_a_broken_promise_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said which application broke which promise, and the command fails."""

    def broken(application: harness.Application) -> None:
        msg = "a call was attributed to nobody"
        raise AssertionError(msg)

    monkeypatch.setattr(command, "applications", lambda: iter([SWARM]))
    monkeypatch.setattr(harness, "starves", broken)
    assert command.main() == 1
    assert "langgraph-swarm" in (out := capsys.readouterr().out)
    assert "FAILED: AssertionError: a call was attributed to nobody" in out
