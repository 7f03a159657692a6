"""A copy of a graph whose nodes do what their contracts say at the end of a budget.

"raise" needs nothing, and "ask" only the callback handler. For "end" and a fallback the node itself
has to finish or to do something else, so what is bound to it is wrapped. So it is where a contract
says by which field of the node's update its work is scored. Nodes and subgraphs of the graph that
was given are left alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from langgraph.pregel import Pregel

from tbcontracts import BudgetManager
from tbcontracts.attribution import nearest
from tbcontracts.errors import ConfigurationError
from tbcontracts.exhaustion import Policy, policy_of
from tbcontracts_langchain.attribution import ANNOTATION_KEY
from tbcontracts_langchain.context import LOSES_CONTEXT
from tbcontracts_langgraph.instead import GoTo
from tbcontracts_langgraph.runnable import BudgetedRunnable
from tbcontracts_langgraph.visit import NODE_BUDGET, NodeBudget

_BUILT_IN = "__"
# On Python 3.10 an awaited node has lost the context in which a graph is paused.
_WRAPPED = ("end", "fallback", "ask") if LOSES_CONTEXT else ("end", "fallback")


def rewired(graph: Any, manager: BudgetManager) -> Any:
    """Return the graph, or a copy of it where a node has something to do at the end of a budget.

    Raises:
        ConfigurationError: A fallback is no node of the graph.
    """
    nodes = {name: _rewired_node(graph, name, manager) for name in graph.nodes}
    if all(nodes[name] is graph.nodes[name] for name in nodes):
        return graph
    return graph.copy({"nodes": nodes})


def _rewired_node(graph: Any, name: str, manager: BudgetManager) -> Any:
    node = graph.nodes[name]
    if isinstance(node.bound, Pregel):
        inner = rewired(node.bound, manager)
        if inner is not node.bound:
            node = node.copy({"bound": inner, "subgraphs": [inner]})
        node = _annotated_as_bound(node)
    said = said_of(node.bound)
    if said is not None:
        return _leaving(graph, name, node, said.policy, said.agent)
    agent = agent_of(node, name)
    contract = manager.contract_of(agent)
    policy = policy_of(contract)
    is_scored = contract is not None and contract.confidence_key is not None
    if name.startswith(_BUILT_IN) or not (policy.kind in _WRAPPED or is_scored):
        return node
    bound = BudgetedRunnable(NodeBudget(manager, agent, names_calls=False), node.bound)
    return _leaving(graph, name, node.copy({"bound": bound}), policy, agent)


def said_of(bound: Any) -> NodeBudget | None:
    """Return what `budgeted` said of a node that was wrapped in it."""
    if isinstance(bound, BudgetedRunnable):
        return bound.node
    functions = (getattr(bound, "func", None), getattr(bound, "afunc", None))
    found = (getattr(function, NODE_BUDGET, None) for function in functions)
    return next((node for node in found if isinstance(node, NodeBudget)), None)


def _leaving(graph: Any, name: str, node: Any, policy: Policy, agent: str) -> Any:
    """Return a node that can be left for its fallback, instead of by its own edges."""
    if policy.kind != "fallback" or not isinstance(policy.fallback, str):
        return node
    if policy.fallback not in graph.nodes or policy.fallback == name:
        near = nearest(policy.fallback, [other for other in graph.nodes if other != name])
        hint = f" The nearest node is {near!r}." if near else ""
        msg = f"The fallback of agent {agent!r} is no other node: {policy.fallback!r}.{hint}"
        raise ConfigurationError(
            msg, remedy='What helps: on_exceeded={"fallback": "<a node of the same graph>"}.'
        )
    first, *edges = node.writers
    left = node.copy({"writers": [first, *map(_unless_gone, edges)]})
    # The writers of a node are joined for speed, which would forget the condition.
    left.__dict__["flat_writers"] = list(left.writers)
    return left


def _unless_gone(edge: Any) -> Any:
    """Return an edge that is not taken when the node was left for its fallback."""
    conditional = copy.copy(edge)
    conditional.func = _skipping(edge.func)
    conditional.afunc = _skipping_async(edge.afunc)
    return conditional


def _skipping(write: Callable[..., Any]) -> Callable[..., Any]:
    def skipping(update: Any, *args: Any, **kwargs: Any) -> Any:
        return update if isinstance(update, GoTo) else write(update, *args, **kwargs)

    return skipping


def _skipping_async(write: Callable[..., Any]) -> Callable[..., Any]:
    async def skipping(update: Any, *args: Any, **kwargs: Any) -> Any:
        return update if isinstance(update, GoTo) else await write(update, *args, **kwargs)

    return skipping


def _annotated_as_bound(node: Any) -> Any:
    """Return a node with the annotation of its graph: LangGraph before 1.2 drops a graph's own."""
    annotation = (_bound_metadata(node.bound) or {}).get(ANNOTATION_KEY)
    metadata = node.metadata or {}
    if annotation is None or metadata.get(ANNOTATION_KEY) == annotation:
        return node
    return node.copy({"metadata": {**metadata, ANNOTATION_KEY: annotation}})


def annotations_of(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the annotations that a node carries, the outer one first."""
    bound = getattr(node, "bound", None)
    for metadata in (getattr(node, "metadata", None), _bound_metadata(bound)):
        annotation = (metadata or {}).get(ANNOTATION_KEY)
        if isinstance(annotation, Mapping):
            yield annotation


def _bound_metadata(bound: Any) -> Mapping[str, Any] | None:
    """Return the metadata of a runnable that was given some with `with_config`."""
    config = getattr(bound, "config", None)
    return config.get("metadata") if isinstance(config, Mapping) else None


def agent_of(node: Any, name: str) -> str:
    """Return the agent that a node's annotation names; the node's name where it names none."""
    named = [str(one.get("agent") or name) for one in annotations_of(node)]
    return named[-1] if named else name
