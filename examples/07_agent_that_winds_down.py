"""An agent that winds down: told what it has left, on a cheaper model near the end, then finished.

It would look things up for ever. The middleware tells it what is left, changes to a cheaper model
when less than 40 % of its budget can be reached, and when an ordinary turn no longer fits, has it
give its last answer from the reserve. Run it: `python 07_agent_that_winds_down.py`.
"""

from __future__ import annotations

import logging

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_langchain import BudgetMiddleware


@tool
def look_up(topic: str) -> str:
    """Look something up."""
    return f"A long article about {topic}. " + "It goes on in great detail. " * 8


def curious(request: ScriptedRequest) -> Answer:
    """Ask for one more article, as long as there is a tool to ask."""
    if request.tools:
        topic = f"bridge {request.index + 1}"
        return Answer(tool_calls=[ToolCall(name="look_up", arguments={"topic": topic})])
    return Answer(text="Suspension bridges carry the longest spans.")


def main() -> None:
    """Run the agent against a provider on this machine, and show how it ended."""
    # LangChain logs every refusal as an error of the callback.
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)
    with FakeOpenAI(curious) as server:

        def model(name: str) -> ChatOpenAI:
            return ChatOpenAI(model=name, base_url=server.base_url, api_key=SecretStr("none"))

        manager = BudgetManager()
        manager.register_agent(
            "researcher",
            max_tokens=4_000,
            min_reserve=1_000,
            max_output_tokens=120,
            on_exceeded="end",
        )
        budget = BudgetMiddleware(
            manager,
            "researcher",
            downgrade_to=model("gpt-4o-mini"),
            downgrade_below=0.4,
            announce=True,
        )
        agent = create_agent(
            model("gpt-4o"), [look_up], middleware=[budget], system_prompt="You research bridges."
        )
        ended = agent.invoke({"messages": [HumanMessage("Which bridges are the longest?")]})
        for request in server.log:
            told = request.system_text.partition("You have ")[2].partition(" tokens left")[0]
            print(f"{request.model}: told it has {told} left, used {request.billed_tokens}")
        last = server.log[-1]
        print("the last call had", "tools" if last.body.get("tools") else "no tools")
        print(f"last message: {ended['messages'][-1].text}")
        account = manager.accounts()["researcher"]
        print(f"books {account.consumed} tokens, provider {server.billed_tokens} tokens")


if __name__ == "__main__":
    main()
