"""Keys and their lines: found however they are written, and refused where one stands twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.core.config.conftest import wrong

from tbcontracts.config import load
from tbcontracts.file_lines import keys_of, line_of

TWICE = " has this key already, and only one can count."


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "b.toml",
            "[agents.a]\npriority = 1\npriority = 2\n\n[agents.b]\n[agents.'a']\n",
            [f"line 3, agents.a.priority: line 2{TWICE}", f"line 6, agents.a: line 1{TWICE}"],
        ),
        ("b.toml", 'agents.a = {"x" = 1, x = 2}', [f"line 1, agents.a.x: line 1{TWICE}"]),
        (
            "b.toml",
            "agents.a.priority = 1\n[agents.a]\n",
            ["line 2: this key or table was begun above already. What helps: all that belongs"],
        ),
        (
            "b.yaml",
            "agents:\n  a: {max_tokens: 5}\n  b: &b {priority: 0}\n  'a': {priorty: 9}\n",
            [
                "line 3, agents.b.priority: must be greater than",
                f"line 4, agents.a: line 2{TWICE}",
                "line 4, agents.a.priorty: there is no such key.",
            ],
        ),
        (
            "b.json",
            '{\n\t"scope": "{",\n\t"agents": {"a": {}, "a"\n: {}},\n"\\u0073cope": "b"}',
            [f"line 3, agents.a: line 3{TWICE}", f"line 5, scope: line 2{TWICE}"],
        ),
    ],
)
def test_a_key_given_twice_is_a_mistake(
    tmp_path: Path, name: str, text: str, said: list[str]
) -> None:
    """With both lines, and beside all else that is wrong: the last one never counts in silence."""
    path = tmp_path / name
    path.write_text(text)
    told = wrong(path)
    assert [part for part in said if part not in told] == []
    assert "What helps: " in told


def test_what_stands_twice_by_right_is_no_mistake(tmp_path: Path) -> None:
    """An anchor used twice, and keys that are merged and then changed."""
    path = tmp_path / "b.yaml"
    path.write_text(
        "agents:\n"
        "  a: &a {max_tokens: 5, priority: 2}\n"
        "  b: *a\n"
        "  c:\n    <<: *a\n    priority: 3\n"
        "  d:\n    <<: [*a]\n    <<: *a\n"
    )
    assert [(one.agent_name, one.priority) for one in load(path).contracts] == [
        ("a", 2),
        ("b", 2),
        ("c", 3),
        ("d", 2),
    ]


@pytest.mark.parametrize(
    ("name", "text", "place", "line"),
    [
        ("b.toml", '#\n[a."b.c"] # x\nd = [\n  1, # [e]\n  "]",\n  3]\n', "a/b.c/d/2", 6),
        ("b.toml", '[a]\nb = """\n[c]\n"""\nd = 1\n', "a/d", 5),
        ("b.toml", "[a]\nb = '''\n[c]\n'''\nd = {e.f = 1.5, g = 2}\n", "a/d/e/f", 5),
        ("b.toml", "[[a]]\nb = 1\n[[a]]\nb = 1979-05-27T07:32:00Z\n", "a/1/b", 4),
        ("b.toml", "a = 1\n\n'b' . c = 2", "b/c", 3),
        ("b.toml", 'a = = 1\nb\n"\\u0063" = 1', "c", 3),
        ("b.json", '{"a": [1,\n\t{"b": 1e5, "c":\n2}]}', "a/1/c", 2),
        ("b.json", '\n{"a\\"": {\n"b": "}"},\n"c": -1.5}', "c", 4),
        ("b.yaml", "a:\n- 1\n-\n  b: 2\n", "a/1/b", 4),
        ("b.toml", "[a]\n", "a/b/c", 1),
        ("b.toml", "[a]\n", "b", None),
    ],
)
def test_a_key_is_found_where_it_stands(name: str, text: str, place: str, line: int | None) -> None:
    """In each format, however it is written; one that is missing has the line of its table."""
    found = keys_of(text, Path(name).suffix)
    assert line_of(found, tuple(place.split("/"))) == line
    assert [key for key in found if key.before is not None] == []


@given(st.text("ab\n\t \"'[]{}=:,.#\\-&*<0"), st.sampled_from((".toml", ".json", ".yaml")))
@example("[}", ".json")
@example("{]", ".json")
def test_lines_of_any_text_can_be_asked_for(text: str, suffix: str) -> None:
    """A file that is none of its format has lines as far as it can be followed."""
    assert all(key.line <= text.count("\n") + 1 for key in keys_of(text, suffix))
