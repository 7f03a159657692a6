"""Contract files: what they say comes into force; what is wrong is said with its place."""

from __future__ import annotations

import builtins
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.config import json_schema, load
from tbcontracts.config_dollars import PriceOfModel
from tbcontracts.config_tables import AgentTable, BudgetFile, ContractTable
from tbcontracts.contract import BudgetContract as Contract
from tbcontracts.errors import ConfigurationError
from tbcontracts.file_lines import keys_of, line_of
from tbcontracts.model_price import ModelPrice
from tbcontracts.settings import Settings

TOML = """
scope = "acme/{utc:%Y-%m}"
enforcement = "strict"
count = { cached_input = 0.1 }

[unattributed]
agent = "everybody else"
max_tokens = 100

[agents.writer]
priority = 3
max_tokens = 4_000
min_reserve = 500
confidence_threshold = 0.9
max_output_tokens = 800
on_exceeded = { fallback = "cheap" }

[agents."Senior {topic} Analyst"]
on_exceeded = "end"
"""
YAML = """
scope: acme/{utc:%Y-%m}
enforcement: strict
count: {cached_input: 0.1}
unattributed: {agent: everybody else, max_tokens: 100}
agents:
  writer:
    priority: 3
    max_tokens: 4000
    min_reserve: 500
    confidence_threshold: 0.9
    max_output_tokens: 800
    on_exceeded: {fallback: cheap}
  Senior {topic} Analyst:
    on_exceeded: end
"""
AS_JSON = json.dumps(
    {
        "$schema": "./tbcontracts.schema.json",
        "scope": "acme/{utc:%Y-%m}",
        "enforcement": "strict",
        "count": {"cached_input": 0.1},
        "unattributed": {"agent": "everybody else", "max_tokens": 100},
        "agents": {
            "writer": {
                "priority": 3,
                "max_tokens": 4000,
                "min_reserve": 500,
                "confidence_threshold": 0.9,
                "max_output_tokens": 800,
                "on_exceeded": {"fallback": "cheap"},
            },
            "Senior {topic} Analyst": {"on_exceeded": "end"},
        },
    }
)


def wrong(source: Any) -> str:
    """Return what is said of a source that is refused."""
    with pytest.raises(ConfigurationError) as refused:
        load(source)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("b.toml", TOML), ("b.yaml", YAML), ("b.YML", YAML), ("b.json", AS_JSON)],
)
def test_every_format_says_the_same(tmp_path: Path, name: str, text: str) -> None:
    """The same keys in TOML, YAML and JSON give the same manager."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    manager = BudgetManager.from_config(path)
    assert manager.settings.enforcement == "strict"
    assert manager.settings.count == {"cached_input": 0.1}
    assert manager.scope_name.startswith("acme/2")
    assert dict(manager.contracts) == {
        "everybody else": BudgetContract("everybody else", max_tokens=100),
        "writer": BudgetContract("writer", 3, 4_000, 500, 0.9, 800, {"fallback": "cheap"}),
        "Senior {topic} Analyst": BudgetContract("Senior {topic} Analyst", on_exceeded="end"),
    }


def test_a_mapping_and_changes() -> None:
    """A mapping does for a file, and arguments count instead of what it says."""
    manager = BudgetManager.from_config(
        {"scope": "a", "agents": {"writer": {"max_tokens": 5}}}, scope="b", enforcement="observe"
    )
    assert manager.scope_name == "b"
    assert manager.settings.enforcement == "observe"
    assert manager.remaining("writer") == 5


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    """Nothing said is what `BudgetManager()` is; the keys are all of its settings."""
    path = tmp_path / "empty.toml"
    path.touch()
    assert BudgetManager.from_config(path).settings == Settings()
    others = {"store", "scope", "outbox", "telemetry", "agents", "schema_", "prices"}
    settings = set(Settings.__dataclass_fields__) | others
    assert set(BudgetFile.model_fields) == settings
    fields = set(Contract.__dataclass_fields__) - {"agent_name", "unit"}
    assert set(ContractTable.model_fields) == fields | {"max_usd", "min_reserve_usd"}
    assert set(AgentTable.model_fields) - set(ContractTable.model_fields) == {
        "agents_max",
        "warn_at",
    }


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


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("b.toml", "a =\n", "(at line 1, column 4)"),
        ("b.yaml", "a: [\n", "(at line 2, column 1)"),
        ("b.json", '{"a": }', "line 1 column 7"),
        ("b.yaml", "- a\n", 'It holds ["a"], not a table of keys.'),
        ("b.yaml", "some words", "It holds 'some words', not a table of keys."),
        ("b.toml", "agents = 5", "agents: must be a table of keys, not 5."),
        ("b.toml", "store = 5", "store: must be text, not 5."),
        ("b.ini", "", "has no ending that says its format"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, text: str, said: str) -> None:
    """A file that is no file of its format is refused with file and line."""
    path = tmp_path / name
    path.write_text(text)
    assert said in wrong(path)
    assert str(path) in wrong(path)


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.toml", "[agents.a]\nmax_tokens = 5"),
        ("b.yaml", "agents: {a: {max_tokens: 5}}"),
        ("b.json", '{"agents": {"a": {"max_tokens": 5}}}'),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, name: str, text: str) -> None:
    """Some editors write one."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8-sig")
    assert BudgetManager.from_config(path).contracts["a"].max_tokens == 5


@pytest.mark.parametrize("name", ["b.toml", "b.yaml"])
@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_an_empty_file_says_nothing(tmp_path: Path, name: str, text: str) -> None:
    """In YAML as in TOML."""
    path = tmp_path / name
    path.write_text(text)
    assert load(path) == load({})


def test_sources_that_are_none(tmp_path: Path) -> None:
    """A missing file, a folder, bytes that are no text, and things that are no source."""
    assert "cannot be read: No such file" in wrong(tmp_path / "none.toml")
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    assert "cannot be read: Is a directory" in wrong(folder)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in wrong(binary)
    assert "not int" in wrong(5)


def test_a_value_in_an_error_is_cut() -> None:
    """A prompt pasted into a file does not end up in a log."""
    assert len(wrong({"policy": "x" * 5_000})) < 200


def test_the_schema_accepts_what_the_loader_accepts() -> None:
    """The JSON Schema knows all keys, and is plain JSON."""
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == {
        "$schema" if name == "schema_" else name for name in BudgetFile.model_fields
    }
    assert set(schema["$defs"]["AgentTable"]["properties"]) == set(AgentTable.model_fields)
    assert schema["additionalProperties"] is False
    assert all("description" in field for field in schema["properties"].values())


def test_missing_packages_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without pydantic or pyyaml the error names the extra."""
    real = builtins.__import__

    def without_yaml(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    path = tmp_path / "b.yaml"
    path.touch()
    with pytest.raises(ImportError, match=r"tbcontracts\[yaml\]"):
        load(path)
    code = (
        "import sys; sys.modules['pydantic'] = None\n"
        "from tbcontracts import BudgetManager\n"
        "try: BudgetManager.from_config({})\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "tbcontracts[cli]" in done.stdout


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


def test_a_star_in_a_name_is_no_pattern_of_that_spelling() -> None:
    """They are two agents: all that match, and the one that is called so."""
    both = load({"agents": {"a*": {"max_tokens": 5}, "a[*]": {"max_tokens": 6}}}).contracts
    assert [(one.agent_name, one.max_tokens) for one in both] == [("a*", 5), ("a*", 6)]
    manager = BudgetManager()
    for one in both:
        manager.register(one)
    assert manager.remaining("a*") == 6
    other = manager.contract_of("ab")
    assert other is not None
    assert other.max_tokens == 5


def test_every_key_is_on_the_page_of_files() -> None:
    """Whatever a contract file may hold, somebody who never reads the code finds it there."""
    page = Path(__file__).parents[2] / "docs" / "content" / "files.md"
    said = page.read_text(encoding="utf-8")
    tables = (BudgetFile, AgentTable, PriceOfModel)
    keys = {field.alias or name for table in tables for name, field in table.model_fields.items()}
    assert [key for key in sorted(keys) if not re.search(rf"`{re.escape(key)}[`.]", said)] == []


def test_dollars_may_have_their_sign() -> None:
    """In files and in code as for `tbc`; digits that only look like some are none."""
    content = {
        "unit": "usd",
        "agents": {"a": {"max_usd": "$1", "min_reserve_usd": "$0.50"}},
        "prices": {"m": {"input": "$3", "output": 1}},
    }
    manager = BudgetManager.from_config(content)
    assert manager.contracts["a"] == BudgetContract.in_usd(
        "a", max_usd=" $1 ", min_reserve_usd="0.5"
    )
    assert "must be dollars" in wrong({"unit": "usd", "agents": {"a": {"max_usd": "\uff11"}}})
    for odd in ("\uff11", "$$1", "1$", "$"):
        with pytest.raises(ValueError, match="must be dollars"):
            BudgetContract.in_usd("a", max_usd=odd)
        with pytest.raises(ValueError, match="must be dollars"):
            ModelPrice.per_million(input=odd)


def test_one_number_is_no_list_of_shares() -> None:
    """What a list looks like is said."""
    assert "warn_at: must be a list of shares, such as [0.8, 0.95], not 0.8." in wrong(
        {"warn_at": 0.8}
    )
