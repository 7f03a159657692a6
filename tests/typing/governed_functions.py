"""`govern` keeps the type of what it decorates. Checked by mypy and pyright, never run."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from typing_extensions import assert_type

from tbcontracts import BudgetManager

manager = BudgetManager()


def score(answer: str) -> float:
    return len(answer) / 100


@manager.govern("writer", confidence_fn=score, usage_fn=lambda answer: len(answer) // 4)
def write(topic: str, *, words: int = 100) -> str:
    return topic * words


@manager.govern("writer", confidence_fn="metadata.confidence")
async def awrite(topic: str) -> str:
    return topic


@manager.govern("writer")
def stream(topic: str) -> Iterator[str]:
    yield topic


@manager.govern("writer")
async def astream(topic: str) -> AsyncIterator[str]:
    yield topic


class Team:
    @manager.govern("writer")
    def write(self, topic: str) -> list[str]:
        return [topic]


async def how_they_are_used() -> None:
    assert_type(write("budgets", words=3), str)
    assert_type(await awrite("budgets"), str)
    assert_type(Team().write("budgets"), list[str])
    for piece in stream("budgets"):
        assert_type(piece, str)
    async for piece in astream("budgets"):
        assert_type(piece, str)


def mistakes() -> None:
    write(3)  # type: ignore[arg-type]
    write("budgets", length=3)  # type: ignore[call-arg]
    Team().write()  # type: ignore[call-arg]
    manager.govern("writer")(12)  # type: ignore[type-var]
