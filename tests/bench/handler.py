"""What our handler adds to one LangChain call of 4,000 characters, beside what others add.

Each round makes a few calls with every candidate in turn, so that a busy moment slows all of them
alike; what a candidate adds is its time less the time without a handler in the same round. The
goal is what a handler of the same kind adds, and 1.2 times our estimator alone: the built-in usage
handler under `invoke`, an inline handler that does nothing under `ainvoke`.

Run it with `python -m tests.bench.handler`.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from tbcontracts import BudgetManager
from tbcontracts_langchain import budget_callbacks
from tbcontracts_langchain.usage import call_shape

CHARACTERS = 4_000
ROUNDS = 120
CALLS = 20
USAGE: Any = {"input_tokens": 900, "output_tokens": 10, "total_tokens": 910}
_WORDS = "The researcher reads what is known of trees and streets, and writes down what is not. "
_numbers = itertools.count()


class Answers(BaseChatModel):
    """A model that answers at once, with usage."""

    @property
    def _llm_type(self) -> str:
        return "answers"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        message = AIMessage("done", usage_metadata=USAGE, response_metadata={"model_name": "m"})
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return self._generate(*args, **kwargs)


class Nothing(BaseCallbackHandler):
    """An inline handler that does nothing."""

    run_inline = True


def prompt(*, fresh: bool) -> str:
    """Return a prompt of 4,000 characters, which was counted before or was not."""
    start = f"{next(_numbers)} " if fresh else ""
    return (start + _WORDS * (CHARACTERS // len(_WORDS) + 1))[:CHARACTERS]


def candidates() -> dict[str, Any]:
    """Return the configurations to compare."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=2**40)
    metadata = {"tbcontracts": {"agent": "a"}}
    handlers: Mapping[str, list[BaseCallbackHandler]] = {
        "none": [],
        "no-op inline": [Nothing()],
        "built-in usage": [UsageMetadataCallbackHandler()],
        "ours": budget_callbacks(manager),
    }
    return {
        name: {"callbacks": callbacks, "metadata": metadata} for name, callbacks in handlers.items()
    }


async def measure(*, awaited: bool, fresh: bool, rounds: int, calls: int) -> dict[str, float]:
    """Return what each candidate adds to a call, in microseconds: the median over the rounds."""
    model, given = Answers(), candidates()
    times: dict[str, list[float]] = {name: [] for name in (*given, "estimator")}
    for _ in range(rounds):
        for name, config in given.items():
            texts = [prompt(fresh=fresh) for _ in range(calls)]
            times[name].append(await _timed(_asking(model, config, awaited=awaited), texts))
        texts = [prompt(fresh=fresh) for _ in range(calls)]
        times["estimator"].append(await _timed(_estimate, texts))
    added = {
        name: statistics.median(
            mine - none for mine, none in zip(times[name], times["none"], strict=True)
        )
        for name in given
        if name != "none"
    }
    return {
        "without": statistics.median(times["none"]),
        **added,
        "estimator": statistics.median(times["estimator"]),
    }


def _asking(model: Answers, config: Any, *, awaited: bool) -> Callable[[str], Awaitable[Any] | Any]:
    if awaited:
        return lambda text: model.ainvoke(text, config)
    return lambda text: model.invoke(text, config)


def _estimate(text: str) -> object:
    return call_shape([HumanMessage(text)], {}, {})


async def _timed(ask: Callable[[str], Awaitable[Any] | Any], texts: list[str]) -> float:
    """Return the microseconds of one call, over a few."""
    began = time.perf_counter()
    for text in texts:
        answer = ask(text)
        if isinstance(answer, Awaitable):
            await answer
    return (time.perf_counter() - began) / len(texts) * 1e6


def main(rounds: int = ROUNDS, calls: int = CALLS) -> bool:
    """Print what is added, and whether the goals are met; return whether they are."""
    met = True
    gc.collect()
    gc.freeze()
    for awaited, beside in ((False, "built-in usage"), (True, "no-op inline")):
        for fresh in (True, False):
            # A call that is not awaited runs the same way where no event loop does.
            added = asyncio.run(measure(awaited=awaited, fresh=fresh, rounds=rounds, calls=calls))
            goal = added[beside] + 1.2 * added["estimator"]
            kind = "ainvoke" if awaited else "invoke"
            text = "a new text each time" if fresh else "a text that was counted before"
            print(f"{kind}, {CHARACTERS:,} characters, {text}; microseconds added per call")
            for name, value in added.items():
                print(f"  {name:15} {value:8.1f}")
            verdict = "met" if added["ours"] <= goal else "NOT MET"
            print(f"  goal            {goal:8.1f}  ({beside} + 1.2 estimators): {verdict}")
            met = met and added["ours"] <= goal
    return met


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
