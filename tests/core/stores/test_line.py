"""The line for the pen: nobody is left asleep, whoever is interrupted or cancelled."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from tbcontracts.commands import Charge, Command, Done, Reserve, Settle, Void
from tbcontracts.errors import StoreError
from tbcontracts.stores import line as lines
from tbcontracts.stores.base import Applied
from tbcontracts.stores.line import Clerks, Job, Line

PATIENCE_S = 60


def charge(amount: int) -> Charge:
    """Return a command that can be told from others."""
    return Charge("a", amount)


class Paper:
    """What is written, batch by batch; a test may hold the writer's hand."""

    def __init__(self) -> None:
        self.batches: list[list[Command]] = []
        self.writing = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.meanwhile: Callable[[], object] | None = None
        self.clerks = Clerks(2)
        self.line = Line(self.commit, lambda error: StoreError(repr(error)), self.clerks)

    def commit(self, batch: Sequence[Job]) -> list[Applied | Exception]:
        """Write a batch."""
        self.writing.set()
        assert self.go_on.wait(PATIENCE_S)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        self.batches.append([job.command for job in batch])
        return [Applied(Done(0, 0), ()) for _ in batch]

    @property
    def written(self) -> list[Command]:
        """All commands, in their order."""
        return [command for batch in self.batches for command in batch]


class Sleepers:
    """Tells when threads wait in line."""

    def __init__(self) -> None:
        # Not a semaphore: a signal handler may come in the middle of noting, and use this too.
        self._asleep: SimpleQueue[None] = SimpleQueue()

    def note(self) -> None:
        """Note that one is about to wait."""
        self._asleep.put(None)

    def await_next(self) -> None:
        """Wait until one more waits."""
        self._asleep.get(timeout=PATIENCE_S)


@pytest.fixture
def sleepers(monkeypatch: pytest.MonkeyPatch) -> Sleepers:
    """Return what tells when threads wait in line."""
    seen, wait = Sleepers(), Job.wait

    def noted(job: Job) -> None:
        seen.note()
        wait(job)

    monkeypatch.setattr(Job, "wait", noted)
    return seen


@pytest.fixture
def paper() -> Iterator[Paper]:
    """Return a paper to write on."""
    made = Paper()
    yield made
    made.go_on.set()
    made.clerks.dismiss()


@pytest.fixture
def held(paper: Paper) -> Iterator[Paper]:
    """Return a paper whose first writer has the pen and does not go on."""
    paper.go_on.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(paper.line.carry_out, "s", charge(1))
        assert paper.writing.wait(PATIENCE_S)
        yield paper
        paper.go_on.set()
        first.result(PATIENCE_S)


class Interrupted(BaseException):
    """What a signal handler raises, as Ctrl-C does."""


@pytest.fixture
def on_signal() -> Iterator[list[Callable[[], object]]]:
    """Return a list, whose last function is what the signal handler does, once."""
    todo: list[Callable[[], object]] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: todo and todo.pop()())
    yield todo
    signal.signal(signal.SIGUSR1, before)


def send_signal_when_asleep(
    sleepers: Sleepers, on_signal: list[Callable[[], object]]
) -> threading.Thread:
    """Send this thread the signal once it waits in line.

    One that comes just before the thread sleeps in the kernel would be looked at only when it
    wakes: Python's handlers do not run there. So it is sent until it was handled.
    """
    me, pause = threading.get_ident(), threading.Event()

    def send() -> None:
        sleepers.await_next()
        while on_signal:
            signal.pthread_kill(me, signal.SIGUSR1)
            pause.wait(0.01)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_who_is_interrupted_in_line_leaves_it(
    held: Paper, sleepers: Sleepers, on_signal: list[Callable[[], object]]
) -> None:
    """Its command is not carried out, and the one behind it is not left asleep."""

    def interrupt() -> None:
        raise Interrupted

    on_signal.append(interrupt)
    with ThreadPoolExecutor(1) as pool:
        thread = send_signal_when_asleep(sleepers, on_signal)
        with pytest.raises(Interrupted):
            held.line.carry_out("s", charge(2))
        behind = pool.submit(held.line.carry_out, "s", charge(3))
        sleepers.await_next()
        held.go_on.set()
        behind.result(PATIENCE_S)
        thread.join(PATIENCE_S)
    assert held.written == [charge(1), charge(3)]


def test_who_is_interrupted_hands_its_turn_on(
    held: Paper, sleepers: Sleepers, on_signal: list[Callable[[], object]]
) -> None:
    """The pen was offered to somebody who has gone: the next one gets it."""
    behind: list[threading.Thread] = []

    def interrupt() -> None:
        behind.append(threading.Thread(target=held.line.carry_out, args=("s", charge(3))))
        behind[0].start()
        sleepers.await_next()
        assert held.line._jobs[0].command == charge(2)
        held.go_on.set()
        assert first_done.wait(PATIENCE_S)
        raise Interrupted

    first_done = threading.Event()
    pass_on = held.line._pass_on

    def passed_on() -> None:
        pass_on()
        first_done.set()

    held.line._pass_on = passed_on  # type: ignore[method-assign]
    on_signal.append(interrupt)
    thread = send_signal_when_asleep(sleepers, on_signal)
    with pytest.raises(Interrupted):
        held.line.carry_out("s", charge(2))
    behind[0].join(PATIENCE_S)
    assert not behind[0].is_alive()
    thread.join(PATIENCE_S)
    assert held.written == [charge(1), charge(3)]


def test_a_signal_handler_that_settles_while_its_thread_waits(
    held: Paper, sleepers: Sleepers, on_signal: list[Callable[[], object]]
) -> None:
    """It is answered at once, and its command carried out before the thread goes on."""
    answers: list[Applied] = []
    settle = Settle("h", "a", 7)

    def handle() -> None:
        answers.append(held.line.carry_out("s", settle))
        held.go_on.set()

    on_signal.append(handle)
    thread = send_signal_when_asleep(sleepers, on_signal)
    held.line.carry_out("s", charge(2))
    thread.join(PATIENCE_S)
    assert answers[0].reply[:2] == ("a", 7)
    assert held.written == [charge(1), charge(2), settle]


def test_what_comes_in_the_middle_of_a_batch_is_carried_out_after_it(paper: Paper) -> None:
    """Of the same scope or another one; even what comes in the middle of that."""

    def again() -> None:
        paper.line.carry_out("s", Void("h2"))

    def meanwhile() -> None:
        paper.meanwhile = again
        paper.line.carry_out("other", Void("h1"))

    paper.meanwhile = meanwhile
    paper.line.carry_out("s", charge(1))
    assert paper.written == [charge(1), Void("h1"), Void("h2")]


def test_no_hold_is_granted_in_the_middle_of_a_batch(paper: Paper) -> None:
    """It could not be answered; the command that was interrupted is not disturbed."""
    refused: list[StoreError] = []

    def meanwhile() -> None:
        with pytest.raises(StoreError, match="Reserve came from a signal handler") as caught:
            paper.line.carry_out("s", Reserve("a", 1, "h"))
        refused.append(caught.value)
        with pytest.raises(StoreError, match="closed from the middle"), paper.line.alone():
            pass

    paper.meanwhile = meanwhile
    paper.line.carry_out("s", charge(1))
    assert paper.written == [charge(1)]
    assert len(refused) == 1


def test_what_was_put_off_is_not_lost_by_an_interrupt(paper: Paper) -> None:
    """Ctrl-C goes to the thread that had the pen; its batch failed, what came meanwhile did not."""

    def meanwhile() -> None:
        paper.line.carry_out("s", Void("h1"))
        raise Interrupted

    paper.meanwhile = meanwhile
    with pytest.raises(Interrupted):
        paper.line.carry_out("s", charge(1))
    assert paper.written == [Void("h1")]
    paper.line.carry_out("s", charge(2))


def test_an_interrupted_writer_leaves_nobody_asleep(paper: Paper, sleepers: Sleepers) -> None:
    """Those who waited behind the batch that failed get the pen."""
    paper.go_on.clear()

    def interrupt() -> None:
        raise Interrupted

    paper.meanwhile = interrupt
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(paper.line.carry_out, "s", charge(1))
        assert paper.writing.wait(PATIENCE_S)
        second = pool.submit(paper.line.carry_out, "s", charge(2))
        sleepers.await_next()
        paper.go_on.set()
        second.result(PATIENCE_S)
        assert isinstance(first.exception(PATIENCE_S), Interrupted)
    assert paper.written == [charge(2)]


@pytest.mark.anyio
async def test_cancelled_before_its_turn_it_is_not_carried_out(held: Paper) -> None:
    """After its turn has come it is, whoever waits for the answer."""
    first = asyncio.ensure_future(held.line.acarry_out("s", charge(2)))
    second = asyncio.ensure_future(held.line.acarry_out("s", charge(3)))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    held.go_on.set()
    await second
    assert held.written == [charge(1), charge(3)]


@pytest.mark.anyio
async def test_cancelled_after_its_turn_it_is_carried_out(paper: Paper) -> None:
    """Whoever asks again with the same key finds out; and nobody else is kept waiting."""
    paper.go_on.clear()
    asked = asyncio.ensure_future(paper.line.acarry_out("s", charge(1)))
    assert await asyncio.to_thread(paper.writing.wait, PATIENCE_S)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    paper.go_on.set()
    await paper.line.acarry_out("s", charge(2))
    assert paper.written == [charge(1), charge(2)]


def test_an_event_loop_that_ends_takes_nothing_with_it(paper: Paper) -> None:
    """The transaction goes on without it, and the next loop finds the line as it should be."""
    paper.go_on.clear()

    async def leave() -> None:
        task = asyncio.ensure_future(paper.line.acarry_out("s", charge(1)))
        assert await asyncio.to_thread(paper.writing.wait, PATIENCE_S)
        task.cancel()

    asyncio.run(leave())
    paper.go_on.set()
    asyncio.run(paper.line.acarry_out("s", charge(2)))
    assert paper.written == [charge(1), charge(2)]


def test_awaited_and_plain_commands_stand_in_one_line(held: Paper) -> None:
    """What waits while somebody writes is one batch, from however many loops and threads."""

    async def ask(amount: int) -> None:
        await asyncio.gather(*(held.line.acarry_out("s", charge(amount + n)) for n in range(3)))

    in_line = threading.Barrier(3)
    before = held.line._jobs

    def loop(amount: int) -> None:
        async def main() -> None:
            asked = asyncio.ensure_future(ask(amount))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.to_thread(in_line.wait, PATIENCE_S)
            await asked

        asyncio.run(main())

    threads = [threading.Thread(target=loop, args=(amount,)) for amount in (10, 20)]
    for thread in threads:
        thread.start()
    in_line.wait(PATIENCE_S)
    assert len(before) == 6
    held.go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    first, second = held.batches
    assert first == [charge(1)]
    assert set(second) == {charge(amount) for amount in (10, 11, 12, 20, 21, 22)}


def test_a_failed_batch_is_everybodys_failure(paper: Paper) -> None:
    """Awaited or not, each caller in it hears the same."""

    def fail() -> None:
        raise OSError("no disk")

    paper.meanwhile = fail
    with pytest.raises(StoreError, match="no disk"):
        asyncio.run(paper.line.acarry_out("s", charge(1)))
    paper.meanwhile = fail
    with pytest.raises(StoreError, match="no disk"):
        paper.line.carry_out("s", charge(1))
    paper.line.carry_out("s", charge(1))


def test_a_batch_has_a_size(held: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than that wait for the next one."""
    monkeypatch.setattr(lines, "BATCH_MOST", 2)

    async def ask() -> None:
        asked = [asyncio.ensure_future(held.line.acarry_out("s", charge(n))) for n in range(5)]
        await asyncio.sleep(0)
        held.go_on.set()
        await asyncio.gather(*asked)

    asyncio.run(ask())
    assert [len(batch) for batch in held.batches] == [1, 2, 2, 1]


def test_when_there_are_no_more_threads_the_work_is_done_anyway() -> None:
    """At the end of the interpreter no thread can be started; nothing is left undone."""
    clerks, done = Clerks(1), threading.Event()
    clerks._threads.shutdown()
    clerks.hire(done.set)
    assert done.is_set()
