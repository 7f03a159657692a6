"""Applications that a command looks at: found by `module:name`, their agents by an integration.

The core knows no framework. Who can say which agents something has is found by the entry point
group `tbcontracts.agents`: the name is the kind of application, the function takes the application
and a contract file or None, and returns a `Roster`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from tbcontracts.checks import nearest
from tbcontracts.errors import ConfigurationError
from tbcontracts.roster import Roster

GROUP = "tbcontracts.agents"


def roster_of(kind: str, target: str, contracts: str | None = None) -> Roster:
    """Return the agents of an application.

    Args:
        kind: Which integration to ask, by the name of its entry point: "graph", "crew".
        target: Where the application is, as "module:name". A function there is called, a class is
            made, both without arguments. Modules of the current folder are found, too.
        contracts: A contract file; if not given, what the application has itself.

    Raises:
        ConfigurationError: There is no such integration, module or name, or what is there cannot be
            imported, made or looked at.
    """
    return _lister(kind)(_made(target, _found(target)), contracts)


def _lister(kind: str) -> Callable[[Any, str | None], Roster]:
    known = {one.name: one for one in entry_points(group=GROUP)}
    if kind not in known:
        others = f"only those of {', '.join(map(repr, known))}" if known else "none does"
        msg = f"No integration that is registered here lists the agents of a {kind!r}: {others}."
        remedy = "What helps: to install tbcontracts anew with pip, which registers its own."
        raise ConfigurationError(msg, remedy=remedy)
    try:
        lister: Callable[[Any, str | None], Roster] = known[kind].load()
    except ImportError as error:
        msg = f"The agents of a {kind} cannot be listed: {error}."
        remedy = "What helps: the extra of that framework, such as tbcontracts[langgraph]."
        raise ConfigurationError(msg, remedy=remedy) from error
    return lister


def _found(target: str) -> Any:
    """Return what `module:name` names.

    Raises:
        ConfigurationError: It names nothing, or its module cannot be imported.
    """
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        msg = f"{target!r} is no application: what is needed is module:name."
        raise ConfigurationError(msg, remedy="What helps: my_package.my_module:app.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    found: Any
    try:
        found = import_module(module_name)
    except Exception as error:
        msg = f"{module_name!r} cannot be imported: {type(error).__name__}: {error}."
        remedy = "What helps: call this in the folder in which `python -c 'import ...'` works."
        raise ConfigurationError(msg, remedy=remedy) from error
    for part in name.split("."):
        if not hasattr(found, part):
            near = nearest(part, [known for known in dir(found) if not known.startswith("_")])
            hint = f" Did you mean {near!r}?" if near else ""
            msg = f"{module_name!r} has no {part!r}.{hint}"
            raise ConfigurationError(msg, remedy="What helps: the name of the app in its module.")
        found = getattr(found, part)
    return found


def _made(target: str, found: Any) -> Any:
    """Return the application itself, where a function or a class makes it.

    Raises:
        ConfigurationError: It cannot be made without arguments.
    """
    if not (inspect.isroutine(found) or inspect.isclass(found)):
        return found
    try:
        return found()
    except Exception as error:
        msg = f"{target!r} could not be made: {type(error).__name__}: {error}."
        remedy = "What helps: the app itself, or a function of no arguments that returns it."
        raise ConfigurationError(msg, remedy=remedy) from error
