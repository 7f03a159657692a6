"""What a cell of the table is: one kind of call through one client, and what the books made of it.

The provider's log says what was billed. A cell is found to be one of four things: measured (what
was reported is on the books, to the token), estimated (marked as such on the books), free (nothing
was billed and nothing is charged) or invisible (something was billed that nobody tells us of). What
each cell is to be found as stands here and in the file of its client; books that are off by one
token are another finding, and the test fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from tbcontracts import BudgetManager
from tbcontracts.testing import Answer, FakeProvider, Fault, ToolCall

TEXT = "one two three four five six seven eight nine ten eleven twelve"
PROMPT = "Count to twelve, in words."
CAP = 200
PLENTY = 1_000_000
TIGHT = 150
"""Less than an answer as long as `CAP`, and more than one of `TEXT`."""

MEASURED, ESTIMATED, FREE, INVISIBLE = "measured", "estimated", "free", "invisible"
KNOWN, LOWERED, NONE = "known", "lowered", "none sent"


class Expected(NamedTuple):
    """What a cell is to be found as."""

    outcome: str
    reason: str = ""
    """Why it is no better, where it could be thought to be."""
    lost: tuple[str, ...] = ()
    """Parts of a measured usage that the client does not pass on."""


USUAL = Expected(MEASURED)


class Found(NamedTuple):
    """What a cell was found to be."""

    outcome: str
    billed: int
    charged: int
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of call."""

    name: str
    how: str
    """The method that makes it."""
    script: Any
    """What the provider does."""
    usual: Expected = USUAL
    fails: bool = False
    """Whether the caller gets an error."""
    retries: int = 0
    """How often the client may send a request again."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """One client of one provider.

    Attributes:
        name: Its name in the table.
        kinds: The kinds of calls that it may make.
        but: The kinds that are found as something else than usual.
        lacks: The kinds that it does not have, and why.
        group: The framework that it belongs to.
    """

    name: str
    kinds: tuple[Kind, ...]
    but: dict[str, Expected] = field(default_factory=dict)
    lacks: dict[str, str] = field(default_factory=dict)
    group: str

    def find(self, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> Found:
        """Make the call of a cell; return what the books made of it."""
        raise NotImplementedError

    def expected(self, kind: Kind) -> Expected:
        """Return what a cell is to be found as."""
        return self.but.get(kind.name, kind.usual)


CALL = ToolCall(name="look_up", arguments={"word": "cat"})


def structured(request: Any) -> Answer:
    """Answer in the shape that is asked for, as a call of the tool for it or as JSON."""
    if request.tools:
        return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments={"count": 12})])
    return Answer(text='{"count": 12}')


_SEEN = "no usage comes with a stream that breaks off; the input and what arrived are counted here"
_WHOLE = "nothing came back, and it may have been billed: the whole hold"
NOT_SHOWN = Expected(
    ESTIMATED, "it had begun, and nothing of its thoughts was shown: the whole hold"
)
LEFT_OPEN = Expected(
    ESTIMATED,
    "the client leaves the connection open: the provider goes on, and bills what nobody reads",
)
_SILENT = "the provider does not say; the input and the answer are counted here"

CACHED = Answer(text=TEXT, input_tokens=100, cached_tokens=60)
CACHED_AND_WRITTEN = Answer(text=TEXT, input_tokens=100, cached_tokens=60, cache_write_tokens=20)
THOUGHT = Answer(text=TEXT, reasoning_tokens=30, reasoning_text="Let me think about it.")
NO_USAGE = Answer(text=TEXT, report_usage=False)
SOON = {"retry-after": "0", "retry-after-ms": "1"}

LANGCHAIN_KINDS = tuple(
    Kind(**settings)
    for settings in (
        {"name": "invoke", "how": "invoke", "script": TEXT},
        {"name": "ainvoke", "how": "ainvoke", "script": TEXT},
        {"name": "stream", "how": "stream", "script": TEXT},
        {"name": "astream", "how": "astream", "script": TEXT},
        {
            "name": "tool turn",
            "how": "tool turn",
            "script": [Answer(tool_calls=[CALL]), TEXT],
        },
        {
            "name": "tool turn, streamed",
            "how": "tool turn, streamed",
            "script": [Answer(text=TEXT, tool_calls=[CALL]), TEXT],
        },
        {"name": "structured output", "how": "structured output", "script": structured},
        {"name": "cached prompt", "how": "invoke", "script": CACHED},
        {"name": "cached prompt, streamed", "how": "stream", "script": CACHED},
        {"name": "cache written", "how": "invoke", "script": CACHED_AND_WRITTEN},
        {"name": "cache written, streamed", "how": "stream", "script": CACHED_AND_WRITTEN},
        {"name": "reasoning", "how": "invoke", "script": THOUGHT},
        {"name": "reasoning, streamed", "how": "stream", "script": THOUGHT},
        {"name": "n = 2", "how": "n = 2", "script": TEXT},
        {
            "name": "429 before the answer",
            "how": "invoke",
            "script": Fault(status=429),
            "usual": Expected(FREE),
            "fails": True,
        },
        {
            "name": "529 before a stream",
            "how": "stream",
            "script": Fault(status=529),
            "usual": Expected(FREE),
            "fails": True,
        },
        {
            "name": "connection lost",
            "how": "invoke",
            "script": Fault(kind="drop", billed_tokens=50),
            "usual": Expected(ESTIMATED, _WHOLE),
            "fails": True,
        },
        {
            "name": "error in a stream",
            "how": "stream",
            "script": Answer(text=TEXT, fail_after_chunks=2),
            "usual": Expected(ESTIMATED, _SEEN),
            "fails": True,
        },
        {
            "name": "stream cut off",
            "how": "stream",
            "script": Answer(text=TEXT, drop_after_chunks=2),
            "usual": Expected(ESTIMATED, _SEEN),
            "fails": True,
        },
        {
            "name": "stream left by the caller",
            "how": "left",
            "script": Answer(text=TEXT, hold_after_chunks=1),
            "usual": Expected(ESTIMATED, _SEEN),
        },
        {
            "name": "stream left, awaited",
            "how": "aleft",
            "script": Answer(text=TEXT, hold_after_chunks=1),
            "usual": Expected(ESTIMATED, _SEEN),
        },
        {
            "name": "no usage",
            "how": "invoke",
            "script": NO_USAGE,
            "usual": Expected(ESTIMATED, _SILENT),
        },
        {
            "name": "no usage, streamed",
            "how": "stream",
            "script": NO_USAGE,
            "usual": Expected(ESTIMATED, _SILENT),
        },
        {
            "name": "output cap",
            "how": "cap",
            "script": TEXT,
            "usual": Expected(KNOWN),
        },
        {
            "name": "output cap that nobody set",
            "how": "default cap",
            "script": TEXT,
            "usual": Expected(NONE),
        },
        {
            "name": "answer shortened to what is left",
            "how": "shortened",
            "script": TEXT,
            "usual": Expected(LOWERED),
        },
        {
            "name": "refused after it began",
            "how": "stream",
            "script": Answer(
                text=TEXT, reasoning_tokens=5, reasoning_text="Let me see.", fail_after_chunks=0
            ),
            "usual": Expected(ESTIMATED, _SEEN),
            "fails": True,
        },
        {
            "name": "retry after 503",
            "how": "invoke",
            "script": [Fault(status=503, headers=SOON), TEXT],
            "retries": 2,
        },
        {
            "name": "retry of what was billed",
            "how": "invoke",
            "script": [Fault(kind="drop", billed_tokens=50), TEXT],
            "usual": Expected(
                INVISIBLE,
                "the client sends the request again by itself, and tells nobody of the first one",
            ),
            "retries": 2,
        },
    )
)


def outcome_of(manager: BudgetManager, server: FakeProvider, agent: str = "a") -> Found:
    """Compare an agent's books with the provider's log."""
    account = manager.accounts()[agent]
    assert account.held == 0, "a hold is left open"
    billed, charged = server.billed_tokens, account.consumed
    if account.unmeasured:
        return Found(ESTIMATED, billed, charged)
    if charged != billed:
        return Found(INVISIBLE, billed, charged)
    if not billed:
        return Found(FREE, 0, 0)
    log = server.log
    parts = {
        "input": (account.input_tokens, sum(one.input_tokens for one in log)),
        "cached": (account.cached_input_tokens, sum(one.cached_tokens for one in log)),
        "written": (account.cache_write_tokens, sum(one.cache_write_tokens for one in log)),
        "reasoning": (account.reasoning_tokens, sum(one.reasoning_tokens for one in log)),
    }
    lost = tuple(name for name, (booked, logged) in parts.items() if booked != logged)
    return Found(MEASURED, billed, charged, lost)


def cap_outcome(found: Found, known: int | None, sent: int | None) -> str:
    """Say what became of an output cap: the one that a hold was sized by, and the one sent."""
    if found.outcome != MEASURED or known != sent:
        return f"{found.outcome}, held for {known}, sent {sent}"
    if sent is None:
        return NONE
    return LOWERED if sent < min(CAP, TIGHT) else KNOWN


def check(client: Client, kind: Kind, found: Found) -> None:
    """Hold a finding against what the cell is to be found as.

    Raises:
        AssertionError: It is another one.
    """
    expected = client.expected(kind)
    assert (found.outcome, found.lost) == (expected.outcome, expected.lost), (
        f"{client.name}, {kind.name}: found {found}, expected {expected}"
    )


def cells_of(*clients: Client) -> list[Any]:
    """Return the cells of clients, as parameters of a test."""
    return [
        pytest.param(client, kind, id=f"{client.name}, {kind.name}")
        for client in clients
        for kind in client.kinds
        if kind.name not in client.lacks
    ]


def without(why: str, *names: str) -> dict[str, str]:
    """Return kinds that a client does not have, all for one reason."""
    return dict.fromkeys(names, why)


def as_found(expected: Expected, *names: str) -> dict[str, Expected]:
    """Return kinds that are all found as the same."""
    return dict.fromkeys(names, expected)
