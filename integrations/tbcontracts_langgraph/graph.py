"""A whole graph under contracts: its annotations opened beforehand, the callbacks attached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts_langchain import budget_callbacks
from tbcontracts_langchain.attribution import ANNOTATION_KEY, RunName
from tbcontracts_langchain.handler import ScopeBy, annotated_contract


def govern_graph(
    graph: Any, manager: BudgetManager, *, scope_by: ScopeBy = None, **compile_arguments: Any
) -> Any:
    """Return the graph with every model call in it under the manager's contracts.

    Contracts that nodes carry in their metadata (`budget(...)`), in subgraphs too, are registered
    before the first call, so that every donor is there. The graph that was given stays as it was.

    Args:
        graph: A `StateGraph`, or a graph that is compiled already.
        manager: Whose contracts and books.
        scope_by: How a run's scope is found: None for the manager's own; "thread_id" for one set
            of books for each thread; or a function of the call's metadata.
        compile_arguments: For `StateGraph.compile`, such as `checkpointer`.

    Returns:
        A compiled graph.

    Raises:
        ConfigurationError: `graph` or `manager` is nothing that can be governed, or there are
            compile arguments for a graph that is compiled.
        ContractConflictError: Two annotations give one agent different contracts.
    """
    if not isinstance(manager, BudgetManager):
        msg = f"govern_graph needs a BudgetManager, not {type(manager).__name__}."
        raise ConfigurationError(msg, remedy="What helps: govern_graph(graph, BudgetManager()).")
    compiled = _compiled(graph, compile_arguments)
    for contract in _annotated(compiled):
        manager.register(contract)
    callbacks = budget_callbacks(manager, scope_by=scope_by)
    return compiled.with_config({"callbacks": callbacks})


def _compiled(graph: Any, compile_arguments: Mapping[str, Any]) -> Pregel[Any, Any, Any, Any]:
    """Return a compiled graph; compiling a builder does not change it."""
    if isinstance(graph, StateGraph):
        return graph.compile(**compile_arguments)
    if not isinstance(graph, Pregel):
        msg = f"govern_graph needs a StateGraph or a compiled graph, not {type(graph).__name__}."
        raise ConfigurationError(msg)
    if compile_arguments:
        named = ", ".join(compile_arguments)
        msg = f"The graph is compiled already; {named} cannot be applied to it."
        raise ConfigurationError(msg, remedy="What helps: pass the StateGraph itself.")
    return graph


def _annotated(compiled: Any) -> Iterator[BudgetContract]:
    """Yield the contracts that nodes and subgraphs carry."""
    graphs = [("", compiled), *compiled.get_subgraphs(recurse=True)]
    for path, graph in graphs:
        where = path.rpartition("|")[2]
        yield from _contract_in((getattr(graph, "config", None) or {}).get("metadata"), where)
        for name, node in graph.nodes.items():
            yield from _contract_in(getattr(node, "metadata", None), name)
            yield from _contract_in(_bound_metadata(node), name)


def _bound_metadata(node: Any) -> Mapping[str, Any] | None:
    """Return the metadata of a runnable that was given some with `with_config`."""
    config = getattr(getattr(node, "bound", None), "config", None)
    return config.get("metadata") if isinstance(config, Mapping) else None


def _contract_in(metadata: Mapping[str, Any] | None, node_name: str) -> Iterator[BudgetContract]:
    """Yield the contract in a node's metadata, if there is one."""
    annotation = (metadata or {}).get(ANNOTATION_KEY)
    if isinstance(annotation, Mapping):
        name = RunName(annotation, node_name or None, None, agent_is_inner=False)
        contract = annotated_contract(name)
        if contract is not None:
            yield contract
