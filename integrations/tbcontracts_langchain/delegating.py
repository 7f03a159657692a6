"""A chat model around another one: whatever is asked of it, the inner model does it.

LangChain's own code (callbacks, caches, streaming) runs once, for the outer model. The inner one is
only asked for what subclasses of a chat model implement, never for its `invoke`, which would tell
every callback a second time.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import (
    Runnable,
    RunnableBinding,
    RunnableParallel,
    RunnableSequence,
    RunnableSerializable,
)
from langchain_core.runnables.configurable import RunnableConfigurableFields
from langchain_core.tools import BaseTool
from pydantic import model_validator

# What LangChain's own code reads of the model that is called, and so of this one.
_TAKEN_OVER = (
    "cache",
    "callbacks",
    "custom_get_token_ids",
    "disable_streaming",
    "metadata",
    "name",
    "output_version",
    "profile",
    "rate_limiter",
    "tags",
    "verbose",
)


class DelegatingChatModel(BaseChatModel):
    """Does what another chat model does; the base of models that add something to it."""

    inner: BaseChatModel

    @model_validator(mode="before")
    @classmethod
    def _settings_of_the_inner_model(cls, values: Any) -> Any:
        """Hand settings that are the inner model's on to it, as `configurable_fields` gives them.

        Raises:
            TypeError: Neither model has such a setting.
        """
        if not isinstance(values, Mapping) or not isinstance(values.get("inner"), BaseChatModel):
            return values
        inner, own, changes = values["inner"], dict(values), {}
        for name in [name for name in values if name not in cls.model_fields]:
            field = _field_of(inner, name)
            if field is None:
                msg = f"Neither {cls.__name__} nor {type(inner).__name__} has {name!r}."
                raise TypeError(msg)
            changes[field] = own.pop(name)
        return {**own, "inner": inner.model_copy(update=changes)} if changes else own

    @model_validator(mode="after")
    def _as_the_inner_model_is(self) -> DelegatingChatModel:
        """Take over what LangChain reads of a model that is called."""
        for name in _TAKEN_OVER:
            given = name in self.model_fields_set and getattr(self, name) is not None
            if not given and hasattr(self.inner, name):
                vars(self)[name] = getattr(self.inner, name)
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self.inner._generate(
            messages, stop, **_told(self.inner._generate, run_manager), **kwargs
        )

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        told = _told(self.inner._agenerate, run_manager)
        return await self.inner._agenerate(messages, stop, **told, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        told = _told(self.inner._stream, run_manager)
        yield from self.inner._stream(messages, stop, **told, **kwargs)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        told = _told(self.inner._astream, run_manager)
        async for chunk in self.inner._astream(messages, stop, **told, **kwargs):
            yield chunk

    def _should_stream(self, **kwargs: Any) -> bool:
        return self.inner._should_stream(**kwargs)

    def _should_use_protocol_streaming(self, **kwargs: Any) -> bool:
        # Events are made of the inner model's pieces, so it has to give pieces.
        gives_pieces = type(self.inner)._stream is not BaseChatModel._stream
        return gives_pieces and self.inner._should_use_protocol_streaming(**kwargs)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Bind tools as the inner model does."""
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        bound: Runnable[LanguageModelInput, Any] = self._in_place(
            self.inner.bind_tools(tools, **kwargs)
        )
        return bound

    def with_structured_output(
        self, schema: Any, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Return what answers in a structure, as the inner model does."""
        answers: Runnable[LanguageModelInput, Any] = self._in_place(
            self.inner.with_structured_output(schema, **kwargs)
        )
        return answers

    def _in_place(self, runnable: Any) -> Any:
        """Return a runnable with this model in the place of the inner one."""
        if runnable is self.inner:
            return self
        if isinstance(runnable, RunnableBinding):
            return runnable.model_copy(update={"bound": self._in_place(runnable.bound)})
        if isinstance(runnable, RunnableSequence):
            return RunnableSequence(*map(self._in_place, runnable.steps), name=runnable.name)
        if isinstance(runnable, RunnableParallel):
            return RunnableParallel(
                {name: self._in_place(step) for name, step in runnable.steps__.items()}
            )
        return runnable

    def configurable_fields(self, **kwargs: Any) -> RunnableSerializable[Any, Any]:
        """Let fields be set in a run's config, the inner model's too.

        Raises:
            ValueError: Neither model has such a field.
        """
        for name in kwargs:
            if name not in type(self).model_fields and _field_of(self.inner, name) is None:
                msg = f"Neither {type(self).__name__} nor {type(self.inner).__name__} has {name!r}."
                raise ValueError(msg)
        return RunnableConfigurableFields(default=self, fields=kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text, as the inner model counts."""
        return self.inner.get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """Return the number of tokens in a text, as the inner model counts."""
        return self.inner.get_num_tokens(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> int:
        """Return the number of tokens in messages, as the inner model counts."""
        return self.inner.get_num_tokens_from_messages(messages, *args, **kwargs)

    def _combine_llm_outputs(self, _llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        return self.inner._combine_llm_outputs(_llm_outputs)

    def _convert_cached_generations(self, cache_val: list[Any]) -> list[Any]:
        return self.inner._convert_cached_generations(cache_val)

    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        return self.inner._get_invocation_params(stop=stop, **kwargs)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self.inner._get_ls_params(stop=stop, **kwargs)

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return self.inner._get_llm_string(stop=stop, **kwargs)

    @property
    def _llm_type(self) -> str:
        return self.inner._llm_type

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return self.inner._identifying_params

    def __getattr__(self, name: str) -> Any:
        """Return what only the inner model has, such as `model_name`."""
        inner = vars(self).get("inner")
        if inner is None or name.startswith("_"):
            # pydantic keeps private attributes behind its own `__getattr__`.
            return super().__getattr__(name)  # type: ignore[misc]
        return getattr(inner, name)


def _told(method: Callable[..., Any], run_manager: Any) -> dict[str, Any]:
    """Return the run manager as an argument, where a model's method takes one."""
    if run_manager is None or "run_manager" not in inspect.signature(method).parameters:
        return {}
    return {"run_manager": run_manager}


def _field_of(inner: BaseChatModel, name: str) -> str | None:
    """Return the field of a model that has a name or an alias; None if there is none."""
    for field, info in type(inner).model_fields.items():
        if name in (field, info.alias, info.validation_alias):
            return field
    return None
