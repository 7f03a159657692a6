"""CrewAI's own classes for OpenAI, Anthropic, Gemini, Bedrock and Azure."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from crewai import LLM
from tests.providers.cells import (
    ESTIMATED,
    KNOWN,
    MEASURED,
    NOT_SHOWN,
    Expected,
    as_found,
    cells_of,
    without,
)
from tests.providers.through_crewai import CrewAIClient
from tests.providers.through_langchain import anthropic_calm, aws_calm, google_calm, openai_calm

from tbcontracts.testing import (
    FakeAnthropic,
    FakeBedrock,
    FakeGemini,
    FakeOpenAI,
    FakeProvider,
)


def openai(
    server: FakeProvider,
    _: pytest.MonkeyPatch,
    *,
    retries: int,
    cap: int | None,
    stream: bool,
    **settings: Any,
) -> Any:
    """Return CrewAI's model for OpenAI."""
    return LLM(
        model="openai/gpt-4o-mini",
        base_url=server.base_url,
        api_key="test",
        max_retries=retries,
        max_tokens=cap,
        stream=stream,
        **settings,
    )


def anthropic(
    server: FakeProvider, _: pytest.MonkeyPatch, *, retries: int, cap: int | None, stream: bool
) -> Any:
    """Return CrewAI's model for Anthropic."""
    return LLM(
        model="anthropic/claude-sonnet-5",
        base_url=server.base_url,
        api_key="test",
        max_retries=retries,
        max_tokens=cap,
        stream=stream,
    )


def gemini(
    server: FakeProvider, _: pytest.MonkeyPatch, *, retries: int, cap: int | None, stream: bool
) -> Any:
    """Return CrewAI's model for Gemini."""
    options = {"base_url": server.base_url, "retry_options": {"attempts": retries + 1}}
    return LLM(
        model="gemini/gemini-2.5-flash",
        api_key="test",
        client_params={"http_options": options},
        max_output_tokens=cap,
        stream=stream,
    )


def bedrock(
    server: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
    *,
    retries: int,
    cap: int | None,
    stream: bool,
) -> Any:
    """Return CrewAI's model for Bedrock; its address and its retries are the environment's."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", server.base_url)
    return LLM(
        model="bedrock/anthropic.claude-sonnet-4-20250514-v1:0",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        max_tokens=cap,
        stream=stream,
    )


def azure(
    server: FakeProvider, _: pytest.MonkeyPatch, *, retries: int, cap: int | None, stream: bool
) -> Any:
    """Return CrewAI's model for Azure."""
    return LLM(
        model="azure/gpt-4o-mini",
        endpoint=f"{server.base_url}/openai/deployments/gpt-4o-mini",
        api_key="test",
        api_version="2024-10-21",
        max_retries=retries,
        max_tokens=cap,
        stream=stream,
    )


WRITTEN = as_found(
    Expected(MEASURED, "CrewAI does not pass on what was written to the cache", ("written",)),
    "cache written",
    "cache written, streamed",
)
UNTOLD = "thinking is billed as output; the provider does not say how much of it that was"
THOUGHT = as_found(Expected(MEASURED, UNTOLD, ("reasoning",)), "reasoning", "reasoning, streamed")
NO_PARTS = "CrewAI finds no parts in what azure-ai-inference hands it"
UNSHOWN = {"refused after it began": NOT_SHOWN}
CLIENTS = [
    CrewAIClient(
        name="OpenAI",
        server=FakeOpenAI,
        model=openai,
        calm=openai_calm,
        but={**WRITTEN, **UNSHOWN},
    ),
    CrewAIClient(
        name="OpenAI responses",
        server=FakeOpenAI,
        model=partial(openai, api="responses"),
        calm=openai_calm,
        but={**WRITTEN, **UNSHOWN},
        lacks=without("CrewAI takes no tool calls from a streamed response", "tool turn, streamed"),
    ),
    CrewAIClient(
        name="Anthropic",
        server=FakeAnthropic,
        model=anthropic,
        calm=anthropic_calm,
        but={**THOUGHT, **UNSHOWN, "output cap that nobody set": Expected(KNOWN)},
    ),
    CrewAIClient(
        name="Gemini",
        server=FakeGemini,
        model=gemini,
        calm=google_calm,
        lacks={
            **without(
                "Gemini's own cache is written beforehand, in a call of its own",
                "cache written",
                "cache written, streamed",
            ),
            **without("its SDK sends only refused requests again", "retry of what was billed"),
        },
    ),
    CrewAIClient(
        name="Bedrock",
        server=FakeBedrock,
        model=bedrock,
        calm=aws_calm,
        but={
            **THOUGHT,
            **UNSHOWN,
            "connection lost": Expected(
                ESTIMATED,
                "the client sends the request four times, and CrewAI lets nobody change that; "
                "charged is one hold",
            ),
        },
        lacks=without("CrewAI takes no tool calls from a Bedrock stream", "tool turn, streamed"),
    ),
    CrewAIClient(
        name="Azure",
        server=partial(FakeOpenAI, dialect="azure"),
        model=azure,
        but={
            **UNSHOWN,
            **as_found(
                Expected(MEASURED, NO_PARTS, ("cached",)),
                "cached prompt",
                "cached prompt, streamed",
            ),
            **as_found(
                Expected(MEASURED, NO_PARTS, ("cached", "written")),
                "cache written",
                "cache written, streamed",
            ),
            **as_found(
                Expected(MEASURED, NO_PARTS, ("reasoning",)), "reasoning", "reasoning, streamed"
            ),
        },
        lacks=without("its SDK sends only refused requests again", "retry of what was billed"),
    ),
]


@pytest.mark.parametrize(("client", "kind"), cells_of(*CLIENTS))
def test_cell(client: Any, kind: Any, cell: Any) -> None:
    """Find what the books made of one kind of call."""
    cell(client, kind)
