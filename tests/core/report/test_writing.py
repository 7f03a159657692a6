"""The page as a file: whole or not at all, and never in the place of something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tbcontracts import BudgetManager, StoreError
from tbcontracts.errors import ConfigurationError
from tbcontracts.report import areport_page, awrite_report, report_page, write_report
from tbcontracts.stores import MemoryStore


def busy(scope: str = "run") -> BudgetManager:
    """Return a manager on whose books something stands."""
    manager = BudgetManager(store=MemoryStore(clock=lambda: 1_764_042_000.0), scope=scope)
    manager.register_agent("writer", max_tokens=1_000)
    manager.record_usage("writer", 700)
    return manager


def test_a_managers_scope_becomes_a_file(tmp_path: Path) -> None:
    """Its own scope, or another one of its store."""
    manager = busy()
    manager.scope("other").record_usage("writer", 1)
    path = write_report(manager, tmp_path / "r.html")
    assert path == tmp_path / "r.html"
    text = path.read_text(encoding="utf-8")
    assert text == report_page(manager)
    assert "700" in text
    assert "<h1><bdi>run</bdi></h1>" in text
    assert "<h1><bdi>other</bdi></h1>" in report_page(manager, scope="other")
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_is_enough(tmp_path: Path) -> None:
    """Where no manager is: the name of the scope says which books."""
    store = busy()._engine.store
    path = write_report(store, tmp_path / "r.html", scope="run")
    assert path.read_text(encoding="utf-8") == report_page(busy())
    with pytest.raises(ConfigurationError, match="none was named"):
        report_page(store)
    with pytest.raises(StoreError, match="no scope 'rum'"):
        report_page(store, scope="rum")


@pytest.mark.anyio
async def test_awaited_it_is_the_same(tmp_path: Path, anyio_backend: str) -> None:
    """From a manager and from a store."""
    manager = busy()
    assert await areport_page(manager) == report_page(manager)
    assert await areport_page(manager._engine.store, scope="run") == report_page(manager)
    path = await awrite_report(manager, tmp_path / "r.html")
    assert path.read_text(encoding="utf-8") == report_page(manager)


def test_a_report_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    """Somebody's notes stay, unless it is said that they may go."""
    manager = busy()
    report, notes = tmp_path / "r.html", tmp_path / "notes.txt"
    write_report(manager, report)
    before = report.read_text(encoding="utf-8")
    manager.record_usage("writer", 1)
    write_report(manager, report)
    assert report.read_text(encoding="utf-8") != before
    notes.write_bytes(b"mine \xff\x00")
    with pytest.raises(ConfigurationError, match="is no report; it was left as it is"):
        write_report(manager, notes)
    assert notes.read_bytes() == b"mine \xff\x00"
    with pytest.raises(ConfigurationError, match="is a folder, and a report is a file"):
        write_report(manager, tmp_path, replace=True)
    write_report(manager, notes, replace=True)
    assert "Budget report" in notes.read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither half a page nor a leftover beside it."""
    manager = busy()
    path = write_report(manager, tmp_path / "r.html")
    before = path.read_text(encoding="utf-8")

    def full(self: Path, data: str, encoding: str) -> None:
        with self.open("w", encoding=encoding) as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    manager.record_usage("writer", 1)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_report(manager, path)
    assert caught.value.filename == str(path)
    assert path.read_text(encoding="utf-8") == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ConfigurationError, match=r"There is no folder '.*nowhere' for 'r.html'"):
        write_report(manager, tmp_path / "nowhere" / "r.html")
