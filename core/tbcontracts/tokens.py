"""How large a request is before the provider says so: an estimate, and an upper bound.

With tiktoken installed and an encoding on this machine, texts are counted; else estimated from
their bytes. Nothing is ever downloaded: tiktoken would fetch an encoding that it lacks and hang
where there is no network, so its loader is kept out and only files in a cache are read.
"""

from __future__ import annotations

import os
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

# What only a first count needs (hashes, folders, JSON) is imported there.

TokenCounter = Callable[[str], int]

MESSAGE_TOKENS = 4
"""What chat formats add around each message (OpenAI's cookbook counts 3 to 4)."""
MESSAGE_BOUND_TOKENS = 16
IMAGE_TOKENS = 1_000
"""What an image, a recording or a file is expected to take; nothing bounds it beforehand."""
_BYTES_PER_TOKEN = 3.5
_CHUNK_CHARACTERS = 4_096
_REMEMBER_FROM_CHARACTERS = 200
"""Shorter texts are counted as fast as they are looked up."""
_DEPTH_MAX = 64
_ENCODINGS = ("o200k_base", "cl100k_base")

# Content blocks that hold more than text, by the names that the providers' APIs give them: OpenAI's
# chat completions and responses, Anthropic, LangChain.
_MEDIA_TYPES = frozenset(
    (
        "audio",
        "computer_screenshot",
        "container_upload",
        "document",
        "file",
        "image",
        "image_file",
        "image_generation_call",
        "image_url",
        "input_audio",
        "input_file",
        "input_image",
        "input_video",
        "media",
        "video",
        "video_url",
    )
)
# Gemini and Bedrock have no types: the name of the field says what it is.
_GEMINI_MEDIA = frozenset(("inline_data", "inlineData", "file_data", "fileData"))
_BEDROCK_MEDIA = frozenset(("image", "document", "video", "audio"))
# The frame of a message: `MESSAGE_TOKENS` stands for these names; all others are sent as text.
_FRAME = frozenset(
    (
        "call_id",
        "content",
        "function",
        "id",
        "name",
        "parts",
        "role",
        "text",
        "tool_call_id",
        "tool_calls",
        "tool_use_id",
        "type",
    )
)
# What a tool is called with is text, whatever it looks like.
_ARGUMENTS = frozenset(("args", "arguments", "input"))


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
        texts.append(_as_json(tools))
    tokens = sum(map(count, texts)) + MESSAGE_TOKENS * total_messages + IMAGE_TOKENS * media
    if media:
        return RequestSize(tokens, None)
    bound = sum(map(bound_tokens, texts)) + MESSAGE_BOUND_TOKENS * (total_messages + 1)
    return RequestSize(tokens, bound)


def _collect(part: Any, texts: list[str], depth: int = 0) -> int:
    """Gather the texts of a message; return how many images and the like it holds."""
    if part is None:
        return 0
    if isinstance(part, str):
        texts.append(part)
        return 0
    if isinstance(part, (bytes, bytearray, memoryview)):
        return 1
    if depth > _DEPTH_MAX:
        texts.append(_as_json(part))
        return 0
    if isinstance(part, Mapping):
        return _collect_fields(part, texts, depth + 1)
    if isinstance(part, (list, tuple)):
        return sum(_collect(item, texts, depth + 1) for item in part)
    content = getattr(part, "content", None)
    if isinstance(content, (str, list, tuple)):  # a message as an object
        calls = getattr(part, "tool_calls", None)
        return _collect([content, calls if isinstance(calls, list) else None], texts, depth + 1)
    texts.append(str(part) if isinstance(part, (int, float)) else _type_name(part))
    return 0


def _collect_fields(part: Mapping[Any, Any], texts: list[str], depth: int) -> int:
    """Gather the texts of a mapping: a message, a content block, or what stands in one."""
    kind = part.get("type")
    if isinstance(kind, str) and kind in _MEDIA_TYPES and not _has_text_source(part):
        return 1
    media = 0
    for name, value in part.items():
        if _is_media(name, value):
            media += 1
        elif name in _ARGUMENTS and isinstance(value, (Mapping, list, tuple)):
            texts.append(_as_json(value))
        else:
            if name not in _FRAME:
                texts.append(str(name))
            media += _collect(value, texts, depth)
    return media


def _is_media(name: Any, value: Any) -> bool:
    """Return whether a field without a type holds an image or the like."""
    if not isinstance(value, Mapping):
        return False
    if name in _GEMINI_MEDIA:
        return True
    return name in _BEDROCK_MEDIA and "source" in value and not _has_text_source(value)


def _has_text_source(block: Mapping[Any, Any]) -> bool:
    """Return whether a document is plain text, as Anthropic's and Bedrock's may be."""
    source = block.get("source")
    if not isinstance(source, Mapping):
        return False
    return source.get("type") in ("text", "content") or bool({"text", "content"} & set(source))


def _as_json(value: Any) -> str:
    """Return plain data as the JSON that is sent, or as near to it as can be had."""
    import json

    try:
        return json.dumps(value, ensure_ascii=False, default=_described)
    except Exception:  # a size is an estimate: what cannot be sent must not fail here
        return _type_name(value)


def _described(value: Any) -> Any:
    """Stand in for what is no plain data: a schema, the fields of a model, or its type."""
    for method in ("model_json_schema", "model_dump"):
        describe = getattr(value, method, None)
        if callable(describe) and isinstance(value, type) == (method == "model_json_schema"):
            return describe()
    return _type_name(value)


def _type_name(value: object) -> str:
    """Stand in for what is no plain data."""
    return type(value).__name__


def byte_length(text: str) -> int:
    """Return the length in UTF-8 bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def bound_tokens(text: str) -> int:
    """Return what no tokenizer passes: each token is at least one byte of the text.

    Some tokenizers, such as Anthropic's published one, first write compatibility characters out
    (NFKC): one sign of three bytes can become thirty-three.
    """
    plain = byte_length(text)
    if text.isascii() or unicodedata.is_normalized("NFKC", text):
        return plain
    return max(plain, byte_length(unicodedata.normalize("NFKC", text)))


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text from its bytes.

    Against OpenAI's encodings: half too high for English prose, right for code, and within 30 % for
    Chinese, Japanese and Korean.
    """
    return -int(-byte_length(text) // _BYTES_PER_TOKEN)


_lock = threading.RLock()  # a finalizer may come back here on the same thread


@lru_cache(maxsize=1)
def _find_counter() -> TokenCounter:
    """Find the best way to count on this machine."""
    for name in _ENCODINGS:
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
        import hashlib

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


def tiktoken_counter(encoding_name: str = _ENCODINGS[0]) -> TokenCounter | None:
    """Return a counter for a tiktoken encoding, or None if it is not on this machine."""
    try:
        encode = _encoding(encoding_name).encode_ordinary
    except Exception:  # not installed, not in a cache, or of another make: then we estimate
        return None

    def count(text: str) -> int:
        # In pieces, because a long text without blanks takes tiktoken quadratic time.
        pieces = range(0, len(text), _CHUNK_CHARACTERS)
        return sum(len(encode(text[at : at + _CHUNK_CHARACTERS])) for at in pieces)

    return count


def _encoding(name: str) -> Any:
    """Make an encoding from its file in a cache.

    tiktoken's definitions load with functions that fetch what is missing. A copy of the module that
    holds them, seen by nobody else, gets ones that only read: no other thread's tiktoken changes.

    Raises:
        Exception: It cannot be had.
    """
    from importlib.util import find_spec, module_from_spec

    import tiktoken

    spec = find_spec("tiktoken_ext.openai_public")
    assert spec is not None
    assert spec.loader is not None
    definitions = module_from_spec(spec)
    spec.loader.exec_module(definitions)
    loaders = {
        "load_tiktoken_bpe": _ranks_in_cache,
        "data_gym_to_mergeable_bpe_ranks": _ranks_in_cache,
    }
    if not loaders.keys() <= vars(definitions).keys():
        msg = "tiktoken's definitions are not as we know them."
        raise LookupError(msg)
    vars(definitions).update(loaders)
    return tiktoken.Encoding(**definitions.ENCODING_CONSTRUCTORS[name]())


def _ranks_in_cache(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
    """Read an encoding from the first cache folder that holds its file whole.

    Raises:
        LookupError: There is none.
    """
    import hashlib
    from base64 import b64decode
    from pathlib import Path

    file_name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    for folder in _cache_folders():
        try:
            content = Path(folder, file_name).read_bytes()
        except OSError:
            continue
        if expected_hash in (None, hashlib.sha256(content).hexdigest()):
            pairs = map(bytes.split, filter(None, content.splitlines()))
            return {b64decode(token): int(rank) for token, rank in pairs}
    msg = f"No cache folder holds {url}."
    raise LookupError(msg)


def _cache_folders() -> Iterator[str]:
    """Yield the folders where encodings may lie, under the SHA-1 of the URL they came from.

    tiktoken keeps them in `TIKTOKEN_CACHE_DIR`, `DATA_GYM_CACHE_DIR` or the temporary folder (an
    empty name means none to it). LiteLLM's package brings some along.
    """
    import tempfile
    from importlib.util import find_spec
    from pathlib import Path

    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if os.environ.get(variable):
            yield os.environ[variable]
    yield str(Path(tempfile.gettempdir(), "data-gym-cache"))
    spec = find_spec("litellm")  # looked up, never imported: it is large
    for package in (spec.submodule_search_locations if spec is not None else None) or ():
        yield str(Path(package, "litellm_core_utils", "tokenizers"))
