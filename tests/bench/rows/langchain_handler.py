"""One LangChain call of 4,000 characters with our handler, against what the goal allows it.

The goal is a call with a handler of the same kind and 1.2 times our estimator alone: the built-in
usage handler under `invoke`, an inline handler that does nothing under `ainvoke`. Each prompt is
new, so that it is counted; the last row is for a conversation, whose texts were counted before.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from tests.bench.harness import Effort, Job, Row, in_turn, quartiles

from tbcontracts import BudgetManager
from tbcontracts.checks import AMOUNT_MAX
from tbcontracts_langchain import budget_callbacks
from tbcontracts_langchain.usage import call_shape

CHARACTERS = 4_000
ESTIMATORS = 1.2
CALLS_MAX = 50
"""Calls in each round: one takes as long as ten holds."""
_WORDS = "The researcher reads what is known of trees and streets, and writes down what is not. "
_numbers = itertools.count()


class Answers(BaseChatModel):
    """A model that answers at once, with usage."""

    @property
    def _llm_type(self) -> str:
        return "answers"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        usage: Any = {"input_tokens": 900, "output_tokens": 10, "total_tokens": 910}
        message = AIMessage("done", usage_metadata=usage, response_metadata={"model_name": "m"})
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return self._generate(*args, **kwargs)


class Nothing(BaseCallbackHandler):
    """An inline handler that does nothing."""

    run_inline = True


def new_prompt() -> str:
    """Return a prompt of 4,000 characters that was not counted before."""
    return (f"{next(_numbers)} " + _WORDS * (CHARACTERS // len(_WORDS) + 1))[:CHARACTERS]


def known_prompt() -> str:
    """Return the same prompt each time."""
    return (_WORDS * (CHARACTERS // len(_WORDS) + 1))[:CHARACTERS]


def ours() -> list[BaseCallbackHandler]:
    """Return our handler, on the books of an agent that never runs out."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=AMOUNT_MAX)
    return budget_callbacks(manager)


def call(callbacks: list[BaseCallbackHandler], prompt: Callable[[], str]) -> Job:
    """Return a call that is not awaited."""
    model, config = Answers(), _config(callbacks)
    return lambda: model.invoke(prompt(), config)


def awaited(
    callbacks: list[BaseCallbackHandler],
    prompt: Callable[[], str],
    loop: asyncio.AbstractEventLoop,
) -> Job:
    """Return a call that is awaited, in a loop that runs for it alone."""
    model, config = Answers(), _config(callbacks)
    return lambda: loop.run_until_complete(model.ainvoke(prompt(), config))


def _config(callbacks: list[BaseCallbackHandler]) -> Any:
    return {"callbacks": callbacks, "metadata": {"tbcontracts": {"agent": "a"}}}


def estimator(prompt: Callable[[], str]) -> Job:
    """Return what sizes a call, alone."""
    return lambda: call_shape([HumanMessage(prompt())], {}, {})


def measure(effort: Effort) -> list[Row]:
    """Measure both ways to call, and a conversation."""
    few = effort._replace(calls=min(effort.calls, CALLS_MAX))
    loop = asyncio.new_event_loop()
    try:
        usage = UsageMetadataCallbackHandler()
        beside = "the built-in usage handler"
        return [
            _row(
                "LangChain `invoke` with our handler",
                {
                    "none": call([], new_prompt),
                    "beside": call([usage], new_prompt),
                    "ours": call(ours(), new_prompt),
                    "estimator": estimator(new_prompt),
                },
                few,
                beside,
            ),
            _row(
                "LangChain `ainvoke` with our handler",
                {
                    "none": awaited([], new_prompt, loop),
                    "beside": awaited([Nothing()], new_prompt, loop),
                    "ours": awaited(ours(), new_prompt, loop),
                    "estimator": estimator(new_prompt),
                },
                few,
                "an inline handler that does nothing",
            ),
            _row(
                "LangChain `invoke` with our handler, a text that was counted before",
                {
                    "none": call([], known_prompt),
                    "beside": call([usage], known_prompt),
                    "ours": call(ours(), known_prompt),
                    "estimator": estimator(known_prompt),
                },
                few,
                beside,
            )._replace(goal=None),
        ]
    finally:
        loop.close()


def _row(title: str, jobs: dict[str, Job], effort: Effort, beside: str) -> Row:
    """Compare a call with ours to one with another handler and the estimator."""
    times = in_turn(jobs, effort, warm_up=1)
    ratios = [
        mine / (other + ESTIMATORS * sizing)
        for mine, other, sizing in zip(
            times["ours"], times["beside"], times["estimator"], strict=True
        )
    ]
    none = times["none"]

    def added(name: str) -> float:
        pairs = zip(times[name], none, strict=True)
        return statistics.median(mine - bare for mine, bare in pairs) * 1e6

    low, middle, high = quartiles(ratios)
    detail = (
        f"a call takes {statistics.median(none) * 1e6:,.0f} us; ours adds {added('ours'):,.0f}, "
        f"{beside} {added('beside'):,.0f}; the estimator alone takes "
        f"{statistics.median(times['estimator']) * 1e6:,.0f}; middle half of the rounds "
        f"{low:.2f} to {high:.2f}"
    )
    against = f"against {beside} and {ESTIMATORS} estimators"
    return Row(f"{title}, {against}", middle, 1, detail)
