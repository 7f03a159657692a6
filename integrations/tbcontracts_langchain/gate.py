"""The handler that awaits a store behind a network, before the one that would block.

Under an awaited call LangChain awaits it in its place, and its refusal stops the call. Under any
other call LangChain runs it last, on an event loop of its own, and drops its errors: there the
guard, which is told before, has done everything.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from tbcontracts_langchain.model_calls import ModelCalls, Start


class BudgetGate(BaseCallbackHandler):
    """Holds and settles without blocking the event loop; `budget_callbacks` puts it in place.

    It is no `AsyncCallbackHandler`, whose hooks are all awaited: under a call that is not, each
    awaited hook costs an event loop. What needs no store is left to the guard.

    Args:
        calls: The calls that it shares with its guard.
    """

    raise_error = True
    run_inline = True

    def __init__(self, calls: ModelCalls) -> None:
        self._model_calls = calls

    def __eq__(self, other: object) -> bool:
        """Gates that would do the same are the same."""
        if not isinstance(other, BudgetGate):
            return NotImplemented
        return self._model_calls.identity == other._model_calls.identity

    def __hash__(self) -> int:
        """Agree with `==`."""
        return hash(("gate", self._model_calls.identity))

    async def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Hold budget for a call to a chat model, or refuse it."""
        prompt = [message for batch in messages for message in batch]
        await self._begin(
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

    async def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Hold budget for a call to a text model, or refuse it."""
        await self._begin(
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

    async def _begin(self, start: Start) -> None:
        calls = self._model_calls
        if not calls.runs.turns.is_first(start.run_id, "start", gate=True):
            return
        try:
            await self._hold(start)
        except BaseException:
            calls.runs.turns.take_back(start.run_id, "start")  # the guard is not told any more
            raise

    async def _hold(self, start: Start) -> None:
        """Hold for a call that is told here first."""
        await self._model_calls.abegin(start)

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Charge what the call used."""
        calls = self._model_calls
        if not calls.runs.turns.is_first(run_id, "end", gate=True):
            return
        ended = calls.ended(run_id, response)
        if ended is not None:
            await calls.abook(*ended)

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Charge a call that failed by what is known of it."""
        calls = self._model_calls
        if not calls.runs.turns.is_first(run_id, "end", gate=True):
            return
        for ended in calls.failed(run_id, error, kwargs.get("response")):
            await calls.abook(*ended)
