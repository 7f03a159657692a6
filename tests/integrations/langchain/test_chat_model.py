"""A model that keeps itself to a contract: real ChatOpenAI, real HTTP, the server's log is true."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, SecretStr, ValidationError
from typing_extensions import TypedDict

from tbcontracts import BudgetExceededError, BudgetManager, UnknownAgentError
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_langchain import BudgetedChatModel, budget_callbacks

TEXT = "An answer of a few words, as models give them."


class State(TypedDict):
    """What the graphs of these tests hand on: nothing."""

    done: bool


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that uses up whatever cap it is given."""
    with FakeOpenAI(lambda request: Answer(text=TEXT, fill=True)) as running:
        yield running


def chat(server: FakeOpenAI, **settings: Any) -> ChatOpenAI:
    """Return a real client for the local provider."""
    # A connection that is kept alive would outlive the event loop of a test.
    client = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0))
    given: dict[str, Any] = {"base_url": server.base_url, "api_key": SecretStr("test")}
    given["http_async_client"] = client
    return ChatOpenAI(model="gpt-4o-mini", max_retries=0, **given, **settings)


def governed(
    server: FakeOpenAI, max_tokens: int = 5_000, *, enforcement: str = "expected", **settings: Any
) -> tuple[BudgetManager, BudgetedChatModel]:
    """Return a manager with one agent, and a model of that agent."""
    manager = BudgetManager(enforcement=enforcement)
    manager.register_agent("a", max_tokens=max_tokens)
    model = BudgetedChatModel(inner=chat(server, **settings), manager=manager, agent="a")
    return manager, model


def caps(server: FakeOpenAI) -> list[int | None]:
    """Return the output caps that were sent."""
    return [request.body.get("max_completion_tokens") for request in server.log]


def assert_true(manager: BudgetManager, server: FakeOpenAI) -> None:
    """Check that the books equal the log, and that nothing is left open."""
    server.wait_until_quiet()
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.unmeasured) == (server.billed_tokens, 0, 0)
    assert account.remaining >= 0


WAYS: dict[str, Callable[[Any], object]] = {
    "invoke": lambda model: model.invoke("hello"),
    "ainvoke": lambda model: asyncio.run(model.ainvoke("hello")),
    "stream": lambda model: list(model.stream("hello")),
    "astream": lambda model: asyncio.run(_collect(model.astream("hello"))),
    "batch": lambda model: model.batch(["hello"]),
    "abatch": lambda model: asyncio.run(model.abatch(["hello"])),
    "generate": lambda model: model.generate([[HumanMessage("hello")]]),
    "agenerate": lambda model: asyncio.run(model.agenerate([[HumanMessage("hello")]])),
    "astream_events": lambda model: asyncio.run(_collect(model.astream_events("hello"))),
}


async def _collect(pieces: Any) -> list[Any]:
    return [piece async for piece in pieces]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cap", [None, 4_000, 100])
def test_the_cap_that_is_sent_is_what_is_left(way: str, cap: int | None) -> None:
    """Whichever way it is called, a cap is lowered to what is left, and the charge is the bill."""
    with FakeOpenAI(lambda request: Answer(text=TEXT, fill=True)) as server:
        manager, model = governed(
            server, max_tokens=300, stream_usage=True, max_completion_tokens=cap
        )
        WAYS[way](model)
        (sent,) = caps(server)
        assert sent is not None
        (held,) = [entry.amount for entry in manager.journal() if entry.kind == "held"]
        if cap == 100:
            assert sent == 100
        else:
            assert 250 < sent < 300
            assert held == 300
        assert_true(manager, server)


# Not events: LangChain leaves the coroutine of its own event handler behind, and Python warns.
@pytest.mark.parametrize("way", sorted(WAYS.keys() - {"astream_events"}))
def test_a_call_with_too_little_left_is_not_sent(way: str) -> None:
    """Below `min_output_tokens` the call is refused, and the books say so."""
    with FakeOpenAI() as server:
        manager, model = governed(server, max_tokens=60)
        with pytest.raises(BudgetExceededError, match=r"'a' asked for .* output cap of the call"):
            WAYS[way](model)
        assert server.log == ()
        assert manager.accounts()["a"].denials == 1


@pytest.mark.parametrize("with_callbacks", [True, False])
def test_with_the_runs_own_callbacks_it_is_one_hold(
    server: FakeOpenAI, with_callbacks: bool
) -> None:
    """The handler of the run and that of the model are one."""
    manager, model = governed(server, max_completion_tokens=50)
    config: Any = {"callbacks": budget_callbacks(manager)} if with_callbacks else {}
    model.invoke("hello", config)
    assert [entry.kind for entry in manager.journal()] == ["opened", "held", "settled"]
    assert_true(manager, server)


def test_it_works_where_callbacks_do_not_reach(server: FakeOpenAI) -> None:
    """Plain threads and a direct generate inside a node: every call is on the books."""
    manager, model = governed(server, max_completion_tokens=50)

    def node(state: State) -> State:
        thread = threading.Thread(target=model.invoke, args=("one",))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(model.invoke, ["two", "three"]))
        model.generate([[HumanMessage("four")], [HumanMessage("five")]])
        return state

    builder: Any = StateGraph(State)
    builder.add_node("n", node)
    builder.add_edge(START, "n")
    builder.add_edge("n", END)
    builder.compile().invoke({"done": False}, {"callbacks": budget_callbacks(manager)})
    assert len(server.log) == 5
    assert_true(manager, server)


def test_a_direct_generate_belongs_to_the_node_that_makes_it(server: FakeOpenAI) -> None:
    """Without a named agent, the metadata of the node around says who pays."""
    manager, _ = governed(server)
    model = BudgetedChatModel(inner=chat(server, max_completion_tokens=50), manager=manager)

    def node(state: State) -> State:
        model.generate([[HumanMessage("hello")]])
        return state

    builder: Any = StateGraph(State)
    builder.add_node("n", node, metadata={"tbcontracts": {"agent": "a"}})
    builder.add_edge(START, "n")
    builder.compile().invoke({"done": False})
    assert_true(manager, server)


def test_its_agent_comes_before_every_other_name(server: FakeOpenAI) -> None:
    """Who was named to the model pays, whatever the run around is annotated with."""
    manager, model = governed(server, max_completion_tokens=50)
    manager.register_agent("other", max_tokens=5_000)
    config: Any = {
        "callbacks": budget_callbacks(manager),
        "metadata": {"tbcontracts": {"agent": "other"}, "lc_agent_name": "other"},
    }
    with manager.acting_as("other"):
        model.invoke("hello", config)
    assert manager.accounts()["other"].consumed == 0
    assert_true(manager, server)


def test_parallel_calls_are_sent_as_far_as_they_fit() -> None:
    """Forty threads at once: each call that was sent is covered, and what is left is too little."""
    everybody = threading.Event()
    with FakeOpenAI(lambda request: Answer(text=TEXT, fill=True, hold=everybody)) as server:
        manager, model = governed(server, max_tokens=5_000, max_completion_tokens=1_900)
        refused = threading.Semaphore(0)

        def call(number: int) -> bool:
            try:
                model.invoke("hello")
            except BudgetExceededError:
                refused.release()
                return False
            return True

        with ThreadPoolExecutor(40) as pool:
            results = pool.map(call, range(40))
            server.wait_for_requests(3)
            for _ in range(37):
                assert refused.acquire(timeout=30)
            account = manager.accounts()["a"]
            assert account.held <= 5_000
            assert account.remaining < 64 + 20
            everybody.set()
            assert sorted(results) == [False] * 37 + [True] * 3
        assert sorted(cap or 0 for cap in caps(server))[1:] == [1_900, 1_900]
        assert_true(manager, server)


def test_a_lost_race_is_clamped_again(server: FakeOpenAI) -> None:
    """What another call took between the look and the hold makes the cap smaller, not a refusal."""
    manager, model = governed(server, max_tokens=1_000, max_completion_tokens=4_000)

    class Takes(BaseCallbackHandler):
        """Takes 400 tokens when the call starts, before the hold."""

        raise_error = run_inline = True

        def __init__(self) -> None:
            self.left = 1

        def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
            if self.left:
                self.left -= 1
                manager.record_usage("a", 400)

    model.invoke("hello", {"callbacks": [Takes()]})
    (sent,) = caps(server)
    assert sent is not None
    assert 500 < sent < 600
    assert manager.accounts()["a"].consumed == 400 + server.billed_tokens


def test_strict_calls_need_no_cap_of_their_own(server: FakeOpenAI) -> None:
    """In strict mode the model gives each call the cap that it must have."""
    manager, model = governed(server, max_tokens=1_000, enforcement="strict")
    model.invoke("hello")
    (sent,) = caps(server)
    assert sent is not None
    assert sent < 1_000
    assert_true(manager, server)


def test_observe_mode_changes_nothing(server: FakeOpenAI) -> None:
    """Who only watches does not shorten answers."""
    _, model = governed(server, max_tokens=100, enforcement="observe", max_completion_tokens=4_000)
    model.invoke("hello")
    assert caps(server) == [4_000]


def test_a_cap_that_is_bound_or_given_is_lowered_too(server: FakeOpenAI) -> None:
    """Arguments win over the model's own setting, and are never raised."""
    _, model = governed(server, max_tokens=3_000, max_completion_tokens=50)
    model.bind(max_tokens=40).invoke("hello")
    model.invoke("hello", max_completion_tokens=30)
    model.invoke("hello", max_tokens=20_000)
    assert caps(server)[:2] == [40, 30]
    assert 2_000 < (caps(server)[2] or 0) < 3_000


def test_the_responses_api_is_clamped_in_its_own_way(server: FakeOpenAI) -> None:
    """The provider's newer interface calls the cap by another name."""
    manager, model = governed(server, max_tokens=300, use_responses_api=True)
    model.invoke("hello")
    assert 250 < server.log[0].body["max_output_tokens"] < 300
    assert_true(manager, server)


def test_choices_share_what_is_left(server: FakeOpenAI) -> None:
    """With n=3 each answer may use a third."""
    manager, model = governed(server, max_tokens=1_000, n=3)
    model.generate([[HumanMessage("hello")]])
    assert 300 < (caps(server)[0] or 0) < 333
    assert_true(manager, server)


def test_prompts_of_one_generate_share_what_is_left(server: FakeOpenAI) -> None:
    """A later prompt is clamped to what earlier ones left; what was answered is on the books."""
    manager, model = governed(server, max_tokens=400, max_completion_tokens=200)
    prompts: list[list[BaseMessage]] = [
        [HumanMessage("one")],
        [HumanMessage("two")],
        [HumanMessage("three")],
    ]
    with pytest.raises(BudgetExceededError):
        model.generate(prompts)
    assert len(server.log) == 2
    assert_true(manager, server)


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
