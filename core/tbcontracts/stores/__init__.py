"""Stores: where the books are kept. `open_store(url)` opens one by its URL."""

from __future__ import annotations

from tbcontracts.stores.base import Applied, Capabilities, Clock, Store
from tbcontracts.stores.memory import MemoryStore
from tbcontracts.stores.opening import open_store

__all__ = ["Applied", "Capabilities", "Clock", "MemoryStore", "Store", "open_store"]
