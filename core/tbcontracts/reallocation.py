"""Who gives: the order in which donors are asked, and how much of each.

The order is total and the same in every store: the pool first, then donors by priority ascending,
surplus descending, name ascending as UTF-8 bytes. A donor never goes below its reserve, and its
priority is at most the taker's.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tbcontracts.events import Move

if TYPE_CHECKING:
    from tbcontracts.books import Account

DONORS_MAX = 64
_DIRTY_MAX = 256
_BLOCK = 512


class Rank(NamedTuple):
    """Where a donor stands in the order."""

    priority: int
    minus_surplus: int
    name_bytes: bytes
    name: str


class DonorIndex:
    """All agents that could give something, in order.

    Accounts change at every call, donors are needed rarely: a change only marks the account, and
    the order is repaired when somebody asks. Entries stand in sorted blocks, so that a repair costs
    the same with ten agents as with a hundred thousand.
    """

    __slots__ = ("_blocks", "_dirty", "_rank_of")

    def __init__(self) -> None:
        self._blocks: list[list[Rank]] = []
        self._rank_of: dict[str, Rank] = {}
        self._dirty: set[str] = set()

    def touch(self, name: str, accounts: Mapping[str, Account]) -> None:
        """Note that an account changed."""
        self._dirty.add(name)
        if len(self._dirty) > _DIRTY_MAX:
            self._repair(accounts)

    def up_to(self, priority: int, accounts: Mapping[str, Account]) -> Iterator[Rank]:
        """Yield the donors whose priority is at most `priority`, in order."""
        if self._dirty:
            self._repair(accounts)
        for block in self._blocks:
            for rank in block:
                if rank[0] > priority:
                    return
                yield rank

    def _repair(self, accounts: Mapping[str, Account]) -> None:
        """Put every account that changed where it belongs now."""
        for name in self._dirty:
            old = self._rank_of.get(name)
            account = accounts[name]
            surplus = 0 if account.tracked else account.surplus
            if not surplus:
                if old is not None:
                    del self._rank_of[name]
                    self._remove(old)
                continue
            name_bytes = old.name_bytes if old is not None else name.encode()
            new = Rank(account.contract.priority, -surplus, name_bytes, name)
            if new == old:
                continue
            if old is not None:
                self._remove(old)
            self._rank_of[name] = new
            self._insert(new)
        self._dirty.clear()

    def _block_of(self, rank: Rank) -> int:
        """Return the index of the first block whose last entry is not before `rank`."""
        return bisect_left(self._blocks, rank, key=_last)

    def _insert(self, rank: Rank) -> None:
        """Add an entry; a block that grew too long becomes two."""
        if not self._blocks:
            self._blocks.append([rank])
            return
        at = min(self._block_of(rank), len(self._blocks) - 1)
        block = self._blocks[at]
        insort(block, rank)
        if len(block) > 2 * _BLOCK:
            self._blocks.insert(at + 1, block[_BLOCK:])
            del block[_BLOCK:]

    def _remove(self, rank: Rank) -> None:
        """Take out an entry that is there."""
        at = self._block_of(rank)
        block = self._blocks[at]
        del block[bisect_left(block, rank)]
        if not block:
            del self._blocks[at]


def _last(block: list[Rank]) -> Rank:
    """Return a block's greatest entry."""
    return block[-1]


class Plan(NamedTuple):
    """Where a shortfall would be taken from; nothing has moved yet."""

    moves: tuple[Move, ...]
    found: int
    """How much the moves bring together."""
    fragmented: bool
    """More donors were needed than one command may ask."""


def plan(
    shortfall: int,
    taker: Account,
    pool: int,
    donors: DonorIndex,
    accounts: Mapping[str, Account],
) -> Plan:
    """Find donors for a shortfall: the pool first, then agents in order.

    Args:
        shortfall: What the taker lacks, more than 0.
        taker: The account in need; never its own donor.
        pool: What belongs to nobody.
        donors: The index of this scope.
        accounts: All accounts of this scope.

    Returns:
        The moves up to the shortfall, or all that could be found.
    """
    moves: list[Move] = []
    found = min(pool, shortfall)
    if found:
        moves.append(Move(None, found))
    asked = 0
    if found < shortfall:
        for rank in donors.up_to(taker.contract.priority, accounts):
            if rank.name == taker.contract.agent_name:
                continue
            if asked == DONORS_MAX:
                return Plan(tuple(moves), found, fragmented=True)
            asked += 1
            take = min(-rank.minus_surplus, shortfall - found)
            moves.append(Move(rank.name, take))
            found += take
            if found == shortfall:
                break
    return Plan(tuple(moves), found, fragmented=False)
