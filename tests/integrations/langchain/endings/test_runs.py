"""Run ids that are used again, retrievers that ask models, and unreadable replies."""

from __future__ import annotations

import logging
import threading
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.retrievers import BaseRetriever
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from tests.integrations.langchain.endings.conftest import TEXT, chat, governed, is_as_billed, kinds

from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest

# LangChain keeps its HTTP clients longer than a test keeps its event loop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"
)


def test_a_run_id_that_is_used_again_is_another_call(server: FakeOpenAI) -> None:
    """A caller may choose the same id twice."""
    manager, config = governed()
    config["run_id"] = uuid4()
    chat(server).invoke("hello", config)
    chat(server).invoke("hello again", config)
    assert len(server.log) == 2
    assert is_as_billed(manager, server)


def test_two_calls_of_one_run_id_at_once(server: FakeOpenAI) -> None:
    """Even while the first is open, the second is held and charged."""
    both = threading.Barrier(2)

    def answer(request: ScriptedRequest) -> Answer:
        both.wait(20)
        return Answer(text=TEXT)

    with FakeOpenAI(answer) as two:
        manager, config = governed()
        config["run_id"] = uuid4()
        threads = [
            threading.Thread(target=chat(two).invoke, args=(text, config)) for text in ("a", "b")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert is_as_billed(manager, two)
        assert kinds(manager).count("held") == 2


def test_models_that_a_retriever_asks_are_charged(server: FakeOpenAI) -> None:
    """A retriever is a step of the run like any other."""

    class Rewrites(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            answer = chat(server).invoke(query, {"callbacks": run_manager.get_child()})
            return [Document(str(answer.content))]

    manager, config = governed()
    Rewrites().invoke("hello", config)
    assert is_as_billed(manager, server)
    handler: Any = config["callbacks"][0]
    assert handler._tree._names == {}


def test_a_reply_that_cannot_be_read_is_charged_by_estimate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever a third party's model returns, the hold ends and the answer reaches its caller."""

    class Odd(ChatOpenAI):
        def _generate(self, *arguments: Any, **kwargs: Any) -> ChatResult:
            message = AIMessage("fine")
            object.__setattr__(message, "usage_metadata", {"input_tokens": "many"})
            return ChatResult(generations=[ChatGeneration(message=message)])

    manager, config = governed()
    answer = Odd(api_key=SecretStr("x"), model="m").invoke("hello", config)
    assert answer.content == "fine"
    account = manager.accounts()["a"]
    assert account.consumed == account.unmeasured > 0
    assert account.held == 0
    handler: Any = config["callbacks"][0]
    with caplog.at_level(logging.ERROR, "tbcontracts"):
        handler.on_llm_end(LLMResult(generations=[]), run_id=uuid4())  # of a call nobody knows
    assert caplog.records == []
