"""Stages on which crews work: a provider of their own for each script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tbcontracts.testing import FakeOpenAI

Make = Callable[..., Any]


class Stage(NamedTuple):
    """What a scenario is made with."""

    server: FakeOpenAI
    llm: Make
    agent: Make
    crew: Make

    def model(self, **settings: Any) -> Any:
        """Return a model that asks this stage's provider."""
        return self.llm(base_url=self.server.base_url, **settings)

    def writer(self, role: str = "Writer", **settings: Any) -> Any:
        """Return an agent of this stage."""
        settings.setdefault("llm", self.model())
        return self.agent(role, **settings)


@pytest.fixture
def stage(llm: Make, agent: Make, crew: Make) -> Any:
    """Return a maker of stages for scripts; their servers stop at the end."""
    servers: list[FakeOpenAI] = []

    def make(script: Any = None) -> Stage:
        servers.append(FakeOpenAI(script).start())
        return Stage(servers[-1], llm, agent, crew)

    yield make
    for server in servers:
        server.stop()
