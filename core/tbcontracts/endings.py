"""How a call ends: one answer for every integration, for `govern` and for `with hold`.

(a) Usage reported: that is settled, even if the caller then failed. (b) Proven unbilled (never
sent, refused by us, answered from a cache, an HTTP error status before any output): the hold is
given back. (c) Any other end without usage (time-out, cancel, lost connection, broken stream,
unreadable reply): the estimate of the input plus the output that was seen is charged, unmeasured;
the whole hold where the output was invisible. (d) Success without usage: as (c).

A refusal that comes out of a `with hold` block is no proof in the sense of (b): it may have been
another call's. A layer that knows that its own call was refused says so (`unbilled`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tbcontracts.usage import Usage

HTTP_ERROR_MIN = 400
_HTTP_STATUSES = range(100, 600)
_CAUSES_MAX = 16
# By name, because the clients that raise these are not imported here.
# LiteLLM gives its errors a status of its own making, also where no server sent one.
_STATUS_MADE_UP = frozenset(("APIConnectionError", "Timeout"))
_CONNECTION_LOST = frozenset(
    (
        "APIConnectionError",
        "APITimeoutError",
        "ClientOSError",
        "ReadError",
        "ReadTimeout",
        "RemoteProtocolError",
        "ServerDisconnectedError",
        "SocketTimeoutError",
        "TimeoutError",
        "WriteError",
        "WriteTimeout",
    )
)
_NEVER_CONNECTED = frozenset(
    ("ConnectError", "ConnectTimeout", "ConnectionRefusedError", "gaierror", "ClientConnectorError")
)


class Ending(NamedTuple):
    """What is known at the end of a call."""

    usage: Usage | None = None
    """What the provider reported, if it did."""
    error: BaseException | None = None
    """What the call ended with, if it failed."""
    output_tokens_seen: int | None = None
    """Output that arrived, counted here; None where it could not be seen."""
    answer_begun: bool = False
    """The answer had begun to arrive, though nothing of it may have been output yet."""
    unbilled: bool = False
    """The call was never sent, or answered from a cache."""
    given_up: bool = False
    """Whoever waited for the answer went away; it may still come."""


def how_it_ended(
    ending: Ending, *, hold_tokens: int, input_tokens: int | None, hold_cost: int | None = None
) -> Usage | None:
    """Decide what a call that ended is charged.

    Args:
        ending: What is known.
        hold_tokens: How many tokens its hold is for: the charge where nothing else is known.
        input_tokens: The estimate of its input; None where there is none.
        hold_cost: The size of a hold in dollars, in micro-dollars: the charge in its place.

    Returns:
        The usage to settle, or None to give the hold back.
    """
    usage = ending.usage
    if usage is not None and usage.measured and not ending.unbilled:
        return usage
    answered = ending.answer_begun or bool(
        ending.output_tokens_seen
    )  # the error broke an answer off
    if ending.unbilled or (is_unbilled(ending.error) and not answered):
        return None
    if usage is not None and usage.total_tokens:
        output = max(usage.output_tokens, ending.output_tokens_seen or 0)
        # A report may lack one side: that is unknown, not none.
        found = usage.input_tokens or input_tokens or 0
        return Usage.estimated(found, output, usage.raw, model=usage.model)
    raw = None if usage is None else usage.raw
    if input_tokens is None:
        return Usage.estimated(hold_tokens, raw=raw, cost_micro_usd=hold_cost)
    if ending.output_tokens_seen is not None:
        return Usage.estimated(input_tokens, ending.output_tokens_seen, raw)
    if ending.given_up or _is_cancelled(ending.error):
        # It was sent and then given up: the provider read it; how far it answered, nobody knows.
        return Usage.estimated(input_tokens, raw=raw)
    answer = max(0, hold_tokens - input_tokens)
    return Usage.estimated(input_tokens, answer, raw, cost_micro_usd=hold_cost)


def is_unbilled(error: BaseException | None) -> bool:
    """Return whether an error proves that the provider did not bill.

    It does if it has an HTTP error status, or if no connection came about.

    Looks at the error and at what it was explicitly raised from. What merely happened before it
    (`__context__`) may be an earlier attempt's, and proves nothing; it can only take a proof away.
    """
    return any(
        type(cause).__name__ in _NEVER_CONNECTED
        or (http_status(cause) >= HTTP_ERROR_MIN and not is_status_made_up(cause))
        for cause in _causes(error)
    )


def is_status_made_up(error: BaseException) -> bool:
    """Return whether an error carries a status that no server sent, as LiteLLM's can."""
    kind = type(error)
    if not kind.__module__.startswith("litellm"):
        return False
    if kind.__name__ in _STATUS_MADE_UP:
        return True
    # A lost connection becomes an InternalServerError there, with the status 500.
    return any(type(before).__name__ in _CONNECTION_LOST for before in _before(error))


def http_status(error: BaseException) -> int:
    """Return the HTTP status that an error carries, or 0.

    Provider clients put it on the error (`status_code`, `code`, `status`) or on its `response`;
    Bedrock's client has it in `response["ResponseMetadata"]["HTTPStatusCode"]`.
    """
    response = _get(error, "response")
    candidates: list[object] = [
        _get(error, "status_code"),
        _get(error, "http_status"),
        _get(response, "status_code"),
        _get(error, "code"),
        _get(error, "status"),
    ]
    if isinstance(response, dict):
        metadata = response.get("ResponseMetadata")
        if isinstance(metadata, dict):
            candidates.append(metadata.get("HTTPStatusCode"))
    for value in candidates:
        if isinstance(value, int) and value in _HTTP_STATUSES:
            return int(value)
    return 0


def _get(holder: object, name: str) -> object:
    """Return an attribute; None where there is none, or where looking at it fails."""
    try:
        return getattr(holder, name, None)
    except Exception:
        return None


def _is_cancelled(error: BaseException | None) -> bool:
    """Return whether a task was cancelled; asked by name, so that asyncio need not be imported."""
    return any(kind.__name__ == "CancelledError" for kind in type(error).__mro__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what caused it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen and len(seen) < _CAUSES_MAX:
        seen.append(error)
        yield error
        error = error.__cause__


def _before(error: BaseException) -> Iterator[BaseException]:
    """Yield what happened before an error, whether it was raised from that or not."""
    seen: list[BaseException] = [error]
    before = error.__cause__ or error.__context__
    while before is not None and before not in seen and len(seen) < _CAUSES_MAX:
        yield before
        seen.append(before)
        before = before.__cause__ or before.__context__
