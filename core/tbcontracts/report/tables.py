"""Tables: each with a caption, headings that say what they head, and room to scroll."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tbcontracts.report.markup import Markup, element, escaped

_WIDE = 6
"""From so many columns on a table rather scrolls than becomes narrow."""


def table(
    caption: object,
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[int] = (),
    label: str | None = None,
) -> Markup:
    """Return a table whose first column names the row.

    Args:
        caption: What it shows.
        headings: One for each column.
        rows: The cells; None is an empty one.
        numbers: The columns that hold numbers, from 0.
        label: Its name where the caption is too long for one.
    """
    heads = [
        element("th", text, scope="col", class_="number" if at in numbers else None)
        for at, text in enumerate(headings)
    ]
    lines = [
        element("tr", *[_cell(at, cell, number=at in numbers) for at, cell in enumerate(row)])
        for row in rows
    ]
    inner = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads)),
        element("tbody", *lines),
        class_="wide" if len(headings) >= _WIDE else None,
    )
    name = label or str(caption)
    return element("div", inner, class_="scroll", role="region", aria_label=name, tabindex=0)


def _cell(at: int, cell: object, *, number: bool) -> Markup:
    text = escaped("" if cell is None else cell)
    if at == 0:
        return element("th", text, scope="row", class_="number" if number else None)
    return element("td", text, class_="number" if number else None)
