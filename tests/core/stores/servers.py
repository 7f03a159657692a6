"""A Redis server of a test's own, and a proxy before one that loses what it is told to lose."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

REDIS = shutil.which("redis-server")


_PORT_MAX = 55_535  # a node of a cluster also listens 10,000 higher


def free_port() -> int:
    """Return a port that nobody listens on."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port <= _PORT_MAX:
            return port


class RedisServer:
    """A Redis server with its data in a folder; it can be stopped hard and started again.

    Args:
        folder: Where its data lie.
        settings: As on its command line, without the dashes.
        environment: What it runs with, if that matters.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self._settings = {"save": "", "appendonly": "no", **(settings or {})}
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        """Start it, and wait until it answers."""
        assert REDIS is not None
        self.folder.mkdir(exist_ok=True)
        settings = [part for name, value in self._settings.items() for part in (f"--{name}", value)]
        arguments = ["--port", str(self.port), "--dir", str(self.folder), "--bind", "127.0.0.1"]
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [REDIS, *arguments, *settings], stdout=output, stderr=output, env=self._environment
            )
        # Asked again and again, because it tells nobody that it is ready.
        for _ in range(600):
            with suppress(OSError), self.connection() as asked:
                asked.sendall(b"PING\r\n")
                if asked.recv(100).startswith(b"+PONG"):
                    return self
            assert self._process.poll() is None, (self.folder / "output").read_text()
            time.sleep(0.05)
        raise AssertionError((self.folder / "output").read_text())

    def connection(self) -> socket.socket:
        """Return a connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def kill(self) -> None:
        """Stop it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None


class Proxy:
    """Stands between clients and a server, and asks `faults` what happens to each request.

    A fault is "" for none; "before" closes the connection and sends the request on all the same,
    later; "drop" closes it and forgets the request; "reply" sends the request on and closes the
    connection when the reply is there; "silent" sends it on and never says what was replied;
    "twice" sends it on two times, and passes on one reply. Only scripts meet faults.
    """

    def __init__(self, port: int, faults: Callable[[], str]) -> None:
        self._server = ("127.0.0.1", port)
        self._faults = faults
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._late: list[bytes] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.faults = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._server)
        with self._lock:
            self._open |= {client, server}
        with suppress(OSError, ConnectionError), client, server:
            while request := client.recv(1 << 20):
                while not _is_whole(request):
                    request += client.recv(1 << 20)
                if not self._pass_on(request, client, server):
                    return

    def _pass_on(self, request: bytes, client: socket.socket, server: socket.socket) -> bool:
        """Do with a request what the fault says; returns whether the connection stays."""
        fault = self._faults() if b"EVALSHA" in request else ""
        self.faults += fault != ""
        if fault == "drop":
            return False
        if fault == "before":
            with self._lock:
                self._late.append(request)
            return False
        if fault == "twice":
            self.send_alone(request)
        server.sendall(request)
        reply = _replies(server, request)
        if fault == "silent":
            client.recv(1)  # nothing comes: it returns when the client has gone
        if fault in ("reply", "silent"):
            return False
        client.sendall(reply)
        return True

    def deliver_late(self) -> int:
        """Send on what was held back; nobody waits for the replies. Returns how many there were."""
        with self._lock:
            late, self._late = self._late, []
        for request in late:
            self.send_alone(request)
        return len(late)

    def send_alone(self, request: bytes) -> bytes:
        """Send a request on a connection of its own; returns the reply."""
        with socket.create_connection(self._server) as server:
            server.sendall(request)
            return _replies(server, request)

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()
        with self._lock:
            for one in self._open:
                one.close()


def _is_whole(request: bytes) -> bool:
    """Return whether all of these commands have arrived."""
    at = 0
    while at < len(request):
        end = _end_of(request, at)
        if end is None:
            return False
        at = end
    return True


def _commands(request: bytes) -> int:
    """Return how many commands there are in a request."""
    at, count = 0, 0
    while at < len(request):
        end = _end_of(request, at)
        assert end is not None
        at, count = end, count + 1
    return count


def _end_of(data: bytes, at: int) -> int | None:
    """Return where a value of the protocol ends; None if it is not all there."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return None
    kind, after = data[at : at + 1], line_end + 2
    if kind not in (b"*", b"$", b"%", b"~", b">", b"="):
        return after
    size = int(data[at + 1 : line_end])
    if kind in (b"$", b"="):
        end = after if size < 0 else after + size + 2
        return end if end <= len(data) else None
    for _ in range(max(0, size) * (2 if kind == b"%" else 1)):
        end_of_part = _end_of(data, after)
        if end_of_part is None:
            return None
        after = end_of_part
    return after


def _replies(server: socket.socket, request: bytes) -> bytes:
    """Read as many replies as a request has commands."""
    wanted, reply = _commands(request), b""
    while True:
        at, count = 0, 0
        while at < len(reply) and (end := _end_of(reply, at)) is not None:
            at, count = end, count + 1
        if count >= wanted:
            return reply
        more = server.recv(1 << 20)
        if not more:
            raise ConnectionError
        reply += more
