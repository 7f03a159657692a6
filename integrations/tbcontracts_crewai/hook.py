"""A crew under contracts: every LLM call held or refused before it is sent, charged when it ends.

The gate stands in a stream sink of CrewAI's event bus: a function that is called in the thread of
the call, before the request, and whose exceptions stop it. Handlers of the bus run on a thread
pool, after the fact, and their exceptions are dropped: they cannot refuse anything.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tbcontracts import BudgetManager, Usage
from tbcontracts.endings import is_unbilled
from tbcontracts.errors import ConfigurationError
from tbcontracts_crewai import frames
from tbcontracts_crewai.config import Budget, check_manager, register_contracts
from tbcontracts_crewai.gate import Gate
from tbcontracts_crewai.kickoffs import Kickoff, Place, move, place_in
from tbcontracts_crewai.open_calls import OpenCalls
from tbcontracts_crewai.requirements import require_crewai
from tbcontracts_crewai.roles import Roles
from tbcontracts_crewai.usage import call_shape

if TYPE_CHECKING:
    from typing_extensions import Self

_P = ParamSpec("_P")
_R = TypeVar("_R")
_log = logging.getLogger("tbcontracts")


def govern_crew(
    crew: Any,
    manager_or_file: BudgetManager | None = None,
    *,
    budgets: Mapping[str, Budget] | None = None,
    config: Any = None,
    scope: str | None = None,
) -> CrewRun:
    """Put every LLM call of a crew under contracts, inside a `with` block.

    Contracts are matched with agents by role; blanks and line ends do not count, and a role with
    `{inputs}` stays one agent whatever they are filled with. Agents of one role share one account.
    Contracts that the manager has already count too.

    Args:
        crew: The crew. It is not changed.
        manager_or_file: Whose contracts and books; a new manager if not given.
        budgets: A contract for each role, or a mapping of its fields: priority, max_tokens,
            min_reserve, confidence_threshold, max_output_tokens, on_exceeded.
        config: The `agents_config` of a `@CrewBase` object, or that object: an agent's `budget:`
            block in agents.yaml is its contract.
        scope: The books to use; the manager's own if not given.

    Returns:
        The run: a context manager, with the manager as `run.manager`.

    Raises:
        ImportError: CrewAI is missing or too old.
        ConfigurationError: Something was given that cannot be used.
        ContractConflictError: One agent got two different contracts.

    Example:
        `with govern_crew(crew, budgets={"Researcher": {"max_tokens": 4000}}): crew.kickoff()`
    """
    manager = check_manager(manager_or_file)
    require_crewai()
    if scope is not None:
        manager = manager.scope(scope)
    roles = Roles(manager)
    register_contracts(crew, manager, roles, budgets=budgets, config=config)
    return CrewRun(manager, roles)


class CrewRun:
    """A `with` block whose crews are under contracts; `govern_crew` makes it.

    It holds for what is called inside the block, and for what that starts: tasks, threads and
    kickoffs of CrewAI. It does not touch crews that others run at the same time. A plain thread of
    yours takes part with `wrap`.
    """

    def __init__(self, manager: BudgetManager, roles: Roles) -> None:
        self.manager = manager
        """Whose contracts and books."""
        self._roles = roles
        self._open = OpenCalls(manager)
        self._gate = Gate(manager, lambda: place_in(self), self._held_around)
        self._entered: list[tuple[Any, AbstractContextManager[Any]]] = []
        self._heard: dict[str, Callable[[Any, Any], None]] = {
            "crew_kickoff_started": self._kickoff_started,
            "crew_kickoff_completed": self._kickoff_over,
            "crew_kickoff_failed": self._kickoff_over,
            "task_started": self._task_started,
            "task_completed": self._step_over,
            "task_failed": self._step_over,
            "agent_execution_started": self._agent_started,
            "agent_execution_completed": self._agent_over,
            "agent_execution_error": self._agent_over,
            "llm_stream_chunk": self._chunk,
            "llm_thinking_chunk": self._chunk,
            "llm_call_completed": self._completed,
            "llm_call_failed": self._failed,
        }

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
        hooks.setdefault(InterceptionPoint.PRE_STEP, []).append(self._pre_step)
        frames.wraps.acquire()
        scope = scoped_hooks(hooks)
        scope.__enter__()
        self._entered.append((add_stream_sink(self._sink), scope))
        frames.watch(self)
        move(self, Place())
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
            move(self, None)
            frames.unwatch(self)
            self._open.leave()
            reset_stream_sinks(token)
            scope.__exit__(kind, error, trace)
        finally:
            frames.wraps.release()

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
        context = contextvars.copy_context()

        @functools.wraps(function)
        def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            return context.copy().run(function, *args, **kwargs)

        return wrapped

    def holds(self, call_id: str, manager: BudgetManager) -> bool:
        """Return whether this run holds for the call with this id, on `manager`."""
        return self._open.get(call_id) is not None and manager.is_view_of(self.manager)

    # --- what CrewAI tells ------------------------------------------------------------------------

    def _sink(self, source: Any, event: Any) -> None:
        """Hear an event in the thread of what it tells of; only the gate raises."""
        kind = getattr(event, "type", None)
        if kind == "llm_call_started":
            self._started(source, event)
            return
        heard = self._heard.get(kind) if isinstance(kind, str) else None
        if heard is None:
            return
        try:
            heard(source, event)
        except Exception:
            _log.exception("An event of CrewAI could not be read: %s.", kind)

    def _pre_step(self, context: Any) -> None:
        """Note whose task begins."""
        if context.kind == "task" and context.task is not None:
            self._enter_step(str(context.task.id), context.agent)

    def _task_started(self, source: Any, event: Any) -> None:
        task = getattr(event, "task", None) or source
        self._enter_step(str(task.id), getattr(task, "agent", None))

    def _agent_started(self, _source: Any, event: Any) -> None:
        # A delegated task has no step of its own; its agent's execution is what can be seen of it.
        frames.wraps.cover(getattr(event.agent, "llm", None))
        self._enter_step(_execution(event), event.agent)

    def _enter_step(self, step: str, agent: Any) -> None:
        account = None if agent is None else self._roles.learn(agent)
        move(self, place_in(self).entered(step, account))

    def _step_over(self, source: Any, event: Any) -> None:
        self._leave_step(str((getattr(event, "task", None) or source).id))

    def _agent_over(self, _source: Any, event: Any) -> None:
        self._leave_step(_execution(event))

    def _leave_step(self, step: str) -> None:
        self._open.step_ended(step)
        move(self, place_in(self).left(step))

    def _kickoff_started(self, _source: Any, _event: Any) -> None:
        place = place_in(self)
        around = place.kickoff
        while around is not None and around.over:
            around = around.parent
        move(self, place._replace(kickoff=Kickoff(around)))

    def _kickoff_over(self, _source: Any, _event: Any) -> None:
        kickoff = place_in(self).kickoff
        if kickoff is not None:
            kickoff.over = True
            move(self, place_in(self)._replace(kickoff=kickoff.parent))

    def _chunk(self, _source: Any, event: Any) -> None:
        call = self._open.get(event.call_id)
        if call is not None:
            call.saw(event.chunk)

    def _completed(self, _source: Any, event: Any) -> None:
        call = self._open.get(event.call_id) or self._open.within(frames.current_frame())
        if call is None:
            return
        if event.usage is not None:
            call.complete(Usage.read(event.usage))
        self._open.completed(event.call_id, event.response)

    def _failed(self, _source: Any, event: Any) -> None:
        # Emitted from within `except`: the event has only the text, the exception has the facts.
        self._open.failed(event.call_id, sys.exc_info()[1], event.error)

    # --- what the wrapped methods tell ------------------------------------------------------------

    def frame_began(self, frame: frames.Frame) -> None:
        """Hold for a call that no event announces; what is raised keeps it from being made."""
        self._end_refused_attempt(frame)
        if not frame.silent:
            return
        around = self._open.within(frame.outer)
        if around is not None and frame.outer is not None and frame.outer.llm is frame.llm:
            return  # the same call, taken up again by the model's own machinery
        agent = frame.arguments.get("from_agent")
        call_id = f"frame {id(frame)}"
        call = self._gate.admit(
            call_id,
            lambda: None if agent is None else self._roles.learn(agent),
            lambda: call_shape(
                frame.llm,
                frame.arguments.get("messages") or (),
                tools=_plain_tools(frame.arguments.get("tools")),
                response_model=frame.arguments.get("response_model"),
            ),
            frame,
        )
        if call is not None:
            self._open.add(call_id, call)
            frame.stack.enter_context(self.manager.calling(call.call))

    def frame_ended(self, frame: frames.Frame, error: BaseException | None) -> None:
        """End the calls that a model's method made."""
        try:
            self._open.frame_ended(frame, error)
        except Exception:
            _log.exception("The end of a call could not be read.")

    def usage_tracked(self, reported: Any) -> None:
        """Note what a provider reported for one request."""
        from crewai.llms import base_llm

        try:
            current = getattr(base_llm, "_current_call_id", None)
            call_id = current.get() if current is not None else None
            frame = frames.current_frame()
            call = self._open.get(call_id)
            if call is None or (frame is not None and frame.silent and call.frame is not frame):
                call = self._open.within(frame) or call
            if call is not None:
                call.track(Usage.read(reported))
        except Exception:
            _log.exception("Reported usage could not be read; its call is charged by estimate.")

    def _end_refused_attempt(self, frame: frames.Frame) -> None:
        """End an attempt that the provider rejected and the model's class repeats by itself."""
        error = sys.exc_info()[1]
        outer = frame.outer
        same = outer is not None and outer.llm is frame.llm
        if same and outer is not None and is_unbilled(error):
            self._open.frame_ended(outer, error)

    # --- the gate ---------------------------------------------------------------------------------

    def _started(self, llm: Any, event: Any) -> None:
        """Hold budget for a call, or refuse it.

        Raises:
            CrewBudgetExceededError: It cannot be paid for; it is not sent.
            CrewGateError: It could not be decided on; it is not sent.
        """
        if self._open.get(event.call_id) is not None:
            return
        frames.wraps.cover(llm)
        frame = frames.current_frame()
        if frame is not None and frame.llm is not llm:
            frame = None
        model = None if frame is None else frame.arguments.get("response_model")
        call = self._gate.admit(
            event.call_id,
            lambda: self._roles.account(event.agent_id, event.agent_role),
            lambda: call_shape(
                llm,
                event.messages or (),
                tools=event.tools,
                response_model=model,
                cap=event.max_tokens,
            ),
            frame,
        )
        if call is not None:
            self._open.add(event.call_id, call)

    def _held_around(self, call_id: str) -> bool:
        """Return whether a block of the same manager around this one holds for this call."""
        others = (run for run in frames.watchers() if run is not self)
        return any(run.holds(call_id, self.manager) for run in others)


def _execution(event: Any) -> str:
    """Return what an agent's work on a task is called."""
    return f"{getattr(event.task, 'id', '')} {event.agent.id}"


def _plain_tools(tools: Any) -> list[Any] | None:
    """Return tool definitions as plain data, for counting."""
    return list(tools) if isinstance(tools, (list, tuple)) else None
