"""Every example in the documentation runs as it stands, and prints what the page says it prints.

A page is one test: its examples stand on each other, so they run from top to bottom in one
namespace, and neither shuffling nor parallel workers may part them.
"""

from __future__ import annotations

import json
import linecache
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from click import Context

from tbcontracts.cli.group import tbc
from tbcontracts.testing import FakeOpenAI

ROOT = Path(__file__).parents[2]
CONTENT = ROOT / "docs" / "content"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(CONTENT.rglob("*.md"))]

_FENCE = re.compile(r'^(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\s*$')
_DATA = ("json", "toml", "yaml")
_SHELL_LINE = re.compile(r"(make|pip install|bash|export|tbc) (?P<what>\S+)")
_EXIT_CODE = re.compile(r"exit code (\d)")
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


class Fence(NamedTuple):
    """A block of code on a page."""

    page: Path
    line: int
    """The line of its first line of code."""
    language: str
    title: str
    code: str

    @property
    def needs_crewai(self) -> bool:
        """Whether CrewAI has to be there."""
        return self.language == "python" and "crewai import" in self.code

    @property
    def is_for_later_python(self) -> bool:
        """Whether it needs deepagents, which is not made for this Python."""
        return sys.version_info < (3, 11) and "from deepagents import" in self.code

    @property
    def is_tbc(self) -> bool:
        """Whether it runs the command tbc, and nothing else."""
        lines = self.code.splitlines()
        return self.language == "bash" and all(line.startswith("tbc ") for line in lines)

    @property
    def is_run(self) -> bool:
        """Whether it is run."""
        return self.language == "python" or self.is_tbc

    @property
    def begins_anew(self) -> bool:
        """Whether it stands on nothing that was before it on the page."""
        return self.code.startswith("from tbcontracts import ")

    @property
    def where(self) -> str:
        """Its place, as editors understand it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def read_fences(page: Path) -> Iterator[Fence]:
    """Yield the blocks of code of a page.

    Raises:
        AssertionError: A line begins a block and is no fence as we write them, or one is left open.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].lstrip().startswith("```"):
            at += 1
            continue
        opened = _FENCE.match(lines[at])
        assert opened, f"{page}:{at + 1}: no fence that we know: {lines[at]}"
        end = next(
            (
                number
                for number in range(at + 1, len(lines))
                if lines[number].rstrip() == f"{opened['indent']}```"
            ),
            None,
        )
        assert end is not None, f"{page}:{at + 1}: this fence is never closed"
        code = textwrap.dedent("\n".join(lines[at + 1 : end])) + "\n"
        yield Fence(page, at + 2, opened["language"], opened["title"] or "", code)
        at = end + 1


FENCES = {page: tuple(read_fences(page)) for page in PAGES}


def name_of(page: Path) -> str:
    """Return the name of a page, as test ids show it."""
    return page.relative_to(CONTENT if page.is_relative_to(CONTENT) else ROOT).as_posix()


def with_something_to_run() -> list[Path]:
    """Return the pages that have something to run."""
    return [page for page, fences in FENCES.items() if any(f.is_run for f in fences)]


class PageRun:
    """One run of a page's examples, in a namespace and a folder of their own."""

    def __init__(self, page: Path, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.module = ModuleType(f"page_{re.sub(r'[^a-z]', '_', name_of(page).lower())}")
        self.folder = folder
        self.capture = capture
        self.printed = ""

    def do(self, fence: Fence) -> None:
        """Run a block, compare it with what was printed, or put it where the next one finds it."""
        if fence.language == "python" and fence.title.startswith("test_"):
            self._test(fence)
        elif fence.language == "python":
            self._run(fence)
        elif fence.is_tbc:
            self._run_tbc(fence)
        elif fence.title == "Output":
            said = f"{fence.where}: this is not what is printed"
            printed = textwrap.dedent(self.printed)  # as the fence was
            assert _TIME.sub("(time)", printed) == _TIME.sub("(time)", fence.code), said
        elif fence.title:
            (self.folder / fence.title).write_text(fence.code, encoding="utf-8")

    def _run(self, fence: Fence) -> None:
        # Blank lines before it, so that a traceback shows the lines of the page.
        source = "\n" * (fence.line - 1) + fence.code
        linecache.checkcache(str(fence.page))
        self.capture.readouterr()
        exec(compile(source, str(fence.page), "exec", dont_inherit=True), vars(self.module))
        self.printed = self.capture.readouterr().out

    def _run_tbc(self, fence: Fence) -> None:
        """Run commands as a shell would; the title says with which code they exit, if not 0."""
        expected = _EXIT_CODE.fullmatch(fence.title)
        self.printed = ""
        for line in fence.code.splitlines():
            self.capture.readouterr()
            with pytest.raises(SystemExit) as ended:
                tbc.main(shlex.split(line, comments=True)[1:], prog_name="tbc")
            said = self.capture.readouterr()
            self.printed += said.out + said.err
            code = int(expected[1]) if expected else 0
            assert ended.value.code == code, f"{fence.where}: {line}: {self.printed}"

    def _test(self, fence: Fence) -> None:
        """Run a block that is a test file, as its reader would."""
        (self.folder / fence.title).write_text(fence.code, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", fence.title],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{fence.where}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", with_something_to_run(), ids=name_of)
def test_examples_run(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each example of the page runs, and prints what stands below it."""
    run = PageRun(page, tmp_path, capsys)
    monkeypatch.setitem(sys.modules, run.module.__name__, run.module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path))
    if page.name == "telemetry.md":  # its examples export; those of other pages must not
        monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    has_crewai = find_spec("crewai") is not None
    left_out: list[str] = []
    with FakeOpenAI() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        leaving_out = False
        for fence in FENCES[page]:
            # What comes after a block that is left out stands on it, until one begins anew.
            leaving_out = not has_crewai and (
                fence.needs_crewai or (leaving_out and not fence.begins_anew)
            )
            if leaving_out:
                left_out.append(f"{fence.where}: CrewAI is not installed (Python 3.14)")
            elif fence.is_for_later_python:  # it alone: what stood on it would fail
                left_out.append(f"{fence.where}: deepagents is not made for Python 3.10")
            else:
                run.do(fence)
    if left_out:
        pytest.skip(f"Not run: {'; '.join(left_out)}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_run_or_shown_on_purpose(page: Path) -> None:
    """Python is run, data is read, shell lines are checked; anything else must be plain text."""
    for fence in FENCES[page]:
        if fence.language == "python":
            compile(fence.code, fence.where, "exec", dont_inherit=True)
            assert page in with_something_to_run()
        elif fence.language in _DATA:
            assert read_data(fence) is not None
        elif fence.language == "bash":
            check_shell(fence)
        else:
            assert fence.language == "text", f"{fence.where}: say what this is"


def test_outputs_stand_below_what_prints_them() -> None:
    """An expected output is compared, so there must be an example right before it."""
    for fences in FENCES.values():
        for before, fence in zip((None, *fences), fences, strict=False):
            if fence.title == "Output":
                assert before is not None, fence.where
                assert before.is_run, fence.where


def read_data(fence: Fence) -> object:
    """Read a block of JSON, TOML or YAML."""
    if fence.language == "json":
        return json.loads(fence.code)
    if fence.language == "yaml":
        import yaml

        return yaml.safe_load(fence.code)
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(fence.code)


def check_shell(fence: Fence) -> None:
    """Check that the commands of a block exist here: targets of make, extras, scripts."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    for line in filter(None, map(str.strip, fence.code.splitlines())):
        command = _SHELL_LINE.match(line)
        assert command, f"{fence.where}: nobody checks {line!r}"
        what = command["what"].strip("\"'")
        if command[1] == "tbc":
            assert what in tbc.list_commands(Context(tbc)), f"{fence.where}: no command {what}"
        elif command[1] == "make":
            assert f"\n{what}:" in makefile, f"{fence.where}: no target {what}"
        elif command[1] == "bash":
            assert (ROOT / what).is_file(), f"{fence.where}: no script {what}"
        else:
            for extra in re.findall(r"[a-z]+", what.partition("[")[2]):
                assert f"\n{extra} = " in extras, f"{fence.where}: no extra {extra}"
