"""`tbc report`: what happened in a scope, as one page that explains itself."""

from __future__ import annotations

import click

from tbcontracts.cli.output import json_option, say, say_json
from tbcontracts.cli.reading import (
    books_of,
    journal_of,
    open_books,
    pick_scope,
    scope_argument,
    store_argument,
)

_SCREEN = "-"


@click.command(short_help="Write what happened as one HTML page.")
@store_argument
@scope_argument
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="report.html",
    show_default=True,
    help="The file; - for the screen.",
)
@click.option("--replace", is_flag=True, help="Replace a file that is no report.")
@json_option
def report(url: str, scope: str | None, output: str, *, replace: bool, as_json: bool) -> None:
    """Write what happened in a scope as one HTML page.

    It shows who had what, who gave to whom, what was refused and why, and the books at each of
    these moments. The page needs no network and no script. A report that is there already is
    replaced; any other file is left as it is, unless --replace is given.
    """
    from tbcontracts.report.html import page  # slow to import
    from tbcontracts.report.view import view_of
    from tbcontracts.report.writing import put_page

    if as_json and output == _SCREEN:
        msg = "--json says where the page is, and - puts it on the screen: one of them."
        raise click.UsageError(msg)
    store = open_books(url)
    name = pick_scope(store, scope, url)
    # The books first: entries that come between the two are left out, and none is missing.
    statement = books_of(store, name, url)
    view = view_of(statement, journal_of(store, name, url), name)
    text = page(view)
    if output == _SCREEN:
        click.echo(text, nl=False)
        return
    path = put_page(text, output, replace=replace)
    size = path.stat().st_size
    if as_json:
        say_json({"scope": name, "path": str(path), "bytes": size, "refused": view.refused})
        return
    say(f"Wrote {path} ({size / 1000:,.0f} kB): scope {name!r}. Open it in any browser.")
