"""The pages leave nothing out: errors and codes, quoted messages, examples in docstrings."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tbcontracts
import tbcontracts.errors
import tbcontracts.report
import tbcontracts.testing
import tbcontracts_langchain
import tbcontracts_langgraph
from tbcontracts.testing import FakeOpenAI

ROOT = Path(__file__).parents[2]
CONTENT = ROOT / "docs" / "content"
SOURCES = [*(ROOT / "core").rglob("*.py"), *(ROOT / "integrations").rglob("*.py")]

# Messages on the troubleshooting page that frameworks write, not we.
THEIRS = ("Error in BudgetCallbackHandler", "LLM call denied by", "Connection error.")


def page(name: str) -> str:
    """Return the text of a page."""
    return (CONTENT / name).read_text(encoding="utf-8")


def public_modules() -> list[ModuleType]:
    """Return what users import from, as far as it is installed."""
    found = [tbcontracts, tbcontracts.report, tbcontracts.testing]
    found += [tbcontracts_langchain, tbcontracts_langgraph]
    if find_spec("crewai") is not None:
        import tbcontracts_crewai

        found.append(tbcontracts_crewai)
    return found


def error_classes() -> Iterator[type[tbcontracts.TBCError]]:
    """Yield every error that users can meet."""
    for module in (tbcontracts.errors, *public_modules()):
        for name in getattr(module, "__all__", vars(module)):
            value = getattr(module, name)
            if inspect.isclass(value) and issubclass(value, tbcontracts.TBCError):
                yield value


def test_every_error_and_its_code_are_documented() -> None:
    """The page of errors names each class and each class's code."""
    text = page("errors.md")
    for error in error_classes():
        assert f"`{error.__name__}`" in text, f"errors.md does not name {error.__name__}"
        if error is not tbcontracts.TBCError:
            assert f"`{error.code}`" in text, f"errors.md has no code {error.code!r}"


def test_every_public_name_is_in_the_reference() -> None:
    """The reference has a section for each name that users can import, and no other."""
    written = set(re.findall(r"^::: (\S+)$", page("reference.md"), re.MULTILINE))
    for module in public_modules():
        names = {f"{module.__name__}.{name}" for name in module.__all__}
        of_module = {name for name in written if name.rpartition(".")[0] == module.__name__}
        assert of_module == names


def test_every_code_of_a_denial_is_documented() -> None:
    """Codes that the rules and the manager give to denials stand on the page of errors."""
    text = page("errors.md")
    given = re.compile(
        r'\bcode(?:: str)?(?:, \w+)? = "(\w+)"|code="(\w+)"|0, "(\w+)", books|_PRICE = "(\w+)"'
    )
    codes = {
        next(filter(None, found.groups()))
        for source in SOURCES
        for found in given.finditer(source.read_text(encoding="utf-8"))
    } - {"error"}
    assert {"budget_exceeded", "fragmented", "scope_closed", "unbounded", "overdraft"} <= codes
    assert {"unattributed", "unknown_price"} <= codes
    assert not [code for code in sorted(codes) if f"`{code}`" not in text]


def test_quoted_messages_are_what_the_code_says() -> None:
    """Headings that quote a message quote a real one, up to what is filled in."""
    code = "\n".join(source.read_text(encoding="utf-8") for source in SOURCES)
    said = re.sub(r'"\s*\n\s*f?"', "", code)  # texts that go over several lines
    said = re.sub(r"\{[^{}]*\}", "\N{HORIZONTAL ELLIPSIS}", said)
    quoted = re.findall(r'^### "(.+)"$', page("troubleshooting.md"), re.MULTILINE)
    ours = [message for message in quoted if not message.startswith(THEIRS)]
    assert len(ours) >= 4
    for message in ours:
        for part in filter(None, map(str.strip, message.split("..."))):
            assert part.strip(" ;:,") in said, f"nothing says {part!r}"


def docstring_examples() -> list[tuple[str, str]]:
    """Return the examples in the docstrings of public names, with whose they are."""
    found: list[tuple[str, str]] = []
    for module in public_modules():
        for name in module.__all__:
            value = getattr(module, name)
            texts = [value, *vars(value).values()] if inspect.isclass(value) else [value]
            for text in filter(None, (inspect.getdoc(item) for item in texts)):
                example = re.search(r"^Example:\n +`(.+)`$", text, re.MULTILINE)
                if example:
                    found.append((f"{module.__name__}.{name}", example[1]))
    return found


@pytest.mark.parametrize(("whose", "example"), docstring_examples())
def test_examples_in_docstrings_run(
    whose: str, example: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each one-line example of a public name runs, among the names that it takes for granted."""
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("budget.toml").write_text("[agents.writer]\nmax_tokens = 4000\n", encoding="utf-8")
    with FakeOpenAI() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        with ExitStack() as stack:
            names = surroundings(whose, stack)
            exec(compile(example, whose, "exec", dont_inherit=True), names)


def surroundings(whose: str, stack: ExitStack) -> dict[str, Any]:
    """Return what an example takes for granted."""
    from langchain.agents import create_agent
    from langchain_openai import ChatOpenAI
    from langgraph.graph import START, MessagesState, StateGraph

    manager = tbcontracts.BudgetManager()
    manager.register_agent("writer", max_tokens=4_000)
    builder = StateGraph(MessagesState)
    builder.add_node("node", lambda state: state)
    builder.add_edge(START, "node")
    names: dict[str, Any] = {
        "ChatOpenAI": ChatOpenAI,
        "builder": builder,
        "fn": lambda state: state,
        "graph": builder.compile(),
        "create_agent": create_agent,
        "manager": manager,
        "model": ChatOpenAI(),
        "threading": threading,
        "tools": [],
        "x": {"messages": []},
    }
    modules = sorted(public_modules(), key=lambda module: whose.startswith(f"{module.__name__}."))
    for module in modules:  # its own last: two may have one name
        names.update({name: getattr(module, name) for name in module.__all__})
    if "crewai" in whose:
        names.update(crew_and_run(whose, names, stack))
    return names


def crew_and_run(whose: str, names: dict[str, Any], stack: ExitStack) -> dict[str, Any]:
    """Return a crew, and a run of it that is active."""
    from crewai import LLM, Agent, Crew, Task

    llm = LLM(model="openai/gpt-4o-mini")
    agent = Agent(role="Researcher", goal="g", backstory="b", llm=llm)
    task = Task(description="d", expected_output="e", agent=agent)
    crew = Crew(agents=[agent], tasks=[task])
    run = stack.enter_context(names["govern_crew"](crew)) if whose.endswith("CrewRun") else None
    return {"crew": crew, "run": run}


def test_every_page_is_reached() -> None:
    """Every page stands in the navigation, and every decision in the list of decisions."""
    navigation = (ROOT / "docs" / "zensical.toml").read_text(encoding="utf-8")
    decisions = page("adr/index.md")
    for found in CONTENT.rglob("*.md"):
        name = found.relative_to(CONTENT).as_posix()
        assert f'"{name}"' in navigation, f"{name} is not in the navigation"
        if found.parent.name == "adr" and found.name != "index.md":
            assert f"({found.name})" in decisions, f"{found.name} is not in the list of decisions"
