"""What the handlers do with a model call: hold for it, watch it, end it; at once or awaited."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from langchain_core.messages import BaseMessage
from langchain_core.outputs import Generation, LLMResult

from tbcontracts import BudgetExceededError, BudgetManager, StoreError, Usage
from tbcontracts.abandoned import in_background
from tbcontracts.calls import Call
from tbcontracts.endings import Ending
from tbcontracts.sizing import CallShape
from tbcontracts_langchain.attribution import AgentPaths, annotated_contract, find_agent
from tbcontracts_langchain.errors import as_langchain
from tbcontracts_langchain.runs import (
    OpenCall,
    Prompts,
    Runs,
    no_more_prompts,
    prompts_of,
    stopped_at_start,
)
from tbcontracts_langchain.usage import (
    call_shape,
    chunk_text,
    counted_with_the_first,
    from_cache,
    output_texts,
    reported_usage,
)

ScopeBy = str | Callable[[Mapping[str, Any]], str | None] | None
"""How a run's scope is found: None for the manager's own, "thread_id", or a function of the call's
metadata that returns the scope's name (None: the manager's own)."""

_log = logging.getLogger("tbcontracts")
_runs: WeakKeyDictionary[object, Runs] = WeakKeyDictionary()


class Start(NamedTuple):
    """What LangChain says when a model call starts."""

    prompt: Sequence[BaseMessage] | Sequence[str]
    run_id: UUID
    parent_run_id: UUID | None
    metadata: Mapping[str, Any]
    more: Mapping[str, Any]
    chat: bool
    serialized: Mapping[str, Any] | None = None


class _Wanted(NamedTuple):
    """The hold that a call wants."""

    manager: BudgetManager
    agent: str | None
    shape: CallShape
    prompts: Prompts | None


class ModelCalls:
    """The model calls that a manager's handlers are told of.

    Args:
        manager: Whose contracts and books.
        scope_by: How a run's scope is found.
        paths: Which paths of graph nodes belong to which agent.
    """

    def __init__(self, manager: BudgetManager, scope_by: ScopeBy, paths: AgentPaths) -> None:
        self.manager = manager
        self.scope_by = scope_by
        self.paths = paths
        self.runs: Runs = _runs.setdefault(manager.identity[0], Runs())

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two of these the same."""
        return (*self.manager.identity, self.scope_by, self.paths)

    @property
    def in_process(self) -> bool:
        """Whether the books answer without a network."""
        return self.manager.store.in_process

    # --- starts -----------------------------------------------------------------------------------

    def begin(self, start: Start) -> None:
        """Hold budget for a call, or refuse it.

        Raises:
            BudgetExceededError: The call cannot be paid for.
        """
        if self.runs.is_known(start.run_id, self.identity):
            return
        wanted = self._wanted(start)
        try:
            call = wanted.manager.begin_call(wanted.agent, wanted.shape)
        except BudgetExceededError as error:
            for other in self._unsent(wanted.prompts):
                self.book(other, Ending(unbilled=True))
            raise as_langchain(error) from None
        except StoreError:
            self._unless_observing()
            return
        self._opened(start, call, wanted.prompts)

    async def abegin(self, start: Start) -> None:
        """Hold budget for a call without blocking the event loop; see `begin`."""
        if self.runs.is_known(start.run_id, self.identity):
            return
        wanted = self._wanted(start)
        try:
            call = await wanted.manager.abegin_call(wanted.agent, wanted.shape)
        except BudgetExceededError as error:
            for other in self._unsent(wanted.prompts):
                await self.abook(other, Ending(unbilled=True))
            raise as_langchain(error) from None
        except StoreError:
            self._unless_observing()
            return
        self._opened(start, call, wanted.prompts)

    def _wanted(self, start: Start) -> _Wanted:
        """Find out whose call it is, and how large."""
        metadata = start.metadata
        manager, agent = self.payer(start.parent_run_id, metadata)
        params = start.more.get("invocation_params") or {}
        shape = call_shape(start.prompt, params, metadata, start.serialized)
        size = start.more.get("batch_size") or 1
        return _Wanted(
            manager, agent, shape, prompts_of(start.parent_run_id, size, chat=start.chat)
        )

    def _opened(self, start: Start, call: Call, prompts: Prompts | None) -> None:
        open_call = OpenCall(call, start.run_id, start.parent_run_id, prompts)
        self.runs.add(open_call, self.identity)

    def _unsent(self, prompts: Prompts | None) -> list[OpenCall]:
        """Return the calls that were to be sent together with one that is refused."""
        if prompts is None:
            return []
        no_more_prompts()
        return [one for one in prompts.calls if self.runs.take_this(one)]

    def _unless_observing(self) -> None:
        """Raise the store's error that is under way, unless nothing is to be raised."""
        if self.manager.settings.enforcement != "observe":
            raise  # noqa: PLE0704 - the error that the caller is handling
        _log.exception("The store did not answer; the call goes out unobserved.")

    def payer(
        self, parent_run_id: UUID | None, metadata: Mapping[str, Any]
    ) -> tuple[BudgetManager, str | None]:
        """Return on whose books a call goes, and to which agent; None if nothing names one."""
        manager = self.manager_for(metadata)
        name = self.runs.tree.name_of(parent_run_id, metadata)
        contract = annotated_contract(name)
        if contract is not None and contract.agent_name not in manager.contracts:
            manager.register(contract)  # an annotation that is seen for the first time
        agent = find_agent(name, metadata, manager, manager.current_agent, self.paths)
        return manager, agent

    def manager_for(self, metadata: Mapping[str, Any]) -> BudgetManager:
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

    # --- on the way -------------------------------------------------------------------------------

    def saw(self, run_id: UUID, token: Any, chunk: Generation | None) -> None:
        """Note streamed output, in case the stream breaks off, and stop a strict one in time.

        Raises:
            BudgetExceededError: The answer has outgrown its hold, and there is no more.
        """
        open_call = self.runs.get(run_id)
        if open_call is None:
            return
        call = open_call.call
        call.saw(chunk_text(token, chunk))
        asking = open_call.growing
        try:
            if asking is not None and asking.done():
                open_call.growing = None
                asking.result()
            if call.has_outgrown_its_hold() and open_call.growing is None:
                if self.in_process or not in_event_loop():
                    call.keep_up()
                else:  # the answer goes on meanwhile; the next piece finds out
                    open_call.growing = in_background(call.akeep_up())
        except BudgetExceededError as error:
            raise as_langchain(error) from None

    # --- ends -------------------------------------------------------------------------------------

    def ended(self, run_id: UUID, response: LLMResult) -> tuple[OpenCall, Ending] | None:
        """Return a call that ended well, and what its reply says of it; None if it is unknown."""
        open_call = self.runs.take(run_id)
        return None if open_call is None else (open_call, self._ending_of(open_call, response))

    def _ending_of(self, open_call: OpenCall, response: LLMResult) -> Ending:
        """Read a reply."""
        try:
            usage = reported_usage(response)
            measured = usage is not None and usage.measured
            prompts = open_call.prompts
            if prompts is not None and not prompts.chat:
                if prompts.measured and counted_with_the_first(response):
                    return Ending(unbilled=True)
                prompts.measured = measured
            text = "" if measured else "".join(output_texts(response))
            seen = self.manager.count_text(text) if text else None
            return Ending(usage, output_tokens_seen=seen, unbilled=from_cache(response))
        except Exception:
            _log.exception("A reply could not be read; its call is charged by estimate.")
            return Ending()

    def failed(
        self, run_id: UUID, error: BaseException, response: object
    ) -> list[tuple[OpenCall, Ending]]:
        """Return a call that failed and what is known of it; and the others that it ends."""
        open_call = self.runs.take(run_id)
        if open_call is None:
            return []
        usage = reported_usage(response) if isinstance(response, LLMResult) else None
        if usage is not None and usage.measured:
            # Of a stream that broke off: its first piece may name the input, none names the whole.
            usage = Usage.estimated(usage.input_tokens, usage.output_tokens)
        return [(open_call, Ending(usage, error)), *self._ends_with(open_call)]

    def _ends_with(self, open_call: OpenCall) -> list[tuple[OpenCall, Ending]]:
        """Return the calls of a `generate` whose ends nobody tells, because one of them failed.

        Those before it were answered, and the answers are lost; those after it are not sent. Its
        awaited twin sends all of them, and tells of each.
        """
        prompts = open_call.prompts
        if prompts is None or not prompts.chat or in_event_loop():
            return []
        before, after = prompts.others(open_call)
        return [
            *((one, Ending()) for one in before if self.runs.take_this(one)),
            *((one, Ending(unbilled=True)) for one in after if self.runs.take_this(one)),
        ]

    def run_ended(self, run_id: UUID, error: BaseException | None) -> None:
        """Close a run; its calls that reported no end are charged by estimate until they do."""
        self.runs.tree.close(run_id)
        left = self.runs.give_up(run_id)
        if not left:
            return
        stopped = stopped_at_start(error)
        for open_call in left:
            if open_call.is_among(stopped):
                ending = Ending(unbilled=True)
            else:
                ending = Ending(error=error, given_up=True)
            if self.in_process or not in_event_loop():
                self.book(open_call, ending)
            else:
                in_background(self.abook(open_call, ending), partial(self.book, open_call, ending))

    def book(self, open_call: OpenCall, ending: Ending) -> None:
        """End a call on the books; trouble with the store leaves the hold to its limit."""
        try:
            open_call.call.end(ending)
        except Exception:
            _log.exception("A call's end could not be booked; its hold runs out at its limit.")

    async def abook(self, open_call: OpenCall, ending: Ending) -> None:
        """End a call on the books without blocking the event loop; see `book`."""
        try:
            await open_call.call.aend(ending)
        except Exception:
            _log.exception("A call's end could not be booked; its hold runs out at its limit.")


def in_event_loop() -> bool:
    """Whether an event loop runs in this thread."""
    loops = sys.modules.get("asyncio")
    if loops is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
