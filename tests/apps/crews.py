"""Running an application of CrewAI: plain, under contracts, and through each of its doors."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar
from unittest import mock

from crewai import LLM
from tests.apps import projects
from tests.apps.harness import Application, Ran, as_said

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.roster import Roster
from tbcontracts.testing import FakeOpenAI
from tbcontracts_crewai import agents_of


@dataclass(frozen=True, kw_only=True)
class CrewCase(Application):
    """An application of CrewAI: a crew, several that run one after the other, or a Flow."""

    doors: ClassVar[tuple[str, ...]] = ("kickoff_async", "akickoff")

    build: Callable[[Any], Any]
    """Makes it, of a model."""
    governed: Callable[[Any, Any], Any]
    """Returns the block in which it is under contracts, of it and a manager."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What its placeholders are filled with."""

    def roster(self, manager: BudgetManager) -> Roster:
        """Return what `agents_of` says of it; of several crews, what it says of all together."""
        projects.created()
        with projects.folder(), provider(None) as (_, llm):
            made = self.build(llm)
            crews = made if isinstance(made, tuple) else (made,)
            agents = [one for crew in crews for one in agents_of(crew, manager).agents]
        return Roster(tuple(dict.fromkeys(agents)))

    def run(self, manager: BudgetManager | None, door: str = "") -> Ran:
        """Run it until it is done or refused; plain where there is no manager."""
        quietly = contextlib.redirect_stdout(io.StringIO())
        projects.created()
        with projects.folder(), provider(self.script()) as (server, llm), quietly:
            made = self.build(llm)
            outcomes = []
            try:
                for one in made if isinstance(made, tuple) else (made,):
                    with nullcontext() if manager is None else self.governed(one, manager):
                        outcomes.append(self._kicked_off(one, door))
            except BudgetExceededError as error:
                return Ran("", server.log, error)
            return Ran(as_said([_plain(outcome) for outcome in outcomes]), server.log)

    def _kicked_off(self, crew: Any, door: str) -> Any:
        kickoff = getattr(crew, door or "kickoff")
        inputs = dict(self.inputs) or None
        return kickoff(inputs=inputs) if not door else asyncio.run(_awaited(kickoff, inputs))


async def _awaited(kickoff: Callable[..., Any], inputs: Any) -> Any:
    return await kickoff(inputs=inputs)


@contextmanager
def provider(script: Any) -> Iterator[tuple[FakeOpenAI, Any]]:
    """Run a provider, and a model that asks it; crews of projects find it in the environment."""
    with FakeOpenAI(script) as server:
        found = {
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_BASE": server.base_url,
            "OPENAI_API_KEY": "test",
            "MODEL": "gpt-4o-mini",
        }
        with mock.patch.dict(os.environ, found):
            llm = LLM(
                model="openai/gpt-4o-mini",
                base_url=server.base_url,
                api_key="test",
                max_retries=0,
            )
            yield server, llm


def _plain(outcome: Any) -> Any:
    """Return what a kickoff returned as plain data: the outputs of all its tasks."""
    tasks = getattr(outcome, "tasks_output", None)
    if tasks is None:
        return str(outcome)
    return [[task.raw, task.json_dict, str(task.pydantic)] for task in tasks]
