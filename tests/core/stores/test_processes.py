"""Several processes on one ledger at the same time: one budget, and one order of what they did."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from tbcontracts.commands import Granted, Open
from tbcontracts.contract import BudgetContract
from tbcontracts.stores import open_store
from tbcontracts.testing.history import Event, check_history

PROCESSES = 4
WORKER = """
import pickle, random, sys, time
from concurrent.futures import ThreadPoolExecutor
from tbcontracts.commands import Reserve
from tbcontracts.errors import TBCError
from tbcontracts.stores import open_store
from tbcontracts.testing.history import Event
from tbcontracts.testing.strategies import Commands

url, number, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
store = open_store(url)

def carry_out(command):
    began = time.monotonic_ns()
    try:
        applied = store.apply("s", command)
        result, entries = applied.reply, applied.entries
    except (TBCError, ValueError, TypeError) as error:
        result, entries = type(error), ()
    return Event(command, result, entries, began, time.monotonic_ns())

print("ready", flush=True)
sys.stdin.readline()
if what == "calls":
    commands = [Reserve("a", 2_000, f"{number}-{call}") for call in range(10)]
    with ThreadPoolExecutor(len(commands)) as pool:
        events = list(pool.map(carry_out, commands))
else:
    maker = Commands(random.Random(number), f"p{number}-")
    events = [carry_out(maker.next()[0]) for _ in range(int(what))]
store.close()
sys.stdout.buffer.write(pickle.dumps(events))
"""


def run(url: str, what: str, folder: Path) -> list[Event]:
    """Let processes work on a ledger, all from the same moment on; return what they saw."""
    script = folder / "worker.py"
    script.write_text(WORKER)
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), url, str(number), what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
    events: list[Event] = []
    for worker in workers:
        said, _ = worker.communicate(timeout=100)
        events += pickle.loads(said)
    return events


def test_40_calls_of_2000_tokens_in_4_processes_on_5000(url: str, tmp_path: Path) -> None:
    """Exactly 2 are admitted."""
    store = open_store(url)
    store.apply("s", Open((BudgetContract("a", max_tokens=5_000, min_reserve=0),)))
    events = run(url, "calls", tmp_path)
    assert len(events) == 40
    assert sum(isinstance(event.result, Granted) for event in events) == 2
    statement = store.read("s")
    assert statement is not None
    assert statement.accounts[0].held == 4_000
    store.close()


def test_what_4_processes_did_has_one_order(url: str, tmp_path: Path) -> None:
    """Their commands, replayed in the order of the journal, give the same answers and books."""
    store = open_store(url)
    contracts = (BudgetContract(name, 1 + len(name) % 2, 60, 10) for name in ("b", "a", "Z", "é"))
    opening = Open(tuple(contracts))
    applied = store.apply("s", opening)
    first = Event(opening, applied.reply, applied.entries, 0, 0)
    events = run(url, "100", tmp_path)
    statement = store.read("s")
    assert statement is not None
    check_history([first, *events], statement)
    store.close()
