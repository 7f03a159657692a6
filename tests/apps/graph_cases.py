"""The graph applications: who speaks in them, what the provider answers, what is expected."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import Any

from tests.apps.applications import deep_agents, experts, supervisor, swarm, workflow
from tests.apps.graphs import Graph
from tests.apps.harness import Expected
from tests.apps.middleware_cases import MIDDLEWARES

from tbcontracts.testing import Answer, ScriptedRequest, ToolCall


def user(text: str) -> dict[str, Any]:
    """Return what a user asks of agents."""
    return {"messages": [("user", text)]}


def calls(name: str, **arguments: Any) -> Answer:
    """Return an answer that calls a tool."""
    return Answer(tool_calls=[ToolCall(name=name, arguments=arguments)])


SUPERVISOR = Graph(
    name="langgraph-supervisor, nested",
    build=supervisor.build,
    governed=supervisor.governed,
    prompts={
        "You are the editor.": "editor",
        "You lead the research desk.": "desk_lead",
        "You find sources.": "finder",
        "You check facts.": "checker",
        "You write articles.": "writer",
    },
    script=lambda: {
        "You are the editor.": [
            calls("transfer_to_desk"),
            calls("transfer_to_writer"),
            "The article about tides is ready to print.",
        ],
        "You lead the research desk.": [
            calls("transfer_to_finder"),
            calls("transfer_to_checker"),
            "The desk has found and checked three sources.",
        ],
        "You find sources.": [calls("search", topic="tides"), "Three articles speak of tides."],
        "You check facts.": ["All three agree with the almanac."],
        "You write articles.": ["Twice a day the sea breathes in and out, and so do harbours."],
    },
    asked=user("An article about tides, please."),
    expected=Expected(rich="editor", refused=("desk_lead",), sent=1),
)

SWARM = Graph(
    name="langgraph-swarm",
    build=swarm.build,
    governed=swarm.governed,
    prompts={
        "You greet travellers.": "desk",
        "You book flights.": "flights",
        "You book rooms.": "rooms",
    },
    script=lambda: {
        "You greet travellers.": [calls("transfer_to_flights")],
        "You book flights.": [calls("book_flight", city="Porto"), calls("transfer_to_rooms")],
        "You book rooms.": [calls("book_room", city="Porto"), "Seat and room in Porto are yours."],
    },
    asked=user("To Porto, with a bed."),
    expected=Expected(rich="desk", refused=("flights",), sent=1),
)


def _host(request: ScriptedRequest) -> Answer:
    """Ask both experts at once, then answer."""
    if any(role == "tool" for role, _ in request.messages):
        return Answer(text="Granite is grey, and so is the thistle's fluff.")
    asked = {"question": "What is grey?"}
    return Answer(tool_calls=[ToolCall(name=f"ask_{who}", arguments=asked) for who in _EXPERTS])


_EXPERTS = ("geologist", "botanist")
EXPERTS = Graph(
    name="agents as tools",
    build=experts.build,
    governed=experts.governed,
    prompts={
        "You host a quiz.": "host",
        "You know stones.": "geologist",
        "You know plants.": "botanist",
    },
    script=lambda: {
        "You host a quiz.": _host,
        "You know stones.": "Granite is grey.",
        "You know plants.": "The fluff of a thistle is grey.",
    },
    asked=user("What is grey?"),
    expected=Expected(rich="host", refused=("geologist", "botanist"), sent=1),
)

EXPERTS_AGAIN = replace(
    EXPERTS,
    name="agents as tools, tried again",
    build=partial(experts.build, middleware="tries again"),
    governed=partial(experts.governed, middleware="tries again"),
)

EXPERTS_GO_ON = replace(
    EXPERTS,
    name="agents as tools, errors told to the model",
    build=partial(experts.build, middleware="goes on"),
    governed=partial(experts.governed, middleware="goes on"),
    expected=Expected(
        rich="host",
        refused=(),
        sent=2,
    ),
    keeps=False,
)

WORKFLOW = Graph(
    name="functional API",
    build=workflow.build,
    governed=workflow.governed,
    prompts={
        "You title texts.": "office",
        "You translate.": "translate",
        "You review translations.": "review",
    },
    script=lambda: {
        "You title texts.": "On tides",
        "You translate.": lambda request: f"Translated. {request.last_text}",
        "You review translations.": "Both say what the text says.",
    },
    asked="Twice a day the sea comes and goes.",
    expected=Expected(
        rich="office",
        refused=("translate",),
        sent=1,
        again=1,
        why="An entrypoint runs anew when it resumes; only what its tasks did is kept.",
    ),
)

DEEP_AGENTS = Graph(
    name="deepagents",
    build=deep_agents.build,
    governed=deep_agents.governed,
    prompts={
        "You lead an expedition.": "leader",
        "You find things out.": "researcher",
        "You find weak spots.": "critic",
    },
    idle=("general-purpose",),
    script=lambda: {
        "You lead an expedition.": [
            calls("write_file", file_path="/plan.md", content="Look it up, then doubt it."),
            calls("task", description="When was it found?", subagent_type="researcher"),
            calls("write_file", file_path="/found.md", content="Known since 1911."),
            calls("task", description="Is 1911 right?", subagent_type="critic"),
            "It is known since 1911, and the critic agrees.",
        ],
        "You find things out.": [calls("look_up", topic="The pole"), "Known since 1911."],
        "You find weak spots.": ["There is none."],
    },
    asked=user("When was the pole found?"),
    expected=Expected(rich="leader", refused=("researcher",), sent=2),
)

GRAPHS: tuple[Graph, ...] = (
    SUPERVISOR,
    SWARM,
    *MIDDLEWARES,
    EXPERTS,
    EXPERTS_AGAIN,
    EXPERTS_GO_ON,
    WORKFLOW,
    *((DEEP_AGENTS,) if sys.version_info >= (3, 11) else ()),  # its library is not for 3.10
)
