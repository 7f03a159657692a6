"""What 16 threads do to one scope of a memory store, replayed in the reference by `seq`.

`TBC_SOAK=1` (`make soak`) replays a million commands instead of some thousands.
"""

from __future__ import annotations

import os

import pytest

from tbcontracts.commands import Command, Denied
from tbcontracts.stores.base import Applied
from tbcontracts.stores.memory import MemoryStore
from tbcontracts.testing.conformance import ManualClock, check_histories, check_tasks, check_threads

SOAK = os.environ.get("TBC_SOAK") == "1"
# Books of their own every 20 commands of each thread; of each of 16 threads, so many:
COMMANDS = 62_500 if SOAK else 300


def memory(clock: ManualClock) -> MemoryStore:
    """Open the store that is hammered."""
    return MemoryStore(clock=clock)


@pytest.mark.timeout(3_600 if SOAK else 120)
def test_threads_are_replayed_without_a_mismatch() -> None:
    """Every reply, denials and errors too, has its place in one order, and the books agree."""
    check_threads(memory, commands=COMMANDS, seed=1)


@pytest.mark.timeout(3_600 if SOAK else 120)
def test_tasks_are_replayed_without_a_mismatch() -> None:
    """The same for the tasks of one event loop."""
    check_tasks(memory, commands=COMMANDS // 10, seed=2)


@pytest.mark.timeout(3_600 if SOAK else 120)
def test_long_histories_are_replayed_without_a_mismatch() -> None:
    """The same for one command after another, on books that grow old."""
    check_histories(memory, histories=2_000 if SOAK else 20, commands=300, seed=3)


class Watched(MemoryStore):
    """A memory store that notes what it answered to threads."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.answers: list[Applied] = []

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command and note the answer."""
        applied = super().apply(scope, command)
        self.answers.append(applied)
        return applied


def test_the_histories_are_worth_replaying() -> None:
    """Holds are granted with the help of others and refused, some of them silently; some expire."""
    stores: list[Watched] = []

    def make(clock: ManualClock) -> Watched:
        stores.append(Watched(clock))
        return stores[-1]

    check_threads(make, commands=200, seed=1)
    answers = stores[0].answers
    denied = [answer for answer in answers if isinstance(answer.reply, Denied)]
    entries = [entry for answer in answers for entry in answer.entries]
    assert len(denied) > 100
    assert sum(not answer.entries for answer in denied) > 20
    assert sum(bool(entry.moves) for entry in entries) > 100
    kinds = {entry.kind for entry in entries}
    assert {"held", "denied", "settled", "expired", "transferred", "charged"} <= kinds
