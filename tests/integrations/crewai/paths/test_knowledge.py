"""Knowledge and memory of a crew: their calls are charged as well."""

from __future__ import annotations

import json
from typing import Any

from crewai.knowledge.knowledge import Knowledge
from crewai.knowledge.storage.base_knowledge_storage import BaseKnowledgeStorage
from crewai.memory.unified_memory import Memory
from tests.integrations.crewai.paths.crews import PLENTY, check

from tbcontracts.testing import ScriptedRequest
from tbcontracts_crewai import govern_crew


def test_knowledge(stage: Any) -> None:
    """The question that knowledge is asked is put into words by a call; the task's agent pays."""

    class Known(BaseKnowledgeStorage):
        def search(self, *args: Any, **kwargs: Any) -> list[Any]:
            return [{"content": "Cats purr.", "score": 1.0}]

        async def asearch(self, *args: Any, **kwargs: Any) -> list[Any]:
            return self.search()

        def save(self, documents: list[str]) -> None:
            """Save nothing."""

        async def asave(self, documents: list[str]) -> None:
            """Save nothing."""

        def reset(self) -> None:
            """Forget nothing."""

        async def areset(self) -> None:
            """Forget nothing."""

    at = stage()
    writer = at.writer()
    writer.knowledge = Knowledge(collection_name="cats", sources=[], storage=Known())
    team = at.crew(writer)
    with govern_crew(team, budgets={"Writer": PLENTY}) as run:
        team.kickoff()
    assert set(check(run, at.server)) == {"Writer"}
    assert len(at.server.log) == 2


def test_memory(stage: Any, tmp_path: Any) -> None:
    """What memory analyses on the way is charged to the task's agent; embeddings are no calls."""

    def embed(texts: list[str]) -> list[list[float]]:
        return [[float(len(text)), 1.0, 0.0, 0.0] for text in texts]

    analysis = {
        "suggested_scope": "/",
        "categories": ["cats"],
        "importance": 0.5,
        "extracted_metadata": {"entities": [], "dates": [], "topics": []},
    }

    def script(request: ScriptedRequest) -> str:
        if "MemoryAnalysis" in str(request.body):
            return json.dumps(analysis)
        return '{"memories": ["Cats purr."]}'

    at = stage(script)
    memory = Memory(llm=at.model(), embedder=embed, storage=str(tmp_path / "memory"))
    team = at.crew(at.writer(), memory=memory)
    with govern_crew(team, budgets={"Writer": PLENTY}) as run:
        team.kickoff()
        memory.drain_writes()
    assert len(at.server.log) >= 2
    assert set(check(run, at.server)) == {"Writer"}
