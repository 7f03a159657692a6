"""One run of a node under a contract: its books, its config, and what is done when it ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, var_child_runnable_config
from langgraph.types import Command

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.calls import Call
from tbcontracts.exhaustion import Policy, policy_of, what_now
from tbcontracts.govern import Governed
from tbcontracts.scores import ScoreSource
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import size_request
from tbcontracts_langchain.attribution import ANNOTATION_KEY
from tbcontracts_langchain.errors import as_langchain
from tbcontracts_langgraph.handler import GraphBudgetHandler, handler_in, with_handler
from tbcontracts_langgraph.instead import Instead

NODE_BUDGET = "__node_budget__"
"""The attribute of a wrapped function in which `govern_graph` finds what is said of the node."""


@dataclasses.dataclass(frozen=True)
class NodeBudget:
    """What is said of a node, once for all its runs."""

    manager: BudgetManager
    agent: str
    on_exceeded: Policy | None = None
    """None: what the contract says."""
    closing: Any = None
    """What makes the node's last update under "end", if anything does."""
    score: ScoreSource | None = None
    usage_fn: Callable[[Any], Any] | None = None
    model: str | None = None
    """Which model its invisible calls ask, if that is known."""
    names_calls: bool = True
    """Whether what runs in the node is told whose it is, or found by its own names."""

    @property
    def policy(self) -> Policy:
        """What happens at the end of the budget."""
        if self.on_exceeded is not None:
            return self.on_exceeded
        return policy_of(self.manager.contract_of(self.agent))


class Visit:
    """A node's run, from its entry to its update.

    The node is a container of calls: it holds nothing itself, its model calls do. Only where they
    are invisible (`usage_fn` says what they used) the run itself is held and charged as one call.

    Args:
        node: What is said of the node.
        config: What LangGraph handed to it; None finds it in the context.
        inputs: Its arguments, by which an invisible call is sized.
    """

    def __init__(
        self, node: NodeBudget, config: RunnableConfig | None, inputs: tuple[Any, ...]
    ) -> None:
        given = ensure_config(config)
        metadata = given.get("metadata") or {}
        found = handler_in(given.get("callbacks"), node.manager)
        policies = dict(found.policies) if isinstance(found, GraphBudgetHandler) else {}
        policies[node.agent] = node.policy
        self.handler = GraphBudgetHandler(
            node.manager if found is None else found.manager,
            scope_by=None if found is None else found.scope_by,
            policies=policies,
        )
        if not isinstance(found, GraphBudgetHandler):
            self.handler.enter(metadata)
        self.node = node
        self.books = self.handler.books(metadata)
        self.config: RunnableConfig = {
            **given,
            "callbacks": with_handler(given.get("callbacks"), self.handler),
            "metadata": _annotated(metadata, node.agent) if node.names_calls else metadata,
        }
        self._inputs = inputs
        self._run_id = getattr(given.get("callbacks"), "parent_run_id", None)
        self._brought_handler = found is None and self._run_id is not None
        self._governed = Governed(self.books, node.agent, node.score, node.usage_fn, None)
        self._call: Call | None = None

    # --- during the run ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Hold for the calls that nobody sees, if the node makes such ones.

        Raises:
            BudgetExceededError: They cannot be paid for.
        """
        if self.node.usage_fn is None:
            return
        with self.inside():
            self._call = self.handler.until_paid(self._begin_call, self.config.get("metadata"))

    async def abegin(self) -> None:
        """Do the same without blocking the event loop."""
        if self.node.usage_fn is None:
            return
        with self.inside():
            metadata = self.config.get("metadata")
            self._call = await self.handler.auntil_paid(self._abegin_call, metadata)

    def _begin_call(self) -> Call:
        try:
            return self.books.begin_call(self.node.agent, self._shape, note="node")
        except BudgetExceededError as refusal:
            raise as_langchain(refusal) from None

    async def _abegin_call(self) -> Call:
        try:
            return await self.books.abegin_call(self.node.agent, self._shape, note="node")
        except BudgetExceededError as refusal:
            raise as_langchain(refusal) from None

    @property
    def _shape(self) -> CallShape:
        """What is known of the run, where it is one call."""
        size = size_request(plain(value) for value in self._inputs)
        return CallShape(size, model=self.node.model)

    @contextmanager
    def inside(self, *, closing: bool = False) -> Iterator[None]:
        """Let what runs in the block find its config, its agent, and the hold that is there."""
        token = var_child_runnable_config.set(self.config)
        try:
            with ExitStack() as stack:
                if self.node.names_calls:
                    stack.enter_context(self.books.acting_as(self.node.agent))
                for context in self._reserve(closing=closing):
                    stack.enter_context(context)
                if self._call is not None and not closing:
                    stack.enter_context(self.books.calling(self._call))
                yield
        finally:
            var_child_runnable_config.reset(token)

    def _reserve(self, *, closing: bool) -> Iterator[AbstractContextManager[None]]:
        """Keep the reserve for the closing call under "end", and let only that one have it."""
        if closing:
            yield self.books.closing(self.node.agent)
        elif self.node.policy.kind == "end":
            yield self.books.keeping_reserve(self.node.agent)

    # --- at its end -------------------------------------------------------------------------------

    def succeeded(self, result: Any) -> None:
        """Charge what a run used that ended well, and note its score. Never raises."""
        if self._call is not None:
            self._governed.succeeded(self._call, result)
        self._leave(None)
        self._governed.note_score(self._governed.score(_update(result)))

    async def asucceeded(self, result: Any) -> None:
        """Do the same without blocking the event loop."""
        if self._call is not None:
            await self._governed.asucceeded(self._call, result)
        self._leave(None)
        await self._governed.anote_score(await self._governed.ascore(_update(result)))

    def failed(self, error: BaseException) -> None:
        """Charge what a run used that failed. Never raises."""
        if self._call is not None:
            self._governed.failed(self._call, error)
        self._leave(error)

    async def afailed(self, error: BaseException) -> None:
        """Do the same without blocking the event loop."""
        if self._call is not None:
            await self._governed.afailed(self._call, error)
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        """End calls that were given up, where no handler of the graph hears of the node's end."""
        if not self._brought_handler or self._run_id is None:
            return
        if error is None:
            self.handler.on_chain_end(None, run_id=self._run_id)
        else:
            self.handler.on_chain_error(error, run_id=self._run_id)

    def instead(self, refusal: BudgetExceededError) -> Instead | None:
        """Return what is done in the place of a run that was refused; None is to raise.

        A refusal of another agent, further down, is that agent's affair.
        """
        if (refusal.agent_name, refusal.scope) not in self._accounts():
            return None
        kind = what_now(self.node.policy, refusal)
        if kind == "end":
            return Instead(self.node.agent, self.node.closing, refusal, closing=True)
        if kind == "fallback":
            return Instead(self.node.agent, self.node.policy.fallback, refusal, closing=False)
        return None

    def _accounts(self) -> Iterator[tuple[str, str]]:
        """Yield whose budget the node's calls are held on, and where; outer managers' too."""
        yield self.node.agent, self.books.scope_name
        outer = self.books.identity[2]
        while outer is not None:
            manager, agent = outer
            yield agent, manager.scope_name
            outer = manager.identity[2]


def _annotated(metadata: Mapping[str, Any], agent: str) -> dict[str, Any]:
    """Return a run's metadata with the annotation that names an agent, if it does not already."""
    found = metadata.get(ANNOTATION_KEY)
    if isinstance(found, Mapping) and found.get("agent") == agent:
        return dict(metadata)
    return {**metadata, ANNOTATION_KEY: {"agent": agent}}


def _update(result: Any) -> Any:
    """Return what a node writes, also where it says in the same breath where to go."""
    return result.update if isinstance(result, Command) else result


def plain(value: Any) -> Any:
    """Return a node's input as the plain data by which it is sized."""
    if isinstance(value, BaseMessage):
        return value.content
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "__dict__") and not callable(value):
        return {key: plain(item) for key, item in vars(value).items()}
    return value
