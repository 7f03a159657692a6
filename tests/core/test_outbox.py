"""The outbox: what was used is on the disk before the store is told; the next start posts it."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from tbcontracts import BudgetManager, StoreError, Usage
from tbcontracts.backlog import Backlog
from tbcontracts.commands import Charge, Confidence, Posted, Settle, Void
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError
from tbcontracts.kept import Kept, Postable
from tbcontracts.outbox import Outbox
from tbcontracts.testing.unreliable_store import UnreliableStore

HEADER = '{"outbox":1}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of an outbox that does not exist yet."""
    return tmp_path / "outbox.jsonl"


def manager_on(store: UnreliableStore, path: Path, **settings: Any) -> BudgetManager:
    """Return a manager with one agent and an outbox."""
    manager = BudgetManager(store=store, outbox=path, **settings)
    manager.register_agent("writer", max_tokens=1_000)
    return manager


def lines(path: Path) -> list[dict[str, Any]]:
    """Return what stands in an outbox, behind its first line."""
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    assert first == HEADER
    return [json.loads(line) for line in rest]


def reopened(path: Path) -> list[Kept]:
    """Return what a new process would find, after the old one let go of it."""
    gc.collect()
    outbox = Outbox(path)
    left = outbox.left
    outbox.leave()
    return left


# --- the way of a command -------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["plain", "awaited"])
def test_usage_is_noted_before_it_is_sent_and_marked_after(path: Path, door: str) -> None:
    """When the store hears of it, it stands in the file; afterwards it is done."""
    store = UnreliableStore()
    manager = manager_on(store, path)
    seen: list[list[dict[str, Any]]] = []

    def look(command: object) -> None:
        if isinstance(command, Settle):
            seen.append(lines(path))

    store.before = look

    async def use() -> None:
        hold = await manager.areserve("writer", 100)
        await hold.settle(Usage(input_tokens=30, output_tokens=12))

    if door == "awaited":
        asyncio.run(use())
    else:
        manager.reserve("writer", 100).settle(Usage(input_tokens=30, output_tokens=12))
    [[noted]] = seen
    assert (noted["number"], noted["scope"]) == (1, "default")
    assert noted["command"]["_"] == "Settle"
    assert noted["command"]["amount"] == 42
    assert lines(path) == [noted, {"done": 1}]
    assert reopened_after(manager, path) == []


def reopened_after(manager: BudgetManager, path: Path) -> list[Kept]:
    """Let a manager's outbox go, and return what is in it."""
    outbox = manager._engine.backlog._outbox
    assert outbox is not None
    outbox.leave()
    return reopened(path)


def test_all_that_is_kept_comes_back_as_it_was(path: Path) -> None:
    """Settlements, voids, charges and scores, with the contract of their agent; in order."""
    contract = BudgetContract("wrîter", 3, 500, 50, 0.5)
    noted: list[Kept] = []
    outbox = Outbox(path)
    commands: tuple[Postable, ...] = (
        Settle("h1", "wrîter", 42, Usage(input_tokens=30, output_tokens=12), "note"),
        Settle("h2", "wrîter", 7, Usage(input_tokens=7, measured=False), final=False),
        Void("h3", "gone"),
        Charge("wrîter", 5, None, "by hand", "key-1", track=True),
        Confidence("wrîter", 0.25),
    )
    for number, command in enumerate(commands, start=1):
        noted.append(Kept(number, "acme/run", command, contract, 1.5))
        outbox.note(noted[-1])
    outbox.done(3)
    outbox.leave()
    del noted[2]
    assert reopened(path) == noted
    assert reopened(path) == noted


def test_there_are_no_prompts_in_it(path: Path) -> None:
    """Numbers, names and notes: neither what was asked nor what was answered."""
    store = UnreliableStore()
    manager = manager_on(store, path)

    @manager.govern("writer", usage_fn=lambda _: 42)
    def write(prompt: str) -> str:
        assert prompt
        store.down = True
        return "the secret answer"

    write("the secret question")
    assert "secret" not in path.read_text(encoding="utf-8")
    assert manager.unposted.tokens == 42
    store.down = False
    assert manager.flush()


# --- after a restart ------------------------------------------------------------------------------


def test_what_an_earlier_process_could_not_post_is_posted_at_the_start(path: Path) -> None:
    """On the books of its scope, once; the new process need not know the agent."""
    store = UnreliableStore()
    first = manager_on(store, path)
    hold = first.scope("acme/run-7").reserve("writer", 300)
    store.down = True
    hold.settle(250)
    first.scope("acme/run-8").record_usage("writer", 9)  # books that were never opened
    _die(first)
    store.down = False
    second = BudgetManager(store=store, outbox=path)
    assert second.flush()
    run_7, run_8 = (second.scope(f"acme/run-{n}").accounts()["writer"] for n in (7, 8))
    assert (run_7.consumed, run_7.held, run_7.overdraft) == (250, 0, 0)
    assert (run_8.consumed, run_8.allocated) == (9, 1_000)
    assert reopened_after(second, path) == []


def test_numbers_go_on_after_a_restart(path: Path) -> None:
    """No later command is taken for an earlier one."""
    store = UnreliableStore()
    first = manager_on(store, path)
    first.record_usage("writer", 1)
    store.down = True
    first.record_usage("writer", 2)
    _die(first)
    second = manager_on(store, path)
    second.record_usage("writer", 3)
    assert [line.get("number") for line in lines(path)] == [1, None, 2, 3]
    store.down = False
    assert second.flush()
    assert second.report()["writer"]["consumed"] == 6


def _die(manager: BudgetManager) -> None:
    """Leave everything as a process does that is killed."""
    backlog = manager._engine.backlog
    assert backlog._outbox is not None
    backlog._outbox.leave()
    backlog._pause = lambda _, woken: threading.Event().wait()  # its thread never comes back
    backlog.begin_anew()


WORKER = """
import sys, time
from tbcontracts import BudgetManager, open_store
from tbcontracts.commands import Settle

class Tells:
    '''A store that tells when a settlement comes by, before or after it, and stops there.'''
    def __init__(self, store, when):
        self.store, self.when = store, when
    def __getattr__(self, name):
        return getattr(self.store, name)
    def apply(self, scope, command):
        if isinstance(command, Settle) and self.when == "before":
            self.stop()
        applied = self.store.apply(scope, command)
        if isinstance(command, Settle) and self.when == "after":
            self.stop()
        return applied
    def stop(self):
        print("stopped", flush=True)
        sys.stdin.read()

url, path, when = sys.argv[1:]
manager = BudgetManager(store=Tells(open_store(url), when), outbox=path)
manager.register_agent("writer", max_tokens=1_000)
manager.reserve("writer", 300).settle(250)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_is_killed_while_it_posts(tmp_path: Path, path: Path, when: str) -> None:
    """Killed before the store heard of it, or before it heard the store: posted, and once."""
    url = f"sqlite:///{tmp_path}/budget.db"
    command = [sys.executable, "-c", textwrap.dedent(WORKER), url, str(path), when]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"stopped\n"
        with pytest.raises(ConfigurationError, match="is in use by another manager"):
            BudgetManager(store=url, outbox=path)
        worker.kill()
    before = BudgetManager(store=url)
    before.register_agent("writer", max_tokens=1_000)
    assert before.report()["writer"]["consumed"] == (0 if when == "before" else 250)
    manager = BudgetManager(store=url, outbox=path)
    manager.register_agent("writer", max_tokens=1_000)
    assert manager.flush()
    account = manager.accounts()["writer"]
    assert (account.consumed, account.held) == (250, 0)
    assert manager.unposted.refused == 0
    assert [entry.kind for entry in manager.journal()] == ["opened", "held", "settled"]


def test_with_allow_a_killed_process_loses_nothing_either(tmp_path: Path, path: Path) -> None:
    """Calls went without a hold, the process was killed; the next one posts what they used."""
    url = f"sqlite:///{tmp_path}/budget.db"
    program = """
        import os, signal, sys
        from tbcontracts import BudgetManager
        from tbcontracts.testing.unreliable_store import UnreliableStore
        store = UnreliableStore()
        store.down = True
        manager = BudgetManager(store=store, outbox=sys.argv[1], on_store_error="allow")
        manager.register_agent("writer", max_tokens=1_000)
        for _ in range(4):
            manager.reserve("writer", 500).settle(400)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    manager = BudgetManager(store=url, outbox=path)
    assert manager.flush()
    account = manager.accounts()["writer"]
    assert (account.consumed, account.overdraft) == (1_600, 600)
    assert manager.unposted.uncovered == 600


# --- the file -------------------------------------------------------------------------------------


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
