"""The standard tests of LangChain's chat models, passed by a budgeted one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts_langchain import BudgetedChatModel

if TYPE_CHECKING:
    from langchain_tests.unit_tests import ChatModelUnitTests
else:
    # It needs a newer langchain-core than the oldest that we support.
    suite = pytest.importorskip("langchain_tests.unit_tests", reason="needs langchain-core 1.4")
    ChatModelUnitTests = suite.ChatModelUnitTests


# What the suite takes from pytest-benchmark and syrupy. It measures the time of construction, which
# one run shows to work, and compares snapshots of models that can be serialised, which ours cannot:
# books are no part of a document. So neither plugin is loaded for it.
@pytest.fixture
def benchmark() -> Callable[[Callable[[], object]], object]:
    """Run what would be measured, once."""
    return lambda function: function()


@pytest.fixture
def snapshot() -> None:
    """Stand in for snapshots, which are not compared."""


class TestBudgetedChatModel(ChatModelUnitTests):
    """A budgeted ChatOpenAI is a chat model like any other."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The class under test."""
        return BudgetedChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """What makes one; the suite adds settings of the inner model."""
        manager = BudgetManager()
        manager.register_agent("a", max_tokens=10_000)
        inner = ChatOpenAI(model="gpt-4o-mini", api_key=SecretStr("test"))
        return {"inner": inner, "manager": manager, "agent": "a"}


def test_nothing_in_the_suite_was_left_out_for_want_of_a_feature() -> None:
    """Tools, tool choice and structures are there, so their tests did something."""
    suite = TestBudgetedChatModel()
    assert suite.has_tool_calling
    assert suite.has_tool_choice
    assert suite.has_structured_output
