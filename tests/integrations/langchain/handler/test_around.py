"""What stands around a call: other handlers, caches, retries, fallbacks, outer holds, modes."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.runnables import RunnableLambda
from tests.integrations.langchain.handler.conftest import chat, governed

from tbcontracts import BudgetExceededError
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langchain import BudgetCallbackHandler, budget_callbacks


def test_cached_answers_are_free(server: FakeOpenAI) -> None:
    """LangChain's own cache answers with full usage and cost 0: nothing was billed."""
    set_llm_cache(InMemoryCache())
    try:
        manager, config = governed()
        model = chat(server)
        model.invoke("hello", config)
        once = manager.accounts()["a"].consumed
        model.invoke("hello", config)
        assert len(server.log) == 1
        assert manager.accounts()["a"].consumed == once == server.billed_tokens
        assert manager.accounts()["a"].held == 0
    finally:
        set_llm_cache(None)


def test_two_handlers_of_one_manager_charge_once(server: FakeOpenAI) -> None:
    """On the model and in the config, as one object or two: one call, one charge."""
    manager, config = governed()
    model = chat(server, callbacks=budget_callbacks(manager))
    model.invoke("hello", config)
    assert manager.accounts()["a"].consumed == server.billed_tokens
    one, other = BudgetCallbackHandler(manager), BudgetCallbackHandler(manager)
    assert one == other
    assert one != BudgetCallbackHandler(manager.scope("elsewhere"))


def test_another_handlers_failure_at_the_start_does_not_leak(server: FakeOpenAI) -> None:
    """When another handler stops the call after ours held, the end of the chain frees the hold."""

    class Stops(BaseCallbackHandler):
        raise_error = True

        def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
            raise LookupError("stopped by somebody else")

    manager, config = governed()
    model = chat(server)

    def ask(text: str) -> Any:
        return model.invoke(text)

    chain: Any = RunnableLambda(ask)
    config["callbacks"] = [*config["callbacks"], Stops()]
    with pytest.raises(LookupError):
        chain.invoke("hello", config)
    assert server.log == ()
    assert manager.accounts()["a"].held == 0


def test_retries_of_the_frameworks_do_not_repeat_a_refusal(server: FakeOpenAI) -> None:
    """The refusal is no plain Exception, and says that it is not retryable."""
    manager, config = governed(max_tokens=5)
    with pytest.raises(BudgetExceededError) as refused:
        chat(server).invoke("hello", config)
    assert isinstance(refused.value, RuntimeError)
    assert refused.value.is_retryable is False  # type: ignore[attr-defined]
    assert manager.accounts()["a"].denials == 1


def test_a_fallback_is_gated_by_its_own_hold(server: FakeOpenAI) -> None:
    """`with_fallbacks` may go on with a smaller call; it is held and charged like any other."""
    manager, config = governed(max_tokens=200)
    model = chat(server, max_tokens=4_000).with_fallbacks([chat(server, max_tokens=20)])
    model.invoke("hello", config)
    assert len(server.log) == 1
    assert manager.accounts()["a"].consumed == server.billed_tokens
    assert manager.accounts()["a"].denials == 1


def test_observe_mode_sends_everything_and_writes_it_down(server: FakeOpenAI) -> None:
    """In observe mode nothing is refused; what would have been is in the journal."""
    manager, config = governed(max_tokens=5, enforcement="observe")
    chat(server).invoke("hello", config)
    assert manager.accounts()["a"].consumed == server.billed_tokens
    assert "would_deny" in [entry.kind for entry in manager.journal()]


def test_strict_mode_needs_a_bound_and_keeps_within_it(server: FakeOpenAI) -> None:
    """Without an output cap a strict call is refused with the remedy; with one it is bounded."""
    manager, config = governed(enforcement="strict")
    with pytest.raises(BudgetExceededError, match="max_tokens on the model") as refused:
        chat(server).invoke("hello", config)
    assert refused.value.code == "unbounded"
    chat(server, max_tokens=30).invoke("hello", config)
    held = next(entry for entry in manager.journal() if entry.kind == "held")
    assert held.amount >= server.billed_tokens
    assert len(server.log) == 1


def test_an_outer_hold_is_not_doubled(server: FakeOpenAI) -> None:
    """One call, one hold: under a hold of the same manager the handler only reports what it saw."""
    manager, config = governed()
    from tbcontracts.endings import Ending
    from tbcontracts.sizing import CallShape
    from tbcontracts.tokens import RequestSize

    call = manager.begin_call("a", CallShape(RequestSize(50, 50), output_cap=2_000))
    with manager.calling(call):
        chat(server).invoke("hello", config)
    call.end(Ending())
    account = manager.accounts()["a"]
    assert account.consumed == server.billed_tokens
    assert account.unmeasured == 0
    assert [entry.kind for entry in manager.journal()].count("held") == 1


def test_a_call_larger_than_the_hold_around_it_makes_it_grow_or_is_not_sent(
    server: FakeOpenAI,
) -> None:
    """The hold around it was sized without knowing it."""
    from tbcontracts.endings import Ending
    from tbcontracts.sizing import CallShape
    from tbcontracts.tokens import RequestSize

    manager, config = governed(max_tokens=500)
    call = manager.begin_call("a", CallShape(RequestSize(10, 10), output_cap=100))
    with manager.calling(call):
        with pytest.raises(BudgetExceededError):
            chat(server, max_tokens=1_000).invoke("hello", config)
        assert server.log == ()
        chat(server, max_tokens=200).invoke("hello", config)
    call.end(Ending())
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (server.billed_tokens, 0)
    kinds = [entry.kind for entry in manager.journal()]
    assert (kinds.count("held"), kinds.count("denied")) == (2, 1)
