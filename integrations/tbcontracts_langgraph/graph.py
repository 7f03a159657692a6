"""A whole graph under contracts: its annotations opened beforehand, the callbacks attached."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.env import CONFIG, value_of
from tbcontracts.errors import ConfigurationError
from tbcontracts.roster import no_contract_for, nobody_is_called
from tbcontracts_langchain import BudgetCallbackHandler
from tbcontracts_langchain.attribution import ANNOTATION_KEY, RunName, agent_in_path
from tbcontracts_langchain.handler import ScopeBy, annotated_contract
from tbcontracts_langgraph.handler import GraphBudgetHandler
from tbcontracts_langgraph.rewiring import annotations_of, rewired
from tbcontracts_langgraph.roster import agents_of

Contracts = BudgetManager | str | os.PathLike[str] | Mapping[str, Any]
"""A manager, or what `BudgetManager.from_config` takes: a contract file or a mapping like one."""

_BUILT_IN = "__"


def govern_graph(
    graph: Any,
    manager_or_file: Contracts | None = None,
    *,
    scope_by: ScopeBy = None,
    **compile_arguments: Any,
) -> Any:
    """Return the graph with every model call in it under the manager's contracts.

    Contracts that nodes carry in their metadata (`budget(...)`), in subgraphs too, are registered
    before the first call, so that every donor is there; so are those that a pattern has for its
    nodes. What a contract says of the end of its
    budget (`on_exceeded`) is done by the nodes of its agent. The graph that was given stays as it
    was.

    Args:
        graph: A `StateGraph`, a graph that is compiled already, or an `@entrypoint`.
        manager_or_file: Whose contracts and books; or a contract file, or a mapping of its keys,
            from which a manager is made (`manager_of` returns it). If not given, the file that
            `TBCONTRACTS_CONFIG` names.
        scope_by: How a run's scope is found: None for the manager's own; "thread_id" for one set
            of books for each thread; or a function of the run's metadata. A run that was
            interrupted or broke off resumes on the books it had.
        compile_arguments: For `StateGraph.compile`, such as `checkpointer`.

    Returns:
        A compiled graph.

    Raises:
        ConfigurationError: `graph` or `manager_or_file` is nothing that can be governed, there are
            compile arguments for a graph that is compiled, or a fallback is no node.
        ContractConflictError: An agent has two different contracts.
    """
    manager, from_file = _manager(manager_or_file)
    compiled = _compiled(graph, compile_arguments)
    for contract in annotated_contracts(compiled):
        manager.register(contract)
    for agent in _by_pattern(manager, compiled):
        open_by_pattern(manager, agent)
    _say_what_is_odd(manager, compiled, from_file=from_file)
    handler = GraphBudgetHandler(manager, scope_by=scope_by)
    return rewired(compiled, manager).with_config({"callbacks": handler.with_gate()})


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


def _manager(given: Contracts | None) -> tuple[BudgetManager, bool]:
    """Return the manager, and whether it was made here from a file."""
    if isinstance(given, BudgetManager):
        return given, False
    named = value_of(CONFIG) if given is None else None
    if named is not None or isinstance(given, (str, os.PathLike, Mapping)):
        return BudgetManager.from_config(given), True
    msg = f"govern_graph needs a BudgetManager or a contract file, not {type(given).__name__}."
    remedy = f"What helps: govern_graph(graph, BudgetManager()), or {CONFIG.name}=budget.toml."
    raise ConfigurationError(msg, remedy=remedy)


def _compiled(graph: Any, compile_arguments: Mapping[str, Any]) -> Pregel[Any, Any, Any, Any]:
    """Return a compiled graph; compiling a builder does not change it."""
    if isinstance(graph, StateGraph):
        return graph.compile(**compile_arguments)
    if not isinstance(graph, Pregel):
        msg = f"govern_graph needs a StateGraph or a compiled graph, not {type(graph).__name__}."
        remedy = "What helps: govern_graph(builder, manager)."
        if _is_remote(graph):
            remedy = "Its calls are made elsewhere. What helps: govern_graph where it is served."
        raise ConfigurationError(msg, remedy=remedy)
    if compile_arguments:
        named = ", ".join(compile_arguments)
        msg = f"The graph is compiled already; {named} cannot be applied to it."
        raise ConfigurationError(msg, remedy="What helps: pass the StateGraph itself.")
    return graph


def _is_remote(graph: Any) -> bool:
    """Return whether a graph runs on another machine; by name, its client need not be loaded."""
    return any(kind.__name__ == "RemoteGraph" for kind in type(graph).__mro__)


def _graphs(compiled: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a graph and the graphs in it, each with the nodes that lead to it."""
    yield (), compiled
    for path, graph in compiled.get_subgraphs(recurse=True):
        where = tuple(path.split("|"))
        if isinstance(graph, Pregel):
            yield where, graph
        elif _is_remote(graph):
            msg = f"Node {where[-1]!r} runs on another machine; its model calls are not seen here."
            warnings.warn(msg, UserWarning, stacklevel=4)


def annotated_contracts(compiled: Any) -> Iterator[BudgetContract]:
    """Yield the contracts that nodes and subgraphs carry."""
    for where, graph in _graphs(compiled):
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


def open_by_pattern(manager: BudgetManager, agent: str) -> None:
    """Register the contract that a pattern has for an agent that is there, as a possible donor."""
    pattern = manager.pattern_of(agent)
    if pattern is not None and not manager.is_registered(agent):
        manager.register(pattern.contract_of(agent))


def _by_pattern(manager: BudgetManager, compiled: Any) -> Iterator[str]:
    """Yield the agents of a graph, as far as its calls will find them by their names."""
    if not manager.patterns:
        return
    for where, graph in _graphs(compiled):
        name = _own_name(graph)
        if name:
            yield name
        for node in graph.nodes:
            if not node.startswith(_BUILT_IN):
                agent = agent_in_path((*where, node), manager)
                if agent is not None:
                    yield agent
    yield from _named(compiled)


def _own_name(graph: Any) -> str | None:
    """Return the name that a graph gives to the calls in it, as agents of LangChain do."""
    name = ((graph.config or {}).get("metadata") or {}).get("lc_agent_name")
    return name if isinstance(name, str) else None


def _named(compiled: Any) -> set[str]:
    """Return the agents that annotations name."""
    return {
        str(annotation["agent"])
        for _, graph in _graphs(compiled)
        for node in graph.nodes.values()
        for annotation in annotations_of(node)
        if annotation.get("agent")
    }


def _say_what_is_odd(manager: BudgetManager, compiled: Any, *, from_file: bool) -> None:
    """Warn of agents without a contract, and of contracts in a file that were likely misspelt."""
    roster = agents_of(compiled, manager)
    misspelt = [one for one in roster.unmatched if from_file and one.nearest is not None]
    if misspelt:
        warnings.warn(nobody_is_called(misspelt), UserWarning, stacklevel=3)
    if roster.without and (manager.contracts or manager.patterns):
        refused = manager.settings.denies_unattributed
        msg = no_contract_for(roster.without, roster.contracts, refused=refused)
        warnings.warn(msg, UserWarning, stacklevel=3)
