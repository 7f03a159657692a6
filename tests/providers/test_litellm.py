"""LangChain's ChatLiteLLM, for a provider that speaks OpenAI's format."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity
from tests.providers.cells import (
    INVISIBLE,
    LEFT_OPEN,
    MEASURED,
    NOT_SHOWN,
    Expected,
    as_found,
    cells_of,
)
from tests.providers.through_langchain import LangChainClient

from tbcontracts.testing import FakeOpenAI

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="langchain-litellm is not made for Python 3.10"
)


def model(url: str, *, retries: int, cap: int | None, **settings: Any) -> Any:
    """Return the client."""
    from langchain_litellm import ChatLiteLLM  # is not made for Python 3.10

    make: Any = ChatLiteLLM
    return make(
        api_base=url,
        api_key="test",
        model="openai/gpt-4o-mini",
        max_retries=retries + 1,  # it counts the first attempt too
        max_tokens=cap,
        **settings,
    )


def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client send again at once."""
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=lambda _: None))


CLIENT = LangChainClient(
    name="LiteLLM",
    server=FakeOpenAI,
    model=model,
    calm=calm,
    but={
        "no usage, streamed": Expected(
            INVISIBLE, "LiteLLM counts such a stream itself, and does not say that it did"
        ),
        "stream left by the caller": LEFT_OPEN,
        "refused after it began": NOT_SHOWN,
        **as_found(
            Expected(MEASURED, "LiteLLM does not pass on what was written", ("written",)),
            "cache written",
            "cache written, streamed",
        ),
    },
)


@pytest.mark.parametrize(("client", "kind"), cells_of(CLIENT))
def test_cell(client: Any, kind: Any, cell: Any) -> None:
    """Find what the books made of one kind of call."""
    cell(client, kind)
