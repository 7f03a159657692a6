"""How large a request is before the provider says so: an estimate, and an upper bound.

With tiktoken installed and an encoding on this machine, texts are counted; else estimated from
their bytes. Nothing is ever downloaded: tiktoken would fetch an encoding that it lacks and hang
where there is no network, so it is only asked for what lies in a cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

TokenCounter = Callable[[str], int]

MESSAGE_TOKENS = 4
"""What chat formats add around each message (OpenAI's cookbook counts 3 to 4)."""
MESSAGE_BOUND_TOKENS = 16
IMAGE_TOKENS = 1_000
_BYTES_PER_TOKEN = 3.5
_CHUNK_CHARACTERS = 4_096
_REMEMBER_FROM_CHARACTERS = 200
"""Shorter texts are counted as fast as they are looked up."""
_ENCODING = "o200k_base"
_ENCODING_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
# tiktoken fetches an encoding anew when its cached file has another SHA-256 (openai_public.py).
_ENCODING_SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
_IMAGE_TYPES = ("image", "image_url", "input_image", "input_audio", "audio", "file", "input_file")


class RequestSize(NamedTuple):
    """How many input tokens a request has."""

    input_tokens: int
    """What to expect."""
    input_bound: int | None
    """What it cannot pass: each token is at least one byte. None where nothing bounds it."""


def size_request(
    messages: Iterable[Any], *, tools: Any = None, count: TokenCounter | None = None
) -> RequestSize:
    """Measure a request before it is sent.

    Args:
        messages: The messages as plain data: text, or mappings and lists of text, content blocks
            and tool calls, as chat APIs take them.
        tools: Tool definitions and anything else that goes along, as plain data.
        count: Counts the tokens of a text; the best counter on this machine if not given.
    """
    count = count or best_counter()
    texts: list[str] = []
    total_messages = media = 0
    for message in messages:
        total_messages += 1
        media += _collect(message, texts)
    if tools:
        texts.append(json.dumps(tools, ensure_ascii=False, default=_type_name))
    tokens = sum(map(count, texts)) + MESSAGE_TOKENS * total_messages + IMAGE_TOKENS * media
    if media:
        return RequestSize(tokens, None)
    bound = sum(map(byte_length, texts)) + MESSAGE_BOUND_TOKENS * (total_messages + 1)
    return RequestSize(tokens, bound)


def _collect(part: Any, texts: list[str]) -> int:
    """Gather the texts of a message; return how many images and the like it holds."""
    if part is None:
        return 0
    if isinstance(part, str):
        texts.append(part)
        return 0
    if isinstance(part, Mapping):
        kind = part.get("type")
        if isinstance(kind, str) and kind in _IMAGE_TYPES:
            return 1
        return sum(_collect(value, texts) for value in part.values())
    if isinstance(part, (list, tuple)):
        return sum(_collect(item, texts) for item in part)
    texts.append(str(part) if isinstance(part, (int, float)) else _type_name(part))
    return 0


def _type_name(value: object) -> str:
    """Stand in for what is no plain data."""
    return type(value).__name__


def byte_length(text: str) -> int:
    """Return the length in UTF-8 bytes: no tokenizer makes more tokens of a text than that."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text from its bytes, a little high for English prose."""
    return -int(-byte_length(text) // _BYTES_PER_TOKEN)


_lock = threading.RLock()  # a finalizer may come back here on the same thread


@lru_cache(maxsize=1)
def _find_counter() -> TokenCounter:
    """Find the best way to count on this machine."""
    for name in (_ENCODING, "cl100k_base"):
        counter = tiktoken_counter(name)
        if counter is not None:
            return RememberingCounter(counter)
    return estimate_tokens


class RememberingCounter:
    """Counts a text once: a conversation goes out again with every call, one message longer.

    What is kept is a digest of each text and its count, not the text.

    Args:
        count: Counts the tokens of a text it has not seen.
        texts_max: How many counts are kept; the oldest go first.
    """

    def __init__(self, count: TokenCounter, texts_max: int = 8_192) -> None:
        self._count = count
        self._texts_max = texts_max
        self._known: dict[bytes, int] = {}
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread

    def __call__(self, text: str) -> int:
        """Return the tokens of a text."""
        if len(text) < _REMEMBER_FROM_CHARACTERS:
            return self._count(text)
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._known.get(key)
        if known is None:
            known = self._count(text)
            with self._lock:
                self._known[key] = known
                while len(self._known) > self._texts_max:
                    self._known.pop(next(iter(self._known)), None)
        return known


def best_counter() -> TokenCounter:
    """Return tiktoken's count where it works without a network, else the estimate."""
    with _lock:  # loading an encoding takes a second; parallel first calls should share it
        return _find_counter()


def tiktoken_counter(encoding_name: str = _ENCODING) -> TokenCounter | None:
    """Return a counter for a tiktoken encoding, or None if it is not on this machine."""
    if find_spec("tiktoken") is None:
        return None
    folder = _folder_with(encoding_name)
    if folder is None:
        return None
    import tiktoken

    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        encoding = tiktoken.get_encoding(encoding_name)
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before

    def count(text: str) -> int:
        # In pieces, because a long text without blanks takes tiktoken quadratic time.
        pieces = range(0, len(text), _CHUNK_CHARACTERS)
        return sum(
            len(encoding.encode_ordinary(text[at : at + _CHUNK_CHARACTERS])) for at in pieces
        )

    return count


def _folder_with(encoding_name: str) -> Path | None:
    """Return a folder that holds an encoding's file, or None.

    tiktoken looks in `TIKTOKEN_CACHE_DIR`, `DATA_GYM_CACHE_DIR` or the temporary folder, under the
    SHA-1 of the file's URL. LiteLLM's package brings some of these files along.
    """
    url = _ENCODING_URL.format(encoding_name)
    file_name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    folders = [
        os.environ.get("TIKTOKEN_CACHE_DIR"),
        os.environ.get("DATA_GYM_CACHE_DIR"),
        str(Path(tempfile.gettempdir()) / "data-gym-cache"),
    ]
    spec = find_spec("litellm")  # looked up, never imported: it is large
    if spec is not None and spec.submodule_search_locations:
        package = Path(next(iter(spec.submodule_search_locations)))
        folders.append(str(package / "litellm_core_utils" / "tokenizers"))
    for folder in filter(None, folders):
        try:
            content = (Path(folder) / file_name).read_bytes()
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() == _ENCODING_SHA256[encoding_name]:
            return Path(folder)
    return None
