"""What the scripted provider says: answers, faults, and who decides which."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_PIECES = re.compile(r"[A-Za-z]+|\d{1,3}|\s*[^\sA-Za-z\d]|\s")
_LETTERS_PER_TOKEN = 6
MESSAGE_TOKENS = 4


def count_tokens(text: str) -> int:
    """Count the tokens of a text, roughly as a byte-pair tokenizer would, and always the same.

    Words count one token for each six letters begun, numbers one for three digits, every other
    sign one; a single blank belongs to the word after it. A real tokenizer can be used instead.
    """
    total = 0
    for piece in _PIECES.findall(text):
        if piece == " ":
            continue
        total += -(-len(piece) // _LETTERS_PER_TOKEN) if piece.isalpha() else 1
    return total


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A tool call that an answer makes."""

    name: str
    """The tool."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What it is called with."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the provider answers, and what it bills."""

    text: str = ""
    """What it says."""
    tool_calls: Sequence[ToolCall] = ()
    """The tools that it calls."""
    input_tokens: int | None = None
    """Billed instead of the count of the request."""
    output_tokens: int | None = None
    """Billed instead of the count of the answer."""
    cached_tokens: int = 0
    """The part of the input that came from the prompt cache."""
    cache_write_tokens: int = 0
    """The part of the input that was written to the prompt cache."""
    reasoning_tokens: int = 0
    """Output beside the text, billed as output."""
    reasoning_text: str = ""
    """What of the reasoning is shown, where the provider shows any."""
    fill: bool = False
    """Bill exactly the output cap of the request."""
    report_usage: bool = True
    """Whether the reply says what it cost; it is billed either way."""
    hold: threading.Event | None = None
    """Answer only when this is set, so that a test can have all its calls under way."""
    hold_after_chunks: int | None = None
    """Wait for `hold` only after so many pieces of a stream, or until the client hangs up."""
    drop_after_chunks: int | None = None
    """Close the connection after so many pieces of a stream."""
    fail_after_chunks: int | None = None
    """Send the provider's own error after so many pieces of a stream, and nothing more."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A reply that is no answer."""

    kind: str = "status"
    """"status" is an HTTP error, "drop" a closed connection, "garbage" a reply that is no JSON."""
    status: int = 500
    """The HTTP status, where `kind` is "status"."""
    message: str = "The scripted provider fails."
    """The text of the error."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent along, such as `Retry-After`."""
    billed_tokens: int = 0
    """What the provider bills nonetheless, as input."""


@dataclass(frozen=True, kw_only=True)
class ScriptedRequest:
    """What a script sees of a request."""

    index: int
    """How many requests came before it."""
    path: str
    """The path of its URL."""
    body: Mapping[str, Any]
    """What was sent."""
    messages: tuple[tuple[str, str], ...]
    """Role and text of each message."""
    tools: tuple[str, ...]
    """The names of the tools that may be called."""
    output_cap: int | None
    """The longest answer that it allows."""
    streamed: bool
    """Whether the answer is to come in pieces."""
    model: str = ""
    """The model that was asked for."""
    choices: int = 1
    """How many answers it wants."""

    @property
    def system_text(self) -> str:
        """All system and developer messages."""
        return "\n".join(text for role, text in self.messages if role in ("system", "developer"))

    @property
    def last_text(self) -> str:
        """The last message."""
        return self.messages[-1][1] if self.messages else ""


Step = Answer | Fault | str
Script = (
    Callable[[ScriptedRequest], Step]
    | Sequence[Step]
    | Mapping[str, "Step | Sequence[Step] | Callable[[ScriptedRequest], Step]"]
    | None
)


class Director:
    """Finds the step of a script that answers a request."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._positions: dict[str, int] = {}
        self._lock = threading.Lock()

    def step(self, request: ScriptedRequest) -> Answer | Fault:
        """Return what to reply."""
        step = self._find("", self._script, request)
        return Answer(text=step) if isinstance(step, str) else step

    def _find(self, key: str, script: Any, request: ScriptedRequest) -> Step:
        """Look into functions, mappings and sequences until a step is found."""
        if script is None:
            return f"This is answer {request.index + 1}."
        if isinstance(script, (str, Answer, Fault)):
            return script
        if callable(script):
            found: Any = script(request)
            return self._find(key, found, request)
        if isinstance(script, Mapping):
            for part, inner in script.items():
                if part in request.system_text:
                    return self._find(part, inner, request)
            return Fault(message="The script has no answer for this system prompt.")
        with self._lock:
            position = self._positions.get(key, 0)
            self._positions[key] = position + 1
        if position >= len(script):
            return Fault(message=f"The script has only {len(script)} answers; this asks for more.")
        return self._find(f"{key}/{position}", script[position], request)


def text_of(content: Any) -> str:
    """Return the text of a message's content, whichever of the shapes it has."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        parts = (content.get(name) for name in ("text", "output", "arguments", "name"))
        return " ".join(text_of(part) for part in parts if part)
    if isinstance(content, Sequence):
        return " ".join(text_of(part) for part in content)
    return str(content)


def read_messages(body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return role and text of each message of a request; a prompt is a message of the user."""
    messages: list[tuple[str, str]] = []
    if body.get("instructions"):
        messages.append(("system", text_of(body["instructions"])))
    given = body.get("messages", body.get("input", body.get("prompt", ())))
    if isinstance(given, str):
        return (*messages, ("user", given))
    for message in given:
        if isinstance(message, str):
            messages.append(("user", message))
            continue
        text = text_of(message.get("content", message))
        for call in message.get("tool_calls") or ():
            text += f" {text_of(call.get('function'))}"
        messages.append((str(message.get("role", message.get("type", "user"))), text))
    return tuple(messages)


def read_tools(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the tools in a request."""
    tools = body.get("tools") or ()
    return tuple(str((tool.get("function") or tool).get("name", "")) for tool in tools)
