"""Where in a run something happens: in which kickoff, and who is at work.

Both travel in a context variable, as CrewAI's own state does: into its threads and tasks, not into
the user's plain threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import NamedTuple

from tbcontracts import BudgetExceededError


class Kickoff:
    """One kickoff of a crew; a crew that runs inside a tool has the outer one as parent."""

    def __init__(self, parent: Kickoff | None = None) -> None:
        self.parent = parent
        self.over = False
        self.refused_by: BudgetExceededError | None = None

    @property
    def refusal(self) -> BudgetExceededError | None:
        """What ended this kickoff or one around it, if anything did."""
        kickoff: Kickoff | None = self
        while kickoff is not None:
            if kickoff.refused_by is not None:
                return kickoff.refused_by
            kickoff = kickoff.parent
        return None

    def refuse(self, refusal: BudgetExceededError) -> None:
        """Let a refusal be final, here and in the kickoffs around.

        A tool of a crew turns exceptions into text: the one around must not go on paying for it.
        """
        kickoff: Kickoff | None = self
        while kickoff is not None:
            if kickoff.refused_by is None:
                kickoff.refused_by = refusal
            kickoff = kickoff.parent


class Worker(NamedTuple):
    """Who is at work."""

    step: str
    """The task or agent execution, by its id."""
    account: str | None


class Place(NamedTuple):
    """Where in a run something happens."""

    kickoff: Kickoff | None = None
    workers: tuple[Worker, ...] = ()

    @property
    def account(self) -> str | None:
        """Whose work a call without an agent belongs to: the innermost worker's."""
        return self.workers[-1].account if self.workers else None

    @property
    def step(self) -> str | None:
        """What is being worked on."""
        return self.workers[-1].step if self.workers else None

    def entered(self, step: str, account: str | None) -> Place:
        """Return the place inside a step; a step that is entered again drops what it left open."""
        return self._replace(workers=(*self.left(step).workers, Worker(step, account)))

    def left(self, step: str) -> Place:
        """Return the place outside a step, and outside what it left open."""
        for depth, worker in enumerate(self.workers):
            if worker.step == step:
                return self._replace(workers=self.workers[:depth])
        return self


_NOWHERE: Mapping[int, Place] = {}
_places: ContextVar[Mapping[int, Place]] = ContextVar("tbcontracts_crewai_places")


def place_in(run: object) -> Place:
    """Return where in a run this is."""
    return _places.get(_NOWHERE).get(id(run)) or Place()


def move(run: object, place: Place | None) -> None:
    """Change where in a run this is; None leaves it."""
    places = {key: known for key, known in _places.get(_NOWHERE).items() if key != id(run)}
    if place is not None:
        places[id(run)] = place
    _places.set(places)
