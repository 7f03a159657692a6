"""The applications of CrewAI: who speaks in them, what the provider answers, what is expected."""

from __future__ import annotations

import json
from typing import Any

from tests.apps.applications import (
    classic_crew,
    flow,
    hierarchical_crew,
    json_crew,
    shared_agents,
    structured_crew,
)
from tests.apps.crews import CrewCase
from tests.apps.harness import Expected

from tbcontracts.testing import Answer, ScriptedRequest, ToolCall

CLASSIC = CrewCase(
    name="crewai create crew --classic",
    build=lambda _: classic_crew.build(),
    governed=classic_crew.governed,
    inputs=classic_crew.INPUTS,
    prompts={
        "You are Tides Senior Data Researcher": "{topic} Senior Data Researcher",
        "You are Tides Reporting Analyst": "{topic} Reporting Analyst",
    },
    script=lambda: {
        "Researcher": "Ten points about tides, the moon first.",
        "Analyst": "# Tides\n\nThe moon comes first, then the sun, then the shape of the coast.",
    },
    expected=Expected(
        rich="{topic} Senior Data Researcher", refused=("{topic} Reporting Analyst",), sent=1
    ),
)

JSON = CrewCase(
    name="crewai create crew",
    build=lambda _: json_crew.build(),
    governed=json_crew.governed,
    inputs=json_crew.INPUTS,
    prompts={
        "You are Reader of books on Tides": "Reader of books on {topic}",
        "You are Reviewer": "Reviewer",
        "Agent: Reader of books on Tides": "Reader of books on {topic}",  # what is to be remembered
        "Agent: Reviewer": "Reviewer",
    },
    script=lambda: {
        "You are Reader": "Three books speak of tides.",
        "You are Reviewer": "The second one is worth it.",
        "You extract discrete, reusable memory": '{"memories": []}',
    },
    # What is remembered of a task is on the books before the next one begins: it is recalled then.
    expected=Expected(rich="Reader of books on {topic}", refused=("Reviewer",), sent=2),
)


def _delegating(request: ScriptedRequest) -> Answer:
    """Have one coworker look things up, then the other one write, then answer."""
    done = sum(role == "tool" for role, _ in request.messages)
    if done >= len(_ORDERS):
        return Answer(text="A guide to Porto, founded in 1911.")
    coworker, task = _ORDERS[done]
    arguments = {"task": task, "context": "Porto.", "coworker": coworker}
    return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments=arguments)])


def _looking_up(request: ScriptedRequest) -> Answer:
    """Use the tool once, then answer."""
    if any(role == "tool" for role, _ in request.messages):
        return Answer(text="It was founded in 1911.")
    return Answer(tool_calls=[ToolCall(name="look_up", arguments={"topic": "Porto"})])


_ORDERS = (("Researcher of Porto", "When was it founded?"), ("Writer", "Write a guide."))
HIERARCHICAL = CrewCase(
    name="hierarchical crew",
    build=hierarchical_crew.build,
    governed=hierarchical_crew.governed,
    inputs=hierarchical_crew.INPUTS,
    prompts={
        "You are Crew Manager": "Crew Manager",
        "You are Researcher of Porto": "Researcher of {city}",
        "You are Writer": "Writer",
    },
    script=lambda: {
        "You are Crew Manager": _delegating,
        "You are Researcher of Porto": _looking_up,
        "You are Writer": "Porto, founded in 1911, lies on a river.",
    },
    expected=Expected(rich="Crew Manager", refused=("Researcher of {city}",), sent=1),
)


def _structured(request: ScriptedRequest) -> Answer:
    """Look it up, answer in words, and say it again in the shape that is asked for."""
    finds = "Finder" in request.system_text or "founded" in str(request.body)
    given: dict[str, Any] = {"city": "Porto", "founded": 1911} if finds else {"right": True}
    if "Facts" in request.tools or "Verdict" in request.tools:
        return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments=given)])
    if "response_format" in request.body:
        return Answer(text=json.dumps(given))
    if "look_up" not in request.tools or any(role == "tool" for role, _ in request.messages):
        return Answer(text="Porto, in 1911." if finds else "It is right.")
    return Answer(tool_calls=[ToolCall(name="look_up", arguments={"topic": "Porto"})])


STRUCTURED = CrewCase(
    name="output_json and output_pydantic",
    build=structured_crew.build,
    governed=structured_crew.governed,
    prompts={
        'You are The "Finder"\nof facts': 'The "Finder" of facts',
        "Porto, in 1911.": 'The "Finder" of facts',  # what a converter sends has no system prompt
        "You are   Judge": "Judge",
        "Format your final answer": "Judge",
    },
    script=lambda: _structured,
    expected=Expected(rich='The "Finder" of facts', refused=("Judge",), sent=3),
)

SHARED = CrewCase(
    name="one agents.yaml, two crews",
    build=shared_agents.build,
    governed=shared_agents.governed,
    inputs=shared_agents.INPUTS,
    prompts={
        "You are Tides Researcher": "{topic} Researcher",
        "You are Writer": "Writer",
        "You are Editor of Tides texts": "Editor of {topic} texts",
    },
    script=lambda: {
        "Researcher": "The moon does it.",
        "You are Writer": "It is the moon that moves the sea.",
        "Editor": "The moon moves the sea.",
    },
    expected=Expected(rich="{topic} Researcher", refused=("Writer",), sent=1),
)

FLOW = CrewCase(
    name="crewai create flow",
    build=lambda _: flow.build(),
    governed=flow.governed,
    prompts={
        "You are Content Planner": "Content Planner",
        "You are Content Writer": "Content Writer",
        "You are Content Editor": "Content Editor",
    },
    script=lambda: {
        "Planner": "First why, then how.",
        "Writer": "Agents plan, act, and look at what came of it.",
        "Editor": "Agents plan, act and look.",
    },
    expected=Expected(rich="Content Planner", refused=("Content Writer",), sent=1),
)

CREWS: tuple[Any, ...] = (CLASSIC, JSON, HIERARCHICAL, STRUCTURED, SHARED, FLOW)
