"""What crews of the tests use: a tool, scripts for it, and the books beside the log."""

from __future__ import annotations

from crewai.tools import tool

from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_crewai import CrewRun

PLENTY = {"max_tokens": 200_000}


@tool("look_up")
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word."


def tool_first(request: ScriptedRequest) -> Answer:
    """Call a tool once, then answer."""
    items = request.body.get("input") or request.body.get("messages") or ()
    if any("function_call_output" in str(item) or "'tool'" in str(item) for item in items):
        return Answer(text="It is a word.", cached_tokens=8, reasoning_tokens=3)
    if not request.tools:
        return Answer(text="It is a word.")
    return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments={"word": "cat"})])


def check(run: CrewRun, server: FakeOpenAI, requests: int | None = None) -> dict[str, int]:
    """Compare the books with the log; return what each account used."""
    accounts = run.manager.accounts()
    if requests is not None:
        assert len(server.log) == requests
    assert sum(account.consumed for account in accounts.values()) == server.billed_tokens > 0
    assert all(account.held == account.unmeasured == 0 for account in accounts.values())
    return {name: account.consumed for name, account in accounts.items()}
