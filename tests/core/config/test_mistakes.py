"""What is wrong in a contract file is said with its place, once, and all of it at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.core.config.conftest import wrong

from tbcontracts.config import load
from tbcontracts.errors import ConfigurationError


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"enforcemen": "strict"}, "enforcemen: there is no such key. Did you mean 'enforcement'?"),
        ({"policy": "fair"}, "policy: must be 'priority', not 'fair'."),
        ({"scope": "a{b}"}, "scope: The scope name 'a{b}' has braces that are no period"),
        ({"count": {"inputs": 2}}, "count.inputs: count has no bucket 'inputs'"),
        ({"count": 5}, "count: must be 'total' or 'uncached', not 5."),
        ({"unattributed": "drop"}, "unattributed: must be 'track' or 'deny', not 'drop'."),
        ({"unattributed": {"max_tokens": 5}}, "unattributed.agent: this key is missing."),
        ({"agents": {"a": 5}}, "agents.a: must be a table of keys, not 5."),
        ({"agents": {"a": {"priorty": 2}}}, "agents.a.priorty: there is no such key. Did you mean"),
        ({"agents": {"a": {"xyz": 2}}}, "agents.a.xyz: there is no such key. The keys are"),
        ({"agents": {"a": {"max_tokens": "4"}}}, "agents.a.max_tokens: must be a whole number"),
        ({"agents": {"a": {"max_tokens": 4.5}}}, "agents.a.max_tokens: must be a"),
        ({"agents": {"a": {"priority": True}}}, "agents.a.priority: must be a whole number, not"),
        ({"agents": {"a": {"priority": 0}}}, "agents.a.priority: must be greater than"),
        ({"agents": {"a": {"max_tokens": 2**41}}}, "agents.a.max_tokens: must be less than"),
        (
            {"agents": {"a": {"confidence_threshold": float("nan")}}},
            "agents.a.confidence_threshold",
        ),
        ({"agents": {"a": {"min_reserve": 2_000}}}, "agents.a: min_reserve of agent 'a' must be"),
        ({"agents": {"a": {"on_exceeded": "stop"}}}, "must be 'raise', 'end' or 'ask', not 'stop'"),
        (
            {"agents": {"a": {"on_exceeded": {"fallbak": "b"}}}},
            "agents.a.on_exceeded.fallbak: there is no such key. Did you mean 'fallback'?",
        ),
        ({"agents": {" ": {}}}, "agents. : The agent name must not be empty."),
        ({"agents": {"a": {}, " a": {}}}, "agents. a: the key 'a' is the same name, 'a'."),
        ({"agents": {5: {}}}, "agents.5: must be"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(content: dict[Any, Any], said: str) -> None:
    """Key path, value, and the nearest key where one was misspelt."""
    assert said in wrong(content)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """One look at the error is enough to mend the file; it is named."""
    path = tmp_path / "budget.toml"
    path.write_text('polcy = "priority"\n[agents.a]\nmax_tokens = -1\npriority = 9999\n')
    said = wrong(path).splitlines()
    assert said[0] == f"{path}: 3 things are wrong."
    assert [line.split(":")[0] for line in said[1:]] == [
        "  line 1, polcy",
        "  line 3, agents.a.max_tokens",
        "  line 4, agents.a.priority",
    ]


def test_a_value_in_an_error_is_cut() -> None:
    """A prompt pasted into a file does not end up in a log."""
    assert len(wrong({"policy": "x" * 5_000})) < 200


def test_parts_whose_shape_is_right_are_looked_at_beside_others() -> None:
    """A typo in one place hides no wrong value in another."""
    with pytest.raises(ConfigurationError) as refused:
        load({"warn_at": [1.5], "agents": {"a": {"prioriti": 2}, "b": {"min_reserve": 5_000}}})
    said = str(refused.value)
    assert "3 things are wrong" in said
    assert all(part in said for part in ("warn_at.0: must", "'priority'", "min_reserve of agent"))


BROKEN = """\
unit = "tokns"
scope = "x{y}"
warn_at = [0.5,
  1.5, "a",
  0]
count = {inputs = 2, output = -1}
[unattributed]
agent = ""
priority = 0
[agents."a*"]
priority = 0
confidence_key = "a..b"
[agents."*b"]
max_tokens = 5
min_reserve = 9
[agents."bell\\u0007"]
on_exceeded = {fallback = ""}
[agents." w"]
[agents.w]
prioritie = 1
max_usd = "0.0000001"
[agents.x]
max_usd = 1
min_reserve = 1
[prices.m]
input = 9999999999
output = "x"
[prices.n]
request = 1
"""


SAID = {
    (1, "unit", "must be 'tokens' or 'usd', not 'tokns'"),
    (2, "scope", "The scope name 'x{y}' has braces that are no period"),
    (4, "warn_at.1", "must be a share above 0 and up to 1, such as 0.8, not 1.5"),
    (4, "warn_at.2", "must be a share above 0 and up to 1, such as 0.8, not 'a'"),
    (5, "warn_at.3", "must be a share above 0 and up to 1, such as 0.8, not 0"),
    (6, "count.inputs", "count has no bucket 'inputs'"),
    (6, "count.output", "count: the weight of 'output' must be a number between"),
    (9, "unattributed.priority", "must be greater than or equal to 1, not 0"),
    (11, "agents.a*.priority", "must be greater than or equal to 1, not 0"),
    (12, "agents.a*.confidence_key", "must be a path such as \"answer.confidence\", not 'a..b'"),
    (13, "agents.*b", "The patterns 'a*' and '*b' can match the same name"),
    (13, "agents.*b", "min_reserve of agent '*b' must be at most its max_tokens (5), not 9"),
    (16, "agents.bell\\x07", "The agent name must not hold control characters: 'bell\\x07'"),
    (17, "agents.bell\\x07.on_exceeded.fallback", "must not be empty, not ''"),
    (19, "agents.w", "the key ' w' is the same name, 'w'"),
    (20, "agents.w.prioritie", "there is no such key. Did you mean 'priority'?"),
    (
        24,
        "agents.x.min_reserve",
        "min_reserve of agent 'x' is in tokens, and these budgets are in d",
    ),
    (26, "prices.m.input", "The price of input must be between 0 and 1,000,000 dollars, not 999"),
    (27, "prices.m.output", "must be dollars, such as \"2.50\", not 'x'"),
    (28, "prices.n", "A price needs dollars for a million tokens of input"),
}


def test_mistakes_of_every_kind_are_said_at_once(tmp_path: Path) -> None:
    """Shapes, values, names, and what does not go together: each with its line and its key."""
    path = tmp_path / "b.toml"
    path.write_text(BROKEN)
    first, *lines = wrong(path).splitlines()
    told = [(line, said) for line in lines for said in SAID if as_said(*said) in line]
    assert first == f"{path}: {len(SAID)} things are wrong."
    assert {said for _, said in told} == SAID
    assert len(told) == len(lines) == len(SAID)


def as_said(line: int, place: str, said: str) -> str:
    """Return how a mistake begins."""
    return f"  line {line}, {place}: {said}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"enforcement": "strict", "on_store_error": "allow"}, "on_store_error: on_store_error="),
        ({"unit": "usd", "count": "uncached"}, "count: count says how tokens weigh"),
        ({"unit": "usd", "agents": {"a": {}}}, "agents.a: Agent 'a' needs a budget in dollars"),
    ],
)
def test_what_does_not_go_together_is_told_with_its_place(
    content: dict[str, Any], said: str
) -> None:
    """Where the file says both, `tbc check` says so and not only the manager."""
    assert said in wrong(content)


def test_one_mistake_is_told_once() -> None:
    """What is missing because of a mistake is no other mistake."""
    agents = {"a": {"max_usd": "x", "min_reserve_usd": 5}, "b": {"max_us": 5, "priority": 2}}
    assert "2 things are wrong" in wrong({"unit": "usd", "agents": agents})
    assert "are wrong" not in wrong({"unit": "us", "agents": {"a": {"max_usd": 5}}})


def test_one_number_is_no_list_of_shares() -> None:
    """What a list looks like is said."""
    assert "warn_at: must be a list of shares, such as [0.8, 0.95], not 0.8." in wrong(
        {"warn_at": 0.8}
    )
