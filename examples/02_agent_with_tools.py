"""An agent with tools as a node: what its tools spend on models is on its account, too.

The agent asks an expert, which is another model call, inside a tool. One annotation covers both; it
ends when the budget is used up, and keeps what it found. Run it: `python 02_agent_with_tools.py`.
"""

from __future__ import annotations

import logging

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_langgraph import budget, govern_graph


def script(request: ScriptedRequest) -> Answer:
    """Answer as the expert, or as an agent that always wants to ask the expert once more."""
    if "expert" in request.system_text:
        return Answer(text="Manhole covers are round so that they cannot fall in.")
    return Answer(tool_calls=[ToolCall(name="ask_expert", arguments={"question": "Why?"})])


def build(model: ChatOpenAI) -> StateGraph[MessagesState, None, MessagesState, MessagesState]:
    """Return a graph of one agent."""

    @tool
    def ask_expert(question: str) -> str:
        """Ask an expert."""
        return str(model.invoke([("system", "You are an expert."), ("user", question)]).content)

    agent = create_agent(model, [ask_expert], system_prompt="You are curious.")
    builder = StateGraph(MessagesState)
    contract = budget("curious", max_tokens=1_200, on_exceeded="end")
    builder.add_node("research", agent, metadata=contract)
    builder.add_edge(START, "research")
    return builder


def main() -> None:
    """Run the agent until its budget is used up, and show what it has found."""
    # LangChain logs every refusal as an error of the callback.
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)
    with FakeOpenAI(script) as server:
        model = ChatOpenAI(
            base_url=server.base_url,
            api_key=SecretStr("none"),
            model="gpt-4o-mini",
            max_completion_tokens=200,
        )
        manager = BudgetManager()
        app = govern_graph(build(model), manager)
        question = HumanMessage("Why are manhole covers round?")
        result = app.invoke({"messages": [question]})
        asked = [request for request in server.log if "expert" in request.system_text]
        print(f"{len(server.log)} calls, {len(asked)} of them to the expert, then it ended")
        print(f"last message kept: {result['messages'][-1].content}")
        account = manager.accounts()["curious"]
        print(f"books {account.consumed} tokens, provider {server.billed_tokens} tokens")
        print(f"refused {account.denials} call, which was not sent")


if __name__ == "__main__":
    main()
