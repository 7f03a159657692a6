"""Which agents a graph has, and the contract that each call of theirs would be under.

Nothing runs. The graph is walked as a run would go through it, and our own callback handler is told
of each level, so that a call's agent is found by the same lines as in a run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from langchain_core.language_models import BaseLanguageModel
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.config import load
from tbcontracts.errors import ConfigurationError
from tbcontracts.roster import AgentFound, Roster, contracts_of, manager_beside, unmatched
from tbcontracts_langchain import BudgetCallbackHandler
from tbcontracts_langchain.attribution import ANNOTATION_KEY, RunTree, annotated_agent, path_of
from tbcontracts_langgraph.carried import annotated_contracts, manager_of
from tbcontracts_langgraph.inside import is_task, reached_from
from tbcontracts_langgraph.rewiring import said_of
from tbcontracts_langgraph.unheard import deaf_handlers, silent_streams

Contracts = BudgetManager | str | os.PathLike[str] | Mapping[str, Any]

_MODEL_NODES = ("model", "agent")
"""What agents of LangChain, and LangGraph's older ones, call the node that asks the model."""
_AGENT_NODES = frozenset(
    ("model", "agent", "tools", "pre_model_hook", "post_model_hook", "generate_structured_response")
)
_HOOKS = (".before_agent", ".before_model", ".after_model", ".after_agent")
_GRAPHS_MAX = 1_000


def agents_of(app: Any, contracts: Contracts | None = None) -> Roster:
    """Return the agents of a graph, and the contract that each one resolves to.

    Agents are the graphs and nodes of the application: subgraphs, agents that tools call, tasks of
    an entrypoint. One that code makes while it runs cannot be seen.

    Args:
        app: A graph, compiled or not, or what `govern_graph` returned.
        contracts: A manager, a contract file, or a mapping of its keys; if not given, those of the
            manager that governs the graph, and the graph's own annotations. Nothing is changed, and
            no store is opened.

    Raises:
        ConfigurationError: `app` is no graph, or the contracts cannot be read.

    Example:
        `print(agents_of(graph))`
    """
    compiled = app.compile() if isinstance(app, StateGraph) else app
    if not isinstance(compiled, Pregel):
        msg = f"agents_of takes a graph, not {type(app).__name__}."
        raise ConfigurationError(msg, remedy="What helps: agents_of(builder.compile()).")
    walk = _Walk(_beside(compiled, contracts))
    found = tuple(walk.graph(compiled, _Place()))
    named = dict.fromkeys(found)  # a graph that several tools know is one agent
    written = (one.agent_name for one in contracts_of(walk.manager))
    unheard = (*silent_streams(walk.models), *deaf_handlers(compiled))
    return Roster(tuple(named), unmatched(written, named), unheard)


class _Place(NamedTuple):
    """Where in a graph something stands, and what a run of it would inherit."""

    path: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}
    run_id: UUID | None = None


class _Walk:
    """A walk through a graph, of which a handler is told as of a run."""

    def __init__(self, manager: BudgetManager) -> None:
        self.manager = manager
        self.models: list[tuple[str, BaseLanguageModel[Any]]] = []
        """The models that were found, each with the place that reaches it."""
        self._handler = BudgetCallbackHandler(manager)
        self._tree = RunTree()
        self._open: set[int] = set()
        self._graphs = 0

    def graph(self, graph: Any, place: _Place) -> Iterator[AgentFound]:
        """Yield the agents of a graph."""
        self._graphs += 1
        if id(graph) in self._open or self._graphs > _GRAPHS_MAX:
            return  # a graph that calls itself
        self._open.add(id(graph))
        here = self._enter(place, place.path, _metadata_of(graph))
        nodes = {name: node for name, node in graph.nodes.items() if not name.startswith("__")}
        speaker = next((name for name in _MODEL_NODES if name in nodes), None)
        is_agent = speaker is not None and all(map(_is_agents_node, nodes))
        if speaker is not None and is_agent:
            yield self._agent(nodes[speaker], speaker, here)
            nodes = {name: nodes[name] for name in nodes if name == "tools"}  # the rest is itself
        for name, node in nodes.items():
            yield from self._node(name, node, here, of_agent=is_agent)
        self._open.discard(id(graph))

    def _node(self, name: str, node: Any, place: _Place, *, of_agent: bool) -> Iterator[AgentFound]:
        """Yield the agents of a node: the graph that it is, or itself and what it calls."""
        here = self._at(name, node, place)
        bound = _unwrapped(node.bound)
        if isinstance(bound, Pregel):
            yield from self.graph(bound, here)
            return
        reached = list(reached_from(bound))
        self._note_models(reached, here)
        if not of_agent:
            asks = any(isinstance(one, BaseLanguageModel) for one in reached)
            calls_agents = any(isinstance(one, Pregel) for one in reached)
            if asks or not calls_agents:
                yield self._found(name, here, asks_models=asks)
        for one in reached:
            if isinstance(one, Pregel):
                yield from self.graph(one, here)
            elif is_task(one):
                yield from self._task(one, here)

    def _task(self, task: Any, place: _Place) -> Iterator[AgentFound]:
        """Yield a task of an entrypoint, and the agents that it calls."""
        name = task.func.__name__
        here = self._enter(place, (*place.path, name), {}, node=name)
        reached = list(reached_from(task.func))
        self._note_models(reached, here)
        asks = any(isinstance(one, BaseLanguageModel) for one in reached)
        yield self._found(name, here, asks_models=asks)
        for one in reached:
            if isinstance(one, Pregel):
                yield from self.graph(one, here)

    def _agent(self, node: Any, speaker: str, place: _Place) -> AgentFound:
        """Return a graph that is one agent, by the node that asks its model."""
        here = self._at(speaker, node, place)
        self._note_models(list(reached_from(_unwrapped(node.bound))), here)
        own = here.metadata.get("lc_agent_name")
        name = own if isinstance(own, str) else (here.path[-2] if place.path else speaker)
        return self._found(name, here, where="/".join(place.path) or name)

    def _note_models(self, reached: list[Any], place: _Place) -> None:
        where = "/".join(place.path)
        self.models += [(where, one) for one in reached if isinstance(one, BaseLanguageModel)]

    def _found(
        self, name: str, place: _Place, *, where: str | None = None, asks_models: bool = True
    ) -> AgentFound:
        """Return an agent with the contract that its calls are under."""
        _, agent = self._handler.payer(place.run_id, place.metadata)
        where = "/".join(place.path) if where is None else where
        if agent is None or self.manager.contract_of(agent) is None:
            pays_for_all = self.manager.settings.unattributed
            if isinstance(pays_for_all, BudgetContract):
                return AgentFound(
                    name, where, pays_for_all.agent_name, "for all others", asks_models
                )
            return AgentFound(name, where, None, "", asks_models)
        rule = self._rule(agent, place)
        if not self.manager.is_registered(agent):
            rule += ", by pattern"
        return AgentFound(name, where, agent, rule, asks_models)

    def _rule(self, agent: str, place: _Place) -> str:
        """Return by what an agent was found."""
        called = self._tree.name_of(place.run_id, place.metadata)
        path = path_of(place.metadata)
        if agent == annotated_agent(called):
            return "annotation"
        if agent == called.agent_name:
            return "own name"
        return "path" if agent == "/".join(path) and len(path) > 1 else "node"

    def _at(self, name: str, node: Any, place: _Place) -> _Place:
        """Return the place inside a node."""
        metadata = {**(node.metadata or {}), **_metadata_of(node.bound)}
        said = said_of(node.bound)
        if said is not None and said.names_calls:
            metadata[ANNOTATION_KEY] = {"agent": said.agent}
        return self._enter(place, (*place.path, name), metadata, node=name)

    def _enter(
        self,
        place: _Place,
        path: tuple[str, ...],
        metadata: Mapping[str, Any],
        node: str | None = None,
    ) -> _Place:
        """Return a deeper place, as of whose run the handler was told."""
        inherited = {**place.metadata, **metadata}
        if node is not None:
            inherited["langgraph_node"] = node
            inherited["langgraph_checkpoint_ns"] = "|".join(f"{name}:here" for name in path)
        run_id = uuid4()
        self._handler.on_chain_start(
            {}, {}, run_id=run_id, parent_run_id=place.run_id, metadata=dict(inherited)
        )
        self._tree.open(run_id, place.run_id, inherited)
        return _Place(path, inherited, run_id)


def _is_agents_node(name: str) -> bool:
    """Return whether agents have a node that is called so."""
    return name in _AGENT_NODES or name.endswith(_HOOKS)


def _unwrapped(bound: Any) -> Any:
    """Return what a node is bound to, without what `budgeted` or a config put around it."""
    inner = getattr(bound, "bound", None)
    return _unwrapped(inner) if inner is not None and not isinstance(bound, Pregel) else bound


def _metadata_of(runnable: Any) -> Mapping[str, Any]:
    """Return the metadata that a runnable was given with `with_config`."""
    config = getattr(runnable, "config", None)
    return (config.get("metadata") or {}) if isinstance(config, Mapping) else {}


def _beside(compiled: Any, contracts: Contracts | None) -> BudgetManager:
    """Return a manager in memory with these contracts, so that nobody's own is changed."""
    annotated = tuple(annotated_contracts(compiled))
    if contracts is None:
        try:
            contracts = manager_of(compiled)
        except ConfigurationError:
            unit = annotated[0].unit if annotated else "tokens"
            contracts = manager_beside(unit, "track")
    if isinstance(contracts, BudgetManager):
        settings = contracts.settings
        beside = manager_beside(settings.unit, settings.unattributed)
        known = contracts_of(contracts)
    else:
        filed, known = load(contracts)
        beside = manager_beside(filed["unit"], filed["unattributed"])
    for contract in (*known, *annotated):
        beside.register(contract)
    return beside
