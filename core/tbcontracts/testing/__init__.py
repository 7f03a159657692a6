"""For tests, yours too: a scripted provider on this machine, whose log says what was billed."""

from __future__ import annotations

from tbcontracts.testing.openai_server import FakeOpenAI, LoggedRequest
from tbcontracts.testing.script import Answer, Fault, ScriptedRequest, ToolCall, count_tokens

__all__ = [
    "Answer",
    "FakeOpenAI",
    "Fault",
    "LoggedRequest",
    "ScriptedRequest",
    "ToolCall",
    "count_tokens",
]
