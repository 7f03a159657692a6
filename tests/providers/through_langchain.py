"""Cells through the real LangChain clients."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel
from tests.providers.cells import (
    CAP,
    LANGCHAIN_KINDS,
    PLENTY,
    PROMPT,
    TIGHT,
    Client,
    Found,
    Kind,
    cap_outcome,
    outcome_of,
)

from tbcontracts import BudgetManager
from tbcontracts.sizing import CallShape
from tbcontracts.testing import Answer, FakeProvider
from tbcontracts_langchain import BudgetedChatModel, budget_callbacks, model_calls
from tbcontracts_langchain.usage import call_shape


@dataclass(frozen=True, kw_only=True)
class LangChainClient(Client):
    """A chat model of LangChain.

    Attributes:
        server: Makes the provider, with a script.
        model: Makes the model: its address, and what else it is set to. `retries` is how often it
            may send a request again, `n` how many answers it wants, `cap` its output cap.
        calm: Takes the waiting out of the client's retries.
    """

    server: Callable[[Any], FakeProvider]
    model: Callable[..., BaseChatModel]
    calm: Callable[[pytest.MonkeyPatch], None] = lambda _: None
    kinds: tuple[Kind, ...] = LANGCHAIN_KINDS
    group: str = "LangChain"

    def find(self, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> Found:
        """Make the call of a cell; return what the books made of it."""
        self.calm(monkeypatch)
        gate = threading.Event()
        script = kind.script
        if isinstance(script, Answer) and script.hold_after_chunks is not None:
            script = replace(script, hold=gate)
        with self.server(script) as server:
            manager = BudgetManager()
            manager.register_agent("a", max_tokens=TIGHT if kind.how == "shortened" else PLENTY)
            config = {
                "callbacks": budget_callbacks(manager),
                "metadata": {"tbcontracts": {"agent": "a"}},
            }
            settings: dict[str, Any] = {"retries": kind.retries, "cap": CAP}
            if kind.how == "n = 2":
                settings["n"] = 2
            if kind.how == "default cap":
                settings["cap"] = None

            def model() -> BaseChatModel:
                made = self.model(server.base_url, **settings)
                if kind.how == "shortened":
                    return BudgetedChatModel(inner=made, manager=manager, agent="a")
                return made

            caps = _noted_caps(monkeypatch)
            error = _make(kind, model, config, gate)
            server.wait_until_quiet()
            gc.enable()
            if kind.fails:
                assert isinstance(error, Exception), "it should have failed"
            elif error is not None:
                raise error
            assert len(server.log) > kind.how.startswith("tool"), "too little was sent"
            found = outcome_of(manager, server)
            if kind.how in ("cap", "default cap", "shortened"):
                return found._replace(
                    outcome=cap_outcome(found, caps[-1], server.log[-1].output_cap)
                )
            return found


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word."


class Counted(BaseModel):
    """How far it went."""

    count: int


def _noted_caps(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Note the output caps that holds are sized by."""
    caps: list[int | None] = []

    def noting(*arguments: Any) -> CallShape:
        shape = call_shape(*arguments)
        caps.append(shape.output_cap)
        return shape

    monkeypatch.setattr(model_calls, "call_shape", noting)
    return caps


def _make(
    kind: Kind, model: Callable[[], BaseChatModel], config: Any, gate: threading.Event
) -> BaseException | None:
    """Make a call; return what it ended with, if it failed."""
    try:
        if kind.how in _AWAITED:
            asyncio.run(_AWAITED[kind.how](model, config))
        else:
            _PLAIN[kind.how](model(), config)
    except Exception as error:
        return error
    finally:
        gate.set()
    return None


def _invoke(model: Any, config: Any) -> None:
    model.invoke(PROMPT, config)


def _stream(model: Any, config: Any) -> None:
    for _ in model.stream(PROMPT, config):
        pass


def _leave(model: Any, config: Any) -> None:
    gc.disable()  # what the client forgets to close stays open until the test has looked
    stream = model.stream(PROMPT, config)
    for piece in stream:
        if piece.text:
            break
    stream.close()


def _tool_turn(model: Any, config: Any) -> None:
    bound = model.bind_tools([look_up])
    asked = HumanMessage(PROMPT)
    _answer_tool(bound, asked, bound.invoke([asked], config)).invoke(config)


def _tool_turn_streamed(model: Any, config: Any) -> None:
    bound = model.bind_tools([look_up])
    asked, whole = HumanMessage(PROMPT), None
    for piece in bound.stream([asked], config):
        whole = piece if whole is None else whole + piece
    _answer_tool(bound, asked, whole).stream(config)


class _Turn:
    """The second half of a tool turn."""

    def __init__(self, model: Any, messages: list[Any]) -> None:
        self._model = model
        self._messages = messages

    def invoke(self, config: Any) -> None:
        self._model.invoke(self._messages, config)

    def stream(self, config: Any) -> None:
        for _ in self._model.stream(self._messages, config):
            pass


def _answer_tool(model: Any, asked: HumanMessage, answer: Any) -> _Turn:
    [call] = answer.tool_calls
    said = ToolMessage(look_up.invoke(call["args"]), tool_call_id=call["id"], name=call["name"])
    return _Turn(model, [asked, answer, said])


def _structured(model: Any, config: Any) -> None:
    assert model.with_structured_output(Counted).invoke(PROMPT, config) == Counted(count=12)


_PLAIN: dict[str, Callable[[Any, Any], None]] = {
    "invoke": _invoke,
    "n = 2": _invoke,
    "cap": _invoke,
    "default cap": _invoke,
    "shortened": _invoke,
    "stream": _stream,
    "left": _leave,
    "tool turn": _tool_turn,
    "tool turn, streamed": _tool_turn_streamed,
    "structured output": _structured,
}


async def _ainvoke(model: Callable[[], Any], config: Any) -> None:
    await model().ainvoke(PROMPT, config)


async def _astream(model: Callable[[], Any], config: Any) -> None:
    async for _ in model().astream(PROMPT, config):
        pass


async def _aleave(model: Callable[[], Any], config: Any) -> None:
    stream = model().astream(PROMPT, config)
    async for piece in stream:
        if piece.text:
            break
    await stream.aclose()


_AWAITED: dict[str, Callable[[Callable[[], Any], Any], Any]] = {
    "ainvoke": _ainvoke,
    "astream": _astream,
    "aleft": _aleave,
}

STREAMED = (
    "stream",
    "astream",
    "tool turn, streamed",
    "cached prompt, streamed",
    "cache written, streamed",
    "reasoning, streamed",
)
"""The kinds whose usage stands in a stream."""


def aws_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let AWS's SDK send again at once."""
    at_once = SimpleNamespace(sleep=lambda _: None)
    monkeypatch.setattr("botocore.endpoint.time", at_once)
    monkeypatch.setattr("botocore.retries.bucket.TokenBucket._sleep_amount", lambda *_: 0)


def google_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Google's SDK send again at once."""
    from google.genai import _api_client

    monkeypatch.setattr(_api_client, "_RETRY_INITIAL_DELAY", 0.0)
    monkeypatch.setattr(_api_client, "_RETRY_JITTER", 0.0)


def anthropic_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Anthropic's SDK send again at once."""
    from anthropic._base_client import BaseClient

    monkeypatch.setattr(BaseClient, "_calculate_retry_timeout", lambda *_, **__: 0.0)


def openai_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let OpenAI's SDK send again at once."""
    from openai._base_client import BaseClient

    monkeypatch.setattr(BaseClient, "_calculate_retry_timeout", lambda *_, **__: 0.0)
