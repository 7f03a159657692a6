"""Names for holds, unique across processes and cheap to make; and keys made of other keys."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from typing import TYPE_CHECKING

from tbcontracts.checks import NAME_BYTES_MAX

if TYPE_CHECKING:
    from tbcontracts.stores.base import Store

_PREFIX_BYTES = 8
_prefix = [os.urandom(_PREFIX_BYTES).hex()]
_numbers = itertools.count(1)
_lock = threading.RLock()  # a finalizer may come back here on the same thread
_stores: weakref.WeakKeyDictionary[Store, str] = weakref.WeakKeyDictionary()


def new_id() -> str:
    """Return a name that no other call, in any process, gets."""
    return f"{_prefix[0]}-{next(_numbers)}"


def outer_key(key: str, store: Store, scope: str, agent: str) -> str:
    """Return the key of what goes onto an outer manager's books with a keyed charge.

    It must not be the same one: both may be on the same books. Nor may the same key on other inner
    books make it the same, and those of a store in memory are others in every process.
    """
    books = scope if store.durable else f"{scope} ({_name_of(store)})"
    said = f"{key} in {books} within {agent}"
    if len(said.encode()) <= NAME_BYTES_MAX:
        return said
    from hashlib import sha256  # rarely needed

    return f"within {sha256(said.encode()).hexdigest()}"


def _name_of(store: Store) -> str:
    """Return what tells a store of this process from all others."""
    with _lock:
        name = _stores.get(store)
        if name is None:
            name = _stores[store] = new_id()
        return name


def _after_fork() -> None:
    """Give a forked child names of its own."""
    _prefix[0] = os.urandom(_PREFIX_BYTES).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
