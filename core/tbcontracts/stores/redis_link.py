"""Connections to Redis, plain and awaited: they carry trips, and say whether one was sent.

redis-py sends a command again on its own when a connection breaks; that is off here. Whether it is
safe to ask again is known only to those who know the command.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

from tbcontracts.checks import as_sentence
from tbcontracts.errors import ConfigurationError
from tbcontracts.stores.redis_options import TIMEOUT_S, RedisOptions
from tbcontracts.stores.urls import without_password

try:
    import redis
    from redis import exceptions
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError as _missing:
    _msg = (
        "redis:// needs redis-py, which is not installed. What helps: "
        'pip install "tbcontracts[redis]" (from a checkout: pip install ".[redis]").'
    )
    raise ImportError(_msg, name="redis") from _missing

Trip = Sequence[tuple[Any, ...]]
"""Commands that are sent together on one connection."""
Answers = list[Any]
"""What each of them was answered; an error is an answer too."""

_BROKEN = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)


class NotSentError(Exception):
    """There was no connection, so that nothing was sent."""


class LostError(Exception):
    """The connection broke, or was silent for too long, after something may have been sent."""


def _wants_a_name(get_connection: Any) -> tuple[str, ...]:
    """Return what a pool of this redis-py wants to know: before 5.3, the command's name."""
    parameter = inspect.signature(get_connection).parameters.get("command_name")
    return ("EVALSHA",) if parameter and parameter.default is parameter.empty else ()


_NAME = _wants_a_name(redis.ConnectionPool.get_connection)


def check(options: RedisOptions) -> None:
    """Refuse a URL that redis-py cannot use; does no I/O.

    Raises:
        ConfigurationError: It has an option that is none.
    """
    try:
        pool = _pool(options)
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError, exceptions.RedisError) as error:
        said = without_password(" ".join(str(error).split()), options.url)[:200]
        msg = f"The URL {options.shown} cannot be used: {as_sentence(said)}"
        helps = "What helps: options that redis-py knows, or those of the page on stores."
        raise ConfigurationError(msg, remedy=helps) from error


def _settings() -> dict[str, Any]:
    return {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }


def _pool(options: RedisOptions) -> redis.ConnectionPool:
    return redis.ConnectionPool.from_url(options.url, **_settings())


def is_refused(error: BaseException) -> bool:
    """Return whether the server will not have us; asking again would not help."""
    return isinstance(
        error.__cause__, (exceptions.AuthenticationError, exceptions.AuthorizationError)
    )


def _packed(trip: Trip) -> bytes:
    """Return commands as they are sent."""
    parts: list[bytes] = []
    for command in trip:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            value = argument if isinstance(argument, bytes) else str(argument).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(parts)


class Plain:
    """Plain connections."""

    def __init__(self, options: RedisOptions) -> None:
        self._pool: Any = _pool(options)  # Any: some of redis-py has no types

    def run(self, trip: Trip) -> Answers:
        """Send commands together, and return what each was answered.

        Raises:
            LostError: Nobody knows which of them took effect.
            NotSentError: None of them did.
        """
        pool = self._pool
        try:
            db = pool.get_connection(*_NAME)
        except _BROKEN as error:
            msg = str(error)
            raise NotSentError(msg) from error
        try:
            db.send_packed_command([_packed(trip)])
            answers = [_answer(db) for _ in trip]
        except _BROKEN as error:
            db.disconnect()
            msg = str(error)
            raise LostError(msg) from error
        except BaseException:
            db.disconnect()
            raise
        else:
            if _is_replica(answers):
                db.disconnect()
        finally:
            pool.release(db)
        return answers

    def close(self) -> None:
        """Close all connections."""
        self._pool.disconnect()


def _answer(db: Any) -> Any:
    try:
        return db.read_response()
    except exceptions.ResponseError as error:
        return error


def _is_replica(answers: Answers) -> bool:
    """Return whether this server was a primary once; the next connection may find the new one."""
    return any(isinstance(answer, exceptions.ReadOnlyError) for answer in answers)


class Awaited:
    """The connections of one event loop, which closes them when it is shut down.

    A loop tells only its async generators that it ends (`loop.shutdown_asyncgens`, as
    `asyncio.run` calls it), so one of them holds the connections.
    """

    def __init__(self, options: RedisOptions) -> None:
        from redis.asyncio import ConnectionPool
        from redis.asyncio.retry import Retry as AsyncRetry

        settings = _settings() | {"retry": AsyncRetry(NoBackoff(), 0)}
        self._pool: Any = ConnectionPool.from_url(options.url, **settings)
        self._until_the_end = self._held()

    async def begin(self) -> None:
        """Let the running event loop know of the connections; waits for nothing."""
        await anext(self._until_the_end)

    async def _held(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._pool.disconnect()

    async def run(self, trip: Trip) -> Answers:
        """Send commands together, without blocking the event loop; see `Plain.run`."""
        pool = self._pool
        try:
            db = await pool.get_connection(*_NAME)
        except _BROKEN as error:
            msg = str(error)
            raise NotSentError(msg) from error
        try:
            await db.send_packed_command([_packed(trip)])
            answers = [await _aanswer(db) for _ in trip]
        except _BROKEN as error:
            await _drop(db)
            msg = str(error)
            raise LostError(msg) from error
        except BaseException:
            await _drop(db)
            raise
        else:
            if _is_replica(answers):
                await _drop(db)
        finally:
            await pool.release(db)
        return answers

    async def close(self) -> None:
        """Close all connections."""
        await self._until_the_end.aclose()


async def _aanswer(db: Any) -> Any:
    try:
        return await db.read_response()
    except exceptions.ResponseError as error:
        return error


async def _drop(db: Any) -> None:
    """Close a connection, without waiting for the other side."""
    with suppress(*_BROKEN):
        await db.disconnect(nowait=True)
