"""What a URL says of a ledger in Redis, and how its troubles are told."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from tbcontracts.checks import as_sentence
from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.stores.urls import masked, without_password

DAY_S = 24 * 3600.0
DEADLINE_S = 10.0
TIMEOUT_S = 2.0
_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
_OWN = ("ack", "deadline_s", "journal_max", "keep_holds_s", "ledger_prefix")
# Ours to set: answers are read as bytes, and nothing may be sent again behind our back.
_FIXED = ("decode_responses", "retry", "retry_on_error", "retry_on_timeout")


class RedisOptions(NamedTuple):
    """Which server, where in it, and what is waited for."""

    url: str
    """As redis-py takes it."""
    shown: str
    """The URL without its password, for errors."""
    prefix: str = "tb"
    """Begins the names of all keys."""
    ack: str = "memory"
    """What a command waits for: "memory", "aof" or "replicas"."""
    replicas: int = 0
    """How many replicas must have it, with ack "replicas"."""
    journal_max: int | None = None
    """About how many journal entries each scope keeps; None keeps all."""
    keep_holds_s: float = DAY_S
    """How long an ended hold is remembered."""
    timeout_s: float = TIMEOUT_S
    """How long a connection may be silent; redis-py's `socket_timeout`."""
    deadline_s: float = DEADLINE_S
    """How long a command is tried again where the server does not answer."""
    read_only: bool = False
    """To look at books: commands are refused, whatever the server is like."""

    @classmethod
    def from_url(cls, url: str, *, read_only: bool = False) -> RedisOptions:
        """Read a URL as redis-py takes it, with our own options in it.

        Args:
            url: `redis://user:password@host:6379/0?ack=aof`; `rediss://` is TLS, `unix://` a
                socket, `valkey://` the same as `redis://`. What is not ours in it is redis-py's.
            read_only: Commands are refused.

        Raises:
            ConfigurationError: One of our options has a value that cannot be.
        """
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True)
        ours = {name: value for name, value in given if name in _OWN}
        for name, _ in given:
            if name in _FIXED:
                msg = f"The option {name} of a redis:// URL is not to be set: the store needs it."
                raise ConfigurationError(msg, remedy="What helps: the URL without it.")
        query = urlencode([(name, value) for name, value in given if name not in _OWN])
        scheme = _SCHEMES.get(parts.scheme, parts.scheme)
        ack, replicas = _ack(ours.get("ack", "memory"))
        return cls(
            # Put together by hand: urlunsplit leaves out the slashes of unix:///path.
            url=f"unix://{parts.netloc}{parts.path}?{query}"
            if scheme == "unix"
            else urlunsplit(parts._replace(scheme=scheme, query=query)),
            shown=masked(url),
            prefix=_prefix(ours.get("ledger_prefix", "tb")),
            ack=ack,
            replicas=replicas,
            journal_max=_number(ours, "journal_max", int, None),
            keep_holds_s=_number(ours, "keep_holds_s", float, DAY_S),
            timeout_s=_number(dict(given), "socket_timeout", float, TIMEOUT_S),
            deadline_s=_number(ours, "deadline_s", float, DEADLINE_S),
            read_only=read_only,
        )

    def keys(self, scope: str) -> tuple[str, ...]:
        """Return the names of a scope's keys; what stands in braces puts them on one node."""
        tag = scope.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        return tuple(f"{self.prefix}:{{{tag}}}:{name}" for name in _NAMES)

    @property
    def metas(self) -> str:
        """The pattern of the keys that tell which scopes there are."""
        plain = "".join(f"\\{letter}" if letter in "*?[]^\\" else letter for letter in self.prefix)
        return f"{plain}:{{*}}:meta"

    def scope_of(self, meta: str) -> str:
        """Return the scope that a key belongs to."""
        tag = meta[len(self.prefix) + 2 : -len("}:meta")]
        return tag.replace("%7D", "}").replace("%7B", "{").replace("%25", "%")

    def failed(self, error: BaseException) -> StoreError:
        """Return what callers get when the server did not answer, or refused."""
        if isinstance(error, StoreError):
            return error
        said = without_password(" ".join(str(error).split()), self.url)[:200]
        said = as_sentence(said or type(error).__name__)
        msg = f"The ledger {self.shown} did not answer: {said} Nothing was written."
        return StoreError(msg, remedy="What helps: see that the server can be reached; then again.")


_NAMES = ("meta", "acct", "hold", "due", "don", "key", "keydue", "log")
JOURNAL_AT = _NAMES.index("log")


def _ack(value: str) -> tuple[str, int]:
    """Read what a command waits for."""
    kind, equals, number = value.partition("=")
    if value in ("memory", "aof"):
        return value, 0
    if kind == "replicas" and equals and number.isdecimal() and int(number) > 0:
        return kind, int(number)
    msg = f'ack must be "memory", "aof" or "replicas=k", not {value[:60]!r}.'
    raise ConfigurationError(msg, remedy="What helps: ack=replicas=1, or the URL without it.")


def _prefix(value: str) -> str:
    if value and value.isascii() and value.isprintable() and not set(value) & set("{} "):
        return value
    msg = f"ledger_prefix must be plain ASCII without blanks and braces, not {value[:60]!r}."
    raise ConfigurationError(msg, remedy="What helps: ledger_prefix=tb.")


def _number(ours: dict[str, str], name: str, kind: type[Any], default: Any) -> Any:
    """Read an option that is a number above 0."""
    if name not in ours:
        return default
    try:
        number = kind(ours[name])
    except ValueError:
        number = 0
    if not 0 < number < 2**53:  # NaN is not either
        msg = f"{name} must be a number above 0, not {ours[name][:60]!r}."
        raise ConfigurationError(msg, remedy="What helps: the URL without it, for the default.")
    return number
