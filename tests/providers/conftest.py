"""What the tests of providers share: each finding is held against its expectation and the page."""

from __future__ import annotations

import gc
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.langchain.leftovers import find_leftovers
from tests.providers.cells import Client, Kind, check
from tests.providers.table import Cell, cell_of, column, on_the_page, render, write, written

# Before any client is imported: nothing looks for credentials or machines of a cloud.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"
WRITE = "--write-page"
PROPERTY = "provider_cell"

os.environ["CREWAI_STORAGE_DIR"] = str(Path(tempfile.gettempdir()) / "tbcontracts-providers")
with warnings.catch_warnings():
    # These imports warn of their own business; here, so that ours may be errors everywhere else.
    warnings.simplefilter("ignore")
    import crewai  # noqa: F401
    import litellm  # noqa: F401


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that puts the tables onto the page."""
    parser.addoption(WRITE, action="store_true", help="put the providers' tables onto their page")


@pytest.fixture(scope="session", autouse=True)
def _little_to_collect() -> Iterator[None]:
    """Leave what was there before to a later collection: there is one after every test here."""
    find_leftovers()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Find what clients leave to the garbage collector, without a word, before another test does.

    LiteLLM forgets event loops, others the connections of clients that nobody closed.
    """
    yield
    find_leftovers()


@pytest.fixture
def cell(
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
    pytestconfig: pytest.Config,
) -> Callable[[Client, Kind], None]:
    """Return what makes the call of a cell, checks its finding, and notes it for the table."""

    def run(client: Client, kind: Kind) -> None:
        found = client.find(kind, monkeypatch)
        check(client, kind, found)
        made = cell_of(client, kind, found)
        record_property(PROPERTY, json.dumps([client.kinds.index(kind), *made]))
        if not pytestconfig.getoption(WRITE, default=False):
            numbers = made if made.reason else made._replace(charged=0, billed=0)
            assert on_the_page(written()).get(made.place) == numbers, (
                "docs/content/providers.md says something else; "
                f"run make providers ARGS={WRITE} and look at what changed"
            )

    return run


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the tables where the whole suite was run, and put them onto the page if asked to."""
    reports = terminalreporter.stats.get("passed", ())
    noted = [
        json.loads(str(value))
        for report in reports
        for name, value in report.user_properties
        if name == PROPERTY and report.when == "call"
    ]
    if not noted:
        return
    rows = {(group, kind): row for row, group, _, kind, *_ in noted}
    cells = [Cell(*one[1:]) for one in noted]
    cells.sort(key=lambda one: (column(one.client), rows[one.group, one.kind]))
    tables = render(cells)
    terminalreporter.section("providers")
    terminalreporter.write_line(tables)
    if config.getoption(WRITE):
        write(tables)
