"""LangChain's ChatGoogleGenerativeAI."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_google_genai import ChatGoogleGenerativeAI
from tests.providers.cells import cells_of, without
from tests.providers.through_langchain import LangChainClient, google_calm

from tbcontracts.testing import FakeGemini


def model(url: str, *, retries: int, cap: int | None, **settings: Any) -> Any:
    """Return the client."""
    make: Any = ChatGoogleGenerativeAI
    return make(
        base_url=url,
        api_key="test",
        model="gemini-2.5-flash",
        max_retries=retries + 1,  # it counts the first attempt too
        max_output_tokens=cap,
        **settings,
    )


CLIENT = LangChainClient(
    name="Gemini",
    server=FakeGemini,
    model=model,
    calm=google_calm,
    lacks={
        **without(
            "Gemini's own cache is written beforehand, in a call of its own",
            "cache written",
            "cache written, streamed",
        ),
        **without("its SDK sends only refused requests again", "retry of what was billed"),
    },
)


@pytest.mark.parametrize(("client", "kind"), cells_of(CLIENT))
def test_cell(client: Any, kind: Any, cell: Any) -> None:
    """Find what the books made of one kind of call."""
    cell(client, kind)
