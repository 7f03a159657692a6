"""Patterns in contract files: wildcards, literal stars, and how many agents one makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.core.patterns.conftest import allocated

from tbcontracts import BudgetManager, UnknownAgentError
from tbcontracts.config import load
from tbcontracts.errors import ConfigurationError


def test_a_file_has_patterns_and_literal_stars() -> None:
    """In a file a name with a wildcard is a pattern; `[*]` is a star."""
    agents = {"research_*": {"max_tokens": 7}, "a[*]": {"max_tokens": 8}, "b": {}}
    manager = BudgetManager.from_config({"agents": agents})
    assert set(manager.contracts) == {"a*", "b"}
    manager.record_usage("research_1", 1)
    assert allocated(manager) == {"a*": 8, "b": 1_000, "research_1": 7}
    contracts = load({"agents": agents}).contracts
    assert [type(one).__name__ for one in contracts] == [
        "ContractPattern",
        "BudgetContract",
        "BudgetContract",
    ]
    with pytest.raises(ConfigurationError, match=r"agents\.\*b: The patterns 'a\*' and '\*b' can"):
        load({"agents": {"a*": {}, "*b": {}, "*": {}}})
    with pytest.raises(ConfigurationError, match=r"agents\.x\*: min_reserve of agent 'x\*' must"):
        load({"agents": {"x*": {"max_tokens": 5, "min_reserve": 9}}})


@pytest.mark.parametrize("name", ["b.toml", "b.yaml"])
def test_a_file_says_how_many_agents_a_pattern_makes(tmp_path: Path, name: str) -> None:
    """As `register_pattern` does; a further name has no contract, and a warning says so."""
    path = tmp_path / name
    toml = '[agents."re*"]\nmax_tokens = 5\nagents_max = 2\n'
    path.write_text(toml if path.suffix == ".toml" else 'agents: {"re*": {"agents_max": 2}}')
    manager = BudgetManager.from_config(path)
    manager.record_usage("re1", 1)
    manager.record_usage("re2", 1)
    with pytest.warns(UserWarning, match=r"made 2 agents .* a file and register_pattern take"):
        assert manager.contract_of("re3") is None
    with pytest.raises(UnknownAgentError):
        manager.record_usage("re3", 1)
    assert manager.contract_of("re1") is not None
    assert "agents_max" not in manager.contracts["re1"].as_dict()
    assert [one.agents_max for one in manager.patterns] == [2]


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        ({"re*": {"agents_max": 0}}, "agents.re*.agents_max: must be greater than or equal to 1"),
        ({"re*": {"agents_max": "2"}}, "agents.re*.agents_max: must be a whole number, not '2'"),
        (
            {"re": {"agents_max": 2}},
            "agents.re.agents_max: it limits what a pattern makes, and",
        ),
        ({"re[*]": {"agents_max": 2}}, "it limits what a pattern makes, and 're*' is one agent."),
    ],
)
def test_how_many_agents_is_a_number_and_of_a_pattern(agents: dict[str, Any], said: str) -> None:
    """A contract of one name makes one agent."""
    with pytest.raises(ConfigurationError) as refused:
        load({"agents": agents})
    assert said in str(refused.value)
