"""A way to PostgreSQL that can be cut at a chosen moment, counted in requests and not in seconds.

A driver ends what it sends together with a Sync, and the server its answer with ReadyForQuery: with
these a cut falls before a request, between request and answer, or after both.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import NamedTuple

_SYNC, _READY = b"S", b"Z"
_ENDS = (_SYNC, b"H", b"Q", b"X")  # what is sent is passed on by the request, not by the message


class Cut(NamedTuple):
    """Where a connection is cut."""

    at: int
    """With which request, counted over all connections, from 1."""
    how: str
    """"before" it reaches the server; "unanswered": after the server has done it, before the
    answer; "at once": when it was passed on, and nobody knows how far the server gets; "swallowed":
    it and all that follows on the connection is lost without a word."""


class Proxy:
    """Passes connections on to a server.

    Attributes:
        url: Where to connect to.
        requests: How many requests there were.
        has_cut: Set when the cut was made.
    """

    def __init__(self, port: int, database: str = "postgres") -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._cut = Cut(0, "before")
        self._refuses = self._refuses_after = False
        self.requests = 0
        self.has_cut = threading.Event()
        here = self._listener.getsockname()[1]
        options = "sslmode=disable&gssencmode=disable"
        self.url = f"postgresql://postgres@127.0.0.1:{here}/{database}?{options}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, cut: Cut, *, for_good: bool = False) -> None:
        """Cut the connection of a coming request; `for_good` takes no more connections then."""
        with self._lock:
            self.requests = 0
            self._cut = cut
            self._refuses, self._refuses_after = False, for_good
            self.has_cut.clear()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            way = _Way(self, client, server)
            threading.Thread(target=way.requests, daemon=True).start()
            threading.Thread(target=way.answers, daemon=True).start()

    def next_request(self) -> str | None:
        """Count a request; return how its connection is to be cut, if it is."""
        with self._lock:
            self.requests += 1
            if self.requests != self._cut.at:
                return None
            self._refuses = self._refuses_after
            return self._cut.how


class _Way:
    """One connection, through the proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._cut_after_answer = False
        self._swallows = False

    def requests(self) -> None:
        """Pass on what the client sends."""
        with suppress(OSError, EOFError):
            size = _read(self._client, 4)
            self._server.sendall(size + _read(self._client, _length(size)))
            held = b""
            while True:
                kind, message = _message(self._client)
                held += message
                if kind not in _ENDS:
                    continue
                how = self._proxy.next_request() if kind == _SYNC else None
                if how == "before":
                    break
                self._swallows = self._swallows or how == "swallowed"
                self._cut_after_answer = self._cut_after_answer or how == "unanswered"
                if how == "swallowed":
                    self._proxy.has_cut.set()
                if not self._swallows:
                    self._server.sendall(held)
                held = b""
                if how == "at once":
                    break
            self._proxy.has_cut.set()
        self._end()

    def answers(self) -> None:
        """Pass on what the server answers, unless it is not to arrive."""
        with suppress(OSError, EOFError):
            held = b""
            while True:
                kind, message = _message(self._server)
                held += message
                if kind == _READY and self._cut_after_answer:
                    self._proxy.has_cut.set()
                    break
                if not self._cut_after_answer:
                    self._client.sendall(held)
                    held = b""
        if not self._swallows:
            self._end()

    def _end(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    """Read one message of the protocol; return its kind and all of it."""
    head = _read(source, 5)
    return head[:1], head + _read(source, _length(head[1:]))


def _length(size: bytes) -> int:
    return int.from_bytes(size, "big") - 4


def _read(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = source.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
