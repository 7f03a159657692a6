"""URLs of the Redis store: what is none, what is not shown, and what has to be installed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import redis
from tests.core.stores.redis_store.conftest import ONE
from tests.core.stores.servers import RedisServer

from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.stores import open_store
from tbcontracts.stores.redis import RedisStore
from tbcontracts.stores.redis_options import RedisOptions


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h?ack=maybe", "ack must be"),
        ("redis://h?ack=replicas", "ack must be"),
        ("redis://h?ack=replicas=0", "ack must be"),
        ("redis://h?journal_max=0", "journal_max must be"),
        ("redis://h?journal_max=many", "journal_max must be"),
        ("redis://h?deadline_s=nan", "deadline_s must be"),
        ("redis://h?ledger_prefix=a{b}", "ledger_prefix must be"),
        ("redis://h?decode_responses=yes", "not to be set"),
        ("redis://h?retry_on_timeout=yes", "not to be set"),
        ("redis://h?colour=blue", "colour"),
        ("redis://h/0?socket_timeout=-1", "socket_timeout must be"),
    ],
)
def test_urls_that_are_none(url: str, said: str) -> None:
    """An option that cannot be is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match=said):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/2?ack=aof", "redis://h:1/2"),
        ("valkey://me:secret@h:1/2?ack=replicas=2", "valkey://me:***@h:1/2"),
        ("valkeys://:secret@h", "valkeys://:***@h"),
        ("rediss://me:se:c%40ret@h?ssl_cert_reqs=none", "rediss://me:***@h"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
        ("unix://me:secret@/run/redis.sock", "unix://me:***@/run/redis.sock"),
    ],
)
def test_the_password_is_never_shown(url: str, shown: str) -> None:
    """Whatever the scheme, what errors show has no password in it."""
    options = RedisOptions.from_url(url)
    assert options.shown == shown
    assert "secret" not in str(options.failed(ValueError("x")))
    RedisStore.from_url(url).close()


def test_a_wrong_password_is_said_at_once_and_not_shown(own_server: RedisServer) -> None:
    """It is not tried again until the deadline, and nothing was written."""
    with closing(redis.Redis.from_url(own_server.url)) as client:
        client.acl_setuser("me", enabled=True, passwords=["+right"], categories=["+@all"], keys="*")
    url = own_server.url.replace("://", "://me:wrong@") + "?deadline_s=1000"
    store = open_store(url)
    with pytest.raises(StoreError, match=r"me:\*\*\*@.*Nothing was written") as refused:
        store.apply("s", ONE)
    assert "wrong@" not in str(refused.value)
    right = open_store(own_server.url.replace("://", "://me:right@"))
    assert right.apply("s", ONE).reply.seq == 1
    right.close()


def test_a_unix_socket(tmp_path: Path) -> None:
    """The same by `unix://`."""
    path = tempfile.mktemp(prefix="tbc-")  # short: a socket's name has a limit
    server = RedisServer(tmp_path / "redis", {"unixsocket": path}).start()
    store = open_store(f"unix://{path}?db=1")
    assert store.apply("s", ONE).reply.seq == 1
    store.close()
    server.kill()


def test_without_redis_py_it_is_said_what_to_install() -> None:
    """The error names the extra."""
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from tbcontracts import open_store\n"
        "try: open_store('redis://localhost')\n"
        "except ImportError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "tbcontracts[redis]"' in said.stdout
