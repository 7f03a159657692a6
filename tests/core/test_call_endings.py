"""How a call ends: what proves that nothing was billed, and what is only half reported."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tbcontracts import Usage
from tbcontracts.endings import Ending, how_it_ended, is_unbilled


def made(name: str, module: str, status: int | None = None) -> Exception:
    """Return an error as a client library makes it."""
    error: Any = type(name, (Exception,), {"__module__": module})()
    if status is not None:
        error.status_code = status
    return cast("Exception", error)


def raised_while(error: Exception, before: Exception) -> Exception:
    """Return an error that was raised, without `from`, while another one was handled."""
    try:
        try:
            raise before
        except Exception:
            raise error  # noqa: B904 - as LiteLLM does it
    except Exception as caught:
        return caught


def charged(ending: Ending) -> Usage | None:
    """Return what a call is charged that held 100 and has an input of 10."""
    return how_it_ended(ending, hold_tokens=100, input_tokens=10)


@pytest.mark.parametrize("lost", ["RemoteProtocolError", "APIConnectionError", "ReadTimeout"])
def test_a_status_that_litellm_made_up_proves_nothing(lost: str) -> None:
    """A lost connection becomes a 500 there; the request may have been answered, and billed."""
    error = made("InternalServerError", "litellm.exceptions", 500)
    assert not is_unbilled(raised_while(error, made(lost, "httpx")))


def test_a_status_that_litellm_passes_on_is_one() -> None:
    """A 500 that a server sent is no answer."""
    error = made("InternalServerError", "litellm.exceptions", 500)
    assert is_unbilled(raised_while(error, made("InternalServerError", "openai", 500)))


def test_a_lost_connection_before_another_librarys_status_takes_nothing_away() -> None:
    """There the status is the server's, and the lost connection an earlier attempt's."""
    error = made("InternalServerError", "openai", 500)
    assert is_unbilled(raised_while(error, made("RemoteProtocolError", "httpx")))


def test_an_answer_that_had_begun_is_not_rejected() -> None:
    """An error in the middle of a stream may carry a status; the answer had a 200 before it."""
    error = made("ServerError", "google.genai.errors", 503)
    assert charged(Ending(error=error)) is None
    assert charged(Ending(error=error, answer_begun=True)) == Usage.estimated(10, 90)
    assert charged(Ending(error=error, output_tokens_seen=4)) == Usage.estimated(10, 4)


def test_where_only_the_output_is_reported_the_input_is_estimated() -> None:
    """Ollama leaves the count of a cached prompt out: that is unknown, not none."""
    usage = Usage.read({"model": "x", "done": True, "eval_count": 30})
    assert (usage.measured, usage.input_tokens, usage.output_tokens) == (False, 0, 30)
    assert charged(Ending(usage)) == Usage.estimated(10, 30)


def test_a_prompt_of_no_tokens_is_one_that_was_not_counted() -> None:
    """No prompt is empty for Ollama."""
    assert not Usage.read({"prompt_eval_count": 0, "eval_count": 30}).measured
    assert Usage.read({"prompt_eval_count": 9, "eval_count": 30}).measured
