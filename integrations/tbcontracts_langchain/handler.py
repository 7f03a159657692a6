"""The callback handler: refuses a model call before it is sent, and charges what it used.

It is synchronous and runs inline, because LangChain drops the errors of asynchronous handlers under
a synchronous call, and runs the others on a thread where a cancelled call would leave its hold
behind. It asks for its errors to be raised, because LangChain only logs them otherwise.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult

from tbcontracts import BudgetContract, BudgetExceededError, BudgetManager, StoreError, Usage
from tbcontracts.calls import Call
from tbcontracts.endings import Ending
from tbcontracts_langchain.attribution import (
    ANNOTATION_KEY,
    RunName,
    RunTree,
    annotated_agent,
    find_agent,
)
from tbcontracts_langchain.context import LOSES_CONTEXT, warn_of_lost_context
from tbcontracts_langchain.errors import as_langchain
from tbcontracts_langchain.usage import (
    call_shape,
    chunk_text,
    from_cache,
    output_texts,
    reported_usage,
)

ScopeBy = str | Callable[[Mapping[str, Any]], str | None] | None
"""How a run's scope is found: None for the manager's own, "thread_id", or a function of the call's
metadata that returns the scope's name (None: the manager's own)."""

_log = logging.getLogger("tbcontracts")


class _OpenCall(NamedTuple):
    """A model call under way."""

    call: Call
    parent_run_id: UUID | None


class _Runs:
    """The runs of one manager, whichever of its handlers was told of them."""

    def __init__(self) -> None:
        self.tree = RunTree()
        self._calls: dict[UUID, _OpenCall] = {}
        self._children: dict[UUID, set[UUID]] = {}
        self._given_up: dict[UUID, _OpenCall] = {}  # charged by estimate; the truth may still come
        self._lock = threading.Lock()

    def get(self, run_id: UUID) -> _OpenCall | None:
        """Return a call that is open."""
        return self._calls.get(run_id)

    def add(self, run_id: UUID, open_call: _OpenCall) -> None:
        """Note a call."""
        with self._lock:
            self._calls[run_id] = open_call
            if open_call.parent_run_id is not None:
                self._children.setdefault(open_call.parent_run_id, set()).add(run_id)

    def take(self, run_id: UUID) -> _OpenCall | None:
        """Forget a call that ended, and return it."""
        with self._lock:
            open_call = self._calls.pop(run_id, None) or self._given_up.pop(run_id, None)
            if open_call is not None and open_call.parent_run_id is not None:
                siblings = self._children.get(open_call.parent_run_id)
                if siblings is not None:
                    siblings.discard(run_id)
                    if not siblings:
                        del self._children[open_call.parent_run_id]
            return open_call

    def give_up(self, parent_run_id: UUID) -> list[_OpenCall]:
        """Return the calls that are still open when the run that made them ends."""
        with self._lock:
            run_ids = self._children.pop(parent_run_id, ())
            left = {run_id: self._calls.pop(run_id) for run_id in run_ids}
            self._given_up.update(left)
            while len(self._given_up) > _GIVEN_UP_MAX:
                self._given_up.pop(next(iter(self._given_up)))
        return list(left.values())


_runs: WeakKeyDictionary[object, _Runs] = WeakKeyDictionary()
_GIVEN_UP_MAX = 1_000


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

    Raises:
        TypeError: `manager` is no BudgetManager, or `scope_by` none of these.
    """

    raise_error = True
    run_inline = True

    def __init__(self, manager: BudgetManager, *, scope_by: ScopeBy = None) -> None:
        if not isinstance(manager, BudgetManager):
            msg = f"manager must be a BudgetManager, not {type(manager).__name__}."
            raise TypeError(msg)
        if scope_by is not None and scope_by != "thread_id" and not callable(scope_by):
            msg = f'scope_by must be None, "thread_id" or a function, not {scope_by!r}.'
            raise TypeError(msg)
        self.manager = manager
        self.scope_by = scope_by
        self._runs = _runs.setdefault(manager.identity[0], _Runs())

    def __eq__(self, other: object) -> bool:
        """Handlers that would do the same are the same."""
        if not isinstance(other, BudgetCallbackHandler):
            return NotImplemented
        return self._identity == other._identity

    def __hash__(self) -> int:
        """Agree with `==`."""
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        return (*self.manager.identity, self.scope_by)

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
        self._runs.tree.open(run_id, parent_run_id, metadata)

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
        self._runs.tree.open(run_id, parent_run_id, metadata)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End calls that this run made and gave up without a word."""
        self._run_ended(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End calls that this run made and gave up, as a cancelled `ainvoke` does."""
        self._run_ended(run_id, error)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End calls that this tool made and gave up."""
        self._run_ended(run_id, None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End calls that this tool made and gave up."""
        self._run_ended(run_id, error)

    def _run_ended(self, run_id: UUID, error: BaseException | None) -> None:
        """Close a run; its calls that reported no end are charged by estimate until they do."""
        self._runs.tree.close(run_id)
        for open_call in self._runs.give_up(run_id):
            self._end(open_call, Ending(error=error, given_up=True))

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
        self._begin(prompt, run_id, parent_run_id, metadata, kwargs)

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
        self._begin(prompts, run_id, parent_run_id, metadata, kwargs)

    def _begin(
        self,
        prompt: Sequence[BaseMessage] | Sequence[str],
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        kwargs: Mapping[str, Any],
    ) -> None:
        """Place the hold of a call; a start that was told before is not told again."""
        runs = self._runs
        if runs.get(run_id) is not None:
            return
        metadata = metadata or {}
        manager = self._manager_for(metadata)
        name = runs.tree.name_of(parent_run_id, metadata)
        self._register(name)
        agent = find_agent(name, metadata, manager.contracts, manager.current_agent)
        shape = call_shape(prompt, kwargs.get("invocation_params") or {}, metadata)
        try:
            call = manager.begin_call(agent, shape)
        except BudgetExceededError as error:
            raise as_langchain(error) from None
        except StoreError:
            if manager.settings.enforcement != "observe":
                raise
            _log.exception("The store did not answer; the call goes out unobserved.")
            return
        runs.add(run_id, _OpenCall(call, parent_run_id))

    def _manager_for(self, metadata: Mapping[str, Any]) -> BudgetManager:
        """Return the manager on the books of this run."""
        if self.scope_by is None:
            return self.manager
        if callable(self.scope_by):
            scope = self.scope_by(metadata)
            return self.manager if scope is None else self.manager.scope(scope)
        thread_id = metadata.get("thread_id")
        if thread_id is None:
            return self.manager
        return self.manager.scope(f"{self.manager.scope_name}/{thread_id}")

    def _register(self, name: RunName) -> None:
        """Put an annotation in force that carries a contract and is seen for the first time."""
        contract = annotated_contract(name)
        if contract is not None and contract.agent_name not in self.manager.contracts:
            self.manager.register(contract)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Note streamed output, in case the stream breaks off."""
        open_call = self._runs.get(run_id)
        if open_call is not None:
            open_call.call.saw(chunk_text(token, chunk))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Charge what the call used. Never raises: the answer is paid for, and the user's."""
        open_call = self._runs.take(run_id)
        if open_call is None:
            return
        try:
            usage = reported_usage(response)
            seen = None
            if usage is None or not usage.measured:
                text = "".join(output_texts(response))
                seen = self.manager.count_text(text) if text else None
            ending = Ending(usage, output_tokens_seen=seen, unbilled=from_cache(response))
        except Exception:
            _log.exception("A reply could not be read; its call is charged by estimate.")
            ending = Ending()
        self._end(open_call, ending)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Charge a call that failed by what is known of it. Never raises."""
        open_call = self._runs.take(run_id)
        if open_call is None:
            return
        response = kwargs.get("response")
        usage = reported_usage(response) if isinstance(response, LLMResult) else None
        if usage is not None and usage.measured:
            # Of a stream that broke off: its first piece may name the input, none names the whole.
            usage = Usage.estimated(usage.input_tokens, usage.output_tokens)
        self._end(open_call, Ending(usage, error))

    def _end(self, open_call: _OpenCall, ending: Ending) -> None:
        """End a call on the books; trouble with the store leaves the hold to its limit."""
        try:
            open_call.call.end(ending)
        except Exception:
            _log.exception("A call's end could not be booked; its hold runs out at its limit.")


def annotated_contract(name: RunName) -> BudgetContract | None:
    """Return the contract that an annotation carries; one that only names an agent has none."""
    if name.annotation is None or "max_tokens" not in name.annotation:
        return None
    fields = {key: value for key, value in name.annotation.items() if key != "agent"}
    agent = annotated_agent(name)
    if agent is None:
        msg = f"The annotation {dict(name.annotation)} under {ANNOTATION_KEY!r} names no agent."
        raise ValueError(msg)
    return BudgetContract(agent, **fields)


def budget_callbacks(
    manager: BudgetManager, *, scope_by: ScopeBy = None
) -> list[BaseCallbackHandler]:
    """Return the callbacks that keep a run to its contracts.

    Args:
        manager: Whose contracts and books.
        scope_by: How a run's scope is found; see `BudgetCallbackHandler`.

    Example:
        `graph.invoke(x, config={"callbacks": budget_callbacks(manager)})`
    """
    return [BudgetCallbackHandler(manager, scope_by=scope_by)]
