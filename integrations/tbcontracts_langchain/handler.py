"""The callback handler: refuses a model call before it is sent, and charges what it used.

It is synchronous and runs inline, because LangChain drops the errors of asynchronous handlers under
a synchronous call, and runs the others on a thread where a cancelled call would leave its hold
behind. It asks for its errors to be raised, because LangChain only logs them otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult

from tbcontracts import BudgetManager
from tbcontracts_langchain.attribution import AgentPaths, annotated_contract
from tbcontracts_langchain.context import LOSES_CONTEXT, warn_of_lost_context
from tbcontracts_langchain.gate import BudgetGate
from tbcontracts_langchain.model_calls import ModelCalls, ScopeBy, Start, in_event_loop

__all__ = ["BudgetCallbackHandler", "ScopeBy", "annotated_contract", "budget_callbacks"]


class BudgetCallbackHandler(BaseCallbackHandler):
    """Keeps the model calls of a run to their contracts.

    Pass it in the run's config: `graph.invoke(x, config={"callbacks": [handler]})`. One handler
    serves any number of runs at once; handlers of one manager and scope compare equal, so that
    LangChain tells only one of them.

    Args:
        manager: Whose contracts and books.
        scope_by: How a run's scope is found: None for the manager's own; "thread_id" for one set
            of books for each thread, `<scope>/<thread_id>`; or a function that gets the metadata
            of the call and returns the name of the scope, or None for the manager's own.
        agents: Whose the calls below a graph node are, by its path: {"research/*": "researcher"}.
            It counts before annotations and names; see `AgentPaths`.

    Raises:
        TypeError: `manager` is no BudgetManager, or `scope_by` or `agents` nothing of the kind.
    """

    raise_error = True
    run_inline = True

    def __init__(
        self,
        manager: BudgetManager,
        *,
        scope_by: ScopeBy = None,
        agents: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(manager, BudgetManager):
            msg = f"manager must be a BudgetManager, not {type(manager).__name__}."
            raise TypeError(msg)
        if scope_by is not None and scope_by != "thread_id" and not callable(scope_by):
            msg = f'scope_by must be None, "thread_id" or a function, not {scope_by!r}.'
            raise TypeError(msg)
        self.manager = manager
        self.scope_by = scope_by
        self._model_calls = ModelCalls(manager, scope_by, AgentPaths(agents or {}))
        self._tree = self._model_calls.runs.tree
        self._shared = not self._model_calls.in_process  # with a gate, which awaits the store
        self._has_gate = False

    def __eq__(self, other: object) -> bool:
        """Handlers that would do the same are the same."""
        if not isinstance(other, BudgetCallbackHandler):
            return NotImplemented
        return self._model_calls.identity == other._model_calls.identity

    def __hash__(self) -> int:
        """Agree with `==`."""
        return hash(self._model_calls.identity)

    def gate(self) -> BudgetGate:
        """Return the handler that goes before this one where the store is behind a network."""
        self._has_gate = True
        return BudgetGate(self._model_calls)

    def with_gate(self) -> list[BaseCallbackHandler]:
        """Return this handler; where the store is behind a network, with the one before it."""
        return [self.gate(), self] if self._shared else [self]

    # --- runs of chains, graphs, nodes and tools --------------------------------------------------

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note where annotations and agent names appear."""
        if LOSES_CONTEXT:
            warn_of_lost_context(self.manager, metadata)
        self._tree.open(run_id, parent_run_id, metadata)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note a tool as a step on the way to the calls that it makes."""
        self._tree.open(run_id, parent_run_id, metadata)

    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note a retriever, as some of them ask models."""
        self._tree.open(run_id, parent_run_id, metadata)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End calls that this run made and gave up without a word."""
        self._model_calls.run_ended(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End calls that this run made and gave up, as a cancelled `ainvoke` does."""
        self._model_calls.run_ended(run_id, error)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End calls that this tool made and gave up."""
        self._model_calls.run_ended(run_id, None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End calls that this tool made and gave up."""
        self._model_calls.run_ended(run_id, error)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End calls that this retriever made and gave up."""
        self._model_calls.run_ended(run_id, None)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End calls that this retriever made and gave up."""
        self._model_calls.run_ended(run_id, error)

    # --- model calls ------------------------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Hold budget for a call to a chat model, or refuse it.

        Raises:
            BudgetExceededError: The call cannot be paid for; it is not sent.
        """
        prompt = [message for batch in messages for message in batch]
        self._begin(
            Start(
                prompt,
                run_id,
                parent_run_id,
                metadata or {},
                kwargs,
                chat=True,
                serialized=serialized,
            )
        )

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Hold budget for a call to a text model, or refuse it.

        Raises:
            BudgetExceededError: The call cannot be paid for; it is not sent.
        """
        self._begin(
            Start(
                prompts,
                run_id,
                parent_run_id,
                metadata or {},
                kwargs,
                chat=False,
                serialized=serialized,
            )
        )

    def _begin(self, start: Start) -> None:
        """Hold for a call, unless the gate has."""
        if self._shared:
            if not self._model_calls.runs.turns.is_first(start.run_id, "start", gate=False):
                return
            if not self._has_gate and in_event_loop():
                self.manager.warn_once("lone handler", _LONE)
        self._hold(start)

    def _hold(self, start: Start) -> None:
        """Hold for a call that is told here first."""
        self._model_calls.begin(start)

    def payer(
        self, parent_run_id: UUID | None, metadata: Mapping[str, Any]
    ) -> tuple[BudgetManager, str | None]:
        """Return on whose books a call goes, and to which agent; None if nothing names one."""
        return self._model_calls.payer(parent_run_id, metadata)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Note streamed output, in case the stream breaks off; in strict mode keep it in bounds.

        Raises:
            BudgetExceededError: A strict call's answer has outgrown its hold, and there is no more.
        """
        self._model_calls.saw(run_id, token, chunk)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Charge what the call used. Never raises: the answer is paid for, and the user's."""
        if self._is_mine_to_end(run_id):
            ended = self._model_calls.ended(run_id, response)
            if ended is not None:
                self._model_calls.book(*ended)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Charge a call that failed by what is known of it. Never raises."""
        if self._is_mine_to_end(run_id):
            for ended in self._model_calls.failed(run_id, error, kwargs.get("response")):
                self._model_calls.book(*ended)

    def _is_mine_to_end(self, run_id: UUID) -> bool:
        """Whether the gate, if there is one, was not told before."""
        turns = self._model_calls.runs.turns
        return not self._shared or turns.is_first(run_id, "end", gate=False)


def budget_callbacks(
    manager: BudgetManager,
    *,
    scope_by: ScopeBy = None,
    agents: Mapping[str, str] | None = None,
) -> list[BaseCallbackHandler]:
    """Return the callbacks that keep a run to its contracts.

    With books in this process that is one handler; with a store behind a network a second one goes
    before it, which awaits the store in awaited calls, so that the event loop goes on.

    Args:
        manager: Whose contracts and books.
        scope_by: How a run's scope is found; see `BudgetCallbackHandler`.
        agents: Whose the calls below a graph node are; see `BudgetCallbackHandler`.

    Example:
        `graph.invoke(x, config={"callbacks": budget_callbacks(manager)})`
    """
    return BudgetCallbackHandler(manager, scope_by=scope_by, agents=agents).with_gate()


_LONE = (
    "A BudgetCallbackHandler alone blocks the event loop while its store answers over the network. "
    "What helps: callbacks=budget_callbacks(manager), which adds a handler that awaits it."
)
