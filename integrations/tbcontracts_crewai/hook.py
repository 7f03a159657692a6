"""A crew under contracts: each LLM call is held or refused before it is sent, then charged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tbcontracts import BudgetManager
from tbcontracts.clamping import MIN_OUTPUT_TOKENS, check_floor
from tbcontracts.errors import ConfigurationError
from tbcontracts.scores import ScoreSource
from tbcontracts_crewai.asking import AskFn
from tbcontracts_crewai.carrying import carried_function
from tbcontracts_crewai.confidence import Confidence
from tbcontracts_crewai.config import Budget, register_contracts
from tbcontracts_crewai.files import Path, open_books
from tbcontracts_crewai.listening import Listening
from tbcontracts_crewai.requirements import require_crewai
from tbcontracts_crewai.roles import Roles
from tbcontracts_crewai.wraps import wraps

if TYPE_CHECKING:
    from typing_extensions import Self

_P = ParamSpec("_P")
_R = TypeVar("_R")


def govern_crew(
    crew: Any,
    manager_or_file: BudgetManager | Path | None = None,
    *,
    budgets: Mapping[str, Budget] | Path | None = None,
    config: Any = None,
    scope: str | None = None,
    confidence: Mapping[str, ScoreSource] | None = None,
    ask_fn: AskFn | None = None,
    clamp: bool = False,
    min_output_tokens: int = MIN_OUTPUT_TOKENS,
) -> CrewRun:
    """Put every LLM call of a crew or Flow under contracts, inside a `with` block.

    Contracts are matched with agents by role; blanks and line ends do not count, and a role with
    `{inputs}` stays one agent whatever they are filled with. Agents of one role share one account.
    Contracts that the manager has already count too.

    Args:
        crew: The crew. It is not changed. Or a Flow, whose crews are made in its steps: contracts
            are then taken as they are written, as nobody can say yet which roles there will be.
        manager_or_file: Whose contracts and books; of a contract file (.toml, .yaml, .json), a new
            manager with its settings, and the contracts of the roles that this crew has. If not
            given, the file that `TBCONTRACTS_CONFIG` names, or a new manager.
        budgets: A contract for each role, or a mapping of its fields: priority, max_tokens,
            min_reserve, confidence_threshold, max_output_tokens, on_exceeded, confidence_key,
            warn_at. Or a contract file.
        config: The `agents_config` of a `@CrewBase` object, or that object: an agent's `budget:`
            block in agents.yaml is its contract.
        scope: The books to use; the manager's own if not given.
        confidence: How good a role's finished tasks are, for its contract's confidence_threshold:
            a function of the `TaskOutput`, the path of a field in the task's structured output, or
            `guardrail_verdict`.
        ask_fn: Called with a `BudgetRequest` where a contract says "ask"; returns how many tokens
            (or dollars, as a `Decimal`) are granted, 0 or None for none. If not given, whoever sits
            at the terminal is asked.
        clamp: Whether a call that does not fit is sent with a lower output cap, for that call only,
            instead of being refused. Its answer may be cut short.
        min_output_tokens: The lowest cap that a call is sent with.

    Returns:
        The run: a context manager, with the manager as `run.manager`.

    Raises:
        ImportError: CrewAI is missing or too old.
        ConfigurationError: Something was given that cannot be used.
        ContractConflictError: One agent got two different contracts.

    Example:
        `with govern_crew(crew, budgets={"Researcher": {"max_tokens": 4000}}): crew.kickoff()`
    """
    floor = check_floor(min_output_tokens)
    require_crewai()
    manager, filed = open_books(manager_or_file, budgets)
    if scope is not None:
        manager = manager.scope(scope)
    roles = Roles(manager)
    register_contracts(crew, manager, roles, filed=filed, budgets=budgets, config=config)
    listening = Listening(
        manager,
        roles,
        confidence=Confidence(manager, confidence),
        ask_fn=ask_fn,
        min_output_tokens=floor if clamp else None,
    )
    return CrewRun(listening)


class CrewRun:
    """A `with` block whose crews are under contracts; `govern_crew` makes it.

    It holds for what is called inside the block, and for what that starts: tasks, threads and
    kickoffs of CrewAI, and streams, wherever they are read. It does not touch crews that others run
    at the same time. A plain thread of yours takes part with `wrap`.
    """

    def __init__(self, listening: Listening) -> None:
        self.manager: BudgetManager = listening.manager
        """Whose contracts and books."""
        self._listening = listening
        self._entered: list[tuple[Any, AbstractContextManager[Any]]] = []

    def __enter__(self) -> Self:
        """Begin to govern what happens in this context.

        Raises:
            ConfigurationError: The block is entered a second time before it was left.
        """
        from crewai.events.stream_context import add_stream_sink
        from crewai.hooks.dispatch import InterceptionPoint, _scoped_hooks_var, scoped_hooks

        if self._entered:
            msg = "This run is active already."
            raise ConfigurationError(msg, remedy="What helps: a second govern_crew(...).")
        # A scope of hooks hides the one around it; what is registered there is taken along.
        hooks = {point: list(known) for point, known in (_scoped_hooks_var.get() or {}).items()}
        hooks.setdefault(InterceptionPoint.PRE_STEP, []).append(self._listening.pre_step)
        wraps.acquire()
        scope = scoped_hooks(hooks)
        scope.__enter__()
        self._entered.append((add_stream_sink(self._listening.sink), scope))
        self._listening.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put everything back; calls still under way are charged by estimate until they end."""
        from crewai.events.stream_context import reset_stream_sinks

        token, scope = self._entered.pop()
        try:
            self._listening.end()
            reset_stream_sinks(token)
            scope.__exit__(kind, error, trace)
        finally:
            wraps.release()

    def wrap(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return a function that takes part in this run when a plain thread calls it.

        It may be called from several threads at once: each call gets a copy of the context.

        Raises:
            ConfigurationError: The run is not active here.

        Example:
            `threading.Thread(target=run.wrap(crew.kickoff))`
        """
        if not self._entered:
            msg = "Only an active run can be carried into a thread."
            raise ConfigurationError(msg, remedy="What helps: wrap inside the with block.")
        return carried_function(function, wraps.held)
