"""PostgreSQL that is cut off, restarted, stuck, or refuses: each command once, or a clear error."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

import psycopg
import pytest
from tests.core.stores.postgres_server import PostgresServer
from tests.core.stores.proxy import Cut, Proxy

from tbcontracts.commands import Charge, Command, Finish, Granted, Open, Posted, Reserve, Settle
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError, OutcomeUnknownError, StoreError
from tbcontracts.stores import open_store, postgres_access, postgres_link
from tbcontracts.stores.postgres import PostgresStore
from tbcontracts.testing.audit import Audit
from tbcontracts.testing.history import Recorder, check_history
from tbcontracts.testing.strategies import Commands

OPENING = Open((BudgetContract("a", max_tokens=10**9, min_reserve=0),))
SCRIPT: tuple[Command, ...] = (
    Charge("a", 5, key="first"),
    Reserve("a", 60, "h", key="hold"),
    Settle("h", "a", 50),
    Charge("a", 7),  # without a key: nobody may send it twice
    Charge("a", 11, key="last"),
)
NUMBERS = itertools.count()
SOAK = bool(os.environ.get("TBC_SOAK"))
CUTS = 10_000 if SOAK else 60
COMMANDS = 6_250 if SOAK else 25  # of each of 16 threads
SCOPES = 16 if SOAK else 4


def fresh(prefix: str = "s") -> str:
    """Return a name that nobody had."""
    return f"{prefix}{next(NUMBERS)}_{os.getpid()}"


def at(url: str, schema: str, **options: object) -> str:
    """Return the URL of a ledger."""
    joined = "".join(f"&{name}={value}" for name, value in options.items())
    return f"{url}{'&' if '?' in url else '?'}ledger_schema={schema}{joined}"


class Connections:
    """Every connection that was made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Any] = []
        connect = postgres_link.connect

        def noted(*arguments: Any) -> Any:
            db = connect(*arguments)
            self.made.append(db)
            return db

        monkeypatch.setattr(postgres_link, "connect", noted)

    def check(self, store: PostgresStore) -> None:
        """See that each is kept for the next command, or closed."""
        kept = store._ledger._idle
        assert len(kept) == len(set(kept))
        assert [db for db in self.made if not db.closed] == [db for db in self.made if db in kept]
        store.close()
        assert all(db.closed for db in self.made)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    """Return what notes all connections."""
    return Connections(monkeypatch)


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    """Return a way to the server that can be cut."""
    made = Proxy(postgres.port)
    yield made
    made.close()


@pytest.fixture
def schema() -> str:
    """Return where a ledger is to be."""
    return fresh("faults")


@pytest.fixture
def near(postgres_server: str, schema: str) -> Iterator[PostgresStore]:
    """Return a store on the ledger by the way that is not cut; its tables are there."""
    store = open_store(at(postgres_server, schema))
    assert isinstance(store, PostgresStore)
    store.apply("made", OPENING)
    yield store
    store.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait between attempts, where all of them will fail."""
    monkeypatch.setattr(postgres_access, "_PAUSES_S", (0.0, 0.0))


def store_at(url: str) -> PostgresStore:
    """Open a store, and nothing else."""
    store = open_store(url)
    assert isinstance(store, PostgresStore)
    return store


def error_of(work: Callable[[], object]) -> StoreError | None:
    """Do something; return the error of the store."""
    try:
        work()
    except StoreError as error:
        return error
    return None


def consumed(store: PostgresStore, scope: str) -> int:
    """Return what the agent has used."""
    statement = store.read(scope)
    return 0 if statement is None or not statement.accounts else statement.accounts[0].consumed


def audited(store: PostgresStore, scope: str) -> list[str]:
    """Check the journal, and return what it tells of."""
    audit, entries = Audit(), store.journal(scope)
    for entry in entries:
        audit.hear(entry)
    statement = store.read(scope)
    assert statement is not None
    audit.compare(statement)
    return [entry.kind for entry in entries]


# --- cut connections ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["before", "unanswered", "at once"])
def test_a_cut_at_any_moment_is_not_noticed(
    how: str, proxy: Proxy, near: PostgresStore, schema: str, connections: Connections
) -> None:
    """Wherever one connection is cut, each command takes effect once and is answered."""
    for request in itertools.count(1):
        scope, store = fresh(), store_at(at(proxy.url, schema))
        proxy.cut(Cut(request, how))
        replies = [store.apply(scope, command).reply for command in (OPENING, *SCRIPT)]
        assert isinstance(replies[2], Granted)
        assert [reply.amount for reply in replies[3:] if isinstance(reply, Posted)] == [50, 7, 11]
        kinds = ["opened", "charged", "held", "settled", "charged", "charged"]
        assert audited(near, scope) == kinds
        assert consumed(near, scope) == 73
        assert store.apply(scope, SCRIPT[0]).entries == ()  # its key is known
        connections.check(store)
        if not proxy.has_cut.is_set():
            break
    assert request > 12  # two to connect, three for new books, two for each command


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("how", ["before", "unanswered", "at once"])
def test_a_server_that_is_gone_is_an_error_that_says_what_is_known(
    how: str, proxy: Proxy, near: PostgresStore, schema: str, connections: Connections
) -> None:
    """Either nothing was written, or it is not known, and the key tells later."""
    said: set[type[StoreError]] = set()
    for request in itertools.count(1):
        scope, store = fresh(), store_at(at(proxy.url, schema))
        near.apply(scope, OPENING)
        proxy.cut(Cut(request, how), for_good=True)
        error = error_of(partial(store.apply, scope, Charge("a", 5, key="only")))
        connections.check(store)
        if error is None:
            break
        said.add(type(error))
        assert "did not answer" in str(error)
        if isinstance(error, OutcomeUnknownError):
            assert error.key == "only"
            assert how != "before" or consumed(near, scope) == 0
        else:
            assert consumed(near, scope) == 0
        # Asked again with the same key, whatever became of it before.
        near.apply(scope, Charge("a", 5, key="only"))
        assert consumed(near, scope) == 5
    assert said == {StoreError, OutcomeUnknownError}
    assert request >= 6  # two to connect, one for the tables' version, three for the command


def test_many_cut_answers_and_no_double_charge(
    proxy: Proxy, near: PostgresStore, schema: str
) -> None:
    """Answers of one store are cut again and again: each charge is on the books exactly once."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    chance, scope, store = random.Random(seed), fresh(), store_at(at(proxy.url, schema))
    near.apply(scope, OPENING)
    proxy.cut(Cut(0, "before"))
    sent = cuts = 0
    while cuts < CUTS:
        proxy.cut(Cut(chance.randint(1, 4), chance.choice(("unanswered", "at once"))))
        for _ in range(3):
            sent += 1
            store.apply(scope, Charge("a", 1, key=f"c{sent}" if chance.random() < 0.5 else None))
        cuts += proxy.has_cut.is_set()
    assert consumed(near, scope) == sent
    assert audited(near, scope) == ["opened", *["charged"] * sent]
    store.close()


def test_a_server_that_says_nothing_is_given_up(
    proxy: Proxy, near: PostgresStore, schema: str, connections: Connections
) -> None:
    """A network that loses everything ends in an error, not in a wait without end."""
    for request in (1, 3, 5):  # connecting, asking, writing
        scope, store = fresh(), store_at(at(proxy.url, schema, ledger_timeout_s=0.3))
        near.apply(scope, OPENING)
        proxy.cut(Cut(request, "swallowed"))
        with pytest.raises(StoreError, match="did not answer") as caught:
            store.apply(scope, Charge("a", 5, key="only"))
        if not isinstance(caught.value, OutcomeUnknownError):
            assert consumed(near, scope) == 0
        connections.check(store)
        near.apply(scope, Charge("a", 5, key="only"))
        assert consumed(near, scope) == 5


# --- the server itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_the_server_is_restarted(
    how: signal.Signals,
    postgres: PostgresServer,
    near: PostgresStore,
    connections: Connections,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was acknowledged is there; while it is down there are errors, then it goes on."""
    scope = fresh()
    near.apply(scope, OPENING)
    threads = [threading.Thread(target=near.read, args=(scope,)) for _ in range(8)]
    for thread in threads:  # connections that will all be dead
        thread.start()
    for thread in threads:
        thread.join(60)
    near.apply(scope, Charge("a", 5))
    postgres.stop(how)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(postgres_access, "_PAUSES_S", (0.0, 0.0))
            with pytest.raises(StoreError, match="did not answer"):
                near.apply(scope, Charge("a", 7))
            with pytest.raises(StoreError, match="did not answer"):
                near.read(scope)
    finally:
        postgres.start()
    assert consumed(near, scope) == 5
    near.apply(scope, Charge("a", 11))
    assert audited(near, scope) == ["opened", "charged", "charged"]
    assert consumed(near, scope) == 16
    connections.check(near)


def test_a_backend_that_is_ended_between_the_trips(postgres_server: str, schema: str) -> None:
    """The administrator ends the connection while the rules are at work: it is done again."""
    armed: list[bool] = []

    def clock() -> float:
        if armed:
            armed.pop()
            with psycopg.connect(postgres_server, autocommit=True) as db:
                db.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE state = 'idle in transaction' AND query LIKE %s",
                    (f"%{schema}%",),
                )
        return 1_000.0

    store = open_store(at(postgres_server, schema), clock=clock)
    store.apply("s", OPENING)
    armed.append(True)
    store.apply("s", Charge("a", 5))
    assert not armed
    assert [entry.kind for entry in store.journal("s")] == ["opened", "charged"]
    store.close()


def trigger(url: str, schema: str, code: str, times: int, *, deferred: bool) -> None:
    """Have the server undo the next transactions that write a scope, with an error of this code."""
    kind = "CONSTRAINT TRIGGER fails AFTER" if deferred else "TRIGGER fails BEFORE"
    when = "DEFERRABLE INITIALLY DEFERRED" if deferred else ""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            f"""
            CREATE SEQUENCE {schema}.failures;
            CREATE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('{schema}.failures') <= {times} THEN
                    RAISE EXCEPTION 'injected' USING ERRCODE = '{code}';
                END IF;
                RETURN NEW;
            END $$;
            CREATE {kind} UPDATE ON {schema}.scope {when}
                FOR EACH ROW EXECUTE FUNCTION {schema}.fail();
            """  # type: ignore[arg-type, unused-ignore]
        )


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_what_the_server_undid_is_done_again(
    code: str,
    deferred: bool,
    near: PostgresStore,
    postgres_server: str,
    schema: str,
    connections: Connections,
) -> None:
    """Serialization failures and deadlocks, in the middle and at the commit."""
    trigger(postgres_server, schema, code, 2, deferred=deferred)
    near.apply("s", OPENING)
    near.apply("s", Charge("a", 5))
    assert audited(near, "s") == ["opened", "charged"]
    connections.check(near)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("code", ["40001", "53100", "42501"])
def test_what_the_server_undoes_for_ever_is_an_error(
    code: str, near: PostgresStore, postgres_server: str, schema: str, connections: Connections
) -> None:
    """Also a full disk and a server that takes no writes: nothing is written, then all is well."""
    near.apply("s", OPENING)
    trigger(postgres_server, schema, code, 2 if code == "40001" else 1, deferred=False)
    with pytest.raises(StoreError, match="injected") as caught:
        near.apply("s", Charge("a", 5))
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert consumed(near, "s") == 0
    near.apply("s", Charge("a", 7))
    assert consumed(near, "s") == 7
    connections.check(near)


# --- who has the lock -----------------------------------------------------------------------------


def test_a_lock_that_is_never_let_go_ends_in_an_error(
    near: PostgresStore, postgres_server: str, schema: str, connections: Connections
) -> None:
    """Within the time of the URL; other scopes go on meanwhile, and this one does afterwards."""
    near.apply("stuck", OPENING)
    near.apply("free", OPENING)
    store = store_at(at(postgres_server, schema, ledger_timeout_s=0.2))
    with psycopg.connect(postgres_server) as db:
        db.execute(f"SELECT 1 FROM {schema}.scope WHERE name = 'stuck' FOR UPDATE")  # type: ignore[arg-type, unused-ignore]
        with pytest.raises(StoreError, match="timeout"):
            store.apply("stuck", Charge("a", 5))
        with pytest.raises(StoreError, match="timeout"):
            asyncio.run(store.aapply("stuck", Charge("a", 5)))
        store.apply("free", Charge("a", 5))
    store.apply("stuck", Charge("a", 7))
    assert (consumed(near, "stuck"), consumed(near, "free")) == (7, 5)
    connections.check(store)


def test_a_process_that_stops_with_the_lock_loses_it(
    near: PostgresStore, postgres_server: str, schema: str
) -> None:
    """The server ends its transaction, others go on, and what it wanted is done once it is back."""
    near.apply("s", OPENING)
    stopped, go_on, armed = threading.Event(), threading.Event(), threading.Event()

    def clock() -> float:
        if armed.is_set() and not stopped.is_set():
            stopped.set()
            assert go_on.wait(60)
        return 1_000.0

    store = open_store(at(postgres_server, schema, ledger_timeout_s=0.2), clock=clock)
    store.apply("s", Charge("a", 1))
    armed.set()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(store.apply, "s", Charge("a", 5, key="slow"))
        assert stopped.wait(60)
        near.apply("s", Charge("a", 7))  # waits until the server has lost its patience
        go_on.set()
        if error_of(lambda: slow.result(60)) is not None:  # its own time was over
            store.apply("s", Charge("a", 5, key="slow"))
    assert consumed(near, "s") == 13
    assert audited(near, "s") == ["opened", "charged", "charged", "charged"]
    store.close()


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", ""])
def test_a_time_that_is_none(text: str) -> None:
    """A URL with a wrong time is refused when it is read."""
    with pytest.raises(ConfigurationError, match="ledger_timeout_s must be seconds"):
        open_store(f"postgresql://localhost/x?ledger_timeout_s={text}")


# --- making the tables ----------------------------------------------------------------------------


def test_many_make_the_tables_at_once(postgres_server: str, schema: str) -> None:
    """The first one makes them, the others wait for it and find them."""
    start = threading.Barrier(8)

    def begin(_: int) -> None:
        with closing(open_store(at(postgres_server, schema))) as store:
            start.wait(60)
            store.apply("s", OPENING)
            store.apply("s", Charge("a", 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    with closing(store_at(at(postgres_server, schema))) as store:
        assert consumed(store, "s") == 8
        assert audited(store, "s") == ["opened", *["charged"] * 8]


def as_role(postgres_server: str, role: str) -> str:
    """Make a role that may do nothing, and return the database's URL for it."""
    with psycopg.connect(postgres_server, autocommit=True) as db:
        db.execute(f"CREATE ROLE {role} LOGIN")  # type: ignore[arg-type, unused-ignore]
    return postgres_server.replace("//postgres@", f"//{role}@")


def test_a_role_that_may_not_make_the_tables(postgres_server: str, schema: str) -> None:
    """It is told so; once somebody has made them, rights to the tables are enough."""
    role = fresh("role")
    store = store_at(at(as_role(postgres_server, role), schema))
    with pytest.raises(StoreError, match="may use or make") as caught:
        store.apply("s", OPENING)
    assert "a role that may create the schema, once" in str(caught.value)
    with closing(store_at(at(postgres_server, schema))) as owner:
        owner.apply("s", OPENING)
        with pytest.raises(StoreError, match="may use or make"):
            store.apply("s", Charge("a", 5))
        with psycopg.connect(postgres_server, autocommit=True) as db:
            db.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")  # type: ignore[arg-type, unused-ignore]
            rights = "SELECT, INSERT, UPDATE, DELETE"
            db.execute(f"GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO {role}")  # type: ignore[arg-type, unused-ignore]
        store.apply("s", Charge("a", 5))
        store.apply("new", OPENING)
        assert consumed(owner, "s") == 5
        assert owner.scopes() == ("new", "s")
    store.close()


def test_an_unknown_outcome_without_a_key(postgres_server: str) -> None:
    """A finished agent, a closed scope: there is no key to ask by; the books tell."""
    store: Any = store_at(postgres_server)
    error = store._ledger._unknown(Finish("a"), psycopg.OperationalError("lost"))
    store.close()
    assert error.key == ""
    assert "Whether the command took effect is not known." in str(error)
    assert "tbc show" in str(error)
    assert "resolve" not in str(error)


# --- many at once ---------------------------------------------------------------------------------


def pairs(name: int) -> Iterator[Command]:
    """Return commands of one caller: holds, each settled by its number."""
    for number in range(10):
        yield Reserve("a", 5, f"{name}-{number}")
        yield Settle(f"{name}-{number}", "a", number)


def test_loops_and_threads_at_once(near: PostgresStore, connections: Connections) -> None:
    """Several event loops and plain threads on one store: one order explains all of it."""
    scope, recorder = fresh(), Recorder()

    def thread(name: int) -> None:
        for command in pairs(name):
            recorder.record(command, lambda command: near.apply(scope, command))

    async def task(name: int) -> None:
        for command in pairs(name):
            await recorder.arecord(command, lambda command: near.aapply(scope, command))

    async def tasks(name: int) -> None:
        await asyncio.gather(*(task(name * 10 + own) for own in range(3)))

    def loop(name: int) -> None:
        asyncio.run(tasks(name))

    recorder.record(OPENING, lambda command: near.apply(scope, command))
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(thread, 1_000 + n) for n in range(4)]
        done += [pool.submit(loop, n) for n in range(4)]
        for one in done:
            one.result(100)
    statement = near.read(scope)
    assert statement is not None
    check_history(recorder.events, statement)
    assert consumed(near, scope) == 16 * sum(range(10))
    connections.check(near)
    assert len(connections.made) <= 8 + postgres_access.CLERKS_MOST


def test_what_callers_did_to_many_scopes_is_replayed(near: PostgresStore) -> None:
    """Random commands of 16 threads to any of the scopes: the reference gives the same answers."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    scopes = [fresh("replayed") for _ in range(SCOPES)]
    recorders = {scope: Recorder() for scope in scopes}
    opening = Commands(random.Random(seed)).opening()

    def give(scope: str, command: Command) -> None:
        recorders[scope].record(command, lambda command: near.apply(scope, command))

    def call(number: int) -> None:
        chance = random.Random(f"{seed}-{number}")
        makers = {scope: Commands(chance, f"{scope}-{number}-") for scope in scopes}
        for _ in range(COMMANDS):
            scope = chance.choice(scopes)
            give(scope, makers[scope].next()[0])

    for scope in scopes:
        give(scope, opening)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(16)))
    assert sum(len(one.events) for one in recorders.values()) == SCOPES + 16 * COMMANDS
    for scope, recorder in recorders.items():
        statement = near.read(scope)
        assert statement is not None
        check_history(recorder.events, statement)


def test_books_that_are_no_longer_kept(
    near: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More scopes than are kept in memory: those that come back are read again."""
    monkeypatch.setattr(postgres_access, "SCOPES_KEPT", 3)
    scopes = [fresh() for _ in range(8)]
    for scope in scopes:
        near.apply(scope, OPENING)
    for number in range(3):
        for scope in scopes:
            near.apply(scope, Charge("a", 1, key=f"{number}"))
            near.apply(scope, Charge("a", 1, key=f"{number}"))
    assert len(near._ledger._lines) == 3
    assert {consumed(near, scope) for scope in scopes} == {3}
