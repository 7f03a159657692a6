"""Markup, built from parts: what is text is escaped, and only what was built here is not.

Names, notes and reasons are data. They come in as `str`, and there is one way from there into the
page, which is `escaped`.
"""

from __future__ import annotations

import html

from tbcontracts.checks import printable

_VOID = frozenset(("meta",))
_SHAPES = frozenset(("line", "path", "rect"))
"""Elements of pictures, which end where they begin unless something stands in them."""


class Markup(str):
    """Text that is markup; everything else is escaped before it becomes part of it."""

    __slots__ = ()


def escaped(text: object) -> Markup:
    """Return a text as markup that shows it literally; what cannot be seen is spelled out."""
    return text if isinstance(text, Markup) else Markup(html.escape(printable(str(text))))


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: Its name.
        children: What stands in it; None is left out.
        attributes: By their names, `_` for `-`, with a `_` after a word that Python needs itself.
            None is left out, True stands alone.
    """
    written = "".join(
        f" {_attribute(key)}" + ("" if value is True else f'="{escaped(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    if name in _SHAPES and not children:
        return Markup(f"<{name}{written}/>")
    inner = "".join(escaped(child) for child in children if child is not None)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def joined(*parts: object) -> Markup:
    """Return parts one after the other."""
    return Markup("".join(escaped(part) for part in parts if part is not None))


def name_of(agent: str | None) -> Markup:
    """Return an agent's name, whose direction of writing stays its own; None is the pool."""
    if agent is None:
        return element("em", "the pool")
    return element("bdi", agent, class_="name")


def _attribute(key: str) -> str:
    """Return an attribute's name as it is written."""
    return key.rstrip("_").replace("_", "-")
