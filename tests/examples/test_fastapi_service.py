"""The web service of the examples: a real server process, asked by a real HTTP client."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tbcontracts.testing import FakeOpenAI

SERVICE = Path(__file__).parents[2] / "examples" / "20_fastapi_service" / "service.py"
MONTH = 3_000


@contextmanager
def service(folder: Path, **environment: str) -> Iterator[httpx.Client]:
    """Run the service on a free port."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI")}
    with subprocess.Popen(
        [sys.executable, str(SERVICE)],
        cwd=folder,
        env={**known, "PORT": "0", "MONTH_TOKENS": str(MONTH), **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = ""
        try:
            for line in process.stderr:
                said += line
                found = re.search(r"running on (http://\S+)", line)
                if found is not None:
                    break
            else:
                pytest.fail(f"The service did not start: {said}")
            with httpx.Client(base_url=found[1], timeout=60) as client:
                yield client
        finally:
            process.terminate()
            process.stderr.close()


@pytest.fixture
def provider() -> Iterator[FakeOpenAI]:
    """Return a provider whose log the test can read."""
    with FakeOpenAI() as running:
        yield running


def ask(client: httpx.Client, tenant: str, run: int | str) -> httpx.Response:
    """Ask a question in a run of a tenant."""
    question = f"Why is the sky blue, asks {tenant}?"
    return client.post(f"/{tenant}/runs/{run}", json={"question": question})


def billed(provider: FakeOpenAI, tenant: str) -> int:
    """Return what the provider bills for a tenant's questions."""
    mine = (one for one in provider.log if f"asks {tenant}?" in str(one.body["messages"]))
    return sum(one.billed_tokens for one in mine)


def until_refused(client: httpx.Client, tenant: str, run_of: Callable[[int], Any]) -> Any:
    """Ask again and again; return the refusal."""
    for number in range(100):
        reply = ask(client, tenant, run_of(number))
        if reply.status_code != 200:
            assert reply.status_code == 402
            return reply.json()
    pytest.fail("Nothing was refused.")


def test_it_runs_offline_as_it_stands(tmp_path: Path) -> None:
    """No key, no network, no argument."""
    with service(tmp_path) as client:
        reply = ask(client, "acme", 1)
        assert reply.status_code == 200
        assert reply.json()["answer"]
        month = client.get("/acme").json()
        assert month["consumed"] > 0
        assert reply.json()["month_tokens_left"] == month["remaining"]
        assert ask(client, "{utc:%Y}", 1).status_code == 422
    assert list(tmp_path.iterdir()) == []


def test_tenants_in_parallel_have_books_of_their_own(tmp_path: Path, provider: FakeOpenAI) -> None:
    """Many runs of two tenants at once: each month is what the provider bills for that tenant."""
    with service(tmp_path, OPENAI_BASE_URL=provider.base_url) as client:
        asked = [(tenant, run) for run in range(12) for tenant in ("acme", "globex")]
        with ThreadPoolExecutor(8) as threads:
            replies = list(threads.map(lambda one: ask(client, *one), asked))
        assert {reply.status_code for reply in replies} <= {200, 402}
        for tenant in ("acme", "globex"):
            month = client.get(f"/{tenant}").json()
            assert month["consumed"] == billed(provider, tenant) > 0
            assert month["consumed"] <= month["allocated"] == MONTH


def test_a_run_ends_at_its_own_budget(tmp_path: Path, provider: FakeOpenAI) -> None:
    """The refusal names the agent, what it could reach, and what helps; nothing was sent for it."""
    with service(tmp_path, OPENAI_BASE_URL=provider.base_url, MONTH_TOKENS="100000") as client:
        refusal = until_refused(client, "acme", lambda _: "run-7")
        assert refusal["agent"] in ("researcher", "writer")
        assert refusal["scope"] == "acme/runs/run-7"
        assert refusal["available"] < refusal["requested"]
        assert f"manager.top_up('{refusal['agent']}'" in refusal["remedy"]
        run = client.get("/acme/runs/run-7").json()
        assert sum(account["consumed"] for account in run.values()) == billed(provider, "acme")
        assert ask(client, "acme", "run-8").status_code == 200


def test_the_month_is_shared_by_runs_and_by_restarts(
    tmp_path: Path, provider: FakeOpenAI, url: str
) -> None:
    """New runs do not help against a month that is used up; where it lasts, nor does a restart."""
    settings = {"OPENAI_BASE_URL": provider.base_url, "STORE": url}
    with service(tmp_path, **settings) as client:
        refusal = until_refused(client, "acme", lambda number: number)
        assert refusal["agent"] == "runs"
        assert re.fullmatch(r"acme/\d{4}-\d\d", refusal["scope"])
        before = client.get("/acme").json()
        assert before["consumed"] == billed(provider, "acme")
    with service(tmp_path, **settings) as client:
        assert client.get("/acme").json() == before
        assert ask(client, "acme", "one-more").status_code == 402
        assert ask(client, "globex", 1).status_code == 200
