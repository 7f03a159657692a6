"""Store URLs as they may be shown: whose they are and where they lead, never their password."""

from __future__ import annotations

_HIDDEN = "***"


def masked(url: str) -> str:
    """Return a URL without its password and its options."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        return url
    login, place = _split(scheme, rest)
    user, has_password, _ = login.partition(":")
    shown = f"{user}:{_HIDDEN}@{place}" if has_password else f"{login}@{place}" if login else place
    return f"{scheme}://{shown.partition('?')[0]}"


def without_password(text: str, url: str) -> str:
    """Return what somebody else says of a URL without the password that may stand in it."""
    from urllib.parse import parse_qsl, unquote  # slow to import

    scheme, _, rest = url.partition("://")
    secret = _split(scheme, rest)[0].partition(":")[2]
    options = parse_qsl(rest.partition("?")[2])
    secrets = {secret, unquote(secret), *(value for name, value in options if "pass" in name)}
    for known in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(known, _HIDDEN)
    return text


def has_odd_port(url: str) -> bool:
    """Return whether what stands where a port stands is none: part of a password, most likely."""
    scheme, _, rest = url.partition("://")
    return scheme != "sqlite" and not _has_port(_head(rest).rpartition("@")[2])


def _split(scheme: str, rest: str) -> tuple[str, str]:
    """Return the login of a URL, which may be empty, and what stands behind it.

    Read as text, because a URL that is written wrongly has a password, too: one with a slash in it
    is taken for a path by those who read URLs.
    """
    if scheme == "sqlite":  # a path, in which an "@" is a letter like others
        return "", rest
    head = _head(rest)
    before_options = rest.partition("?")[0]
    if "@" in before_options[len(head) :] or not _has_port(head.rpartition("@")[2]):
        login, _, place = (before_options if "@" in before_options else rest).rpartition("@")
        return login, place
    login, _, _ = head.rpartition("@")
    return login, rest[len(login) + 1 :] if login else rest


def _head(rest: str) -> str:
    """Return what stands before path and options."""
    return rest.partition("?")[0].partition("/")[0].partition("#")[0]


def _has_port(host: str) -> bool:
    """Return whether a host has a port that is a number, or none."""
    _, colon, port = host.rpartition("]")[2].rpartition(":")
    return not colon or not port or port.isdecimal()
