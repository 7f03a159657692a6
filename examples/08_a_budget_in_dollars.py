"""Two agents share a budget in US dollars: what a call may cost is held before it is sent.

The prices stand in a table, as they would in a contract file; models that are not in it have the
list price that the extra "prices" brings. Run it: `python 08_a_budget_in_dollars.py`.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from math import ceil
from typing import Any

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, LoggedRequest
from tbcontracts_langchain import budget_callbacks

PRICES = {
    "our-large": {"input": "3", "output": "15", "cached_input": "0.30"},
    "our-small": {"input": "0.15", "output": "0.60"},
}


def bill(server: FakeOpenAI) -> int:
    """Return what the provider bills, in millionths of a dollar: each call rounded up by itself."""

    def cost(call: LoggedRequest) -> int:
        price = {kind: Decimal(dollars) for kind, dollars in PRICES[call.model].items()}
        plain = call.input_tokens - call.cached_tokens
        cached = call.cached_tokens * price.get("cached_input", price["input"])
        return ceil(plain * price["input"] + cached + call.output_tokens * price["output"])

    return sum(map(cost, server.log))


def main() -> None:
    """Ask until the dollars are used up; then ask a model whose price nobody knows."""
    # LangChain logs every refusal as an error of the callback.
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)
    answer = Answer(text="A report.", input_tokens=12, cached_tokens=4, fill=True)
    with FakeOpenAI(lambda _: answer) as server:
        manager = BudgetManager(unit="usd", prices=PRICES)
        manager.register_agent("analyst", priority=2, max_usd=Decimal("0.005"), min_reserve_usd=0)
        manager.register_agent("clerk", priority=1, max_usd="0.002", min_reserve_usd="0.0005")
        callbacks = budget_callbacks(manager)

        def ask(agent: str, model: str, cap: int) -> None:
            config: Any = {"callbacks": callbacks, "metadata": {"tbcontracts": {"agent": agent}}}
            client = ChatOpenAI(
                base_url=server.base_url,
                api_key=SecretStr("none"),
                model=model,
                max_completion_tokens=cap,
            )
            client.invoke("Write a report on this quarter's sales.", config)

        ask("clerk", "our-small", 400)
        try:
            while True:
                ask("analyst", "our-large", 100)
        except BudgetExceededError as refusal:
            print(f"stopped: {refusal.reason}")
        try:
            ask("clerk", "somebody-elses", 100)
        except BudgetExceededError as refusal:
            print(f"not sent: {refusal.reason}")
        manager.print_report()
        accounts = manager.accounts().values()
        cost = sum(account.cost_micro_usd for account in accounts)
        print(f"books {cost} millionths of a dollar, provider {bill(server)}")
        assert cost == bill(server) == sum(account.consumed for account in accounts)
        used = sum(account.input_tokens + account.output_tokens for account in accounts)
        print(f"books {used} tokens, provider {server.billed_tokens} tokens")


if __name__ == "__main__":
    main()
