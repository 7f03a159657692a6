"""Counts of texts that were sent before are not worked out again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tbcontracts.tokens import RememberingCounter, size_request


def test_an_unchanged_prefix_is_counted_once() -> None:
    """Of a conversation that grows by a message, only the new message is counted."""
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text)

    remembering = RememberingCounter(count)
    conversation = [{"role": "user", "content": f"{number}" * 300} for number in range(5)]
    for length in range(1, 6):
        size = size_request(conversation[:length], count=remembering)
        assert size == size_request(conversation[:length], count=len)
    assert sorted(text for text in counted if len(text) > 10) == sorted(
        str(message["content"]) for message in conversation
    )


def test_the_oldest_counts_are_forgotten() -> None:
    """The memory is bounded; what was forgotten is counted again, and rightly."""
    remembering = RememberingCounter(len, texts_max=2)
    texts = [letter * length for letter, length in (("a", 200), ("b", 300), ("c", 400))]
    for _ in range(3):
        assert [remembering(text) for text in texts] == [200, 300, 400]
    assert len(remembering._known) == 2


def test_no_text_is_kept() -> None:
    """Prompts stay out of the memory: only digests and numbers are in it."""
    remembering = RememberingCounter(len)
    remembering("secret " * 100)
    assert "secret" not in repr(remembering.__dict__)


def test_threads_share_it() -> None:
    """Many threads with more texts than it keeps get the right counts."""
    remembering = RememberingCounter(len, texts_max=8)
    lengths = [200 + number % 40 for number in range(2_000)]
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda length: remembering("x" * length), lengths))
    assert counts == lengths
