"""`tbc doctor`: what is installed, and every trap that it knows of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import metadata

import pytest
from tests.core.cli.conftest import Run

import tbcontracts.tokens
from tbcontracts.cli import doctor
from tbcontracts.cli.installed import Package, is_within, packages
from tbcontracts.cli.traps import TRAPS, Machine, traps

ALL = {"crewai": "1.15.30", "tiktoken": "0.14", "langchain-core": "1.8", "langchain-openai": "1.1"}
QUIET = {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"}


def codes(
    environ: Mapping[str, str], installed: Mapping[str, str], python: tuple[int, int] = (3, 12)
) -> list[str]:
    """Return which traps a machine has."""
    return [trap.code for trap in traps(Machine(environ, installed.get, python))]


@pytest.fixture(autouse=True)
def _encodings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have an encoding."""
    monkeypatch.setattr(tbcontracts.tokens, "best_counter", lambda: len)


def test_a_machine_without_traps() -> None:
    """All frameworks installed and told what they need to know."""
    assert codes(QUIET, ALL) == []


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"CREWAI_TRACING_ENABLED": "false"}, "crewai_telemetry"),
        ({**QUIET, "CREWAI_DISABLE_TELEMETRY": "false"}, "crewai_telemetry"),
        ({"CREWAI_DISABLE_TELEMETRY": "1"}, "crewai_tracing_prompt"),
        ({**QUIET, "OPENAI_BASE_URL": "http://me:geheim@host/v1"}, "stream_usage"),
        ({**QUIET, "OPENAI_API_BASE": "http://host/v1"}, "stream_usage"),
    ],
)
def test_traps_in_the_environment(environ: dict[str, str], code: str) -> None:
    """Each is found where its package is installed, and only there; no password is shown."""
    assert codes(environ, ALL) == [code]
    assert codes(environ, {}) == []
    (trap,) = traps(Machine(environ, ALL.get, (3, 12)))
    assert "geheim" not in trap.said


def test_telemetry_may_be_off_in_three_ways() -> None:
    """CrewAI listens to three variables."""
    for name in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_TRACKING", "OTEL_SDK_DISABLED"):
        assert codes({name: "TRUE", "CREWAI_TRACING_ENABLED": "true"}, ALL) == []


def test_python_3_10() -> None:
    """Its tasks hand no context on."""
    assert codes(QUIET, ALL, (3, 10)) == ["python_3_10_async"]


def test_tiktoken_without_an_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then everything is estimated."""
    estimate = tbcontracts.tokens.estimate_tokens
    monkeypatch.setattr(tbcontracts.tokens, "best_counter", lambda: estimate)
    assert codes(QUIET, ALL) == ["tiktoken_encodings"]


def test_an_old_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger needs strict tables."""
    monkeypatch.setattr("sqlite3.sqlite_version", "3.36.0")
    assert codes(QUIET, ALL) == ["old_sqlite"]


def test_no_trap_is_forgotten() -> None:
    """The list holds each function of the module that looks for one."""
    from tbcontracts.cli import traps as module

    looking = {
        name
        for name, value in vars(module).items()
        if callable(value)
        and getattr(value, "__annotations__", {}).get("return") == "Iterator[Trap]"
    }
    assert looking == {trap.__name__ for trap in TRAPS}


def test_what_is_installed() -> None:
    """Every extra but `all`, with the range that the metadata say and what is there."""
    by_name = {package.name: package for package in packages()}
    assert by_name["click"] == Package("cli", "click", ">=8.1.7", metadata.version("click"))
    assert by_name["redis"].state == "ok"
    assert {package.extra for package in packages()} >= {"cli", "yaml", "redis", "postgres", "otel"}
    assert "all" not in {package.extra for package in packages()}
    assert {package.state for package in packages(lambda _: None)} == {"missing"}
    assert {package.state for package in packages(lambda _: "0.0.1")} == {"unsupported"}


@pytest.mark.parametrize(
    ("version", "supported", "within"),
    [
        ("1.2.10", ">=1.2.10,<2", True),
        ("1.2.9", ">=1.2.10,<2", False),
        ("2.0.0", ">=1.2.10,<2", False),
        ("2.0.0rc1", "<2", False),
        ("0.3.0", ">=0.1,<0.3", False),
        ("1.15.3", "==1.15.3", True),
        ("1.88.7", "~=1.88.6", True),
        ("1.89", "~=1.88.6", False),
        ("3.40.1", ">=3.37", True),
        ("5", "!=5.0", False),
        ("7", "", True),
    ],
)
def test_ranges(version: str, supported: str, within: bool) -> None:
    """By their numbers, not by their letters."""
    assert is_within(version, supported) is within


def like_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the doctor find the same frameworks and the same Python everywhere, and no trap."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    machine = partial(Machine, python=(3, 12))
    monkeypatch.setattr(doctor, "Machine", lambda environ, _: machine(environ, ALL.get))


def test_the_doctor_speaks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 and a remedy for each trap; 0 where there is none."""
    like_any_machine(monkeypatch)
    healthy = run("doctor")
    assert (healthy.code, healthy.out.splitlines()[-1]) == (0, "No trap was found.")
    assert run("doctor", "--json").json["traps"] == []
    monkeypatch.setenv("OPENAI_BASE_URL", "http://host/v1")
    ill = run("doctor")
    assert ill.code == 1
    assert "One trap was found:" in ill.out
    assert "What helps: ChatOpenAI(stream_usage=True)." in ill.out
    assert run("doctor", "--store", "sqlite:///none.db").code == 2


def test_a_version_that_is_not_supported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a finding; an extra that is not installed is none."""
    like_any_machine(monkeypatch)
    real = metadata.version

    def version(name: str) -> str:
        if name == "redis":
            raise metadata.PackageNotFoundError
        return "4.0" if name == "pyyaml" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    result = run("doctor")
    assert result.code == 1
    assert "pyyaml 4.0 is installed; supported is >=6." in result.out
    assert "not installed" in result.out
    assert "redis" not in result.out.partition("One trap")[2]
