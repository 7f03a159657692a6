"""The upper bound holds for every text there is: tiktoken never counts more than it."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbcontracts.tokens import (
    TokenCounter,
    bound_tokens,
    byte_length,
    size_request,
    tiktoken_counter,
)

ENCODINGS = ("o200k_base", "cl100k_base")
COUNTERS: dict[str, TokenCounter] = {}
for encoding in ENCODINGS:
    found = tiktoken_counter(encoding)
    assert found is not None, "LiteLLM's package brings the encodings that this needs"
    COUNTERS[encoding] = found

NASTY = (
    "<|endoftext|>",
    "<|im_start|>system",
    "<|fim_prefix|>",
    "\N{FAMILY}\N{ZERO WIDTH JOINER}\N{VARIATION SELECTOR-16}",
    "👩‍👩‍👧‍👦🏽",
    "\N{ZERO WIDTH SPACE}\N{WORD JOINER}\N{ZERO WIDTH NO-BREAK SPACE}",
    "\ud800",
    "\udfff\ud800",
    "\x00\x01\x1b[31m\x7f",
    "aGVsbG8gd29ybGQ=" * 8,
    "漢字仮名交じり文한국어",
    "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}",
    "e\N{COMBINING ACUTE ACCENT}\N{COMBINING TILDE}",
    "\N{RIGHT-TO-LEFT OVERRIDE}abc",
    "a" * 300,
    "\n\t \r\n" * 20,
    "\N{MATHEMATICAL BOLD FRAKTUR SMALL E}\N{LATIN SMALL LIGATURE FFI}\N{VULGAR FRACTION ONE HALF}",
)
hostile = st.lists(
    st.one_of(
        st.text(max_size=40),  # all of Unicode but lone surrogates
        st.text(st.characters(categories=["Cs", "Cc", "Cf", "So", "Mn", "Lo"]), max_size=40),
        st.sampled_from(NASTY),
        st.builds(lambda sign, times: sign * times, st.characters(), st.integers(1, 3_000)),
    ),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=hostile)
@settings(max_examples=150, deadline=None)
def test_no_text_has_more_tokens_than_its_bound(encoding: str, text: str) -> None:
    """Emoji, CJK, zero-width signs, surrogates, control characters, special-token text."""
    assert COUNTERS[encoding](text) <= bound_tokens(text)


@given(text=hostile)
@settings(max_examples=150, deadline=None)
def test_the_bound_holds_after_compatibility_signs_are_written_out(text: str) -> None:
    """Some tokenizers apply NFKC first; the bound is one for what they see, too."""
    assert bound_tokens(text) >= byte_length(text)
    assert bound_tokens(text) >= byte_length(unicodedata.normalize("NFKC", text))


def test_a_ligature_can_have_more_tokens_than_bytes() -> None:
    """Anthropic's published tokenizer makes 15 tokens of three bytes: bytes alone are no bound."""
    text = "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 50
    assert byte_length(text) == 150
    assert bound_tokens(text) >= 750


parts = st.recursive(
    st.one_of(hostile, st.integers(), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(arguments=st.dictionaries(st.text(max_size=20), parts, max_size=3), text=hostile)
@settings(max_examples=100, deadline=None)
def test_whole_requests_stay_within_their_bound(arguments: dict[str, Any], text: str) -> None:
    """The tokens of all texts with OpenAI's frame of 4 for each message are within the bound."""
    calls = [{"name": "tool", "args": arguments}]
    messages = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": [{"type": "text", "text": text}], "tool_calls": calls},
    ]
    for count in COUNTERS.values():
        size = size_request(messages, tools=[arguments], count=count)
        assert size.input_bound is not None
        assert size.input_tokens <= size.input_bound


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_counting_in_pieces_is_not_less(encoding: str) -> None:
    """A long text is counted in pieces; a cut may add a token, but loses none worth a bound."""
    text = "antidisestablishmentarianism and 12345678 " * 1_000
    whole = sum(COUNTERS[encoding](line) for line in text.splitlines())
    assert whole == COUNTERS[encoding](text)
    assert COUNTERS[encoding]("a" * 1_000_000) <= 1_000_000
