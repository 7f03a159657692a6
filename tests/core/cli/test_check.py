"""`tbc check` and `tbc schema`: what is wrong with a contract file, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.core.cli.conftest import Run

from tbcontracts.config import json_schema

GOOD = """\
store = "redis://me:secret@host/0"
scope = "acme/{utc:%Y-%m}"
[agents.researcher]
max_tokens = 4_000
priority = 3
[agents.writer]
max_tokens = 1_000
min_reserve = 1_000
"""


def test_a_good_file_is_shown_as_a_table(run: Run, tmp_path: Path) -> None:
    """Its agents, the most important first; the store without its password."""
    (tmp_path / "budget.toml").write_text(GOOD)
    result = run("check", "budget.toml")
    assert result.code == 0
    assert result.out == (
        "budget.toml: good. 2 agents, 5,000 tokens in each scope.\n"
        "Books: redis://me:***@host/0, scope acme/{utc:%Y-%m}.\n"
        "\n"
        "agent       priority  max_tokens  min_reserve  can lend  when it ends\n"
        "---------------------------------------------------------------------\n"
        "researcher         3       4,000          400     3,600  raise\n"
        "writer             1       1,000        1,000         0  raise\n"
        "\n"
        "Worth a look:\n"
        "  'writer' can never lend: its reserve is all it has.\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing is limited"),
        ("[agents.a]\n[agents.b]\n", "All agents have priority 1"),
        ("[agents.a]\nmax_tokens = 0\n", "'a' has no budget of its own"),
        ("[agents.a]\nmax_tokens = 5\nmax_output_tokens = 9\n", "more than its whole budget"),
        ("[agents.a]\nconfidence_threshold = 0\n", "stops after its first score"),
        ('store = "reddis://x"\n[agents.a]\n', "scheme 'reddis'; known: memory, postgresql, redis"),
        ('store = "reddis://x"\n[agents.a]\n', 'What helps: store = "redis://..."'),
        ('store = "redis://h:a/b@c"\n[agents.a]\n', "has a port that is no number"),
    ],
)
def test_what_is_worth_a_look(run: Run, tmp_path: Path, text: str, said: str) -> None:
    """What is allowed and likely not meant is said, and is no error."""
    (tmp_path / "b.toml").write_text(text)
    result = run("check", "b.toml")
    assert result.code == 0
    assert said in result.out


BAD_TOML = '''\
polcy = "priority"
store = """
polcy = 5
"""
[agents.writer]
priorty = 3
max_tokens = true
on_exceeded = {fallbak = "x"}
[agents."a.b"]
min_reserve = 5_000
[unattributed]
max_tokens = 5
'''
BAD_YAML = """\
agents:
  writer:
    priority: null
    max_tokens: [1, true, null]
  reader: {max_tokens: 12, min_reserv: 4}
"""


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "b.toml",
            BAD_TOML,
            """\
b.toml: 7 things are wrong.
  line 1, polcy: there is no such key. Did you mean 'policy'?
  line 6, agents.writer.priorty: there is no such key. Did you mean 'priority'?
  line 7, agents.writer.max_tokens: must be a whole number, not true.
  line 8, agents.writer.on_exceeded.fallback: this key is missing.
  line 8, agents.writer.on_exceeded.fallbak: there is no such key. Did you mean 'fallback'?
  line 9, agents.a.b: min_reserve of agent 'a.b' must be at most its max_tokens (1,000), not 5,000.
  line 11, unattributed.agent: this key is missing.
""",
        ),
        (
            "b.yaml",
            BAD_YAML,
            """\
b.yaml: 3 things are wrong.
  line 3, agents.writer.priority: must be a whole number, not null.
  line 4, agents.writer.max_tokens: must be a whole number, not [1, true, null].
  line 5, agents.reader.min_reserv: there is no such key. Did you mean 'min_reserve'?
""",
        ),
        (
            "b.json",
            '{\n "agents": {\n  "a": {"priority": 0}}}',
            """\
b.json: One thing is wrong.
  line 3, agents.a.priority: must be greater than or equal to 1, not 0.
""",
        ),
        (
            "b.toml",
            "a = = 3",
            "b.toml: One thing is wrong.\n  Invalid value (at line 1, column 5)\n",
        ),
        (
            "b.yaml",
            "a: b: c\n",
            """\
b.yaml: One thing is wrong.
  mapping values are not allowed here (at line 1, column 5)
""",
        ),
    ],
)
def test_all_that_is_wrong_is_said_where_it_stands(
    run: Run, tmp_path: Path, name: str, text: str, said: str
) -> None:
    """With line, key, the value as the file spells it, and the nearest name; exit code 1."""
    (tmp_path / name).write_text(text)
    result = run("check", name)
    assert result.code == 1
    assert result.out == said
    assert result.err == ""


def test_the_books_are_those_that_the_environment_says(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the name of its variable, as a manager of this file would have them."""
    (tmp_path / "b.toml").write_text(GOOD)
    monkeypatch.setenv("TBCONTRACTS_SCOPE", "staging")
    books = "Books: redis://me:***@host/0, scope staging (TBCONTRACTS_SCOPE).\n"
    assert books in run("check", "b.toml").out
    monkeypatch.setenv("TBCONTRACTS_STORE", "redis://a:secret@other")
    books = "Books: redis://a:***@other (TBCONTRACTS_STORE), scope staging (TBCONTRACTS_SCOPE).\n"
    assert books in run("check", "b.toml").out


def test_several_files_and_json(run: Run, tmp_path: Path) -> None:
    """One that is wrong is a finding, whatever the others are."""
    (tmp_path / "good.toml").write_text(GOOD)
    (tmp_path / "bad.toml").write_text("[agents.a]\npriorty = 1\n")
    result = run("check", "good.toml", "bad.toml", "--json")
    assert result.code == 1
    good, bad = result.json["files"]
    assert good["good"]
    assert [agent["agent_name"] for agent in good["agents"]] == ["researcher", "writer"]
    assert good["store"] == "redis://me:***@host/0"
    assert bad == {
        "file": "bad.toml",
        "good": False,
        "errors": [
            {
                "line": 2,
                "key": ["agents", "a", "priorty"],
                "said": "there is no such key. Did you mean 'priority'?",
            }
        ],
    }


def test_files_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    """Those are not done: exit code 2, and a sentence that names the file."""
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    (tmp_path / "folder.toml").mkdir()
    for name in ("missing.toml", "binary.toml", "folder.toml", "."):
        result = run("check", name)
        assert (result.code, result.out) == (2, "")
        assert "What helps" in result.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.json", "[" * 100_000),
        ("b.yaml", "[" * 5_000),
        ("b.json", '{"agents": {"a": {"priority": ' + "9" * 5_000 + "}}}"),
        ("b.yaml", "1: 2\nnull: 3\n? [a, b]\n: c\n"),
        ("b.yaml", "agents: {? [1] : {max_tokens: 5}}"),
        ("b.yaml", "a: 2020-99-99\n"),
        ("b.yaml", "a: !!python/object:os.system {}\n"),
        ("b.yaml", "a: &a [*a]\n"),
        ("b.yaml", "--- a\n--- b\n"),
        ("b.toml", '"" = 1\n"a\\u0000" = 2\n'),
        ("b.toml", "x = 2020-01-01\ny = nan\nz = [inf]\n"),
        ("b.json", '{"agents": {"a\\ud800": {}}}'),
    ],
)
def test_odd_files_are_findings(run: Run, tmp_path: Path, name: str, text: str) -> None:
    """Whatever a file holds: a sentence, and no traceback."""
    (tmp_path / name).write_text(text)
    result = run("check", name)
    assert result.code == 1
    assert "wrong" in result.out


def test_the_schema(run: Run, tmp_path: Path) -> None:
    """It is printed, or written to a file whose name a contract file's first line gives."""
    assert run("schema").json == json_schema()
    result = run("schema", "-o", "budget.schema.json")
    assert json.loads((tmp_path / "budget.schema.json").read_text()) == json_schema()
    assert "#:schema budget.schema.json" in result.out
    assert run("schema", "-o", "no/such/folder.json").code == 2
