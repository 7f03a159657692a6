"""What the package does where CrewAI is missing, or not yet needed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest

BLOCKED = """
    import sys
    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "crewai":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Missing())
    import importlib.util
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *rest: None if name == "crewai" else find(name, *rest)
"""


def run(code: str) -> str:
    """Run code in a fresh interpreter, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_does_not_import_crewai() -> None:
    """CrewAI takes seconds to import; whoever only names the package does not wait."""
    code = "import sys, tbcontracts_crewai; print('crewai' in sys.modules)"
    assert run(code).strip() == "False"


@pytest.mark.parametrize("use", ["govern_crew(None)", "BudgetAgent", "CrewBudgetExceededError"])
def test_a_missing_crewai_says_what_to_install(use: str) -> None:
    """Whatever needs CrewAI says so, with the command that helps."""
    code = textwrap.dedent(BLOCKED) + textwrap.dedent(f"""
        import tbcontracts_crewai
        try:
            tbcontracts_crewai.{use}
        except ImportError as error:
            print(error)
    """)
    assert 'pip install "tbcontracts[crewai]"' in run(code)


@pytest.mark.skipif(find_spec("crewai") is None, reason="CrewAI is not installed (Python 3.14)")
def test_every_public_name_is_there() -> None:
    """All names that the package lists can be had."""
    import tbcontracts_crewai

    for name in tbcontracts_crewai.__all__:
        assert getattr(tbcontracts_crewai, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tbcontracts_crewai.nothing  # noqa: B018


@pytest.mark.skipif(find_spec("crewai") is None, reason="CrewAI is not installed (Python 3.14)")
def test_a_crewai_without_the_gate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CrewAI that has no stream sink is refused, with the version that is needed."""
    from crewai.events import stream_context

    from tbcontracts_crewai import govern_crew

    monkeypatch.delattr(stream_context, "add_stream_sink")
    with pytest.raises(ImportError, match=r"crewai>=1\.15\.19,<2"):
        govern_crew(None)
