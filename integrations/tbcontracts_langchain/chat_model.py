"""A chat model that keeps itself to a contract, wherever it is called from.

Callbacks of a run's config do not reach a plain thread, a direct `generate`, or, on Python 3.10,
what nodes of an awaited graph call. This model brings the callback handler along, and because it is
the model it can also shorten the answer to what is left.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from pydantic import Field, model_validator

from tbcontracts import BudgetManager
from tbcontracts.clamping import MIN_OUTPUT_TOKENS, check_floor
from tbcontracts_langchain.clamp import (
    Asked,
    Watch,
    find_payer,
    known,
    named,
    with_fitting_cap,
    with_handlers,
)
from tbcontracts_langchain.delegating import DelegatingChatModel
from tbcontracts_langchain.steps import Course, adrive, drive


class _Prepared(NamedTuple):
    """One call, ready to be made."""

    model: BudgetedChatModel
    kwargs: Mapping[str, Any]
    callbacks: Any
    metadata: Mapping[str, Any]


class BudgetedChatModel(DelegatingChatModel):
    """Keeps the calls of a chat model to a contract, also where no callbacks reach them.

    Use it in the place of the model that it wraps: every call is held before it is sent, its
    answer is capped to what is left, and what it used is charged. Where the run has the manager's
    callbacks too, that is one hold and one charge.

    Attributes:
        inner: The model that answers.
        manager: Whose contracts and books.
        agent: Who pays. None finds out as the callback handler does, which in a plain thread has
            nothing to go by but `manager.acting_as` in that thread.
        min_output_tokens: The shortest answer worth sending for; a call with less left is refused.

    Raises:
        UnknownAgentError: The agent has no contract.

    Example:
        `model = BudgetedChatModel(inner=ChatOpenAI(), manager=manager, agent="writer")`
    """

    manager: BudgetManager = Field(exclude=True, repr=False)
    agent: str | None = None
    min_output_tokens: int = MIN_OUTPUT_TOKENS

    @model_validator(mode="after")
    def _checked(self) -> BudgetedChatModel:
        """Check what was given."""
        check_floor(self.min_output_tokens)
        self.agent = known(self.manager, self.agent)
        return self

    # --- calls: held, clamped, made ---------------------------------------------------------------

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Any = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer prompts, one after the other: what an earlier one used is not left to a later."""

        def make(call: _Prepared) -> LLMResult:
            return super(BudgetedChatModel, call.model).generate(
                [prompt],
                stop,
                call.callbacks,
                tags=tags,
                metadata=dict(call.metadata),
                run_name=run_name,
                run_id=None if results else run_id,
                **call.kwargs,
            )

        results: list[LLMResult] = []
        for prompt in messages:
            course = self._course(prompt, stop, callbacks, metadata, kwargs)
            results.append(drive(course, make))
        return self._together(results)

    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Any = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer prompts at once; if one fails, the others come to their end first."""

        async def one(number: int, prompt: list[BaseMessage]) -> LLMResult:
            async def make(call: _Prepared) -> LLMResult:
                return await super(BudgetedChatModel, call.model).agenerate(
                    [prompt],
                    stop,
                    call.callbacks,
                    tags=tags,
                    metadata=dict(call.metadata),
                    run_name=run_name,
                    run_id=run_id if number == 0 else None,
                    **call.kwargs,
                )

            course = self._course(prompt, stop, callbacks, metadata, kwargs)
            return cast("LLMResult", await adrive(course, make))

        ended = await asyncio.gather(
            *(one(number, prompt) for number, prompt in enumerate(messages)), return_exceptions=True
        )
        for result in ended:
            if isinstance(result, BaseException):
                raise result
        return self._together([result for result in ended if isinstance(result, LLMResult)])

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name for it
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Answer piece by piece."""
        if not self._should_stream(async_api=False, **{**kwargs, "stream": True}):
            yield cast("AIMessageChunk", self.invoke(input, config, stop=stop, **kwargs))
            return

        def make(call: _Prepared) -> tuple[AIMessageChunk, Iterator[AIMessageChunk]]:
            pieces = super(BudgetedChatModel, call.model).stream(
                input, _config(config, call), stop=stop, **call.kwargs
            )
            return next(pieces), pieces  # a refusal comes with the first piece

        first, rest = drive(self._course_of(input, config, stop, kwargs), make)
        try:
            yield first
            yield from rest
        finally:
            rest.close()

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name for it
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Answer piece by piece."""
        if not self._should_stream(async_api=True, **{**kwargs, "stream": True}):
            yield cast("AIMessageChunk", await self.ainvoke(input, config, stop=stop, **kwargs))
            return

        async def make(call: _Prepared) -> tuple[AIMessageChunk, Any]:
            pieces = super(BudgetedChatModel, call.model).astream(
                input, _config(config, call), stop=stop, **call.kwargs
            )
            return await anext(pieces), pieces

        first, rest = await adrive(self._course_of(input, config, stop, kwargs), make)
        try:
            yield first
            async for piece in rest:
                yield piece
        finally:
            await rest.aclose()

    def _chat_model_stream_v3(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name for it
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Answer as the events of `stream_events(version="v3")`, which start when first read."""

        def make(call: _Prepared) -> Any:
            return super(BudgetedChatModel, call.model)._chat_model_stream_v3(
                input, _config(config, call), stop=stop, **call.kwargs
            )

        return drive(self._course_of(input, config, stop, kwargs), make)

    async def _achat_model_stream_v3(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name for it
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Answer as the awaited events of `astream_events(version="v3")`."""

        async def make(call: _Prepared) -> Any:
            return await super(BudgetedChatModel, call.model)._achat_model_stream_v3(
                input, _config(config, call), stop=stop, **call.kwargs
            )

        return await adrive(self._course_of(input, config, stop, kwargs), make)

    def _course_of(
        self,
        model_input: LanguageModelInput,
        config: RunnableConfig | None,
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
    ) -> Course:
        """Return the course of a call that is made with a config."""
        config = ensure_config(config)
        prompt = self._convert_input(model_input).to_messages()
        return self._course(prompt, stop, config.get("callbacks"), config.get("metadata"), kwargs)

    def _course(
        self,
        prompt: Sequence[BaseMessage],
        stop: list[str] | None,
        callbacks: Any,
        metadata: Mapping[str, Any] | None,
        kwargs: Mapping[str, Any],
    ) -> Course:
        """Make one call, with a cap that fits and the manager's handler among its callbacks."""
        if callbacks is None:  # made without a config: at least its place is known
            metadata = {**(ensure_config().get("metadata") or {}), **(metadata or {})}
        given = {**(metadata or {}), **named(self.agent)}
        above = getattr(callbacks, "metadata", None) or {}
        payer = find_payer(self.manager, callbacks, {**above, **(self.metadata or {}), **given})
        asked = Asked(self.inner, kwargs)

        def request(cap: int | None, watch: Watch) -> _Prepared:
            fitting = asked.fitting(cap, prompt, self.manager)
            told = with_handlers(callbacks, self.manager, watch)
            return _Prepared(self._around(fitting.model), fitting.kwargs, told, given)

        shape = asked.shape(prompt, stop)
        return with_fitting_cap(payer, shape, self.min_output_tokens, asked.longest, request)

    def _around(self, inner: BaseChatModel) -> BudgetedChatModel:
        """Return this model around another one."""
        if inner is self.inner:
            return self
        copied = self.model_copy(update={"inner": inner})
        vars(copied).pop("_serialized", None)
        return copied

    def _together(self, results: Sequence[LLMResult]) -> LLMResult:
        """Return the answers to several prompts as one result."""
        return LLMResult(
            generations=[generations for result in results for generations in result.generations],
            llm_output=self._combine_llm_outputs([result.llm_output for result in results]),
            run=[run for result in results for run in result.run or ()] or None,
        )


def _config(config: RunnableConfig | None, call: _Prepared) -> RunnableConfig:
    """Return the config of a streamed call."""
    return {**ensure_config(config), "callbacks": call.callbacks, "metadata": dict(call.metadata)}
