"""For tests, yours too: scripted providers on this machine, whose logs say what was billed."""

from __future__ import annotations

from tbcontracts.testing.anthropic_wire import FakeAnthropic
from tbcontracts.testing.bedrock_wire import FakeBedrock
from tbcontracts.testing.fake_provider import FakeProvider, LoggedRequest
from tbcontracts.testing.gemini_wire import FakeGemini
from tbcontracts.testing.ollama_wire import FakeOllama
from tbcontracts.testing.openai_server import FakeOpenAI
from tbcontracts.testing.script import Answer, Fault, ScriptedRequest, ToolCall, count_tokens

__all__ = [
    "Answer",
    "FakeAnthropic",
    "FakeBedrock",
    "FakeGemini",
    "FakeOllama",
    "FakeOpenAI",
    "FakeProvider",
    "Fault",
    "LoggedRequest",
    "ScriptedRequest",
    "ToolCall",
    "count_tokens",
]
