"""Contracts by pattern: which pattern counts, who gets a contract of its own, and how many do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbcontracts import BudgetExceededError, BudgetManager, ContractConflictError, UnknownAgentError
from tbcontracts.config import load
from tbcontracts.errors import ConfigurationError
from tbcontracts.patterns import ContractPattern, is_pattern, literal, overlap
from tbcontracts.sizing import CallShape
from tbcontracts.stores import open_store
from tbcontracts.stores.redis import RedisStore
from tbcontracts.tokens import RequestSize


@pytest.fixture(autouse=True)
def _no_surprising_warning() -> Iterator[None]:
    """Turn warnings of ours into errors, unless a test expects them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def allocated(manager: BudgetManager) -> dict[str, int]:
    """Return what each agent of a scope was given."""
    return {name: numbers["allocated"] for name, numbers in manager.report().items()}


def call(manager: BudgetManager, agent: str) -> Any:
    """Begin and end one model call as integrations do."""
    begun = manager.begin_call(agent, CallShape(RequestSize(10, 10)))
    begun.hold.settle(7)
    return begun


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("writer", False),
        ("Senior {topic} Analyst", False),
        ("research_*", True),
        ("worker ?", True),
        ("team [ab]", True),
        ("a[*]", False),
        ("a[?]b[[]1]", False),
        ("not closed [", False),
        ("[]", False),
        ("[!]", False),
        ("[!a]", True),
    ],
)
def test_what_is_a_pattern(text: str, pattern: bool) -> None:
    """Only what can match more than one name, as `fnmatch` reads it."""
    assert is_pattern(text) is pattern
    if not pattern:
        assert fnmatchcase(literal(text), text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[oops", r"left open\. What helps: '\[\[\]oops' if names have a bracket there"),
        ("a[*]b[c?", r"left open\. What helps: 'a\[\*\]b\[\[\]c\?'"),
        ("[]", "left open"),
        ("[!]", "left open"),
        ("team [z-a]", "has the range z-a, which holds nothing. What helps: a-z,"),
        ("[!9-0]*", "has the range 9-0, which holds nothing"),
        ("[ab-cz-y]", "has the range z-y"),
    ],
)
def test_a_bracket_that_means_nothing_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """In code and in a file, where nothing would ever match it."""
    with pytest.raises(ConfigurationError, match=said):
        BudgetManager().register_pattern(text)
    path = tmp_path / "b.toml"
    path.write_text(f'[agents.a]\n[agents."{text}"]\n')
    with pytest.raises(ConfigurationError, match=said) as refused:
        load(path)
    assert f"line 2, agents.{text}: The pattern" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[[]oops", "[oops"),
        ("a]", "a]"),
        ("[a-]x", "-x"),
        ("[-a]x", "ax"),
        ("[a-c-0]x", "bx"),
        ("[]-a]x", "_x"),
        ("[+--]x", ",x"),
    ],
)
def test_a_bracket_that_means_something_is_taken(text: str, name: str) -> None:
    """A hyphen that is one, a bracket as a character, a range of one's own choice."""
    contract = load({"agents": {text: {"max_tokens": 7}, "*": {"max_tokens": 1}}})
    manager = BudgetManager()
    for one in contract.contracts:
        manager.register(one)
    manager.record_usage(name, 0)
    assert allocated(manager)[name] == 7


def test_names_that_are_no_patterns_may_hold_anything() -> None:
    """Where a name is asked for, brackets are a part of it; so in `unattributed`."""
    manager = BudgetManager.from_config({"unattributed": {"agent": "other [*", "max_tokens": 3}})
    manager.register_agent("[oops", max_tokens=2)
    assert {name: one.max_tokens for name, one in manager.contracts.items()} == {
        "other [*": 3,
        "[oops": 2,
    }


PIECES = st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "[*]"])
PATTERNS = st.lists(PIECES, max_size=5).map("".join)


@given(one=PATTERNS, other=PATTERNS, name=st.text("abc*", max_size=6))
def test_a_name_that_matches_both_is_an_overlap(one: str, other: str, name: str) -> None:
    """Whatever the patterns: what `fnmatch` lets through twice is never called apart."""
    if fnmatchcase(name, one) and fnmatchcase(name, other):
        assert overlap(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("research_*", "analysis_*"), ("a?", "a"), ("*x", "*y"), ("[!a]*", "a*"), ("[ab]c", "cc")],
)
def test_patterns_apart(one: str, other: str) -> None:
    """What no name can match both is not called a tie."""
    assert not overlap(one, other)
    assert not overlap(other, one)


def test_each_agent_that_matches_has_an_account_of_its_own() -> None:
    """Opened when it is first seen, in this scope only; who is never seen lends nothing."""
    manager = BudgetManager()
    manager.register_pattern("research_*", priority=2, max_tokens=1_000, max_output_tokens=50)
    assert allocated(manager) == {}
    manager.reserve("research_1", 400).settle(300)
    manager.record_usage(" research_2 ", 10)
    assert allocated(manager) == {"research_1": 1_000, "research_2": 1_000}
    assert manager.remaining("research_1") == 700
    assert set(manager.contracts) == {"research_1", "research_2"}
    assert manager.contract_of("research_3") is not None
    assert manager.contracts["research_1"].max_output_tokens == 50
    other = manager.scope("other")
    assert allocated(other) == {}
    assert dict(other.contracts) == {}
    with pytest.raises(BudgetExceededError):
        manager.reserve("research_1", 5_000)
    with pytest.raises(UnknownAgentError):
        manager.reserve("Research_1", 1)


def test_names_come_first_then_the_most_specific_pattern() -> None:
    """In whichever order they are registered; a star in `register_agent` is a star."""
    manager = BudgetManager()
    manager.register_pattern("*", max_tokens=1)
    manager.register_pattern("research_*", max_tokens=2)
    manager.register_pattern("research_eu_*", max_tokens=3)
    manager.register_agent("research_eu_1", max_tokens=4)
    manager.register_agent("research_*", max_tokens=5)
    for name in ("x", "research_1", "research_eu_2", "research_eu_1", "research_*"):
        manager.record_usage(name, 0)
    assert allocated(manager) == {
        "x": 1,
        "research_1": 2,
        "research_eu_2": 3,
        "research_eu_1": 4,
        "research_*": 5,
    }
    assert [one.agent_name for one in manager.patterns] == ["research_eu_*", "research_*", "*"]


def test_ties_and_conflicts_are_refused() -> None:
    """Equally long literal parts that can meet in one name; the same pattern with other terms."""
    manager = BudgetManager()
    first = manager.register_pattern("re*", max_tokens=1)
    assert manager.register_pattern("re*", max_tokens=1) == first
    assert isinstance(first, ContractPattern)
    with pytest.raises(ConfigurationError, match=r"'re\*' and '\*ch' can match the same name"):
        manager.register_pattern("*ch", max_tokens=2)
    manager.register_pattern("ab*", max_tokens=2)  # as long, but no name matches both
    with pytest.raises(ContractConflictError, match=r"pattern 're\*' is registered already"):
        manager.register_pattern("re*", max_tokens=2)
    with pytest.raises(ContractConflictError, match=r"agents_max=1000\), not .*agents_max=5\)"):
        manager.register_pattern("re*", max_tokens=1, agents_max=5)
    with pytest.raises(ValueError, match="agents_max"):
        manager.register_pattern("x*", agents_max=0)
    with pytest.raises(ValueError, match="priority"):
        manager.register_pattern("x*", priority=0)


def test_a_runaway_of_names_falls_to_unattributed() -> None:
    """A pattern makes so many agents in a scope and no more, with one warning; others have room."""
    manager = BudgetManager()
    manager.register_pattern("worker_*", max_tokens=1_000, agents_max=3)
    for number in range(3):
        call(manager, f"worker_{number}")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for number in range(3, 6):
            call(manager, f"worker_{number}")
    said = [str(one.message) for one in warned]
    assert [text for text in said if "made 3 agents in scope 'default'" in text] == said[:1]
    assert all("has no contract" in text for text in said[1:])
    accounts = manager.accounts()
    assert [name for name, one in accounts.items() if one.contract] == [
        "worker_0",
        "worker_1",
        "worker_2",
    ]
    assert accounts["worker_5"].consumed == 7
    assert call(manager, "worker_1").hold.tokens
    with pytest.raises(UnknownAgentError, match=r"'worker_\*' makes no more agents here"):
        manager.reserve("worker_9", 1)
    assert allocated(manager.scope("another")) == {}
    call(manager.scope("another"), "worker_77")
    assert allocated(manager.scope("another")) == {"worker_77": 1_000}


def test_who_is_refused_beyond_the_bound() -> None:
    """Where calls that nobody answers for are refused, so are these."""
    manager = BudgetManager(unattributed="deny")
    manager.register_pattern("worker_*", max_tokens=1_000, agents_max=1)
    call(manager, "worker_0")
    with (
        pytest.warns(UserWarning, match="made 1 agents"),
        pytest.raises(BudgetExceededError) as refused,
    ):
        call(manager, "worker_1")
    assert refused.value.code == "unattributed"


Managers = Callable[..., BudgetManager]


@pytest.fixture
def on_books() -> Iterator[Managers]:
    """Return a maker of managers on the books at a URL, as each process would have its own."""
    with ExitStack() as stores:

        def make(url: str, **settings: Any) -> BudgetManager:
            return BudgetManager(store=stores.enter_context(closing(open_store(url))), **settings)

        yield make


@pytest.fixture
def open_manager(any_url: str, on_books: Managers) -> Callable[[], BudgetManager]:
    """Return a maker of managers in each kind of store, on the same books where there are any."""

    def make() -> BudgetManager:
        manager = on_books(any_url)
        manager.register_agent("donor", max_tokens=1_000, min_reserve=0)
        manager.register_pattern("w_*", priority=2, max_tokens=100, agents_max=2)
        return manager

    return make


def test_everything_else_works_by_pattern(open_manager: Callable[[], BudgetManager]) -> None:
    """Awaited holds, transfers, top-ups, changed contracts, finishing, `govern`, `acting_as`."""
    manager = open_manager()

    async def awaited() -> None:
        async with await manager.areserve("w_1", 300) as hold:
            await hold.settle(300)
        await manager.atop_up("w_1", 50)
        await manager.achange_contract("w_1", max_tokens=200)

    asyncio.run(awaited())
    assert manager.remaining("w_1") == 150
    assert manager.remaining("donor") == 800
    assert manager.contract_of("w_1") is not None
    assert manager.contracts["w_1"].max_tokens == 200
    manager.change_contract("w_2", priority=3)
    assert manager.accounts()["w_2"].contract is not None
    assert manager.contracts["w_2"].priority == 3

    @manager.govern("w_2", usage_fn=lambda _: 20)
    def work() -> str:
        return "done"

    assert work() == "done"
    with manager.acting_as("w_2"):
        assert manager.current_agent == "w_2"
    assert manager.accounts()["w_2"].consumed == 20
    manager.finish("w_2")
    assert manager.remaining("w_2") == 0
    outer = open_manager()
    inner = BudgetManager()
    inner.register_agent("a", max_tokens=50)
    inner.within(outer.scope("above"), agent="w_1").reserve("a", 10).settle(10)
    assert outer.scope("above").accounts()["w_1"].consumed == 10


def test_a_restarted_process_counts_on(url: str, on_books: Managers) -> None:
    """On durable books the agents that were made before take their place, and keep their terms."""
    manager = on_books(url)
    manager.register_pattern("w_*", max_tokens=100, agents_max=2)
    manager.record_usage("w_1", 10)
    manager.record_usage("w_2", 10)
    again = on_books(url)
    again.register_pattern("w_*", max_tokens=100, agents_max=2)
    again.register_agent("x", max_tokens=1)
    again.record_usage("w_2", 1)
    with pytest.warns(UserWarning, match="made 2 agents"), pytest.raises(UnknownAgentError):
        again.record_usage("w_3", 1)
    changed = on_books(url, on_contract_change="raise")
    changed.register_pattern("w_*", max_tokens=200)
    with pytest.raises(ContractConflictError, match="max_tokens 100"):
        changed.record_usage("w_1", 1)


def test_a_restart_with_other_patterns(url: str, on_books: Managers) -> None:
    """Agents keep the terms they were opened with, or get the new ones where that is wished."""
    before = on_books(url)
    before.register_pattern("w_*", max_tokens=100)
    before.register_pattern("gone_*", max_tokens=50)
    before.record_usage("w_1", 10)
    before.record_usage("gone_1", 10)
    keeping = on_books(url)
    keeping.register_pattern("w*", max_tokens=300)
    with pytest.warns(UserWarning, match="'w_1' has another contract in scope 'default'"):
        keeping.record_usage("w_1", 10)
    keeping.record_usage("w_2", 10)
    assert allocated(keeping) == {"w_1": 100, "gone_1": 50, "w_2": 300}
    applying = on_books(url, on_contract_change="apply")
    applying.register_pattern("w_?", max_tokens=500)
    applying.record_usage("w_1", 10)
    assert allocated(applying) == {"w_1": 500, "gone_1": 50, "w_2": 300}
    applying.record_usage("w_2", 0)  # seen again: now it has its new terms, too
    assert allocated(applying) == {"w_1": 500, "gone_1": 50, "w_2": 500}
    assert {name: one.consumed for name, one in applying.accounts().items()} == {
        "w_1": 30,
        "gone_1": 10,
        "w_2": 10,
    }


def test_threads_that_see_one_name_first_open_it_once(any_url: str, on_books: Managers) -> None:
    """Many threads begin with the same new agents; each gets one account and all its charges."""
    manager = on_books(any_url)
    manager.register_pattern("w_*", max_tokens=10_000)
    begin = threading.Barrier(8)

    def work() -> None:
        begin.wait()
        for number in range(20):
            manager.record_usage(f"w_{number}", 5)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.consumed for one in manager.accounts().values()} == {40}
    assert manager.statement().total == 20 * 10_000


def test_tasks_that_see_one_name_first_open_it_once(any_url: str, on_books: Managers) -> None:
    """Awaited, at the same time, from two managers on the same books where there are any."""
    managers = [on_books(any_url)]
    managers.append(managers[0] if any_url.startswith("memory") else on_books(any_url))
    for manager in set(managers):
        manager.register_pattern("w_*", max_tokens=10_000)

    async def work() -> None:
        await asyncio.gather(
            *(manager.arecord_usage(f"w_{n % 10}", 5) for manager in managers for n in range(40))
        )
        for manager in set(managers):
            if isinstance(manager.store, RedisStore):  # its connections belong to this loop
                await manager.store.aclose()

    asyncio.run(work())
    accounts = on_books(any_url).accounts() if len(set(managers)) == 2 else managers[0].accounts()
    assert {one.consumed for one in accounts.values()} == {40}
    assert sum(one.allocated for one in accounts.values()) == 10 * 10_000


_WORKER = """
import sys, warnings
from tbcontracts import BudgetManager, UnknownAgentError

warnings.simplefilter("ignore")
url, number = sys.argv[1:]
manager = BudgetManager(store=url)
manager.register_pattern("w_*", max_tokens=100, agents_max=6)
manager.remaining("w_0")
print("ready", flush=True)
sys.stdin.readline()
refused = 0
for name in [f"w_{n}" for n in range(5)] + [f"w_{number}_{n}" for n in range(5)]:
    try:
        manager.reserve(name, 20).settle(10)
    except UnknownAgentError:
        refused += 1
print(refused)
"""


def test_processes_share_the_agents_that_they_make(url: str, on_books: Managers) -> None:
    """Each name gets one account; a runaway is bounded by what each process may make."""
    first = on_books(url)
    first.register_pattern("w_*", max_tokens=100, agents_max=6)
    first.record_usage("w_0", 0)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    # The shared five take five of six places; whether others' sixth was seen is a race.
    assert {worker.communicate()[0] for worker in workers} <= {"4\n", "5\n"}
    consumed = {name: one.consumed for name, one in on_books(url).accounts().items()}
    assert [consumed.pop(f"w_{n}") for n in range(5)] == [30] * 5
    assert consumed.keys() <= {f"w_{number}_0" for number in range(3)}
    assert set(consumed.values()) == {10}


def test_many_scopes_with_new_names_are_forgotten() -> None:
    """Names that come once do not add up in a process that serves for ever."""
    manager = BudgetManager()
    manager.register_pattern("w_*", max_tokens=10)
    for number in range(1_100):
        manager.scope(f"run {number}").record_usage(f"w_{uuid.UUID(int=number)}", 1)
    assert len(manager._engine.patterns._seen) == 1_000
    manager.scope("run 0").record_usage(f"w_{uuid.UUID(int=0)}", 1)
    assert manager.scope("run 0").remaining(f"w_{uuid.UUID(int=0)}") == 8


def test_a_file_has_patterns_and_literal_stars() -> None:
    """In a file a name with a wildcard is a pattern; `[*]` is a star."""
    agents = {"research_*": {"max_tokens": 7}, "a[*]": {"max_tokens": 8}, "b": {}}
    manager = BudgetManager.from_config({"agents": agents})
    assert set(manager.contracts) == {"a*", "b"}
    manager.record_usage("research_1", 1)
    assert allocated(manager) == {"a*": 8, "b": 1_000, "research_1": 7}
    contracts = load({"agents": agents}).contracts
    assert [type(one).__name__ for one in contracts] == [
        "ContractPattern",
        "BudgetContract",
        "BudgetContract",
    ]
    with pytest.raises(ConfigurationError, match=r"agents\.\*b: The patterns 'a\*' and '\*b' can"):
        load({"agents": {"a*": {}, "*b": {}, "*": {}}})
    with pytest.raises(ConfigurationError, match=r"agents\.x\*: min_reserve of agent 'x\*' must"):
        load({"agents": {"x*": {"max_tokens": 5, "min_reserve": 9}}})


@pytest.mark.parametrize("name", ["b.toml", "b.yaml"])
def test_a_file_says_how_many_agents_a_pattern_makes(tmp_path: Path, name: str) -> None:
    """As `register_pattern` does; a further name has no contract, and a warning says so."""
    path = tmp_path / name
    toml = '[agents."re*"]\nmax_tokens = 5\nagents_max = 2\n'
    path.write_text(toml if path.suffix == ".toml" else 'agents: {"re*": {"agents_max": 2}}')
    manager = BudgetManager.from_config(path)
    manager.record_usage("re1", 1)
    manager.record_usage("re2", 1)
    with pytest.warns(UserWarning, match=r"made 2 agents .* a file and register_pattern take"):
        assert manager.contract_of("re3") is None
    with pytest.raises(UnknownAgentError):
        manager.record_usage("re3", 1)
    assert manager.contract_of("re1") is not None
    assert "agents_max" not in manager.contracts["re1"].as_dict()
    assert [one.agents_max for one in manager.patterns] == [2]


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        ({"re*": {"agents_max": 0}}, "agents.re*.agents_max: must be greater than or equal to 1"),
        ({"re*": {"agents_max": "2"}}, "agents.re*.agents_max: must be a whole number, not '2'"),
        (
            {"re": {"agents_max": 2}},
            "agents.re.agents_max: it limits what a pattern makes, and",
        ),
        ({"re[*]": {"agents_max": 2}}, "it limits what a pattern makes, and 're*' is one agent."),
    ],
)
def test_how_many_agents_is_a_number_and_of_a_pattern(agents: dict[str, Any], said: str) -> None:
    """A contract of one name makes one agent."""
    with pytest.raises(ConfigurationError) as refused:
        load({"agents": agents})
    assert said in str(refused.value)


def test_a_pattern_has_a_hash_whatever_its_fallback_is() -> None:
    """As every contract has; how many agents it makes is a part of what it says."""
    one = ContractPattern("re*", on_exceeded={"fallback": []})
    assert {one: 1}[one] == 1
    assert one != ContractPattern("re*", on_exceeded={"fallback": []}, agents_max=5)
