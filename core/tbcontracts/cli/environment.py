"""What `tbc check` says of the environment, which counts before a contract file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tbcontracts import env
from tbcontracts.checks import printable
from tbcontracts.errors import ConfigurationError
from tbcontracts.settings import Settings
from tbcontracts.stores.opening import check_url
from tbcontracts.stores.urls import masked

if TYPE_CHECKING:
    from tbcontracts.config import Configuration


class Mistake(NamedTuple):
    """One thing that is wrong with the environment."""

    variable: str
    said: str

    def __str__(self) -> str:
        """Return it with the variable's name, once."""
        return self.said if self.variable in self.said else f"{self.variable}: {self.said}"


class Around(NamedTuple):
    """What stands in the environment of a contract file."""

    given: dict[str, str]
    """Each variable that says something, and what: a URL without its password."""
    mistakes: tuple[Mistake, ...]
    worth_a_look: tuple[str, ...]
    """What is allowed and likely not meant."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        mistakes = [mistake._asdict() for mistake in self.mistakes]
        return {
            "given": self.given,
            "errors": mistakes,
            "worth_a_look": list(self.worth_a_look),
        }


def look_around(read: Sequence[tuple[Path, Configuration]]) -> Around:
    """Look at the environment, and at what it makes of files that were read and found right.

    Unlike a manager it warns of nothing, and opens neither a store nor an outbox.
    """
    from tbcontracts.deployment import examine_environment, merged  # slow, as pydantic is

    text = env.as_text()
    mistakes: list[Mistake] = []
    for variable, check in ((env.STORE, env.check_url), (env.DISABLED, _check_disabled)):
        if variable is env.STORE and env.STORE not in text:
            continue
        try:
            check(text.get(variable, ""))
        except ConfigurationError as error:
            mistakes.append(Mistake(variable.name, str(error)))
            text.pop(variable, None)
    settings, problems = examine_environment(text)
    mistakes += [Mistake(problem.place[0], problem.said) for problem in problems]
    for path, configuration in read:
        if (said := _refusal(merged(configuration.settings, settings, {}))) is not None:
            names = ", ".join(variable.name for variable in settings)
            mistakes.append(Mistake(names, f"with {printable(str(path))}: {said}"))
    values = {variable: env.value_of(variable) for variable in env.VARIABLES}
    given = {
        variable.name: masked(value) if variable is env.STORE else value
        for variable, value in values.items()
        if value is not None
    }
    return Around(given, tuple(mistakes), tuple(_worth_a_look(text)))


def _check_disabled(_: str) -> None:
    env.is_disabled()


def _refusal(counts: dict[str, Any]) -> str | None:
    """Return why a manager refuses settings that cannot be together; None where they can."""
    try:
        disabled = env.is_disabled()
    except ConfigurationError:  # it is said already
        disabled = False
    together: dict[str, Any] = {one.name: counts[one.name] for one in fields(Settings)}
    if disabled:
        together["enforcement"] = "observe"
    try:
        Settings(**together)
    except ConfigurationError as error:
        return str(error)
    return None


def _worth_a_look(text: dict[env.Variable, str]) -> Iterator[str]:
    """Yield what is allowed, and likely not meant."""
    yield from env.unknown()
    if env.STORE in text:
        try:
            check_url(text[env.STORE])
        except ConfigurationError as error:  # where it runs, a package may know that scheme
            yield f"{env.STORE.name}: {error}"
    named = env.value_of(env.CONFIG)
    if named is not None and not Path(named).is_file():
        yield f"{env.CONFIG.name} names {named!r}, and there is no such file here."
