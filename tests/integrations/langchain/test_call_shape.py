"""What LangChain says of a call, wherever a provider's client has put it."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from tbcontracts_langchain.usage import call_shape, chunk_text


@pytest.mark.parametrize(
    "params",
    [
        {"max_tokens": 7},
        {"max_completion_tokens": 7},
        {"num_predict": 7},
        {"options": {"num_predict": 7}},
        {"generation_config": {"max_output_tokens": 7}},
        {"inferenceConfig": {"maxTokens": 7}},
        {"max_tokens": 90, "options": {"num_predict": 7}},
    ],
    ids=str,
)
def test_the_output_cap_of_a_call_is_found(params: dict[str, Any]) -> None:
    """Each provider has its own name for it; what the call was given comes first."""
    assert call_shape(["hi"], params, {"ls_max_tokens": 90}).output_cap == 7


def test_a_cap_that_is_only_printed_is_found() -> None:
    """ChatOllama tells its hooks of it nowhere else."""
    printed = {"type": "not_implemented", "repr": "ChatOllama(model='x', num_predict=7, top_k=9)"}
    assert call_shape(["hi"], {}, {}, printed).output_cap == 7
    assert call_shape(["hi"], {"max_tokens": 5}, {}, printed).output_cap == 5


@pytest.mark.parametrize(
    "serialized",
    [
        None,
        {},
        {"type": "constructor", "repr": "num_predict=7"},
        {"type": "not_implemented", "repr": "ChatOllama(num_predict=-1)"},
        {"type": "not_implemented", "repr": "ChatOllama(num_predict=None)"},
        {"type": "not_implemented", "repr": None},
    ],
    ids=str,
)
def test_nothing_else_is_taken_for_a_cap(serialized: Any) -> None:
    """No cap is no cap."""
    assert call_shape(["hi"], {}, {}, serialized).output_cap is None


@pytest.mark.parametrize(
    "message",
    [
        {"content": "", "additional_kwargs": {"reasoning_content": "Let me see."}},
        {"content": [{"type": "thinking", "thinking": "Let me see.", "index": 0}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]}]},
        {"content": [{"type": "reasoning_content", "reasoning_content": {"text": "Let me see."}}]},
        {"content": [{"type": "reasoning", "reasoning": "Let me see."}]},
        {"content": [{"type": "reasoning", "summary": [{"type": "x", "text": "Let me see."}]}]},
    ],
    ids=str,
)
def test_thoughts_that_are_shown_are_seen(message: dict[str, Any]) -> None:
    """They are billed as output, so that a stream that breaks off is charged for them too."""
    chunk = ChatGenerationChunk(message=AIMessageChunk(**message))
    assert chunk_text("", chunk) == "Let me see."
