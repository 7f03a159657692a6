"""What a wire format has to say for itself: how to read a request, and how to write a reply."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tbcontracts.testing.script import Answer, ScriptedRequest

_WORDS_PER_CHUNK = 3


class Reply(NamedTuple):
    """An answer with its numbers settled."""

    number: int
    model: str
    answer: Answer
    text: str
    choices: int
    input_tokens: int
    output_tokens: int
    cut_short: bool
    """The output cap ended it."""

    @property
    def cached_tokens(self) -> int:
        """The part of the input that came from the cache."""
        return self.answer.cached_tokens

    @property
    def cache_write_tokens(self) -> int:
        """The part of the input that was written to the cache."""
        return self.answer.cache_write_tokens

    @property
    def fresh_tokens(self) -> int:
        """The input that the cache had no part in."""
        return self.input_tokens - self.cached_tokens - self.cache_write_tokens

    @property
    def reasoning_tokens(self) -> int:
        """The part of the output that was reasoning."""
        return self.answer.reasoning_tokens

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    @property
    def reports_usage(self) -> bool:
        """Whether it says what it cost."""
        return self.answer.report_usage

    @property
    def calls(self) -> list[tuple[str, str, dict[str, Any]]]:
        """The tools that it calls: an id, a name and the arguments of each."""
        return [
            (f"call_{self.number}_{at}", call.name, dict(call.arguments))
            for at, call in enumerate(self.answer.tool_calls)
        ]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request asks for, in whichever format."""

    messages: tuple[tuple[str, str], ...]
    """Role and text of each message; roles are system, user, assistant and tool."""
    model: str = ""
    tools: tuple[str, ...] = ()
    """The names of the tools that may be called."""
    output_cap: int | None = None
    """The longest answer that it allows."""
    streamed: bool = False
    """Whether the answer is to come in pieces."""
    choices: int = 1
    """How many answers it wants."""


class Piece(NamedTuple):
    """A piece of a streamed answer, as it is sent."""

    content: bytes
    text: str = ""
    """What of the answer is in it: text, and calls of tools."""


class Wire(ABC):
    """A wire format. It has no state: what is sent follows from the request and the reply."""

    stream_type: str = "text/event-stream"
    """The content type of a streamed answer."""
    ending: bytes = b""
    """Sent behind the last piece, to clients that may have stopped reading."""

    @abstractmethod
    def read(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """Return what a request asks for; None if there is nothing at its path."""

    @abstractmethod
    def whole(self, request: ScriptedRequest, reply: Reply) -> Mapping[str, Any]:
        """Return the body of an answer that is sent in one."""

    @abstractmethod
    def pieces(self, request: ScriptedRequest, reply: Reply) -> Iterator[Piece]:
        """Yield the pieces of an answer that is streamed."""

    @abstractmethod
    def failed(self, status: int, message: str) -> Mapping[str, Any]:
        """Return the body of an HTTP error."""

    @abstractmethod
    def broken(self, request: ScriptedRequest, message: str) -> bytes:
        """Return what ends a stream where the provider fails in the middle of it."""

    def headers_of(self, status: int) -> Mapping[str, str]:
        """Return the headers of an HTTP error."""
        return {}

    def shown(self, path: str) -> Mapping[str, Any] | None:
        """Return what is to be seen at a path; None if nothing is."""
        return None

    def reports_usage(self, request: ScriptedRequest, reply: Reply) -> bool:
        """Return whether an answer says what it cost."""
        return reply.reports_usage

    def ending_of(self, request: ScriptedRequest) -> bytes:
        """Return what is sent behind the last piece."""
        return self.ending


def pieces_of(text: str) -> list[str]:
    """Cut a text into the pieces in which it is streamed; put together they are the text."""
    words = text.split(" ")
    chunks = [words[at : at + _WORDS_PER_CHUNK] for at in range(0, len(words), _WORDS_PER_CHUNK)]
    joined = [" ".join(chunk) for chunk in chunks]
    return [*(f"{piece} " for piece in joined[:-1]), joined[-1]] if text else []


def sse(event: Mapping[str, Any], name: str | None = None) -> bytes:
    """Return a server-sent event."""
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(event)}\n\n".encode()


def text_of_parts(parts: Any, names: tuple[str, ...]) -> str:
    """Return the text of content blocks that tell what they are by the names of their fields.

    Args:
        parts: A text, or blocks.
        names: The fields whose value is content; everything that is no text is counted as JSON.
    """
    if isinstance(parts, str):
        return parts
    found = []
    for part in parts or ():
        if isinstance(part, str):
            found.append(part)
            continue
        for name in names:
            value = part.get(name)
            if value is not None:
                found.append(value if isinstance(value, str) else json.dumps(value))
    return " ".join(found)
