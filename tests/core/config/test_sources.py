"""Where contracts are read from: every format, mappings, empty files, and what is no source."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.core.config.conftest import wrong

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.config import load
from tbcontracts.config_tables import AgentTable, BudgetFile, ContractTable
from tbcontracts.contract import BudgetContract as Contract
from tbcontracts.errors import ConfigurationError
from tbcontracts.settings import Settings
from tbcontracts.yaml_files import parse

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
    assert set(AgentTable.model_fields) - set(ContractTable.model_fields) == {"agents_max"}


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


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("1_000", 1_000),
        ("017", "017"),
        ("0", 0),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("~", None),
        ("2024-01-01", "2024-01-01"),
        ("1e3", 1_000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", float("-inf")),
        ("0x1f", "0x1f"),
    ],
)
def test_yaml_values_are_those_of_yaml_1_2(value: str, read: object) -> None:
    """A number that YAML 1.1 would make of `017` or `1:30` is not what was meant."""
    pytest.importorskip("yaml")
    found = parse(f"a: {value}")["a"]
    assert found == read
    assert type(found) is type(read)


def test_yaml_keys_are_text_as_they_are_spelt(tmp_path: Path) -> None:
    """As in TOML; and merged keys are keys."""
    pytest.importorskip("yaml")
    path = tmp_path / "b.yaml"
    path.write_text(
        "agents:\n  yes: &e {max_tokens: 5}\n  1: {}\n  ~: {}\n  2024-01-01:\n    <<: *e\n"
    )
    contracts = {one.agent_name: one.max_tokens for one in load(path)[1]}
    assert contracts == {"yes": 5, "1": 1_000, "~": 1_000, "2024-01-01": 5}
    merged = parse("a: {<<: [{b: {<<: &m {no: 1}}}], off: 2}\nc: {<<: *m}\n")
    assert merged == {"a": {"b": {"no": 1}, "off": 2}, "c": {"no": 1}}


def test_yaml_aliases_cannot_make_more_than_can_be_read(tmp_path: Path) -> None:
    """A few lines could make billions of values, and one that stands in itself no end of them."""
    pytest.importorskip("yaml")
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for inner, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join(9 * [f'*{inner}'])}]")
    path = tmp_path / "b.yaml"
    for last in ("agents: *i", "enforcement: *i", "x: 1"):
        path.write_text("\n".join([*lines, last]))
        with pytest.raises(ConfigurationError, match=r"aliases make more than 100,000 values"):
            load(path)
    path.write_text("agents: &a {b: *a}")
    with pytest.raises(ConfigurationError, match="An alias stands in what it is an alias of"):
        load(path)


@pytest.mark.parametrize("key", [True, None, 1, 2.5, ("a",)])
def test_keys_in_code_that_are_no_text(key: object) -> None:
    """Each is a mistake of its own, beside the others."""
    with pytest.raises(ConfigurationError) as error:
        load({"agents": {key: {"max_tokens": 5}, "b": {"priorty": 2}}})
    text = str(error.value)
    assert "2 things are wrong" in text
    assert "must be text" in text
    assert "pydantic" not in text
