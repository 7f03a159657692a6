"""The outbox after a process ended: the next start posts what is left in it."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from tests.core.outbox.conftest import lines, manager_on, reopened_after

from tbcontracts import BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts.testing.unreliable_store import UnreliableStore


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
