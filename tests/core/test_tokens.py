"""The size of a request: what is text, what is not, and how far the estimate may be off."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest

from tbcontracts.tokens import (
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    RequestSize,
    estimate_tokens,
    size_request,
    tiktoken_counter,
)

PIXELS = base64.b64encode(bytes(range(256)) * 3_000).decode()
"""A megabyte of base64, as images come in requests."""

MEDIA: dict[str, Any] = {
    "openai chat image": {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{PIXELS}"},
    },
    "openai chat audio": {"type": "input_audio", "input_audio": {"data": PIXELS, "format": "wav"}},
    "openai chat file": {"type": "file", "file": {"file_data": PIXELS, "filename": "a.pdf"}},
    "openai responses image": {
        "type": "input_image",
        "image_url": f"data:image/png;base64,{PIXELS}",
    },
    "openai responses file": {"type": "input_file", "file_data": PIXELS},
    "openai responses generated image": {"type": "image_generation_call", "result": PIXELS},
    "anthropic image": {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PIXELS},
    },
    "anthropic document": {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": PIXELS},
    },
    "anthropic document by URL": {
        "type": "document",
        "source": {"type": "url", "url": "https://example.com/a.pdf"},
    },
    "gemini image": {"inline_data": {"mime_type": "image/png", "data": PIXELS}},
    "gemini image over REST": {"inlineData": {"mimeType": "image/png", "data": PIXELS}},
    "gemini video": {"file_data": {"mime_type": "video/mp4", "file_uri": "gs://b/a.mp4"}},
    "bedrock image": {"image": {"format": "png", "source": {"bytes": PIXELS.encode()}}},
    "bedrock document": {
        "document": {"format": "pdf", "name": "a", "source": {"s3Location": {"uri": "s3://b/a"}}}
    },
    "bedrock video": {"video": {"format": "mp4", "source": {"bytes": b"..."}}},
    "langchain image": {"type": "image", "base64": PIXELS, "mime_type": "image/png"},
    "langchain audio": {"type": "audio", "base64": PIXELS, "mime_type": "audio/wav"},
    "langchain video": {"type": "video", "url": "https://example.com/a.mp4"},
    "langchain media": {"type": "media", "mime_type": "image/png", "data": PIXELS},
    "bare bytes": PIXELS.encode(),
}


@pytest.mark.parametrize("block", MEDIA.values(), ids=MEDIA)
def test_media_have_no_bound_and_are_not_counted_as_text(block: Any) -> None:
    """An image, recording or file counts as one, whatever its bytes, and nothing bounds it."""
    message = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, block]}
    plain = size_request([{"role": "user", "content": [{"type": "text", "text": "What is this?"}]}])
    size = size_request([message])
    assert size == RequestSize(plain.input_tokens + IMAGE_TOKENS, None)


@pytest.mark.parametrize("block", MEDIA.values(), ids=MEDIA)
def test_media_in_a_tool_result_are_seen(block: Any) -> None:
    """A tool that returns a picture sends it to the model, however deep it lies."""
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [block]}
    size = size_request([{"role": "user", "content": [result]}])
    assert size.input_bound is None
    assert IMAGE_TOKENS < size.input_tokens < IMAGE_TOKENS + 50


TEXT_LIKE_MEDIA: dict[str, Any] = {
    "anthropic text document": {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "words " * 500},
    },
    "anthropic document of blocks": {
        "type": "document",
        "source": {"type": "content", "content": [{"type": "text", "text": "words " * 500}]},
    },
    "bedrock text document": {
        "document": {"format": "txt", "name": "a", "source": {"text": "words " * 500}}
    },
    "langchain text block": {"type": "text-plain", "text": "words " * 500},
    "data URL written into a text": {"type": "text", "text": "words " * 500 + "data:image/png"},
    "tool call with a type of its own": {
        "type": "tool_use",
        "name": "save",
        "input": {"type": "file", "image": {"source": "x"}, "text": "words " * 500},
    },
}


@pytest.mark.parametrize("block", TEXT_LIKE_MEDIA.values(), ids=TEXT_LIKE_MEDIA)
def test_text_that_looks_like_media_is_counted(block: Any) -> None:
    """A document of plain text and the arguments of a tool are text, with a bound."""
    size = size_request([{"role": "user", "content": [block]}])
    assert size.input_tokens >= 500
    assert size.input_bound is not None
    assert size.input_bound >= 3_000


TOOLS: dict[str, Any] = {
    "openai": {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search the archive of the city for a word. " * 10,
            "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
        },
    },
    "anthropic": {
        "name": "search",
        "description": "Search the archive of the city for a word. " * 10,
        "input_schema": {"type": "object", "properties": {"word": {"type": "string"}}},
    },
}


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_tool_definitions_are_counted(tool: dict[str, Any]) -> None:
    """Definitions go along with every call; they count as the JSON that is sent."""
    bare = size_request(["Find it."])
    size = size_request(["Find it."], tools=[tool])
    assert size.input_tokens - bare.input_tokens >= 90
    assert size.input_bound is not None
    assert bare.input_bound is not None
    assert size.input_bound - bare.input_bound == len(json.dumps([tool]))


def test_langchain_tools_are_counted() -> None:
    """What LangChain makes of a tool counts, and so does a schema class on its own."""
    from langchain_core.tools import tool
    from langchain_core.utils.function_calling import convert_to_openai_tool
    from pydantic import BaseModel, Field

    @tool
    def search(word: str) -> str:
        """Search the archive of the city for a word, in every language that it is kept in."""
        return word

    class Found(BaseModel):
        """What was found, with the place where it stands and all that is said of it there."""

        place: str = Field(description="The shelf, the book and the page where it was found.")

    bare = size_request(["Find it."]).input_tokens
    for given in ([convert_to_openai_tool(search)], [Found]):
        assert size_request(["Find it."], tools=given).input_tokens - bare >= 30


def test_tool_calls_count_with_the_names_of_their_arguments() -> None:
    """The arguments of an earlier call are sent as JSON, keys and all."""
    arguments = {f"a_rather_long_name_{number}": number for number in range(50)}
    openai = {"function": {"name": "f", "arguments": json.dumps(arguments)}, "type": "function"}
    plain = {"name": "f", "args": arguments}
    for call in (openai, plain):
        size = size_request([{"role": "assistant", "content": None, "tool_calls": [call]}])
        assert size.input_bound is not None
        assert size.input_bound >= len(json.dumps(arguments))
        assert size.input_tokens >= 250


def test_structured_content_counts_with_its_keys() -> None:
    """A tool result as plain data is sent with its keys."""
    result = {"toolResult": {"toolUseId": "t", "content": [{"json": {"k" * 400: 1}}]}}
    size = size_request([{"role": "user", "content": [result]}], count=len)
    assert size.input_tokens > 400
    assert size.input_bound is not None
    assert size.input_bound > 400


def test_messages_as_objects_count_by_their_content() -> None:
    """A message object counts as the mapping it stands for."""
    message = SimpleNamespace(content="words " * 100, tool_calls=None)
    assert size_request([message]) == size_request(["words " * 100])


def test_each_message_has_its_frame() -> None:
    """A message costs a little even when it is empty."""
    assert size_request([""] * 10, count=len).input_tokens == 10 * MESSAGE_TOKENS
    assert size_request([], count=len) == RequestSize(0, 16)


def endless() -> list[Any]:
    """Return a list that holds itself."""
    loop: list[Any] = []
    loop.append(loop)
    return loop


def deep() -> list[Any]:
    """Return lists in lists, deeper than any stack."""
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


class Stubborn:
    """A model that cannot be described."""

    def model_dump(self) -> dict[str, Any]:
        """Fail."""
        raise RuntimeError("no")


UNSENDABLE: dict[str, Any] = {
    "a list in itself": endless(),
    "lists in lists": deep(),
    "a stubborn object": Stubborn(),
    "arguments that hold themselves": {"args": endless()},
    "keys that JSON has not": {"args": {("a", 1): 2}},
    "stubborn arguments": {"args": [Stubborn()]},
    "keys that are numbers": {1: {2: object()}},
    "a type that is no text": {"type": ["image"]},
    "half a sign": "\ud800 alone",
    "half a sign in arguments": {"args": {"a": "\udfff"}},
    "no number": float("nan"),
}


@pytest.mark.parametrize("message", UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_cannot_be_sent_does_not_fail_here(message: Any) -> None:
    """Measuring never breaks a call: what is wrong with it, the provider's client will say."""
    size = size_request([message], tools=[message])
    assert size.input_tokens > 0
    assert size.input_bound is not None


ENGLISH = (
    "The committee met on Tuesday to review the quarterly figures, and found that the costs of "
    "heating had risen faster than anyone expected. Several members asked whether the old boiler "
    "could be replaced before winter; the treasurer answered that it depended on the grant. "
)
CODE = '''
def merge(left: list[int], right: list[int]) -> list[int]:
    """Merge two sorted lists."""
    merged, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            merged.append(left[i]); i += 1
        else:
            merged.append(right[j]); j += 1
    return merged + left[i:] + right[j:]
'''
CHINESE = (
    "委员会星期二开会审查季度数据。发现取暖费用的上涨速度超出所有人的预期。"
    "几位成员询问能否在冬天之前更换旧锅炉。"
)
JAPANESE = (
    "委員会は火曜日に集まり、四半期の数字を確認しました。"
    "暖房費は誰の予想よりも速く上がっていました。"
)
KOREAN = (
    "위원회는 화요일에 모여 분기별 수치를 검토했으며 "
    "난방비가 예상보다 빨리 올랐다는 것을 알게 되었다."
)
GERMAN = (
    "Der Ausschuss trat am Dienstag zusammen, um die Quartalszahlen zu prüfen, und stellte fest, "
    "dass die Heizkosten im vergangenen Winter sehr schnell gestiegen waren. "
)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        (ENGLISH, 1.0, 1.7),
        (CODE, 0.8, 1.5),
        (GERMAN, 0.8, 1.6),
        (CHINESE, 0.9, 1.8),
        (JAPANESE, 0.9, 1.8),
        (KOREAN, 0.9, 1.8),
    ],
    ids=["english", "code", "german", "chinese", "japanese", "korean"],
)
def test_the_estimate_without_tiktoken_is_near(text: str, low: float, high: float) -> None:
    """Where no encoding is at hand, the estimate stays within these factors of the true count."""
    count = tiktoken_counter("o200k_base")
    assert count is not None, "LiteLLM's package brings the encodings that this needs"
    assert low <= estimate_tokens(text) / count(text) <= high
