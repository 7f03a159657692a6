"""Contract files as the source of a crew's manager or of its budgets."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.env import CONFIG, settings_given, value_of
from tbcontracts.errors import ConfigurationError

Path = str | os.PathLike[str]


class Filed(NamedTuple):
    """What stands in a contract file."""

    where: str
    settings: dict[str, Any]
    """The settings that the file changes; the others are as always."""
    contracts: tuple[BudgetContract, ...]


def read(path: Path) -> Filed:
    """Read a contract file.

    Raises:
        ConfigurationError: It cannot be read, or something in it cannot be; the text says where.
        ImportError: Its format needs a package that is not installed.
    """
    from tbcontracts.config import load

    settings, contracts = load(path)
    usual, _ = load({})
    changed = {name: value for name, value in settings.items() if value != usual[name]}
    return Filed(os.fspath(path), changed, contracts)


def open_books(manager_or_file: object, budgets: object) -> tuple[BudgetManager, tuple[Filed, ...]]:
    """Return the manager of a crew, and the files that its contracts stand in.

    Where code names neither, the environment may name a file. A manager that is made here takes the
    settings of the environment before those of a file.

    Raises:
        ConfigurationError: What was given is neither a manager nor a file, or a file with budgets
            has settings of a manager beside the manager that was given.
    """
    filed: list[Filed] = []
    if manager_or_file is None and not isinstance(budgets, (str, os.PathLike)):
        manager_or_file = value_of(CONFIG)
    settings: dict[str, Any] = {}
    if isinstance(manager_or_file, (str, os.PathLike)):
        filed.append(read(manager_or_file))
        settings = filed[0].settings
    elif manager_or_file is not None and not isinstance(manager_or_file, BudgetManager):
        kind = type(manager_or_file).__name__
        msg = f"govern_crew takes a BudgetManager or a contract file, not {kind}."
        helps = "What helps: govern_crew(crew, budgets={role: {'max_tokens': ...}})."
        raise ConfigurationError(msg, remedy=helps)
    if isinstance(budgets, (str, os.PathLike)):
        filed.append(read(budgets))
        if manager_or_file is None:
            settings = filed[0].settings
        elif filed[-1].settings:
            named = ", ".join(sorted(filed[-1].settings))
            msg = f"{filed[-1].where} sets {named}, which the manager that was given has already."
            raise ConfigurationError(msg, remedy="What helps: only [agents] in the budgets= file.")
    if isinstance(manager_or_file, BudgetManager):
        return manager_or_file, tuple(filed)
    return _made(settings), tuple(filed)


def _made(settings: dict[str, Any]) -> BudgetManager:
    """Return a manager with the settings of a file, and of the environment where it has some."""
    if not settings_given():
        return BudgetManager(**settings)
    from tbcontracts.deployment import make

    return make(BudgetManager, settings, {})
