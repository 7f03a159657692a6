"""Managers on the same books, and what each agent was given; a warning nobody expects fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tbcontracts import BudgetManager
from tbcontracts.stores import open_store


@pytest.fixture(autouse=True)
def _no_surprising_warning() -> Iterator[None]:
    """Turn warnings of ours into errors, unless a test expects them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def allocated(manager: BudgetManager) -> dict[str, int]:
    """Return what each agent of a scope was given."""
    return {name: numbers["allocated"] for name, numbers in manager.report().items()}


Managers = Callable[..., BudgetManager]


@pytest.fixture
def on_books() -> Iterator[Managers]:
    """Return a maker of managers on the books at a URL, as each process would have its own."""
    with ExitStack() as stores:

        def make(url: str, **settings: Any) -> BudgetManager:
            return BudgetManager(store=stores.enter_context(closing(open_store(url))), **settings)

        yield make
