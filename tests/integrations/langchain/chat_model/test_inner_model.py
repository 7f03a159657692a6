"""What the model inside a budgeted one has: tools, structures, fields, streams, its cache."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import HumanMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from pydantic import BaseModel, ValidationError
from tests.integrations.langchain.chat_model.conftest import assert_true, caps, chat, governed

from tbcontracts import BudgetManager, UnknownAgentError
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_langchain import BudgetedChatModel


def test_several_answers_come_as_one_result(server: FakeOpenAI) -> None:
    """Generations, usage and runs of all prompts are there."""
    _, model = governed(server, max_completion_tokens=20)
    result = model.generate([[HumanMessage("one")], [HumanMessage("two")]])
    assert len(result.generations) == len(result.run or ()) == 2
    assert (result.llm_output or {})["token_usage"]["total_tokens"] == server.billed_tokens
    again = asyncio.run(model.agenerate([[HumanMessage("one")], [HumanMessage("two")]]))
    assert len(again.generations) == 2


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # older langchain-openai
def test_tools_and_structures_are_bound_as_the_inner_model_does() -> None:
    """Bound models are clamped and charged as well."""

    class City(BaseModel):
        name: str

    @tool
    def weather(city: str) -> str:
        """Say what the weather is."""
        return "sunny"

    def script(request: ScriptedRequest) -> Answer:
        if request.tools:
            return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments={"name": "Rome"})])
        return Answer(text='{"name": "Rome"}')

    with FakeOpenAI(script) as server:
        manager, model = governed(server, max_tokens=2_000, max_completion_tokens=4_000)
        answer = model.bind_tools([weather]).invoke("Where?")
        assert answer.tool_calls[0]["name"] == "weather"
        for method in ("function_calling", "json_schema", "json_mode"):
            assert model.with_structured_output(City, method=method).invoke("Where?") == City(
                name="Rome"
            )
        raw: Any = model.with_structured_output(City, include_raw=True).invoke("Where?")
        assert raw["parsed"] == City(name="Rome")
        assert len(server.log) == 5
        assert all(cap is not None and cap < 2_000 for cap in caps(server))
        assert_true(manager, server)


def test_fields_of_both_models_are_configurable(server: FakeOpenAI) -> None:
    """A run's config sets the inner model's fields; what neither has is refused."""
    manager, model = governed(server)
    flexible = model.configurable_fields(max_tokens=ConfigurableField(id="cap"))
    flexible.with_config(configurable={"cap": 9}).invoke("hello")
    assert caps(server) == [9]
    assert_true(manager, server)
    with pytest.raises(ValueError, match="nonsense"):
        model.configurable_fields(nonsense=ConfigurableField(id="x"))
    settings: dict[str, Any] = {"inner": chat(server), "manager": manager, "nonsense": 1}
    with pytest.raises(TypeError, match="nonsense"):
        BudgetedChatModel(**settings)


def test_a_stream_that_is_left_is_charged_for_what_came() -> None:
    """Who stops reading ends the call; its hold is not left behind."""
    with FakeOpenAI() as server:
        manager, model = governed(server, max_completion_tokens=500)
        pieces: Any = model.stream("hello")
        next(pieces)
        pieces.close()
        account = manager.accounts()["a"]
        assert account.held == 0
        assert 0 < account.unmeasured == account.consumed


def test_the_cache_of_the_inner_model_is_used(server: FakeOpenAI) -> None:
    """A cached answer is free, and the wrapped model shares its cache with the inner one."""
    manager, model = governed(server, max_completion_tokens=20, cache=InMemoryCache())
    model.inner.invoke("hello")
    model.invoke("hello")
    assert len(server.log) == 1
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (0, 0)


def test_what_the_inner_model_has_is_there(server: FakeOpenAI) -> None:
    """Names, counts, callbacks, tags and limiter are the inner model's."""
    told: list[str] = []

    class Listener(BaseCallbackHandler):
        def on_llm_end(self, *arguments: Any, **kwargs: Any) -> None:
            told.append(",".join(kwargs["tags"]))

    limiter = InMemoryRateLimiter(requests_per_second=1_000)
    _, model = governed(
        server,
        max_completion_tokens=20,
        callbacks=[Listener()],
        tags=["t"],
        rate_limiter=limiter,
        stream_usage=True,
        custom_get_token_ids=lambda text: [7, 7, 7],  # its own way fetches tables from the network
    )
    inner: Any = model.inner
    assert (model.model_name, model.stream_usage) == (inner.model_name, True)
    assert model.profile == inner.profile
    assert model._llm_type == inner._llm_type
    assert model._identifying_params == inner._identifying_params
    assert model.get_num_tokens("one two") == inner.get_num_tokens("one two") == 3
    assert model.get_token_ids("one two") == [7, 7, 7]
    assert model.rate_limiter is limiter
    model.invoke("hello")
    list(model.stream("hello"))
    assert told == ["t", "t"]
    assert "manager" not in model.model_dump()
    assert copy.copy(model).invoke("hello").content
    with pytest.raises(AttributeError):
        _ = model.nonsense


def test_a_model_without_a_known_cap_is_held_and_charged() -> None:
    """Its answers cannot be shortened; that is said once."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=300)
    inner = FakeListChatModel(responses=["A few words."])
    model = BudgetedChatModel(inner=inner, manager=manager, agent="a")
    with pytest.warns(UserWarning, match="FakeListChatModel cannot be shortened"):
        assert model.invoke("hello").content == "A few words."
    assert "".join(str(piece.content) for piece in model.stream("hello")) == "A few words."
    account = manager.accounts()["a"]
    assert account.held == 0
    assert 0 < account.consumed == account.unmeasured


def test_what_cannot_be_is_said_at_once(server: FakeOpenAI) -> None:
    """Unknown agents, bad numbers, no model."""
    manager, model = governed(server)
    with pytest.raises(UnknownAgentError, match="Did you mean"):
        BudgetedChatModel(inner=model.inner, manager=manager, agent="A")
    with pytest.raises(ValidationError, match="min_output_tokens"):
        BudgetedChatModel(inner=model.inner, manager=manager, agent="a", min_output_tokens=0)
    with pytest.raises(ValidationError, match="inner"):
        BudgetedChatModel(inner="gpt-4o", manager=manager)  # type: ignore[arg-type]
