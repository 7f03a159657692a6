"""Where a crew's contracts are written, and how they find their agents."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from crewai import Crew, Process, Task
from crewai.flow.flow import Flow, start

from tbcontracts import BudgetContract, BudgetManager, ContractConflictError
from tbcontracts.errors import ConfigurationError
from tbcontracts.testing import FakeOpenAI
from tbcontracts_crewai import BudgetAgent, govern_crew
from tbcontracts_crewai.roles import Roles, normalise

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_surprising_warning() -> Iterator[None]:
    """Turn warnings of ours into errors, unless a test expects them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def terms(manager: BudgetManager) -> dict[str, int]:
    """Return the budget of every contract."""
    return {name: contract.max_tokens for name, contract in manager.contracts.items()}


def test_budgets_are_mappings_or_contracts(agent: Make, crew: Make) -> None:
    """`budgets=` takes the fields of a contract, or a contract."""
    team = crew(agent("Writer"), agent("Editor"))
    editor = BudgetContract("Editor", max_tokens=20)
    budgets: dict[str, Any] = {"Writer": {"max_tokens": 10}, "Editor": editor}
    assert terms(govern_crew(team, budgets=budgets).manager) == {"Writer": 10, "Editor": 20}


@pytest.mark.parametrize("as_object", [False, True], ids=["mapping", "crew_base"])
def test_agents_yaml_is_read(agent: Make, crew: Make, as_object: bool) -> None:
    """`config=` takes an agents_config or the object that has one; folded roles match."""
    entries = {
        "writer": {"role": "Senior\n  Writer\n", "budget": {"max_tokens": 10, "priority": 2}},
        "editor": {"role": "Editor\n"},
    }
    config = SimpleNamespace(agents_config=entries) if as_object else entries
    team = crew(agent("Senior Writer\n"), agent("Editor\n"))
    with pytest.warns(UserWarning, match="No contract for 'Editor'"):
        run = govern_crew(team, config=config)
    assert terms(run.manager) == {"Senior Writer": 10}


def test_an_agent_carries_its_budget(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """A `BudgetAgent` keeps its budget through the copies of `kickoff_for_each`."""
    team = crew(agent("Writer on {topic}", kind=BudgetAgent, budget={"max_tokens": 5_000}))
    with govern_crew(team) as run:
        team.kickoff_for_each([{"topic": "cats"}, {"topic": "dogs"}])
    assert run.manager.report() == {
        "Writer on {topic}": {
            "allocated": 5_000,
            "consumed": server.billed_tokens,
            "remaining": 5_000 - server.billed_tokens,
        }
    }


def test_a_block_says_at_which_shares_to_warn(agent: Make, crew: Make) -> None:
    """The `budget:` of an agent in agents.yaml, as a contract file does."""
    block = {"max_tokens": 1_000, "warn_at": [0.01, 1.0]}
    team = crew(agent("Writer"))
    told: list[tuple[str, float]] = []
    with govern_crew(team, config={"writer": {"role": "Writer", "budget": block}}) as run:
        run.manager.on_threshold(lambda one: told.append((one.agent, one.threshold)))
        team.kickoff()
    assert run.manager.flush_listeners(10)
    assert told == [("Writer", 0.01)]


def test_contracts_that_the_manager_has_count(agent: Make, crew: Make) -> None:
    """A contract that was registered before is found by the role, blanks aside."""
    manager = BudgetManager()
    manager.register_agent("Senior Writer", max_tokens=10)
    run = govern_crew(crew(agent("Senior  Writer\n")), manager)
    assert run.manager is manager
    assert terms(manager) == {"Senior Writer": 10}


def test_a_budget_that_nobody_would_use_is_left_out(agent: Make, crew: Make) -> None:
    """A role that the crew does not have gets no contract, and the nearest one is named."""
    team = crew(agent("Researcher"))
    text = r"'Reseacher' in budgets \(nearest: 'Researcher'\)"
    with pytest.warns(UserWarning, match=text):
        run = govern_crew(team, budgets={"Reseacher": {"max_tokens": 10}})
    assert terms(run.manager) == {}


def test_agents_of_one_role_share_an_account(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """Two agents of the same role draw on one budget."""
    team = crew(agent("Writer"), agent("Writer"))
    with govern_crew(team, budgets={"Writer": {"max_tokens": 5_000}}) as run:
        team.kickoff()
    assert len(server.log) == 2
    assert run.manager.report()["Writer"]["consumed"] == server.billed_tokens


def test_a_hierarchical_manager_has_a_role(agent: Make) -> None:
    """The manager that CrewAI makes later can be given a contract at once."""
    team = Crew(
        agents=[agent("Worker")],
        tasks=[Task(description="d", expected_output="e")],
        process=Process.hierarchical,
        manager_llm=agent("x").llm,
    )
    budgets = {"Worker": {"max_tokens": 10}, "Crew Manager": {"max_tokens": 20}}
    assert terms(govern_crew(team, budgets=budgets).manager) == {"Worker": 10, "Crew Manager": 20}


def test_a_flow_takes_contracts_as_they_are_written(
    server: FakeOpenAI, agent: Make, crew: Make
) -> None:
    """Its crews are made in its steps, so that no role is unknown beforehand."""

    class Report(Flow):  # type: ignore[type-arg]
        @start()
        def write(self) -> str:
            return str(crew(agent("Writer of {topic}\n")).kickoff(inputs={"topic": "tides"}))

    manager = BudgetManager()
    manager.register_agent("Editor", max_tokens=10)
    budgets = {"Writer of  {topic}": {"max_tokens": 5_000}, "Editor\n": {"max_tokens": 10}}
    with govern_crew(Report(), manager, budgets=budgets):
        Report().kickoff()
    assert terms(manager) == {"Editor": 10, "Writer of {topic}": 5_000}
    assert manager.report()["Writer of {topic}"]["consumed"] == server.billed_tokens > 0


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"budgets": [1]}, ConfigurationError, "must be a mapping of roles or a file"),
        ({"budgets": {"Writer": 4_000}}, ConfigurationError, "a contract or a mapping"),
        ({"budgets": {"Writer": {"max_token": 1}}}, ConfigurationError, "mean 'max_tokens'"),
        ({"budgets": {"Writer": {"max_tokens": -1}}}, ValueError, "max_tokens"),
        ({"budgets": {"Writer": {"max_tokens": True}}}, TypeError, "max_tokens"),
        ({"budgets": {"Writer": BudgetContract("Other")}}, ConfigurationError, "'Other'"),
        ({"config": 7}, ConfigurationError, "agents_config"),
        ({"config": {"w": {"budget": {"max_tokens": 1}}}}, ConfigurationError, "no role"),
    ],
)
def test_what_cannot_be_read_is_refused(
    agent: Make, crew: Make, given: dict[str, Any], error: type[Exception], text: str
) -> None:
    """A budget that cannot be read raises where it was written, and registers nothing."""
    manager = BudgetManager()
    with pytest.raises(error, match=text):
        govern_crew(crew(agent("Writer")), manager, **given)
    assert terms(manager) == {}


def test_what_is_no_crew_is_refused(agent: Make, crew: Make) -> None:
    """Neither an agent list nor a file name passes for a crew or a manager."""
    wrong: Any = [agent("Writer")]
    with pytest.raises(ConfigurationError, match="needed is a Crew or a Flow, not list"):
        govern_crew(wrong)
    wrong = {"Writer": {"max_tokens": 1}}
    with pytest.raises(ConfigurationError, match="BudgetManager or a contract file, not dict"):
        govern_crew(crew(agent("Writer")), wrong)


def test_two_contracts_for_one_role_conflict(agent: Make, crew: Make) -> None:
    """A budget in two places must be the same in both."""
    team = crew(agent("Writer", kind=BudgetAgent, budget={"max_tokens": 10}))
    assert terms(govern_crew(team, budgets={"Writer": {"max_tokens": 10}}).manager) == {
        "Writer": 10
    }
    with pytest.raises(ContractConflictError, match="Writer"):
        govern_crew(team, budgets={"Writer": {"max_tokens": 20}})


def test_a_run_is_entered_once(agent: Make, crew: Make) -> None:
    """A block that is entered while it is active says so; afterwards it can be used again."""
    run = govern_crew(crew(agent("Writer")), budgets={"Writer": {"max_tokens": 10}})
    with pytest.raises(ConfigurationError, match="Only an active run"):
        run.wrap(print)
    with run, pytest.raises(ConfigurationError, match="active already"):
        run.__enter__()
    with run:
        assert callable(run.wrap(print))


def test_scope_is_used(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """`scope=` keeps this crew's calls on books of their own."""
    manager = BudgetManager()
    team = crew(agent("Writer"))
    with govern_crew(team, manager, budgets={"Writer": {"max_tokens": 5_000}}, scope="run-7"):
        team.kickoff()
    assert manager.report()["Writer"]["consumed"] == 0
    assert manager.scope("run-7").report()["Writer"]["consumed"] == server.billed_tokens


def test_roles_are_compared_in_one_spelling() -> None:
    """Blanks, line ends, control characters and Unicode forms do not tell roles apart."""
    assert normalise(" Cafe\u0301\n Owner\t") == "Caf\u00e9 Owner"
    long = normalise("x" * 500)
    assert len(long.encode()) <= 200
    assert long != normalise("x" * 501)


def test_a_filled_in_template_finds_its_contract() -> None:
    """A role whose agent was never seen finds the one template that it fits."""
    manager = BudgetManager()
    manager.register_agent("{topic} Analyst")
    manager.register_agent("Writer")
    roles = Roles(manager)
    assert roles.account(None, "City (hot) Analyst\n") == "{topic} Analyst"
    assert roles.account(None, "Somebody") == "Somebody"
    assert roles.account(None, None) is None


FILE = """
enforcement = "strict"
scope = "acme/run-7"
[agents."Senior {topic} Writer"]
priority = 3
max_tokens = 5_000
max_output_tokens = 200
[agents.Proofreader]
max_tokens = 10
"""


def test_a_contract_file_is_a_manager(
    server: FakeOpenAI, agent: Make, crew: Make, tmp_path: Any
) -> None:
    """The file's settings are the manager's; of its contracts, this crew's are used."""
    path = tmp_path / "budget.toml"
    path.write_text(FILE)
    team = crew(agent("Senior  {topic} Writer\n"))
    with pytest.warns(UserWarning, match="'Proofreader' in .*budget.toml"):
        run = govern_crew(team, path)
    assert run.manager.settings.enforcement == "strict"
    assert run.manager.scope_name == "acme/run-7"
    assert terms(run.manager) == {"Senior {topic} Writer": 5_000}
    with run:
        team.kickoff(inputs={"topic": "Cat"})
    assert run.manager.report()["Senior {topic} Writer"]["consumed"] == server.billed_tokens > 0


@pytest.mark.parametrize("ending", ["toml", "yaml", "json"])
def test_budgets_may_be_a_file(agent: Make, crew: Make, tmp_path: Any, ending: str) -> None:
    """`budgets=` takes a file as it takes a mapping."""
    text = {
        "toml": "[agents.Writer]\nmax_tokens = 10\n",
        "yaml": "agents:\n  Writer:\n    max_tokens: 10\n",
        "json": '{"agents": {"Writer": {"max_tokens": 10}}}',
    }
    path = tmp_path / f"budget.{ending}"
    path.write_text(text[ending])
    assert terms(govern_crew(crew(agent("Writer")), budgets=str(path)).manager) == {"Writer": 10}
    manager = BudgetManager()
    govern_crew(crew(agent("Writer")), manager, budgets=path)
    assert terms(manager) == {"Writer": 10}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[agents.Writer]\nmax_token = 10", "agents.Writer.max_token: .*'max_tokens'"),
        ("[agents.Writer]\nmax_tokens = -1", "agents.Writer.max_tokens"),
        ("enforcement = 'strict'\n[agents.Writer]\nmax_tokens = 1", "sets enforcement"),
    ],
)
def test_a_file_with_a_mistake_names_the_place(
    agent: Make, crew: Make, tmp_path: Any, text: str, said: str
) -> None:
    """File, place and the nearest name are in the error; nothing is registered."""
    path = tmp_path / "budget.toml"
    path.write_text(text)
    manager = BudgetManager()
    with pytest.raises(ConfigurationError, match=said) as caught:
        govern_crew(crew(agent("Writer")), manager, budgets=path)
    assert "budget.toml" in str(caught.value)
    assert terms(manager) == {}


def test_a_json_crew_carries_budgets(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The JSON that `crewai create crew` makes holds budgets where its agents are BudgetAgents.

    CrewAI takes classes from the project's own modules only, so one of them names ours.
    """
    from crewai.project.crew_loader import load_crew_from_definition

    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    (tmp_path / "budgeted.py").write_text("from tbcontracts_crewai import BudgetAgent\n")
    writer = {
        "type": {"python": "budgeted.BudgetAgent"},
        "role": "{topic} Writer",
        "goal": "Write",
        "backstory": "Careful.",
        "llm": "openai/gpt-4o-mini",
        "budget": {"max_tokens": 5_000, "priority": 3},
    }
    task = {"name": "write", "description": "Write.", "expected_output": "e", "agent": "writer"}
    definition = {"name": "team", "agents": {"writer": writer}, "tasks": [task]}
    team, _ = load_crew_from_definition(definition, project_root=tmp_path)
    with govern_crew(team) as run:
        team.kickoff(inputs={"topic": "Cat"})
    assert terms(run.manager) == {"{topic} Writer": 5_000}
    assert run.manager.report()["{topic} Writer"]["consumed"] == server.billed_tokens > 0


def test_patterns_of_a_file_cover_roles(
    server: FakeOpenAI, agent: Make, crew: Make, tmp_path: Any
) -> None:
    """Every agent that matches is open before the first call; what matches nobody is warned of."""
    path = tmp_path / "budget.toml"
    path.write_text(
        '[agents."* Analyst"]\nmax_tokens = 5_000\n[agents.Writer]\nmax_tokens = 4_000\n'
        '[agents."Writerr*"]\nmax_tokens = 1\n',
        encoding="utf-8",
    )
    team = crew(agent("Senior {topic} Analyst\n"), agent("Junior  Analyst"), agent("Writer"))
    with pytest.warns(
        UserWarning, match=r"No agent here matches 'Writerr\*' in .* \(nearest: 'Writer'\)"
    ):
        run = govern_crew(team, path)
    expected = {"Senior {topic} Analyst": 5_000, "Junior Analyst": 5_000, "Writer": 4_000}
    assert terms(run.manager) == expected
    assert set(run.manager.report()) == set(expected)
    with run:
        team.kickoff({"topic": "cats"})
    accounts = run.manager.accounts()
    assert set(accounts) == set(expected)
    assert sum(account.consumed for account in accounts.values()) == server.billed_tokens
    assert accounts["Senior {topic} Analyst"].consumed > 0


def test_a_star_in_budgets_of_code_is_a_star(agent: Make, crew: Make) -> None:
    """Only files and `register_pattern` have patterns."""
    team = crew(agent("Writer*"), agent("Writers"))
    with pytest.warns(UserWarning, match="No contract for 'Writers'"):
        run = govern_crew(team, budgets={"Writer*": {"max_tokens": 10}})
    assert terms(run.manager) == {"Writer*": 10}


def test_the_environment_of_a_crew(
    agent: Make, crew: Make, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the file and the settings where code names neither; a manager of code stays."""
    path = tmp_path / "budget.toml"
    path.write_text("scope = 'file'\n[agents.Writer]\nmax_tokens = 5\n", encoding="utf-8")
    team = crew(agent("Writer"))
    monkeypatch.setenv("TBCONTRACTS_SCOPE", "deployed")
    run = govern_crew(team, budgets={"Writer": {"max_tokens": 6}})
    assert run.manager.scope_name == "deployed"
    assert terms(run.manager) == {"Writer": 6}
    monkeypatch.setenv("TBCONTRACTS_CONFIG", str(path))
    run = govern_crew(team)
    assert run.manager.scope_name == "deployed"
    assert terms(run.manager) == {"Writer": 5}
    mine = BudgetManager()
    mine.register_agent("Writer", max_tokens=7)
    assert govern_crew(team, mine).manager is mine
    assert terms(mine) == {"Writer": 7}
    assert mine.scope_name == "default"
