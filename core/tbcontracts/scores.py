"""Scores for the confidence gate: from a function, from a field of a result, or from its tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

ScoreSource = Callable[[Any], Any] | str
"""A function of the result that returns a score in 0..1 or None, or the path of a field in it."""


def score_source(source: object, what: str) -> Callable[[Any], Any]:
    """Return the function that scores a result.

    Args:
        source: A function, or a path such as "confidence" or "metadata.confidence".
        what: Whose score it is, for the error.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(source, str):
        path = source.split(".")
        return lambda result: _field(result, path)
    if callable(source):
        return source
    msg = f"{what} must be a function or the name of a field, not {type(source).__name__}."
    raise TypeError(msg)


def mean_token_probability(result: Any) -> float | None:
    """Return how sure the model was of its words: the mean probability of the tokens it chose.

    Reads log probabilities as OpenAI's chat completions and responses report them, also where
    LangChain keeps them (`response_metadata["logprobs"]`). They must have been asked for
    (`logprobs=True`).

    Args:
        result: A reply of the provider, a LangChain message, or what a graph node or an agent
            returns: there the last of its `messages` counts.

    Returns:
        A score in 0..1; None where no log probabilities were reported.
    """
    found = [math.exp(min(0.0, logprob)) for logprob in _logprobs(result)]
    return sum(found) / len(found) if found else None


def _logprobs(result: Any) -> Iterator[float]:
    """Yield the log probability of each token of an answer."""
    for choice in _get(result, "choices") or ():
        yield from _in_tokens(_get(_get(choice, "logprobs"), "content"))
    metadata = _get(result, "response_metadata")
    if isinstance(metadata, Mapping):
        yield from _in_tokens(_get(metadata.get("logprobs"), "content"))
    messages = _get(result, "messages")
    if isinstance(messages, (list, tuple)) and messages:
        yield from _logprobs(messages[-1])
    for item in _get(result, "output") or ():
        for part in _get(item, "content") or ():
            yield from _in_tokens(_get(part, "logprobs"))


def _in_tokens(tokens: Any) -> Iterator[float]:
    for token in tokens if isinstance(tokens, (list, tuple)) else ():
        logprob = _get(token, "logprob")
        if isinstance(logprob, (int, float)) and not math.isnan(logprob):
            yield float(logprob)


def _field(result: Any, path: list[str]) -> Any:
    """Return what stands at a path in mappings and objects; None where it ends."""
    for name in path:
        result = _get(result, name)
    return result


def _get(value: Any, name: str) -> Any:
    """Return a mapping's entry or an object's attribute; None if there is none."""
    if isinstance(value, Mapping):
        return value.get(name)
    return None if isinstance(value, str) else getattr(value, name, None)
