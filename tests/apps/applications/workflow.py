"""A translation office in the functional API: an entrypoint with tasks, two of them at once."""

from __future__ import annotations

from typing import Any

from langgraph.func import entrypoint, task

from tbcontracts_langgraph import govern_graph


def build(model: Any, checkpointer: Any = None) -> Any:
    """Return the office."""

    @task
    def translate(text: str, language: str) -> str:
        prompt = ("system", "You translate."), ("user", f"Into {language}: {text}")
        return str(model.invoke(list(prompt)).text)

    @task
    def review(texts: list[str]) -> str:
        prompt = ("system", "You review translations."), ("user", "\n".join(texts))
        return str(model.invoke(list(prompt)).text)

    @entrypoint(checkpointer=checkpointer)
    def office(text: str) -> dict[str, Any]:
        title = model.invoke([("system", "You title texts."), ("user", text)]).text
        under_way = [translate(text, language) for language in ("Danish", "Dutch")]
        texts = [each.result() for each in under_way]
        return {"title": title, "texts": texts, "verdict": review(texts).result()}

    return office


def governed(model: Any, contracts: Any, checkpointer: Any = None) -> Any:
    """Return the same office under contracts."""
    return govern_graph(build(model, checkpointer), contracts)
