"""The published package's own tests, as its source distributions have them, run on this package.

They are fetched when this runs, and are not kept here. Where the package registry cannot be
reached they are skipped; `test_published_api.py` states the same behaviour in our words.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest

import tbcontracts

FETCH_S = 75  # with RUN_S within what one test may take
RUN_S = 35


class Release(NamedTuple):
    """A release of the published package."""

    version: str
    sha256: str
    tests_passed: int
    left_out: tuple[str, ...] = ()
    """What of its tests is not promised; the page on coming from that package says why."""


FIRST = Release("0.1.0", "57b19a6e8135d6de3d8cb11c8f517530750d0cf217dc22c7555d3e6cc5cd4183", 23)
LATEST = Release(
    "0.3.0",
    "b818479b7445821e153bbe9d44a5394d9c1db2a95b8b5a8fce2b8ace980ebb7e",
    51,
    (
        "--ignore=tests/test_telemetry.py",
        "--deselect=tests/test_record_usage.py::test_record_usage_sets_confidence",
    ),
)


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for what is fetched."""
    return tmp_path_factory.mktemp("published")


def fetched(release: Release, folder: Path) -> Path:
    """Return a release's source distribution, or skip where the registry cannot be reached."""
    wanted = f"token-budget-contracts=={release.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--retries=1"]
    command += ["--disable-pip-version-check", "--no-deps", "--no-binary=:all:", "--timeout=10"]
    try:
        done = subprocess.run(
            [*command, "-d", str(folder), wanted],
            capture_output=True,
            text=True,
            timeout=FETCH_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{wanted} could not be fetched within {FETCH_S} s")
    archive = folder / f"token_budget_contracts-{release.version}.tar.gz"
    if done.returncode or not archive.exists():
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"{wanted} could not be fetched: {last}")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == release.sha256
    return archive


def unpacked_tests(archive: Path, folder: Path) -> Path:
    """Unpack the tests alone, so that `import tbcontracts` cannot find the package beside them."""
    with tarfile.open(archive) as opened:
        for member in opened.getmembers():
            parts = Path(member.name).parts
            if len(parts) == 3 and parts[1] == "tests" and member.isfile():
                content = opened.extractfile(member)
                assert content is not None
                path = folder / "tests" / parts[2]
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content.read())
    return folder


@pytest.mark.parametrize("release", [FIRST, LATEST], ids=lambda release: release.version)
def test_its_own_tests_pass(release: Release, downloads: Path, tmp_path: Path) -> None:
    """All tests of 0.1.0 pass unchanged; of 0.3.0 all but those of what was removed."""
    folder = unpacked_tests(fetched(release, downloads), tmp_path)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    env["PYTHONPATH"] = str(Path(tbcontracts.__file__).parents[1])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    command += ["--junitxml=result.xml", *release.left_out, "tests"]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=RUN_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    suite = ET.parse(folder / "result.xml").getroot().find("testsuite")
    assert suite is not None
    numbers = {name: int(suite.attrib[name]) for name in ("tests", "errors", "failures", "skipped")}
    passed = release.tests_passed
    assert numbers == {"tests": passed, "errors": 0, "failures": 0, "skipped": 0}
