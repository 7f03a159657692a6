"""Large books in Redis: donors in pages, and forgetting a little at a time."""

from __future__ import annotations

import random

import pytest
import redis
from tests.core.stores.redis_store.conftest import ONE, read
from tests.core.stores.servers import RedisServer

from tbcontracts.commands import (
    Charge,
    Command,
    Denied,
    Granted,
    Open,
    Posted,
    Reserve,
    Settle,
    TopUp,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.stores.redis import RedisStore
from tbcontracts.testing.checking import ManualClock
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import difference


@pytest.mark.parametrize("seed", range(4))
def test_many_donors_are_asked_in_order_page_by_page(
    seed: int, store: RedisStore, clock: ManualClock
) -> None:
    """A hundred agents with ties, and holds that end in the middle of the search for donors."""
    chance, reference = random.Random(seed), Reference()
    names = [f"agent-{chance.randrange(10**6)}-é" for _ in range(100)]
    opening = Open(
        tuple(
            BudgetContract(name, chance.choice((1, 1, 1, 2)), chance.choice((3, 5, 5)), 0)
            for name in names
        )
    )
    commands: list[Command] = [opening]
    for number in range(120):
        name = chance.choice(names)
        commands.append(
            chance.choice(
                (
                    Reserve(name, chance.choice((1, 40, 90, 300)), f"h{number}", 10.0),
                    Reserve(name, chance.choice((2, 5)), f"h{number}", chance.choice((5.0, 20.0))),
                    Charge(name, chance.choice((1, 1, 30))),
                    TopUp(name, 5),
                )
            )
        )
    most = 0
    for command in commands:
        clock.advance(chance.choice((0, 4, 11)))

        reply = store.apply("s", command).reply
        expected = reference.step(command, clock())
        assert difference(reply, expected, read(store), reference) is None, command
        if isinstance(reply, (Granted, Posted)):
            most = max(most, len(reply.moves))
    assert most > 16, "more than a page was needed"


def test_at_most_64_donors_are_asked(store: RedisStore) -> None:
    """Then the refusal says so; what 64 can give is given, by surplus and then by name."""
    donors = [BudgetContract(f"d{number:02}", 1, 1 + number % 2, 0) for number in range(70)]
    store.apply("s", Open((BudgetContract("a", 2, 0), *donors)))
    refused = store.apply("s", Reserve("a", 105, "h")).reply
    assert isinstance(refused, Denied)
    assert (refused.code, refused.available) == ("fragmented", 35 * 2 + 29)
    granted = store.apply("s", Reserve("a", 99, "h")).reply
    assert isinstance(granted, Granted)
    odd = [f"d{number:02}" for number in range(1, 70, 2)]
    even = [f"d{number:02}" for number in range(0, 58, 2)]
    assert [move.donor for move in granted.moves] == odd + even


def test_what_is_due_is_forgotten_a_little_at_a_time(
    store: RedisStore, client: redis.Redis, clock: ManualClock
) -> None:
    """Ended holds and keys for a day, refusals for 10 minutes; at most 16 with each command."""
    _, _, hold, _, _, key, due, _ = store._options.keys("s")
    store.apply("s", ONE)

    def kept() -> tuple[int, int]:
        return client.hlen(hold), client.hlen(key)

    for number in range(20):
        store.apply("s", Reserve("a", 1, f"h{number}", key=f"k{number}"))
        store.apply("s", Settle(f"h{number}", "a", 1))
    store.apply("s", Reserve("a", 10_000, "no", key="no"))
    store.apply("s", Reserve("a", 1, "open"))
    assert kept() == (21, 22), "the opening has a key that was made for it"
    clock.advance(601)
    store.apply("s", Charge("a", 0, key="later"))
    assert kept() == (21, 21)
    assert store.resolve("s", "no") is None
    clock.advance(86_400 - 601)
    assert store.resolve("s", "k0") is None
    assert isinstance(store.apply("s", Settle("h0", "a", 1)).reply, Posted), "the first answer"
    holds, remembered = kept()
    for number in range(4):
        store.apply("s", Charge("a", 0, key=f"now {number}"))
        assert holds + remembered - sum(kept()) <= 16
        holds, remembered = kept()
    assert kept() == (1, 5), "what is open, and what was used since"
    assert client.zcard(due) == 5


def test_a_hold_is_not_forgotten_with_a_refusal_that_had_its_id(
    store: RedisStore, clock: ManualClock
) -> None:
    """What a refusal left under an id goes after a minute; the hold that was granted then stays."""
    store.apply("s", ONE)
    assert isinstance(store.apply("s", Reserve("a", 1_001, "h")).reply, Denied)
    assert isinstance(store.apply("s", Reserve("a", 1_000, "h", ttl_s=900.0)).reply, Granted)
    clock.advance(601)
    store.apply("s", Charge("a", 0))
    posted = store.apply("s", Settle("h", "a", 1_000)).reply
    assert isinstance(posted, Posted)
    assert (posted.late, read(store).accounts[0].held) == (False, 0)


def test_a_journal_can_have_an_end(redis_server: RedisServer, prefix: str) -> None:
    """With `journal_max` the oldest entries go, about; the rest has no gaps, in many pages."""
    url = f"{redis_server.url}?ledger_prefix={prefix}&journal_max=1500"
    store = RedisStore.from_url(url)
    store.apply("s", ONE)
    for _ in range(2_200):
        store.apply("s", Charge("a", 0))
    entries = store.journal("s")
    assert 1_500 <= len(entries) < 1_700
    assert [entry.seq for entry in entries] == list(range(2_202 - len(entries), 2_202))
    assert store.journal("s", 2_199) == entries[-2:]
    store.close()
