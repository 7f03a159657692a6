"""Stores: where the books are kept. `open_store(url)` opens one by its URL."""

from __future__ import annotations

from tbcontracts.stores.base import Applied, Capabilities, Clock, Store, open_store
from tbcontracts.stores.memory import MemoryStore

__all__ = ["Applied", "Capabilities", "Clock", "MemoryStore", "Store", "open_store"]
