"""`tbc store`: the place where the books are, made ready and looked at."""

from __future__ import annotations

from typing import Any

import click

from tbcontracts.cli.output import json_option, odd, say, say_json
from tbcontracts.cli.reading import about, as_url, books_of, file_url, open_books, store_argument
from tbcontracts.stores import Capabilities, Store, open_store
from tbcontracts.stores.base import About
from tbcontracts.stores.urls import masked

_SURVIVES = {
    "none": "nothing: they end with the process",
    "process": "the end of every process; not a power cut for certain",
    "power": "a power cut",
}
_SHARED = {
    "none": "the threads of one process",
    "host": "the processes of one host",
    "network": "many hosts",
}
_KIB = 1024


@click.group()
def store() -> None:
    """Make a store ready, or say what it is."""


@store.command()
@store_argument
@json_option
def init(url: str, as_json: bool) -> None:
    """Make what a store needs, with the rights that this URL has: a file, or tables.

    What is there already stays as it is. Without it the first use does the same.
    """
    if ":" not in url and url:
        url = file_url(url)
    opened = open_store(as_url(url))
    click.get_current_context().call_on_close(opened.close)
    opened.scopes()  # a server is asked for the first time now
    facts = about(opened)
    place = masked(url) if facts is None else facts.place
    version = None if facts is None else facts.layout or facts.layout_known
    if as_json:
        say_json({"store": place, "ready": True, "version": version})
        return
    said = "" if version is None else f" (version {version})"
    say(f"Ready: {place}{said}.")


@store.command()
@store_argument
@json_option
def info(url: str, as_json: bool) -> None:
    """Say what a store is, what it promises, and how much is in it."""
    opened = open_books(url)
    facts = about(opened)
    scopes = opened.scopes()
    place = masked(as_url(url)) if facts is None else facts.place
    if as_json:
        say_json(_as_json(place, opened.capabilities, facts, scopes))
        return
    promises = opened.capabilities
    lines = [("Store", place if facts is None else f"{facts.kind}, {place}")]
    if facts is not None:
        lines.append(("Software", facts.software))
        lines.append(("Written as", _version(facts)))
    lines += [
        ("Books survive", _SURVIVES[promises.durability]),
        ("Shared by", _SHARED[promises.cross_process]),
        ("Scopes", f"{len(scopes):,}"),
        ("Entries", f"{_entries(opened, facts, scopes, url):,}"),
    ]
    if facts is not None and facts.size_bytes is not None:
        lines.append(("Size", _size(facts.size_bytes)))
    for what, said in lines:
        say(f"{what + ':':<15}{said}")
    for danger in () if facts is None else facts.dangers:
        say(f"{odd('Take care:'):<15} {danger}")


def _version(facts: About) -> str:
    if facts.layout is None:
        return f"nothing yet; this tbcontracts writes version {facts.layout_known}"
    return f"version {facts.layout}; this tbcontracts knows {facts.layout_known}"


def _entries(opened: Store, facts: About | None, scopes: tuple[str, ...], url: str) -> int:
    if facts is not None:
        return facts.entries
    return sum(books_of(opened, scope, url).seq for scope in scopes)


def _size(size_bytes: int) -> str:
    size, unit = float(size_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < _KIB:
            break
        size, unit = size / _KIB, larger
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"


def _as_json(
    place: str, promises: Capabilities, facts: About | None, scopes: tuple[str, ...]
) -> dict[str, Any]:
    shown = {} if facts is None else facts._asdict()
    shown.pop("place", None)
    return {
        "store": place,
        "capabilities": promises._asdict(),
        "scopes": list(scopes),
        **shown,
    }
