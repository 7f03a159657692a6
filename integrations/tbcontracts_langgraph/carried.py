"""What a compiled graph carries: the graphs in it, its annotations, and its manager if governed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from langgraph.pregel import Pregel

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts_langchain import BudgetCallbackHandler
from tbcontracts_langchain.attribution import ANNOTATION_KEY, RunName
from tbcontracts_langchain.handler import annotated_contract
from tbcontracts_langgraph.rewiring import annotations_of


def is_remote(graph: Any) -> bool:
    """Return whether a graph runs on another machine; by name, its client need not be loaded."""
    return any(kind.__name__ == "RemoteGraph" for kind in type(graph).__mro__)


def graphs_in(compiled: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a graph and the graphs in it, each with the nodes that lead to it."""
    yield (), compiled
    for path, graph in compiled.get_subgraphs(recurse=True):
        where = tuple(path.split("|"))
        if isinstance(graph, Pregel):
            yield where, graph
        elif is_remote(graph):
            msg = f"Node {where[-1]!r} runs on another machine; its model calls are not seen here."
            warnings.warn(msg, UserWarning, stacklevel=4)


def annotated_contracts(compiled: Any) -> Iterator[BudgetContract]:
    """Yield the contracts that nodes and subgraphs carry."""
    for where, graph in graphs_in(compiled):
        yield from _contract_in(
            ((graph.config or {}).get("metadata") or {}), where[-1] if where else ""
        )
        for name, node in graph.nodes.items():
            for annotation in annotations_of(node):
                yield from _contract_in({ANNOTATION_KEY: annotation}, name)


def _contract_in(metadata: Mapping[str, Any], node_name: str) -> Iterator[BudgetContract]:
    """Yield the contract in a node's metadata, if there is one."""
    annotation = metadata.get(ANNOTATION_KEY)
    if isinstance(annotation, Mapping):
        name = RunName(annotation, node_name or None, None, agent_is_inner=False)
        contract = annotated_contract(name)
        if contract is not None:
            yield contract


def own_name(graph: Any) -> str | None:
    """Return the name that a graph gives to the calls in it, as agents of LangChain do."""
    name = ((graph.config or {}).get("metadata") or {}).get("lc_agent_name")
    return name if isinstance(name, str) else None


def named_in(compiled: Any) -> set[str]:
    """Return the agents that annotations name."""
    return {
        str(annotation["agent"])
        for _, graph in graphs_in(compiled)
        for node in graph.nodes.values()
        for annotation in annotations_of(node)
        if annotation.get("agent")
    }


def manager_of(governed: Any) -> BudgetManager:
    """Return the manager of a graph that `govern_graph` returned.

    Raises:
        ConfigurationError: It is none.
    """
    callbacks = (getattr(governed, "config", None) or {}).get("callbacks") or ()
    for handler in getattr(callbacks, "handlers", callbacks):
        if isinstance(handler, BudgetCallbackHandler):
            return handler.manager
    msg = f"This {type(governed).__name__} is not governed."
    raise ConfigurationError(msg, remedy="What helps: what govern_graph(...) returned.")
