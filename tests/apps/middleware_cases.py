"""`create_agent` with each of LangChain's middlewares that has to do with calls."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.apps.applications import assistant
from tests.apps.graphs import Graph
from tests.apps.harness import Expected

from tbcontracts.testing import Answer, Fault, ScriptedRequest, ToolCall

ADVICE = "Leave at six with a reef in the mainsail."
WORK: list[Any] = [
    Answer(tool_calls=[ToolCall(name="weather", arguments={"place": "Cork"})]),
    Answer(tool_calls=[ToolCall(name="tides", arguments={"place": "Cork"})]),
    ADVICE,
]
PLAN = Answer(
    tool_calls=[
        ToolCall(
            name="write_todos",
            arguments={"todos": [{"content": "Ask the station", "status": "in_progress"}]},
        )
    ]
)


def _faulty(request: ScriptedRequest) -> Any:
    """Fail every first try with the weaker model."""
    return Fault(status=500) if request.model == "gpt-4o-mini" else WORK


SCRIPTS: dict[str, Any] = {
    "LLMToolSelector": [WORK[0], ADVICE],
    "ModelFallback": _faulty,
    "ModelRefusal": _faulty,
    "ModelRetry": [Fault(status=500), WORK[0], Fault(status=429), Fault(status=529), *WORK[1:]],
    "TodoList": [PLAN, *WORK],
    "ToolError": [WORK[0], WORK[1], WORK[1], ADVICE],
}
FAULTS = {"ModelFallback": 3, "ModelRefusal": 3, "ModelRetry": 3}
SELECTING = "Your goal is to select"
SUMMARIZING = "Context Extraction Assistant"
EMULATING = "You are emulating a tool call"


def script(middleware: str) -> Any:
    """Return what the provider answers, to agents and to what works for them."""

    def answer(request: ScriptedRequest) -> Any:
        if "You note who calls." in request.system_text:
            return "A sailor from Cork calls."
        if SELECTING in request.system_text:
            return '{"tools": ["weather"]}'
        if SUMMARIZING in request.last_text:
            return "A sailor asked about Cork."
        if EMULATING in request.last_text:
            return "Calm and high."
        return SCRIPTS.get(middleware, WORK)

    return answer


def case(middleware: str) -> Graph:
    """Return the application with one middleware."""
    return Graph(
        name=f"create_agent, {middleware}",
        build=partial(assistant.build, middleware=middleware),
        governed=partial(assistant.governed, middleware=middleware),
        prompts={
            "You note who calls.": "clerk",
            "You advise sailors.": "assistant",
            SELECTING: "assistant",
            SUMMARIZING: "assistant",
            EMULATING: "assistant",
        },
        script=partial(script, middleware),
        asked={"messages": [("user", "When do I leave Cork? I am ann@boat.example.")]},
        expected=Expected(rich="clerk", refused=("assistant",), sent=1),
        approvals=[{"decisions": [{"type": "approve"}]}] if middleware == "HumanInTheLoop" else (),
        faults=FAULTS.get(middleware, 0),
    )


MIDDLEWARES = tuple(case(middleware) for middleware in assistant.MIDDLEWARE)
