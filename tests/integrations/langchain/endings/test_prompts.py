"""Several prompts in one call that fails or reports nothing: what each is charged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import HumanMessage
from langchain_openai import OpenAI
from tests.integrations.langchain.endings.conftest import (
    TEXT,
    ask_all,
    chat,
    governed,
    is_as_billed,
    kinds,
    settings,
)

from tbcontracts import BudgetExceededError
from tbcontracts.testing import Answer, FakeOpenAI, Fault, ScriptedRequest

# LangChain keeps its HTTP clients longer than a test keeps its event loop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"
)


def test_of_a_generate_that_fails_what_was_sent_is_charged() -> None:
    """The answered prompt's usage is never told: its hold is charged. The third is not sent."""
    with FakeOpenAI([Answer(text=TEXT), Fault(status=500), Answer(text=TEXT)]) as server:
        manager, config = governed()
        with pytest.raises(Exception, match="scripted provider"):
            ask_all(chat(server, max_tokens=50), config)
        assert len(server.log) == 2
        account = manager.accounts()["a"]
        first = next(entry for entry in manager.journal() if entry.kind == "held")
        assert account.consumed == account.unmeasured == first.amount
        assert account.held == 0
        assert kinds(manager).count("voided") == 2


@pytest.mark.anyio
async def test_of_an_awaited_generate_that_fails_each_prompt_is_told() -> None:
    """All are sent, and each end is reported, the failure first."""

    def script(request: ScriptedRequest) -> Answer | Fault:
        return Fault(status=500) if request.last_text == "two" else Answer(text=TEXT)

    with FakeOpenAI(script) as server:
        manager, config = governed()
        prompts: Any = [[HumanMessage(text)] for text in ("one", "two", "three")]
        with pytest.raises(Exception, match="scripted provider"):
            await chat(server).agenerate(prompts, **config)
        assert len(server.log) == 3
        assert is_as_billed(manager, server)


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.usefixtures("forgotten_coroutines")
@pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event':RuntimeWarning")
@pytest.mark.filterwarnings(
    "ignore:.*coroutine object ahandle_event:pytest.PytestUnraisableExceptionWarning"
)
def test_when_one_prompt_is_refused_none_is_sent(server: FakeOpenAI, awaited: bool) -> None:
    """The holds of those that started before it are given back, at the top level too."""
    manager, config = governed(max_tokens=150)
    model = chat(server, max_tokens=60)
    prompts: Any = [[HumanMessage(text)] for text in ("one", "two", "three")]

    def ask() -> object:
        return (
            asyncio.run(model.agenerate(prompts, **config)) if awaited else ask_all(model, config)
        )

    with pytest.raises(BudgetExceededError):
        ask()
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.denials) == (0, 0, 1)
    assert server.log == ()
    model.generate(prompts[:2], callbacks=config["callbacks"], metadata=config["metadata"])
    assert is_as_billed(manager, server)


@pytest.mark.parametrize("prompts", [["one"], ["one", "two", "three"]])
def test_prompts_of_a_text_model_are_charged_once(server: FakeOpenAI, prompts: list[str]) -> None:
    """Their usage is reported for all of them together, on the first one's reply."""
    manager, config = governed()
    metadata: Any = [config["metadata"]] * len(prompts)
    callbacks: Any = [config["callbacks"]] * len(prompts)
    OpenAI(**settings(server)).generate(prompts, callbacks=callbacks, metadata=metadata)
    assert len(server.log) == 1
    assert is_as_billed(manager, server)


def test_a_text_model_that_reports_nothing_is_charged_for_each_prompt() -> None:
    """Only where the first one's reply has the usage of all of them are the others free."""
    manager, config = governed()
    FakeListLLM(responses=[TEXT]).generate(
        ["one", "two"], callbacks=[config["callbacks"]] * 2, metadata=[config["metadata"]] * 2
    )
    account = manager.accounts()["a"]
    each = manager.count_text("one") + 4 + manager.count_text(TEXT)
    assert account.consumed == account.unmeasured == 2 * each
    assert account.held == 0
