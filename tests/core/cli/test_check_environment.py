"""`tbc check` and `tbc doctor` on the environment: what counts before a file, and is it right?"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.core.cli.conftest import Run

from tbcontracts import BudgetManager, env
from tbcontracts.errors import ConfigurationError

FILE = "[agents.writer]\nmax_tokens = 100\n"
WRONG = {
    "TBCONTRACTS_DISABLED": "maybe",
    "TBCONTRACTS_STORE": "redis://u:secret@[x",
    "TBCONTRACTS_SCOPE": "a{b}",
    "TBCONTRACTS_ENFORCEMENT": "strct",
    "TBCONTRACTS_UNATTRIBUTED": "dney",
    "TBCONTRACTS_ON_CONTRACT_CHANGE": "kepe",
    "TBCONTRACTS_ON_STORE_ERROR": "alow",
    "TBCONTRACTS_WARN_AT": "0.5,80",
    "TBCONTRACTS_TELEMETRY": "otle",
}
"""Each variable whose value can be told to be wrong without opening anything."""


@pytest.fixture(autouse=True)
def _a_file(run: Run, tmp_path: Path) -> None:
    """Have a file that is right, and no variable of ours."""
    del run  # it sees to the latter
    (tmp_path / "b.toml").write_text(FILE)


def test_a_file_by_itself_says_nothing_of_the_environment(run: Run) -> None:
    """Where no variable says anything, or an empty one does."""
    assert "environment" not in run("check", "b.toml").out
    said = run("check", "b.toml", "--json").json["environment"]
    assert said == {"given": {}, "errors": [], "worth_a_look": []}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_what_a_manager_would_refuse_is_found(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """In the words of the manager; the file is good, and the exit code says that all is not."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused:
        BudgetManager.from_config("b.toml")
    result = run("check", "b.toml")
    assert result.code == 1
    assert "b.toml: good." in result.out
    found = result.out.partition("The environment: One thing is wrong.\n  ")[2].strip()
    assert found == str(refused.value).removeprefix("The environment: ")
    assert name in found
    assert "secret" not in result.out
    (error,) = run("check", "b.toml", "--json").json["environment"]["errors"]
    assert error["variable"] == name
    assert error["said"] in found


def test_all_of_it_is_said_at_once_with_the_nearest_value(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a file; what is wrong counts for nothing, and is not shown as if it did."""
    for name, value in WRONG.items():
        monkeypatch.setenv(name, value)
    result = run("check", "b.toml")
    assert result.code == 1
    assert f"The environment: {len(WRONG)} things are wrong." in result.out
    for meant in ("strict", "deny", "keep", "allow", "otel"):
        assert f"Did you mean '{meant}'?" in result.out
    assert "counts before a file" not in result.out


def test_what_counts_before_the_file_is_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The books stand with the file; an emergency says what it does."""
    monkeypatch.setenv("TBCONTRACTS_SCOPE", "staging")
    monkeypatch.setenv("TBCONTRACTS_WARN_AT", "0.8, 0.95")
    monkeypatch.setenv("TBCONTRACTS_DISABLED", "1")
    result = run("check", "b.toml")
    assert result.code == 0
    assert result.out.endswith(
        "\nThe environment counts before a file:\n"
        "  TBCONTRACTS_DISABLED=1: all is only observed, nothing is refused\n"
        "  TBCONTRACTS_WARN_AT=0.8, 0.95\n"
    )


def test_what_the_environment_makes_of_the_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may be right alone, and both together cannot be; in an emergency they can."""
    Path("strict.toml").write_text(f'enforcement = "strict"\n{FILE}')
    monkeypatch.setenv("TBCONTRACTS_ON_STORE_ERROR", "allow")
    with pytest.raises(ConfigurationError, match="strict mode has none"):
        BudgetManager.from_config("strict.toml")
    result = run("check", "b.toml", "strict.toml")
    assert result.code == 1
    assert "TBCONTRACTS_ON_STORE_ERROR: with strict.toml: on_store_error=" in result.out
    assert "with b.toml" not in result.out
    monkeypatch.setenv("TBCONTRACTS_DISABLED", "1")
    BudgetManager.from_config("strict.toml")
    assert run("check", "b.toml", "strict.toml").code == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TBCONTRACTS_ENFORCMENT", "strict", "Did you mean TBCONTRACTS_ENFORCEMENT?"),
        ("TBCONTRACTS_STORE", "reddis://u:secret@h", "URL scheme 'reddis'"),
        ("TBCONTRACTS_CONFIG", "none.toml", "TBCONTRACTS_CONFIG names 'none.toml', and there is"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_may_be_meant_is_worth_a_look(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """No finding of the check, and one of the doctor, who looks at this machine."""
    monkeypatch.setenv(name, value)
    result = run("check", "b.toml")
    assert result.code == 0
    assert said in result.out.partition("Worth a look:")[2]
    assert "secret" not in result.out
    doctor = run("doctor", "--json")
    (trap,) = [trap for trap in doctor.json["traps"] if trap["code"] == "environment"]
    assert said in trap["said"]
    assert doctor.code == 1


def test_the_doctor_finds_a_wrong_value(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what helps, said once."""
    assert "environment" not in {trap["code"] for trap in run("doctor", "--json").json["traps"]}
    monkeypatch.setenv("TBCONTRACTS_DISABLED", "maybe")
    out = run("doctor").out
    assert (
        "  TBCONTRACTS_DISABLED must be 1 or 0, not 'maybe'.\n"
        "    What helps: TBCONTRACTS_DISABLED=1, or unset it.\n"
    ) in out


def test_no_variable_is_left_out() -> None:
    """Each that has wrong values is tried above; of an outbox only its machine can tell."""
    assert {one.name for one in env.VARIABLES} - set(WRONG) == {
        "TBCONTRACTS_CONFIG",
        "TBCONTRACTS_OUTBOX",
    }
