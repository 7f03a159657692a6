"""What a stream says of itself, piece by piece: its text, and the usage somewhere in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tbcontracts.usage import Usage


class Stream:
    """The pieces of one streamed answer, as they come by; nothing of them is kept."""

    def __init__(self) -> None:
        self._added: Usage | None = None
        self._largest: Usage | None = None

    @property
    def usage(self) -> Usage | None:
        """What the pieces report in all, or None if none of them reports anything."""
        if self._added is not None and self._largest is not None:
            return self._added + self._largest
        return self._added if self._largest is None else self._largest

    def usage_until_now(self) -> Usage | None:
        """Return the usage of a stream that broke off: its first pieces may name the input only."""
        usage = self.usage
        return usage and Usage.estimated(usage.input_tokens, usage.output_tokens)

    def saw(self, piece: Any) -> None:
        """Look at a piece for its usage.

        LangChain splits a usage over the chunks, to be added up. Providers report it once, or
        again and again as it grows: there the largest numbers count.
        """
        if piece is None or isinstance(piece, (str, bytes, int, float)):
            return
        usage = _usage_in(piece)
        if usage is None:
            return
        if getattr(piece, "usage_metadata", None) is not None and hasattr(piece, "content"):
            self._added = usage if self._added is None else self._added + usage
        else:
            self._largest = usage if self._largest is None else _larger(self._largest, usage)


def text_in(piece: Any) -> str:
    """Return the text that a piece brings, in the shapes of LangChain and OpenAI; "" if none."""
    if isinstance(piece, str):
        return piece
    content = _get(piece, "content")
    if isinstance(content, str):
        return content
    if _get(piece, "type") == "response.output_text.delta":
        return str(_get(piece, "delta") or "")
    texts = [_get(_get(choice, "delta"), "content") for choice in _get(piece, "choices") or ()]
    return "".join(text for text in texts if isinstance(text, str))


def _usage_in(piece: Any) -> Usage | None:
    """Return the usage that a piece reports; providers' events may hold it one level down."""
    for holder in (piece, _get(piece, "response"), _get(piece, "message")):
        if holder is not None:
            usage = Usage.read(holder)
            if usage.measured:
                return usage
    return None


def _larger(one: Usage, other: Usage) -> Usage:
    """Return the larger number of each bucket."""
    return Usage(
        input_tokens=max(one.input_tokens, other.input_tokens),
        output_tokens=max(one.output_tokens, other.output_tokens),
        cached_input_tokens=max(one.cached_input_tokens, other.cached_input_tokens),
        cache_write_tokens=max(one.cache_write_tokens, other.cache_write_tokens),
        reasoning_tokens=max(one.reasoning_tokens, other.reasoning_tokens),
    )


def _get(value: Any, name: str) -> Any:
    """Return a mapping's entry or an object's attribute; None if there is none."""
    if isinstance(value, Mapping):
        return value.get(name)
    return None if isinstance(value, (str, bytes)) else getattr(value, name, None)
