"""Python 3.10 drops the context of the nodes of awaited graphs: what is lost, and saying so."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tbcontracts import BudgetManager
from tbcontracts_langchain.model_calls import in_event_loop

LOSES_CONTEXT = sys.version_info < (3, 11)
"""`asyncio.create_task` takes a context from 3.11 on; before, LangGraph cannot hand it on."""


def warn_of_lost_context(manager: BudgetManager, metadata: Mapping[str, Any] | None) -> None:
    """Warn once that model calls in nodes of awaited graphs may not be seen on this Python."""
    if "langgraph_node" not in (metadata or {}) or not in_event_loop():
        return
    manager.warn_once(
        "lost context",
        "On Python 3.10 LangGraph does not hand callbacks on to what nodes of an awaited graph "
        "call: model calls there are not seen and not charged, unless the node, `def` or "
        "`async def`, takes `config: RunnableConfig` and passes it on: "
        "model.ainvoke(messages, config). Python 3.11 and later hand it on.",
    )
