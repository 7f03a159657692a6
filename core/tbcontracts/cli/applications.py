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
from pathlib import PurePath
from typing import Any

from tbcontracts.checks import as_sentence, nearest
from tbcontracts.errors import ConfigurationError, TBCError
from tbcontracts.roster import Roster

GROUP = "tbcontracts.agents"
_SAID_MAX = 300


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
    lister, made = _lister(kind), _made(target, _found(target))
    try:
        return lister(made, contracts)
    except TBCError as error:
        msg = f"{target}: {error.message}"
        raise ConfigurationError(msg, remedy=error.remedy) from error
    except Exception as error:
        msg = f"{target!r} cannot be looked at: {_said(error)}"
        raise ConfigurationError(msg, remedy="What helps: the application as it runs.") from error


def _lister(kind: str) -> Callable[[Any, str | None], Roster]:
    known = {one.name: one for one in entry_points(group=GROUP)}
    if kind not in known:
        there = f"registered are {', '.join(map(repr, known))}" if known else "none is registered"
        msg = f"No integration lists the agents of a {kind!r}: {there}."
        remedy = "What helps: to install tbcontracts anew with pip, which registers its own."
        raise ConfigurationError(msg, remedy=remedy)
    try:
        lister: Callable[[Any, str | None], Roster] = known[kind].load()
    except ImportError as error:
        msg = f"The agents of a {kind} cannot be listed: {as_sentence(str(error))}"
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
    if (
        module_name.startswith(".")
        or module_name.endswith(".py")
        or any(mark in module_name for mark in "/\\")
    ):
        dotted = ".".join(PurePath(module_name).with_suffix("").parts).lstrip(".")
        msg = f"{target!r} names a file, and what is needed is a module."
        remedy = f"What helps: {dotted}:{name}, in the folder in which that can be imported."
        raise ConfigurationError(msg, remedy=remedy)
    if "" not in sys.path:
        sys.path.insert(0, "")
    found: Any
    try:
        found = import_module(module_name)
    except (Exception, SystemExit) as error:
        msg = f"{module_name!r} cannot be imported: {_said(error)}"
        remedy = "What helps: call this in the folder in which `python -c 'import ...'` works."
        raise ConfigurationError(msg, remedy=remedy) from error
    owner = module_name
    for part in name.split("."):
        if not hasattr(found, part):
            near = nearest(part, [known for known in dir(found) if not known.startswith("_")])
            hint = f" Did you mean {near!r}?" if near else ""
            msg = f"{owner!r} has no {part!r}.{hint}"
            raise ConfigurationError(msg, remedy="What helps: the name of the app in its module.")
        found, owner = getattr(found, part), f"{owner}.{part}"
    return found


def _made(target: str, found: Any) -> Any:
    """Return the application itself, where a function or a class makes it.

    Raises:
        ConfigurationError: It cannot be made without arguments, or must be awaited.
    """
    if not (inspect.isroutine(found) or inspect.isclass(found)):
        return found
    remedy = "What helps: the app itself, or a function of no arguments that returns it."
    try:
        made = found()
    except (Exception, SystemExit) as error:
        msg = f"{target!r} could not be made: {_said(error)}"
        raise ConfigurationError(msg, remedy=remedy) from error
    if inspect.iscoroutine(made):
        made.close()
        msg = f"{target!r} must be awaited, and a command does not."
        raise ConfigurationError(msg, remedy=remedy)
    return made


def _said(error: BaseException) -> str:
    """Return what went wrong in somebody's code, in a sentence."""
    if isinstance(error, SystemExit):
        return f"it ends the program (SystemExit: {error.code})."
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return as_sentence(f"{kind}: {text[:_SAID_MAX]}" if text else kind)
