"""Call kind x client x ending: in each cell the books are the provider's log, or it says why not.

Each cell makes one call, and its ending. The provider's log says what was billed. A cell whose
usage reaches us must agree to the token, unmeasured share 0. A cell whose usage does not must be
charged by the rule that its comment names, all of it unmeasured, and close to what was billed where
the whole answer was seen. No cell leaves a hold open, but for the bare cancelled `ainvoke`, of
whose end LangChain tells nobody: its hold's limit ends it.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import httpx
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import SecretStr
from tests.integrations.langchain.leftovers import find_leftovers

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, Fault, ScriptedRequest
from tbcontracts_langchain import budget_callbacks, model_calls

# After a refusal LangChain forgets the coroutines that it made for the other handlers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event':RuntimeWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*coroutine object ahandle_event:pytest.PytestUnraisableExceptionWarning"
    ),
]
TEXT = "one two three four five six seven eight nine ten eleven twelve"
PROMPT = "Count to twelve, in words."
CAP = 100
LIMIT_S = 3_600.0

KINDS = ("invoke", "stream", "batch", "generate", "below a chain")
AWAITED = ("ainvoke", "astream", "abatch", "agenerate", "astream_events", "awaited below a chain")
CLIENTS = ("chat", "chat, streamed usage", "responses", "text")
ENDINGS = (
    "answered",
    "no usage",
    "rejected",
    "dropped",
    "broken off by the server",
    "left by the caller",
    "cancelled",
    "refused",
)


class Cell(NamedTuple):
    """One cell of the matrix."""

    kind: str
    client: str
    ending: str

    @property
    def awaited(self) -> bool:
        """Whether the call is awaited."""
        return self.kind in AWAITED

    @property
    def streamed(self) -> bool:
        """Whether the answer comes in pieces."""
        return self.kind in ("stream", "astream", "astream_events")

    @property
    def reports_usage(self) -> bool:
        """Whether the provider's usage reaches LangChain in an answer that is complete."""
        if self.ending != "answered":
            return False
        # OpenAI's clients for other URLs do not ask for a stream's usage unless they are told to;
        # the responses API sends it unasked. A text model's stream never brings it.
        return not self.streamed or self.client in ("chat, streamed usage", "responses")

    def __bool__(self) -> bool:
        """Whether there is such a cell."""
        if self.ending in ("broken off by the server", "left by the caller") and not self.streamed:
            return False
        if self.ending == "cancelled":  # a call that is not awaited cannot be cancelled
            return self.awaited
        if self.ending == "no usage" and self.client == "text":
            return False  # langchain-openai 1.7 fails to read a text reply without usage
        return not (self.ending == "left by the caller" and self.kind == "astream_events")


CELLS = [cell for cell in map(Cell._make, product(KINDS + AWAITED, CLIENTS, ENDINGS)) if cell]


def client(server: FakeOpenAI, kind: str, http: httpx.AsyncClient | None = None) -> Any:
    """Return a real client; its awaited half must not outlive its event loop."""
    settings: dict[str, Any] = {
        "base_url": server.base_url,
        "api_key": SecretStr("test"),
        "model": "gpt-4o-mini",
        "max_retries": 0,
        "max_tokens": CAP,
        "http_async_client": http,
    }
    if kind == "text":
        return OpenAI(**settings)
    if kind == "responses":
        return ChatOpenAI(**settings, use_responses_api=True)
    return ChatOpenAI(**settings, stream_usage=kind == "chat, streamed usage")


def script(ending: str, gate: threading.Event) -> Callable[[ScriptedRequest], Answer | Fault]:
    """Return what the provider does."""
    steps: dict[str, Answer | Fault] = {
        "no usage": Answer(text=TEXT, report_usage=False),
        "rejected": Fault(status=429),
        "dropped": Fault(kind="drop"),
        "broken off by the server": Answer(text=TEXT, drop_after_chunks=2),
        "cancelled": Answer(text=TEXT, hold=gate),
    }
    return lambda request: steps.get(ending, Answer(text=TEXT))


def call(cell: Cell, model: Any, config: Any) -> None:
    """Make a call that is not awaited."""
    if cell.kind == "invoke":
        model.invoke(PROMPT, config)
    elif cell.kind == "batch":
        model.batch([PROMPT], config)
    elif cell.kind == "generate":
        prompts: Any = [PROMPT] if cell.client == "text" else [[HumanMessage(PROMPT)]]
        model.generate(prompts, callbacks=config["callbacks"], metadata=config["metadata"])
    elif cell.kind == "below a chain":

        def ask(text: str, config: Any) -> Any:
            return model.invoke(text, config)

        chain: Any = RunnableLambda(ask)
        chain.invoke(PROMPT, config)
    else:
        stream = model.stream(PROMPT, config)
        read_some(stream) if cell.ending == "left by the caller" else list(stream)


def read_some(stream: Any) -> None:
    """Read a stream until text came, and leave it."""
    for piece in stream:
        if text_of(piece):
            break
    stream.close()


async def acall(cell: Cell, model: Any, config: Any) -> None:
    """Make an awaited call."""
    if cell.kind == "ainvoke":
        await model.ainvoke(PROMPT, config)
    elif cell.kind == "abatch":
        await model.abatch([PROMPT], config)
    elif cell.kind == "agenerate":
        prompts: Any = [PROMPT] if cell.client == "text" else [[HumanMessage(PROMPT)]]
        await model.agenerate(prompts, callbacks=config["callbacks"], metadata=config["metadata"])
    elif cell.kind == "awaited below a chain":

        async def ask(text: str, config: Any) -> Any:
            return await model.ainvoke(text, config)

        chain: Any = RunnableLambda(ask)
        await chain.ainvoke(PROMPT, config)
    elif cell.kind == "astream_events":
        _ = [event async for event in model.astream_events(PROMPT, config, version="v2")]
    else:
        stream = model.astream(PROMPT, config)
        async for piece in stream:
            if cell.ending == "left by the caller" and text_of(piece):
                break
        await stream.aclose()


def text_of(piece: Any) -> str:
    """Return the text of a piece."""
    return piece if isinstance(piece, str) else str(piece.text)


def run(cell: Cell, server: FakeOpenAI, config: Any, gate: threading.Event) -> BaseException | None:
    """Make the call; return what it ended with, if it failed."""

    async def main() -> None:
        async with httpx.AsyncClient() as http:
            task = asyncio.ensure_future(acall(cell, client(server, cell.client, http), config))
            if cell.ending == "cancelled":
                await asyncio.to_thread(server.wait_for_requests, 1)
                task.cancel()
            await task

    try:
        if cell.awaited:
            asyncio.run(main())
        else:
            call(cell, client(server, cell.client), config)
    except (Exception, asyncio.CancelledError) as error:
        return error
    finally:
        gate.set()
    return None


@pytest.mark.parametrize("cell", CELLS, ids=", ".join)
def test_cell(cell: Cell) -> None:
    """Run one cell."""
    collects = cell.kind == "astream_events" and cell.ending == "refused"
    if collects:
        find_leftovers()
    gate, now = threading.Event(), [0.0]
    with FakeOpenAI(script(cell.ending, gate)) as server:
        manager = BudgetManager(clock=lambda: now[0])
        manager.register_agent("a", max_tokens=CAP // 2 if cell.ending == "refused" else 10_000)
        metadata = {"tbcontracts": {"agent": "a"}}
        config = {"callbacks": budget_callbacks(manager), "metadata": metadata}
        error = run(cell, server, config, gate)
        server.wait_until_quiet()
        fails = cell.ending in ("rejected", "dropped", "cancelled", "refused")
        assert isinstance(error, Exception | asyncio.CancelledError) if fails else True
        check(cell, manager, server, error, now)
    if collects:
        del error
        gc.collect()  # what LangChain forgot is found here, not in the middle of another test


def check(
    cell: Cell,
    manager: BudgetManager,
    server: FakeOpenAI,
    error: BaseException | None,
    now: list[float],
) -> None:
    """Compare the books with the log."""
    account = manager.accounts()["a"]
    held = next((entry.amount for entry in manager.journal() if entry.kind == "held"), 0)
    input_tokens = held - CAP
    if cell.ending == "refused":
        assert isinstance(error, BudgetExceededError)
        assert (server.log, account.consumed, account.denials) == ((), 0, 1)
    elif cell.ending == "rejected":
        assert (account.consumed, len(server.log)) == (0, 1)
    elif cell.ending == "dropped":
        # Nothing came back, and it may be billed: the whole hold.
        assert account.consumed == account.unmeasured == held
    elif cell.ending == "cancelled":
        if told_of_its_end(cell):
            # It was sent, and nobody knows how far it was answered: its input.
            assert account.consumed == account.unmeasured == input_tokens
        else:
            # The bare cancelled `ainvoke`: nobody is told. The hold stays until its limit.
            assert (account.held, account.consumed) == (held, 0)
            now[0] += LIMIT_S
            manager.reserve("a", 1).void()
            account = manager.accounts()["a"]
            assert account.expired_holds == 1
    elif cell.reports_usage:
        assert error is None
        assert account.consumed == server.billed_tokens > 0
        assert account.unmeasured == 0
    else:
        # Counted here: the input, and the text that arrived.
        assert account.consumed == account.unmeasured > input_tokens
        whole = input_tokens + manager.count_text(TEXT)
        broken = is_broken_off(cell)
        assert account.consumed < whole if broken else account.consumed == whole
        if not broken:
            assert abs(account.consumed - server.billed_tokens) <= 10
    assert account.held == 0


def is_broken_off(cell: Cell) -> bool:
    """Whether only a part of the answer arrives."""
    if cell.kind == "astream_events" and cell.client == "text":
        return True  # langchain-core 1.8 trips over its own handler at the first piece
    return cell.ending in ("broken off by the server", "left by the caller")


def told_of_its_end(cell: Cell) -> bool:
    """Whether anybody is told that an awaited call was cancelled.

    Streams report it themselves; so does a text model. Of a chat model's `ainvoke` the chain above
    it is told; at the top level there is none.
    """
    return cell.streamed or cell.kind == "awaited below a chain" or cell.client == "text"


# --- many at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["batch", "abatch", "gather"])
def test_exactly_two_of_forty_are_sent(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes 2,000 of 5,000, and all start before the first answer."""
    release = threading.Event()

    def answer(request: ScriptedRequest) -> Answer:
        return Answer(text="x", input_tokens=1_000, fill=True, hold=release)

    with FakeOpenAI(answer) as server:
        manager = BudgetManager()
        manager.register_agent("a", max_tokens=5_000)
        refusals: list[object] = []

        def refuse(error: BudgetExceededError) -> BudgetExceededError:
            refusals.append(error)
            if len(refusals) == 38:
                release.set()  # only now may the provider answer the two that were sent
            return error

        monkeypatch.setattr(model_calls, "as_langchain", refuse)

        def model(http: httpx.AsyncClient | None = None) -> Any:
            return client(server, "chat", http).model_copy(update={"max_tokens": 1_000})

        config: Any = {
            "callbacks": budget_callbacks(manager),
            "metadata": {"tbcontracts": {"agent": "a"}},
            "max_concurrency": 40,
        }
        prompts: Any = ["word " * 994] * 40

        async def awaited() -> list[Any]:
            async with httpx.AsyncClient() as http:
                if way == "abatch":
                    return list(await model(http).abatch(prompts, config, return_exceptions=True))
                calls = (model(http).ainvoke(prompt, config) for prompt in prompts)
                return await asyncio.gather(*calls, return_exceptions=True)

        if way == "batch":
            outcomes: list[Any] = model().batch(prompts, config, return_exceptions=True)
        else:
            outcomes = asyncio.run(awaited())
        refused = [one for one in outcomes if isinstance(one, BudgetExceededError)]
        assert len(refused) == 38
        assert len(server.log) == 2
        account = manager.accounts()["a"]
        assert (account.consumed, account.held) == (server.billed_tokens, 0)
        assert server.billed_tokens == 4_000
