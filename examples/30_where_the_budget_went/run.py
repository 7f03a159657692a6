"""A scout asks a model until its budget is used up; the report then says why it was stopped.

Run it, and look where the budget went:

    tbc check budget.toml
    python run.py
    tbc show budget.db
    tbc report budget.db

Another run needs another name, as this one's budget is used up: `python run.py research-2`.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_langchain import budget_callbacks

QUESTIONS = 40
ANSWER = Answer(text="A lighthouse on a cliff.", input_tokens=12, output_tokens=95)


def ask(manager: BudgetManager, model: ChatOpenAI) -> None:
    """Ask as the scout, until a call is refused."""
    config: RunnableConfig = {"callbacks": budget_callbacks(manager)}
    number = 0
    try:
        with manager.acting_as("scout"):
            for number in range(1, QUESTIONS + 1):
                model.invoke(f"Describe view {number}.", config=config)
    except BudgetExceededError as refusal:
        print(f"Call {number} was refused. {refusal}")


def main() -> None:
    """Read the contracts, ask, and compare the books with the bill."""
    # LangChain logs a refusal as an error of the callback.
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)
    contracts = Path("budget.toml")
    if not contracts.exists():
        contracts = Path(__file__).with_name("budget.toml")
    changes = {"scope": sys.argv[1]} if len(sys.argv) > 1 else {}
    manager = BudgetManager.from_config(contracts, **changes)
    with FakeOpenAI([ANSWER] * QUESTIONS) as server:
        model = ChatOpenAI(
            base_url=server.base_url,
            api_key=SecretStr("none"),
            model="gpt-4o-mini",
            max_completion_tokens=100,
        )
        ask(manager, model)
        consumed = sum(account.consumed for account in manager.accounts().values())
        print(f"books {consumed} tokens, provider {server.billed_tokens} tokens")


if __name__ == "__main__":
    main()
