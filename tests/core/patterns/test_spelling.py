"""How patterns are spelt: what is one, which brackets mean something, which patterns meet."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.patterns.conftest import allocated

from tbcontracts import BudgetManager
from tbcontracts.config import load
from tbcontracts.errors import ConfigurationError
from tbcontracts.patterns import is_pattern, literal, overlap


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("writer", False),
        ("Senior {topic} Analyst", False),
        ("research_*", True),
        ("worker ?", True),
        ("team [ab]", True),
        ("a[*]", False),
        ("a[?]b[[]1]", False),
        ("not closed [", False),
        ("[]", False),
        ("[!]", False),
        ("[!a]", True),
    ],
)
def test_what_is_a_pattern(text: str, pattern: bool) -> None:
    """Only what can match more than one name, as `fnmatch` reads it."""
    assert is_pattern(text) is pattern
    if not pattern:
        assert fnmatchcase(literal(text), text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[oops", r"left open\. What helps: '\[\[\]oops' if names have a bracket there"),
        ("a[*]b[c?", r"left open\. What helps: 'a\[\*\]b\[\[\]c\?'"),
        ("[]", "left open"),
        ("[!]", "left open"),
        ("team [z-a]", "has the range z-a, which holds nothing. What helps: a-z,"),
        ("[!9-0]*", "has the range 9-0, which holds nothing"),
        ("[ab-cz-y]", "has the range z-y"),
    ],
)
def test_a_bracket_that_means_nothing_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """In code and in a file, where nothing would ever match it."""
    with pytest.raises(ConfigurationError, match=said):
        BudgetManager().register_pattern(text)
    path = tmp_path / "b.toml"
    path.write_text(f'[agents.a]\n[agents."{text}"]\n')
    with pytest.raises(ConfigurationError, match=said) as refused:
        load(path)
    assert f"line 2, agents.{text}: The pattern" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[[]oops", "[oops"),
        ("a]", "a]"),
        ("[a-]x", "-x"),
        ("[-a]x", "ax"),
        ("[a-c-0]x", "bx"),
        ("[]-a]x", "_x"),
        ("[+--]x", ",x"),
    ],
)
def test_a_bracket_that_means_something_is_taken(text: str, name: str) -> None:
    """A hyphen that is one, a bracket as a character, a range of one's own choice."""
    contract = load({"agents": {text: {"max_tokens": 7}, "*": {"max_tokens": 1}}})
    manager = BudgetManager()
    for one in contract.contracts:
        manager.register(one)
    manager.record_usage(name, 0)
    assert allocated(manager)[name] == 7


def test_names_that_are_no_patterns_may_hold_anything() -> None:
    """Where a name is asked for, brackets are a part of it; so in `unattributed`."""
    manager = BudgetManager.from_config({"unattributed": {"agent": "other [*", "max_tokens": 3}})
    manager.register_agent("[oops", max_tokens=2)
    assert {name: one.max_tokens for name, one in manager.contracts.items()} == {
        "other [*": 3,
        "[oops": 2,
    }


PIECES = st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "[*]"])


PATTERNS = st.lists(PIECES, max_size=5).map("".join)


@given(one=PATTERNS, other=PATTERNS, name=st.text("abc*", max_size=6))
def test_a_name_that_matches_both_is_an_overlap(one: str, other: str, name: str) -> None:
    """Whatever the patterns: what `fnmatch` lets through twice is never called apart."""
    if fnmatchcase(name, one) and fnmatchcase(name, other):
        assert overlap(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("research_*", "analysis_*"), ("a?", "a"), ("*x", "*y"), ("[!a]*", "a*"), ("[ab]c", "cc")],
)
def test_patterns_apart(one: str, other: str) -> None:
    """What no name can match both is not called a tie."""
    assert not overlap(one, other)
    assert not overlap(other, one)
