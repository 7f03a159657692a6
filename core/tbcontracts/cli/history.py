"""`tbc history`: the journal of a scope, entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import click

from tbcontracts.checks import printable
from tbcontracts.cli.output import (
    bad,
    faint,
    json_option,
    odd,
    pause,
    say,
    say_json_line,
)
from tbcontracts.cli.reading import (
    books_of,
    journal_of,
    open_books,
    pick_agent,
    pick_scope,
    scope_argument,
    store_argument,
)
from tbcontracts.columns import in_a_column, padded, shortened, width_of
from tbcontracts.entry_words import KINDS, in_words, moment, on_behalf_of
from tbcontracts.errors import StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.money import figure
from tbcontracts.stores import Store

POLL_S = 0.5


class _Wanted(NamedTuple):
    """Which entries are asked for."""

    agent: str | None
    kinds: Sequence[str]

    def has(self, entry: JournalEntry) -> bool:
        """Return whether an entry is one of them; what an agent gave is its business, too."""
        if self.kinds and entry.kind not in self.kinds:
            return False
        if self.agent is None or entry.agent == self.agent:
            return True
        return any(move.donor == self.agent for move in entry.moves)


@click.command(short_help="Print the journal, entry by entry.")
@store_argument
@scope_argument
@click.option("--agent", metavar="NAME", help="Only what this agent did, was given, or gave.")
@click.option(
    "--kind",
    "kinds",
    metavar="KIND",
    multiple=True,
    type=click.Choice(KINDS),
    help="Only held, denied, settled, ...; may be repeated.",
)
@click.option("--last", type=click.IntRange(0), metavar="N", help="Only the last N of them.")
@click.option("--follow", is_flag=True, help="Go on as more happens, until Ctrl-C.")
@json_option
def history(
    url: str,
    scope: str | None,
    agent: str | None,
    kinds: tuple[str, ...],
    last: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Print the journal, one line for each entry; with --json one object a line.

    Times are UTC. At the end of a line stands what the agent had left then.
    """
    store = open_books(url)
    name = pick_scope(store, scope, url)
    statement = books_of(store, name, url)
    if agent is not None:
        agent = pick_agent(statement, agent, name)
    wanted = _Wanted(agent, kinds)
    kept = journal_of(store, name, url)
    entries = [entry for entry in kept if wanted.has(entry)]
    shown = entries if last is None else entries[max(0, len(entries) - last) :]
    agents = [account.agent for account in statement.accounts]
    names = dict(zip(agents, in_a_column(map(printable, agents)), strict=True))
    width = max(map(width_of, ("the scope", *names.values())))

    def put(entry: JournalEntry) -> None:
        if as_json:
            say_json_line(entry.as_dict())
        else:
            say(_line(entry, names, width, statement.unit))

    if kept and kept[0].seq > 1 and not as_json:
        say(faint(f"Entries before number {kept[0].seq:,} are not kept any more."))
    for entry in shown:
        put(entry)
    if follow:
        for entry in following(store, name, kept[-1].seq if kept else 0, trouble=_no_answer):
            if wanted.has(entry):
                put(entry)


def following(
    store: Store,
    scope: str,
    after_seq: int,
    sleep: Callable[[float], object] = pause,
    trouble: Callable[[StoreError], object] = lambda _: None,
) -> Iterator[JournalEntry]:
    """Yield what comes after an entry, as it comes.

    A store that does not answer is asked again, from the last entry on that was seen.

    Args:
        store: Where the books are.
        scope: Whose.
        after_seq: The last entry that is known.
        sleep: Waits for so many seconds before each look.
        trouble: Is told once that the store does not answer, and again if it had answered since.
    """
    silent = False
    while True:
        sleep(POLL_S)
        try:
            news = store.journal(scope, after_seq)
        except StoreError as error:
            if not silent:
                trouble(error)
            silent = True
            continue
        silent = False
        for entry in news:
            after_seq = entry.seq
            yield entry


def _no_answer(error: StoreError) -> None:
    """Say it beside the entries, which are for programs too."""
    click.echo(f"no answer, asking again: {printable(str(error))}", err=True)


def _line(entry: JournalEntry, names: Mapping[str, str], width: int, unit: str) -> str:
    who = entry.agent or on_behalf_of(entry)
    who = names.get(who) or shortened(printable(who))  # an agent may have come meanwhile
    left = f"{figure(entry.remaining, unit)} left"
    if entry.agent is None:
        left = f"pool {figure(entry.pool, unit)}"
    head = f"{entry.seq:>6,}  {faint(moment(entry.at))}  {padded(who, width)}  "
    said = in_words(entry, unit)
    if entry.kind == "denied":
        said = bad(said)
    elif entry.kind in ("would_deny", "expired") or entry.facts.get("unmeasured"):
        said = odd(said)
    return f"{head}{said}; {left}"
