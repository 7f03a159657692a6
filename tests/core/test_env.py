"""Environment variables: what counts before what, and what is said of a wrong one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tbcontracts import BudgetExceededError, BudgetManager, env
from tbcontracts.config_tables import BudgetFile
from tbcontracts.errors import ConfigurationError

FILE = {"scope": "of the file", "agents": {"writer": {"max_tokens": 100}}}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without any variable of ours."""
    for variable in env.VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)


def test_code_then_environment_then_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts before the next; what nobody says is the default."""
    assert BudgetManager.from_config(FILE).scope_name == "of the file"
    monkeypatch.setenv("TBCONTRACTS_SCOPE", "of the environment")
    monkeypatch.setenv("TBCONTRACTS_ENFORCEMENT", "strict")
    monkeypatch.setenv("TBCONTRACTS_ON_STORE_ERROR", " ")
    manager = BudgetManager.from_config(FILE)
    assert manager.scope_name == "of the environment"
    assert manager.settings.enforcement == "strict"
    assert manager.settings.on_store_error == "deny"
    said = BudgetManager.from_config(FILE, scope="of the code", enforcement="expected")
    assert said.scope_name == "of the code"
    assert said.settings.enforcement == "expected"


def test_every_setting_of_the_environment_arrives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each variable stands for a key of files, and changes just that."""
    values = {
        "store": f"sqlite:///{tmp_path / 'books.db'}",
        "scope": "acme/{utc:%Y}",
        "enforcement": "observe",
        "unattributed": "deny",
        "on_contract_change": "apply",
        "on_store_error": "allow",
        "outbox": str(tmp_path / "outbox.jsonl"),
        "warn_at": "0.95, 0.8",
        "telemetry": "otel",
    }
    keyed = {str(one.key): one.name for one in env.VARIABLES if one.key is not None}
    assert set(keyed) <= set(BudgetFile.model_fields)
    for key, value in values.items():
        monkeypatch.setenv(keyed.pop(key), value)
    assert keyed == {}
    manager = BudgetManager.from_config({})
    settings = manager.settings
    assert manager.store.durable
    assert manager.scope_name.startswith("acme/2")
    assert settings.enforcement == "observe"
    assert settings.unattributed == "deny"
    assert settings.on_contract_change == "apply"
    assert settings.on_store_error == "allow"
    assert settings.warn_at == (0.8, 0.95)
    listening = [type(one).__name__ for one in manager._engine.listeners._listeners]
    assert listening == ["Thresholds", "OtelListener"]
    assert (tmp_path / "outbox.jsonl").exists()


def test_a_manager_made_in_code_reads_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests and libraries that make their own are not changed from outside."""
    monkeypatch.setenv("TBCONTRACTS_STORE", "nonsense://")
    monkeypatch.setenv("TBCONTRACTS_ENFORCEMENT", "nonsense")
    assert BudgetManager().settings.enforcement == "expected"


def test_the_file_may_be_named_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where code names none; a file that code names counts."""
    path = tmp_path / "deployed.toml"
    path.write_text("[agents.writer]\nmax_tokens = 7\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="TBCONTRACTS_CONFIG names none"):
        BudgetManager.from_config()
    monkeypatch.setenv("TBCONTRACTS_CONFIG", str(path))
    assert BudgetManager.from_config().remaining("writer") == 7
    assert BudgetManager.from_config(FILE).remaining("writer") == 100


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ENFORCEMENT", "loose", "TBCONTRACTS_ENFORCEMENT: must be 'observe', 'expected' or"),
        ("UNATTRIBUTED", "pay", "TBCONTRACTS_UNATTRIBUTED: must be 'track' or 'deny', not 'pay'"),
        ("SCOPE", "a{b}", "TBCONTRACTS_SCOPE: The scope name 'a{b}' has braces"),
        ("STORE", "nothing://x", "TBCONTRACTS_STORE"),
        ("STORE", "redis://u:secret@[x", "TBCONTRACTS_STORE is not a URL."),
        ("STORE", "redis://u:secret\u2100@host", "TBCONTRACTS_STORE is not a URL."),
        ("STORE", "redis://u:secret@host:port", "TBCONTRACTS_STORE"),
        ("OUTBOX", "/no/such/folder/outbox", "TBCONTRACTS_OUTBOX"),
        (
            "WARN_AT",
            "80 %",
            "_WARN_AT: must be a share above 0 and up to 1, such as 0.8, not '80 %'.",
        ),
        (
            "WARN_AT",
            "0.5,80",
            "_WARN_AT: must be a share above 0 and up to 1, such as 0.8, not 80.",
        ),
        ("WARN_AT", "\uff10.8", "TBCONTRACTS_WARN_AT: must be a share"),
        ("DISABLED", "perhaps", "TBCONTRACTS_DISABLED must be 1 or 0, not 'perhaps'"),
    ],
)
def test_a_wrong_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """So that it is looked for where it stands; a password is never shown."""
    monkeypatch.setenv(f"TBCONTRACTS_{name}", value)
    with pytest.raises(ConfigurationError) as wrong:
        BudgetManager.from_config(FILE)
    assert said in str(wrong.value)
    assert "secret" not in str(wrong.value)
    assert wrong.value.__cause__ is None


def test_a_mistake_of_two_places_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strict mode in the file and a variable that does not go with it."""
    monkeypatch.setenv("TBCONTRACTS_ON_STORE_ERROR", "allow")
    with pytest.raises(ConfigurationError, match="environment says TBCONTRACTS_ON_STORE_ERROR"):
        BudgetManager.from_config({"enforcement": "strict"})


def test_a_misspelt_variable_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would do nothing, and nobody would know."""
    monkeypatch.setenv("TBCONTRACTS_STROE", "memory://")
    with pytest.warns(UserWarning, match="TBCONTRACTS_STROE is no .* mean TBCONTRACTS_STORE"):
        BudgetManager.from_config({})


def test_a_variable_that_is_like_none_gets_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """What all of them begin with makes no two of them alike."""
    monkeypatch.setenv("TBCONTRACTS_UNIT", "usd")
    with pytest.warns(UserWarning, match="TBCONTRACTS_UNIT is no variable") as warned:
        BudgetManager.from_config(FILE)
    said = str(warned[0].message)
    assert "Did you mean" not in said
    assert "TBCONTRACTS_ENFORCEMENT" in said


@pytest.mark.parametrize("value", ["1", "TRUE", "on"])
def test_an_emergency_switch_refuses_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """Every manager observes, whatever its code says; a line in the log says so; usage counts."""
    monkeypatch.setenv("TBCONTRACTS_DISABLED", value)
    with caplog.at_level(logging.WARNING, "tbcontracts"):
        manager = BudgetManager(
            enforcement="strict", unattributed="deny", on_contract_change="raise"
        )
    assert "TBCONTRACTS_DISABLED is set" in caplog.text
    manager.register_agent("writer", max_tokens=10)
    with manager.reserve("writer", 5_000) as hold:
        hold.settle(4_000)
    assert manager.accounts()["writer"].consumed == 4_000
    assert manager.settings.on_contract_change == "keep"
    monkeypatch.setenv("TBCONTRACTS_DISABLED", "off")
    strict = BudgetManager(enforcement="strict")
    strict.register_agent("writer", max_tokens=10)
    with pytest.raises(BudgetExceededError):
        strict.reserve("writer", 5_000)


def test_the_page_has_a_line_for_each() -> None:
    """The table of the documentation is what the constants say, in their order."""
    page = Path(__file__).parents[2] / "docs" / "content" / "files.md"
    rows = [
        f"| `{one.name}` | {'`' + one.key + '`' if one.key else ''} | {one.meaning} |"
        for one in env.VARIABLES
    ]
    assert "\n".join(rows).replace("|  |", "| |") in page.read_text(encoding="utf-8")


def test_every_constant_is_in_the_list() -> None:
    """What the module names is what is read, warned of and documented."""
    constants = {value for value in vars(env).values() if isinstance(value, env.Variable)}
    assert constants == set(env.VARIABLES)
    assert len({variable.name for variable in env.VARIABLES}) == len(env.VARIABLES)
    assert all(variable.name.startswith(env.PREFIX) for variable in env.VARIABLES)
