"""What a server must be to keep books: it evicts nothing, and can say what is safe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tbcontracts.errors import StoreError
from tbcontracts.stores.base import About
from tbcontracts.stores.redis_options import RedisOptions

CHECKS = (
    ("INFO", "server"),
    ("INFO", "memory"),
    ("INFO", "persistence"),
    ("CONFIG", "GET", "*append*fsync*"),
)
LAYOUT = 1  # as in lua/common.lua
_ACK_SHARE = 0.5  # of the time that a connection may be silent


def examine(options: RedisOptions, answers: list[Any]) -> list[tuple[Any, ...]]:
    """Look at what a server said of itself; return what is to be sent after each command.

    Args:
        options: What is asked of it.
        answers: Its answers to `CHECKS`.

    Raises:
        StoreError: It cannot keep books, or not as safe as it is asked to.
    """
    said = dict(pair for answer in answers[:3] for pair in _info(answer))
    _check_policy(options, said.get("maxmemory_policy"), answers[1])
    wait_ms = int(1000 * _ACK_SHARE * options.timeout_s)
    if options.ack == "replicas":
        return [("WAIT", options.replicas, wait_ms)]
    if options.ack != "aof":
        return []
    if said.get("aof_enabled") != "1":
        msg = f"The ledger {options.shown} was opened with ack=aof, but appendonly is off there."
        raise StoreError(msg, remedy="What helps: appendonly yes, or another ack.")
    if _version(said) >= (7, 2):
        return [("WAITAOF", 1, 0, wait_ms)]
    _check_fsync(options, answers[3])
    return []


def about(options: RedisOptions, answers: list[Any], entries: int, sizes: list[Any]) -> About:
    """Return what there is to know of a server.

    Args:
        options: Which one.
        answers: Its answers to `CHECKS`; what it may not say is not known.
        entries: How many journal entries there are.
        sizes: What each key of the books takes, as it says.
    """
    said = dict(pair for answer in answers[:3] for pair in _info(answer))
    name = "Valkey" if said.get("server_name") == "valkey" else "Redis"
    version = said.get("valkey_version") or said.get("redis_version", "of an unknown version")
    known = all(isinstance(size, int) for size in sizes if size is not None)
    return About(
        kind=f"{name} server",
        place=options.shown,
        software=f"{name} {version}",
        layout=LAYOUT if entries else None,
        layout_known=LAYOUT,
        entries=entries,
        size_bytes=sum(size or 0 for size in sizes) if known else None,
        dangers=tuple(_dangers(said, answers[3])),
    )


def _dangers(said: dict[str, str], answer: Any) -> Iterator[str]:
    """Yield what may cost books on a server."""
    policy = said.get("maxmemory_policy")
    if policy is None:
        yield "It does not say its maxmemory-policy, which must be noeviction: INFO is not allowed."
    elif policy != "noeviction":
        yield (
            f"maxmemory-policy is {policy}: it throws books away when its memory is full. "
            "No call goes out on it."
        )
    if said.get("aof_enabled") == "0":
        yield "appendonly is off: a crash or a restart loses what came after its last snapshot."
    elif _config(answer).get("appendfsync") == "everysec":
        yield "appendfsync is everysec: a power cut may lose the last second."


def _check_policy(options: RedisOptions, policy: str | None, answer: Any) -> None:
    """Refuse a server that throws keys away when its memory is full: they are the books."""
    if policy == "noeviction":
        return
    if policy is None:
        msg = f"The ledger {options.shown} does not say its maxmemory-policy ({answer!r:.100})."
        raise StoreError(msg, remedy="What helps: a user that may call INFO.")
    msg = (
        f"The server of {options.shown} has maxmemory-policy {policy}: it would throw books away "
        "when its memory is full."
    )
    raise StoreError(msg, remedy="What helps: maxmemory-policy noeviction.")


def _check_fsync(options: RedisOptions, answer: Any) -> None:
    """Before 7.2 nothing tells what is on the disk; there it must be written before any answer."""
    set_to = _config(answer)
    fsync, skips = set_to.get("appendfsync"), set_to.get("no-appendfsync-on-rewrite")
    if fsync == "always" and skips == "no":
        return
    what = (
        "its settings cannot be seen"
        if fsync is None
        else f"it has appendfsync {fsync}, no-appendfsync-on-rewrite {skips}"
    )
    msg = f"{options.shown} was opened with ack=aof; its server is older than 7.2, and {what}."
    helps = "What helps: appendfsync always, no-appendfsync-on-rewrite no, and leave to read them."
    raise StoreError(msg, remedy=helps)


def _info(answer: Any) -> Iterator[tuple[str, str]]:
    """Yield the fields of a part of INFO; none, if it may not be read."""
    if isinstance(answer, (bytes, str)):
        lines = answer.decode() if isinstance(answer, bytes) else answer
        for line in lines.splitlines():
            name, colon, value = line.partition(":")
            if colon:
                yield name, value


def _config(answer: Any) -> dict[str, str]:
    """Return settings as text, whichever protocol they came by; none, if they may not be read."""
    if isinstance(answer, dict):
        pairs = list(answer.items())
    elif isinstance(answer, list):
        pairs = list(zip(answer[::2], answer[1::2], strict=True))
    else:
        return {}
    return {name.decode(): value.decode() for name, value in pairs}


def _version(said: dict[str, str]) -> tuple[int, ...]:
    """Return which Redis a server is, or is like."""
    parts = said.get("redis_version", "0").split(".")[:2]
    return tuple(int(part) if part.isdecimal() else 0 for part in parts)
