"""Which agent a model call belongs to, from what LangChain and LangGraph say of its run.

The order: who was named for this very call; what the handler was told of the path; then the inner
one of the annotation in the metadata and the agent's own name (where that has a contract), inner as
the run tree shows; then the current agent; then the path of graph nodes, whole and from its
innermost segment outwards. A contract by pattern answers for a name where none of that very name
does; in the path, names of their own come before any pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from uuid import UUID

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.contract import BUDGET_FIELDS, written_contract
from tbcontracts.patterns import literal

ANNOTATION_KEY = "tbcontracts"
"""The key of a run's metadata under which `budget(...)` stands, as plain JSON."""
EXPLICIT_KEY = "tbcontracts_agent"
"""The key under which a layer that was told its agent (middleware, model) names it for one call."""
_RUNS_MAX = 100_000


class RunName(NamedTuple):
    """What a run is called, and by which of the two ways of naming it was named last."""

    annotation: Mapping[str, Any] | None
    annotated_node: str | None
    """The node at which the annotation appeared: the agent, where the annotation names none."""
    agent_name: str | None
    agent_is_inner: bool


_NAMELESS = RunName(None, None, None, agent_is_inner=False)


class RunTree:
    """The names of the runs that are open now.

    An annotation and an agent's name are inherited by everything below them, so that a call's own
    metadata does not tell which one is nearer. Where each of them appeared does.
    """

    def __init__(self) -> None:
        self._names: dict[UUID, RunName] = {}

    def open(
        self, run_id: UUID, parent_run_id: UUID | None, metadata: Mapping[str, Any] | None
    ) -> None:
        """Note the start of a chain, graph, node or tool."""
        if len(self._names) >= _RUNS_MAX:
            # Runs whose end nobody reported; the oldest are the least likely to matter.
            self._names.pop(next(iter(self._names)), None)
        self._names[run_id] = self.name_of(parent_run_id, metadata)

    def close(self, run_id: UUID) -> None:
        """Note its end."""
        self._names.pop(run_id, None)

    def name_of(self, parent_run_id: UUID | None, metadata: Mapping[str, Any] | None) -> RunName:
        """Return what a run below a parent is called."""
        above = self._names.get(parent_run_id, _NAMELESS) if parent_run_id else _NAMELESS
        metadata = metadata or {}
        annotation = _annotation_in(metadata)
        agent_name = _text(metadata.get("lc_agent_name"))
        node, inner = above.annotated_node, above.agent_is_inner
        if agent_name is not None and agent_name != above.agent_name:
            inner = True
        if annotation is not None and annotation != above.annotation:
            # Where both appear at once, the annotation is what somebody wrote down on purpose.
            node, inner = _text(metadata.get("langgraph_node")), False
        return RunName(annotation, node, agent_name, inner)


def _annotation_in(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the annotation in a run's metadata."""
    found = metadata.get(ANNOTATION_KEY)
    return found if isinstance(found, Mapping) else None


def annotated_agent(name: RunName) -> str | None:
    """Return the agent that an annotation names, or whose node carries it."""
    if name.annotation is None:
        return None
    return _text(name.annotation.get("agent")) or name.annotated_node


def path_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the graph nodes that lead to a run, outermost first.

    They stand in the checkpoint namespace, "outer:<id>|inner:<id>"; parts that are only digits
    count parallel tasks.
    """
    namespace = _text(metadata.get("langgraph_checkpoint_ns")) or ""
    names = [part.partition(":")[0] for part in namespace.split("|")]
    path = tuple(name for name in names if name and not name.isdigit())
    if path:
        return path
    node = _text(metadata.get("langgraph_node"))
    return (node,) if node else ()


def annotated_contract(name: RunName) -> BudgetContract | None:
    """Return the contract that an annotation carries; one that only names an agent has none."""
    if name.annotation is None or not any(field in name.annotation for field in BUDGET_FIELDS):
        return None
    fields = {key: value for key, value in name.annotation.items() if key != "agent"}
    agent = annotated_agent(name)
    if agent is None:
        msg = f"The annotation {dict(name.annotation)} under {ANNOTATION_KEY!r} names no agent."
        raise ValueError(msg)
    return written_contract(agent, fields, as_written=True)


class AgentPaths:
    """Which paths of graph nodes belong to which agent, as somebody wrote it down.

    A path is the names of the nodes that lead to a call, "team/research/model". A pattern may hold
    `*` (any text, "/" too), `?` and `[...]`. What is said of a node holds for all below it; the
    longest path that is found in the mapping counts, as it stands before patterns, and patterns in
    the order in which they are given.

    Args:
        agents: The agent of each path or pattern.

    Raises:
        TypeError: It is no mapping of texts.
    """

    def __init__(self, agents: Mapping[str, str]) -> None:
        if not isinstance(agents, Mapping):
            msg = f"agents must be a mapping of paths to agents, not {type(agents).__name__}."
            raise TypeError(msg)
        for path, agent in agents.items():
            if not _text(path) or not _text(agent):
                msg = f"agents has {path!r}: {agent!r}, where a path and an agent's name belong."
                raise TypeError(msg)
        self._agents = {path.strip("/ "): agent.strip() for path, agent in agents.items()}

    def __eq__(self, other: object) -> bool:
        """Mappings that say the same in the same order are the same."""
        if not isinstance(other, AgentPaths):
            return NotImplemented
        return list(self._agents.items()) == list(other._agents.items())

    def __hash__(self) -> int:
        """Agree with `==`."""
        return hash(tuple(self._agents.items()))

    def agent_of(self, path: tuple[str, ...]) -> str | None:
        """Return the agent that a path was assigned to."""
        if not self._agents:
            return None
        for length in range(len(path), 0, -1):
            here = "/".join(path[:length])
            if here in self._agents:
                return self._agents[here]
            for pattern, agent in self._agents.items():
                if fnmatchcase(here, pattern):
                    return agent
        return None


def find_agent(
    name: RunName,
    metadata: Mapping[str, Any],
    manager: BudgetManager,
    current_agent: str | None,
    paths: AgentPaths,
) -> str | None:
    """Return the agent that a call belongs to.

    Args:
        name: What its run is called.
        metadata: The call's own metadata.
        manager: Whose contracts, on the books of the call.
        current_agent: Who is acting by `manager.acting_as`, if anybody.
        paths: Which paths somebody assigned to an agent; that counts first.

    Returns:
        An agent with a contract if there is one; else the best name there is, or None.
    """
    explicit = _text(metadata.get(EXPLICIT_KEY))
    if explicit is not None:
        return explicit
    path = path_of(metadata)
    assigned = paths.agent_of(path)
    if assigned is not None:
        return assigned
    contract_of = manager.contract_of
    annotated = annotated_agent(name)
    own_name = name.agent_name if name.agent_name and contract_of(name.agent_name) else None
    first, second = (own_name, annotated) if name.agent_is_inner else (annotated, own_name)
    for candidate in (first, second, current_agent):
        if candidate and contract_of(candidate) is not None:
            return candidate
    in_path = agent_in_path(path, manager)
    return in_path or annotated or current_agent or name.agent_name or (path[0] if path else None)


def agent_in_path(path: tuple[str, ...], manager: BudgetManager) -> str | None:
    """Return the agent that a path of graph nodes names, if one of its names has a contract.

    First the whole path and then each name, from the innermost outwards, that is registered itself.
    Then the name that the most specific pattern matches, the innermost of several; a pattern with
    no literal character (`*`) means the outermost node.
    """
    names = [*reversed(path), "/".join(path)] if path else []
    for candidate in (*names[-1:], *names[:-1]):
        if manager.is_registered(candidate):
            return candidate
    if not manager.patterns:
        return None
    found = [name for name in dict.fromkeys(names) if manager.contract_of(name) is not None]
    best = max(found, key=_specific(manager), default=None)
    return path[0] if best is not None and not _specific(manager)(best) else best


def _specific(manager: BudgetManager) -> Callable[[str], int]:
    """Return how specific the pattern is that a name matches: how many characters it fixes."""

    def specific(name: str) -> int:
        pattern = manager.pattern_of(name)
        return -1 if pattern is None else len(literal(pattern.agent_name))

    return specific


def _text(value: object) -> str | None:
    """Return a name that is one."""
    return value.strip() if isinstance(value, str) and value.strip() else None
