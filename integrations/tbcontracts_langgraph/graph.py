"""A whole graph under contracts: its annotations opened beforehand, the callbacks attached."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from tbcontracts import BudgetManager
from tbcontracts.env import CONFIG, value_of
from tbcontracts.errors import ConfigurationError
from tbcontracts.roster import no_contract_for, nobody_is_called
from tbcontracts_langchain.attribution import agent_in_path
from tbcontracts_langchain.handler import ScopeBy
from tbcontracts_langgraph.carried import (
    annotated_contracts,
    graphs_in,
    is_remote,
    named_in,
    own_name,
)
from tbcontracts_langgraph.handler import GraphBudgetHandler
from tbcontracts_langgraph.rewiring import rewired
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
        if is_remote(graph):
            remedy = "Its calls are made elsewhere. What helps: govern_graph where it is served."
        raise ConfigurationError(msg, remedy=remedy)
    if compile_arguments:
        named = ", ".join(compile_arguments)
        msg = f"The graph is compiled already; {named} cannot be applied to it."
        raise ConfigurationError(msg, remedy="What helps: pass the StateGraph itself.")
    return graph


def open_by_pattern(manager: BudgetManager, agent: str) -> None:
    """Register the contract that a pattern has for an agent that is there, as a possible donor."""
    pattern = manager.pattern_of(agent)
    if pattern is not None and not manager.is_registered(agent):
        manager.register(pattern.contract_of(agent))


def _by_pattern(manager: BudgetManager, compiled: Any) -> Iterator[str]:
    """Yield the agents of a graph, as far as its calls will find them by their names."""
    if not manager.patterns:
        return
    for where, graph in graphs_in(compiled):
        name = own_name(graph)
        if name:
            yield name
        for node in graph.nodes:
            if not node.startswith(_BUILT_IN):
                agent = agent_in_path((*where, node), manager)
                if agent is not None:
                    yield agent
    yield from named_in(compiled)


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
