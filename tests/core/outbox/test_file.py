"""The file of an outbox: torn, foreign, shared by processes and threads, full, rewritten."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from tests.core.outbox.conftest import HEADER, lines, manager_on, reopened, reopened_after

from tbcontracts import BudgetManager, StoreError
from tbcontracts.backlog import Backlog
from tbcontracts.commands import Charge, Posted
from tbcontracts.errors import ConfigurationError
from tbcontracts.kept import Kept
from tbcontracts.outbox import Outbox
from tbcontracts.testing.unreliable_store import UnreliableStore


@pytest.mark.parametrize("torn", ['{"number":2,"sc', '{"number":2,"scope":"a"', "\x00\x00\x00\n"])
def test_a_torn_last_line_is_left_out(path: Path, torn: str) -> None:
    """A crash in the middle of a line costs that line, which was not acknowledged to anybody."""
    outbox = Outbox(path)
    kept = Kept(1, "a", Charge("writer", 5, key="k"), None, 1.0)
    outbox.note(kept)
    outbox.leave()
    with path.open("a", encoding="utf-8") as file:
        file.write(torn)
    assert reopened(path) == [kept]
    after = Outbox(path)
    after.note(kept._replace(number=2))
    after.leave()
    assert reopened(path) == [kept, kept._replace(number=2)]


def test_a_torn_first_line_is_a_new_file(path: Path) -> None:
    """The process died while it made it."""
    path.write_text(HEADER[:7], encoding="utf-8")
    assert reopened(path) == []
    assert lines(path) == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("name,tokens\n", "is no outbox"),
        ('{"_":"x"}\n', "is no outbox"),
        ("7\n", "is no outbox"),
        ('{"outbox":2}\n', "Its version is 2; this package knows 1"),
        (f'{HEADER}\nx\n{{"done":1}}\n', "Its line 2 cannot be read"),
        (f'{HEADER}\n{{"number":1}}\n', "Its line 2 cannot be read"),
    ],
)
def test_a_file_of_somebody_else_is_refused_and_not_touched(
    path: Path, content: str, why: str
) -> None:
    """So is one that is damaged in the middle, which no crash of ours does."""
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=why):
        Outbox(path)
    assert path.read_text(encoding="utf-8") == content


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    """It is said when the manager is made."""
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        BudgetManager(outbox=tmp_path / "no" / "such" / "folder.jsonl")
    with pytest.raises(ConfigurationError, match="must be the path of a file, not int"):
        BudgetManager(outbox=7)  # type: ignore[arg-type]


def test_one_process_for_each_file(path: Path) -> None:
    """The second manager is told so, in this process too."""
    first = Outbox(path)
    with pytest.raises(ConfigurationError, match="in use by another manager"):
        Outbox(path)
    first.leave()
    Outbox(path).leave()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_leaves_it_to_its_parent(path: Path) -> None:
    """What the child uses goes straight to the store; what its parent keeps, its parent posts."""
    store = UnreliableStore()
    manager = manager_on(store, path)
    hold = manager.reserve("writer", 100)
    store.down = True
    hold.settle(40)
    before = path.read_bytes()
    pid = os.fork()
    if pid == 0:
        good = False
        try:
            store.down = False
            clean = manager.unposted.waiting == 0
            manager.record_usage("writer", 5)
            manager.flush()
            good = clean and manager.report()["writer"]["consumed"] == 5
        finally:
            os._exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert path.read_bytes() == before
    assert manager.unposted.waiting == 1
    with pytest.raises(ConfigurationError, match="in use"):
        Outbox(path)  # the child's end did not unlock it
    store.down = False
    assert manager.flush()


def test_it_does_not_grow_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done is cleared away from time to time; what is not stays."""
    monkeypatch.setattr("tbcontracts.outbox._LINES_MOST", 20)
    outbox = Outbox(path)
    open_one = Kept(1, "a", Charge("writer", 5, key="k"), None, 1.0)
    outbox.note(open_one)
    for number in range(2, 200):
        outbox.note(open_one._replace(number=number))
        outbox.done(number)
        assert len(lines(path)) <= 24
    outbox.leave()
    assert reopened(path) == [open_one]


def test_what_a_finalizer_notes_during_a_rewrite_is_in_the_new_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector may end a generator, and its hold, at any moment on any thread."""
    monkeypatch.setattr("tbcontracts.outbox._LINES_MOST", 2)
    outbox = Outbox(path)
    kept = Kept(1, "a", Charge("writer", 5, key="k"), None, 1.0)
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        outbox.note(kept._replace(number=100 + len(interruptions)))
        interruptions.append(self)
        return replace(self, target)

    interruptions: list[Path] = []
    monkeypatch.setattr(Path, "replace", interrupted)
    for number in range(1, 10):
        outbox.note(kept._replace(number=number))
        outbox.done(number)
    outbox.leave()
    assert [one.number for one in reopened(path)] == [100 + n for n in range(len(interruptions))]
    assert interruptions


def test_many_threads_note_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is whole, also while the file is rewritten under them."""
    monkeypatch.setattr("tbcontracts.outbox._LINES_MOST", 50)
    outbox = Outbox(path)
    start = threading.Barrier(8)

    def work(first: int) -> None:
        start.wait()
        for number in range(first, first + 40):
            outbox.note(Kept(number, "a", Charge("writer", 5, key=f"{number}"), None, 1.0))
            if number % 4:
                outbox.done(number)

    threads = [threading.Thread(target=work, args=(1_000 * n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outbox.leave()
    left = {kept.number for kept in reopened(path)}
    assert left == {1_000 * n + k for n in range(1, 9) for k in range(0, 40, 4)}


def test_a_full_disk_does_not_keep_usage_from_the_store(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is sent without being noted, and that is said."""
    store = UnreliableStore()
    manager = manager_on(store, path)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    manager.record_usage("writer", 5)
    assert "The outbox cannot be written" in caplog.text
    assert manager.report()["writer"]["consumed"] == 5


def test_too_much_stays_in_the_outbox(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into memory any more is posted by the next start."""
    monkeypatch.setattr("tbcontracts.backlog.KEPT_MOST", 1)
    store = UnreliableStore()
    manager = manager_on(store, path)
    store.down = True
    manager._engine.backlog._thread = threading.current_thread()  # this test is the thread
    assert [manager.record_usage("writer", 5).seq for _ in range(3)] == [0, 0, 0]
    assert manager.unposted.waiting == 1
    assert len(reopened_after(manager, path)) == 3


def test_what_is_left_at_the_end_is_said_to_be_in_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost, and the log says where it is."""

    def send(_kept: Kept) -> Posted:
        msg = "down"
        raise StoreError(msg)

    backlog = Backlog(send, Outbox(path))
    backlog._thread = threading.current_thread()
    backlog.keep(backlog.note("a", Charge("writer", 5, key="k"), None))
    backlog.end()
    assert f"They are in the outbox {path}, for the next start." in caplog.text
