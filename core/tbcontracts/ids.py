"""Names for holds: unique across processes, cheap to make."""

from __future__ import annotations

import itertools
import os

_PREFIX_BYTES = 8
_prefix = [os.urandom(_PREFIX_BYTES).hex()]
_numbers = itertools.count(1)


def new_id() -> str:
    """Return a name that no other call, in any process, gets."""
    return f"{_prefix[0]}-{next(_numbers)}"


def _after_fork() -> None:
    """Give a forked child names of its own."""
    _prefix[0] = os.urandom(_PREFIX_BYTES).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
