"""The table would notice: each fault that is planted here makes a cell another finding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.providers.cells import LANGCHAIN_KINDS, check
from tests.providers.test_anthropic import CLIENT as ANTHROPIC
from tests.providers.test_openai import CLIENTS

from tbcontracts import Usage
from tbcontracts_langchain import model_calls
from tbcontracts_langchain.usage import reported_usage

KINDS = {kind.name: kind for kind in LANGCHAIN_KINDS}


def estimate_instead(usage: Usage) -> Usage:
    """Book an estimate, though the provider reported."""
    return Usage.estimated(usage.input_tokens, usage.output_tokens)


def twice(usage: Usage) -> Usage:
    """Add the usage of the pieces to that of the whole."""
    return usage + usage


def one_less(usage: Usage) -> Usage:
    """Lose one token."""
    return Usage(input_tokens=usage.input_tokens - 1, output_tokens=usage.output_tokens)


def cache_left_out(usage: Usage) -> Usage:
    """Take Anthropic's input for the whole of it."""
    fresh = usage.input_tokens - usage.cached_input_tokens
    return Usage(input_tokens=fresh, output_tokens=usage.output_tokens)


def parts_left_out(usage: Usage) -> Usage:
    """Forget which part came from the cache."""
    return Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)


@pytest.mark.parametrize("client", [ANTHROPIC, CLIENTS[0]], ids=lambda client: client.name)
@pytest.mark.parametrize(
    "fault", [estimate_instead, twice, one_less, cache_left_out, parts_left_out]
)
def test_a_planted_fault_is_another_finding(
    client: Any, fault: Callable[[Usage], Usage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that is measured is no longer, and its test would fail."""
    kind = KINDS["cached prompt, streamed"]
    check(client, kind, client.find(kind, monkeypatch))

    def planted(response: Any) -> Usage | None:
        usage = reported_usage(response)
        return None if usage is None else fault(usage)

    monkeypatch.setattr(model_calls, "reported_usage", planted)
    with pytest.raises(AssertionError, match="found"):
        check(client, kind, client.find(kind, monkeypatch))
