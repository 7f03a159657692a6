"""The local server for OpenAI's wire format, and for the many providers that speak it."""

from __future__ import annotations

from collections.abc import Callable

from tbcontracts.checks import shown
from tbcontracts.testing.fake_provider import FakeProvider
from tbcontracts.testing.openai_dialects import DIALECTS
from tbcontracts.testing.openai_wire import OpenAIWire
from tbcontracts.testing.script import Script, count_tokens
from tbcontracts.testing.wire import Wire


class FakeOpenAI(FakeProvider):
    """OpenAI on this machine: chat and text completions, responses and the list of models.

    Args:
        script: What to answer: a function of the `ScriptedRequest`, a sequence, a mapping from a
            part of the system prompt to any of these, or None for short sentences.
        count_tokens: Counts the tokens of a text.
        dialect: Whose usage, reasoning and streams it has: "openai", "azure", "deepseek", "groq",
            "litellm" (its proxy), "mistral", "openrouter" or "vllm".

    Raises:
        ValueError: There is no such dialect.

    Example:
        `with FakeOpenAI() as server: ChatOpenAI(base_url=server.base_url, api_key="test")`
    """

    def __init__(
        self,
        script: Script = None,
        *,
        count_tokens: Callable[[str], int] = count_tokens,
        dialect: str = "openai",
    ) -> None:
        if dialect not in DIALECTS:
            msg = f"dialect must be one of {', '.join(sorted(DIALECTS))}, not {shown(dialect)}."
            raise ValueError(msg)
        super().__init__(script, count_tokens=count_tokens)
        self.wire: Wire = OpenAIWire(DIALECTS[dialect])
        self.base_path: str = DIALECTS[dialect].base_path
