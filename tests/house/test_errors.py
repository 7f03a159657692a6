"""The errors: each has a code of its own, says what would help, and survives a process pool."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import pickle
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import tbcontracts
import tbcontracts.errors
from tbcontracts import TBCError

ROOT = Path(__file__).parents[2]
PRODUCT = sorted(
    path for folder in ("core", "integrations") for path in (ROOT / folder).rglob("*.py")
)
# Any value that an argument of an error may have.
SAMPLE: dict[str, Any] = {
    "scope": "acme/2030-01",
    "agent_name": "writer",
    "requested": 900,
    "available": 300,
    "score": 0.9,
    "threshold": 0.8,
    "key": "key-1",
    "message": "Something happened to agent 'writer'.",
}


def all_errors() -> list[type[TBCError]]:
    """Return every error class of the core, wherever it stands."""
    for module in pkgutil.walk_packages(tbcontracts.__path__, "tbcontracts."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)
    found: list[type[TBCError]] = [TBCError]
    for cls in found:
        found += [inner for inner in cls.__subclasses__() if inner not in found]
    ours = [cls for cls in found if cls.__module__.startswith("tbcontracts.")]
    return sorted(ours, key=lambda cls: cls.__name__)


ERRORS = all_errors()


def example(cls: type[TBCError]) -> TBCError:
    """Make an error with a sample for each argument that it needs."""
    parameters = inspect.signature(cls).parameters.values()
    needed = {
        parameter.name: SAMPLE[parameter.name]
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    if "message" in inspect.signature(cls).parameters and "key" not in needed:
        needed["message"] = SAMPLE["message"]
    return cls(**needed)


def without_own_code(classes: list[type[TBCError]]) -> list[str]:
    """Return the errors whose code is missing, no word, or another one's."""
    codes = [vars(cls).get("code") for cls in classes]
    return [
        cls.__name__
        for cls, code in zip(classes, codes, strict=True)
        if not isinstance(code, str) or not code.isidentifier() or codes.count(code) > 1
    ]


def test_every_error_has_a_code_of_its_own() -> None:
    """Programs tell errors apart by `code`, so none shares it with another."""
    assert without_own_code(ERRORS) == []


def test_planted_codes_are_found() -> None:
    """An error that inherits its code, one with a sentence for it, and two with the same."""
    store, nameless = tbcontracts.StoreError, type("Nameless", (TBCError,), {})
    wordy = type("Wordy", (TBCError,), {"code": "it went wrong"})
    same = type("Same", (TBCError,), {"code": store.code})
    assert without_own_code([store, nameless, wordy]) == ["Nameless", "Wordy"]
    assert without_own_code([store, same]) == ["StoreError", "Same"]


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_errors_survive_a_process_pool(cls: type[TBCError]) -> None:
    """A pickled error comes back as the same class, with the same facts and text."""
    error = example(cls)
    error.remedy = "What helps: something else."
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert again.facts() == error.facts()
    assert str(again) == str(error)
    assert again.code == cls.code


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_the_text_says_what_happened_and_what_helps(cls: type[TBCError]) -> None:
    """`str(error)` is the sentence, then the remedy; both are there."""
    error = example(cls)
    assert error.message
    assert str(error).startswith(error.message)
    if not takes_a_remedy(cls):
        assert error.remedy.startswith("What helps: ")
    error.remedy = "What helps: something else."
    assert str(error) == f"{error.message} What helps: something else."


def takes_a_remedy(cls: type[TBCError]) -> bool:
    """Return whether an error says what helps only if whoever raises it does."""
    return not example(cls).remedy


def without_remedy(source: str, classes: set[str]) -> list[int]:
    """Return the lines that make one of these errors and do not say what would help."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id not in classes:
            continue
        given = [keyword for keyword in node.keywords if keyword.arg in ("remedy", None)]
        empty = [word for word in given if getattr(word.value, "value", word) in ("", None)]
        if not given or empty:
            lines.append(node.lineno)
    return sorted(lines)


def test_whoever_raises_says_what_helps() -> None:
    """Wherever the product makes an error, it passes a remedy, or the class has one.

    The reference only says that something is refused; nobody reads its errors. What is wrong in a
    configuration file is said line by line, each with the value or the key that would be right.
    """
    classes = {cls.__name__ for cls in ERRORS if takes_a_remedy(cls)}
    faults = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in PRODUCT
        if path.name not in ("errors.py", "reference.py", "reference_books.py")
        and path != ROOT / "core/tbcontracts/config.py"
        for line in without_remedy(path.read_text(encoding="utf-8"), classes)
    ]
    assert faults == []


def test_a_planted_error_without_remedy_is_found() -> None:
    """A construction that leaves the reader alone is found; one that helps is not."""
    source = (
        "raise StoreError('It is gone.')\n"
        "error = StoreError(msg, remedy='')\n"
        "raise StoreError(msg, remedy='What helps: patience.') from None\n"
        "raise ValueError('no error of ours')\n"
    )
    assert without_remedy(source, {"StoreError"}) == [1, 2]
