"""What a run hears of its crews, and what it makes of it: holds before calls, charges after them.

The gate stands in a stream sink of CrewAI's event bus: a function that is called in the thread of
the call, before the request, and whose exceptions stop it. Handlers of the bus run on a thread
pool, after the fact, and their exceptions are dropped: they cannot refuse anything.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from tbcontracts import BudgetManager, Usage
from tbcontracts.endings import is_unbilled
from tbcontracts_crewai import frames
from tbcontracts_crewai.asking import AskFn
from tbcontracts_crewai.clamping import Clamping
from tbcontracts_crewai.confidence import Confidence
from tbcontracts_crewai.gate import Gate
from tbcontracts_crewai.instead import Instead
from tbcontracts_crewai.kickoffs import Kickoff, Place, move, place_in
from tbcontracts_crewai.open_calls import OpenCalls
from tbcontracts_crewai.roles import Roles
from tbcontracts_crewai.usage import call_shape
from tbcontracts_crewai.wraps import wraps

_log = logging.getLogger("tbcontracts")


class Listening:
    """Hears of the calls of one run; a `Watcher` of frames, and a sink of CrewAI's events.

    Args:
        manager: Whose contracts and books.
        roles: Who pays for whom.
        confidence: Who is told how good the work was.
        ask_fn: Who is asked for more budget; None asks at the terminal.
        min_output_tokens: The shortest answer that a cap may be lowered to; None lowers none.
    """

    def __init__(
        self,
        manager: BudgetManager,
        roles: Roles,
        *,
        confidence: Confidence,
        ask_fn: AskFn | None = None,
        min_output_tokens: int | None = None,
    ) -> None:
        self.manager: BudgetManager = manager
        self._roles = roles
        self._confidence = confidence
        self._open = OpenCalls(manager)
        self._clamping: Clamping | None = None
        if min_output_tokens is not None:
            self._clamping = Clamping(manager, roles, min_output_tokens)
        instead = Instead(manager, self._clamping)
        self._gate = Gate(manager, lambda: place_in(self), self._held_around, ask_fn, instead)
        self._heard: dict[str, Callable[[Any, Any], None]] = {
            "crew_kickoff_started": self._kickoff_started,
            "crew_kickoff_completed": self._kickoff_over,
            "crew_kickoff_failed": self._kickoff_over,
            "task_started": self._task_started,
            "task_completed": self._task_completed,
            "task_failed": self._step_over,
            "agent_execution_started": self._agent_started,
            "agent_execution_completed": self._agent_over,
            "agent_execution_error": self._agent_over,
            "llm_guardrail_completed": self._judged,
            "llm_stream_chunk": self._chunk,
            "llm_thinking_chunk": self._chunk,
            "llm_call_completed": self._completed,
            "llm_call_failed": self._failed,
        }

    def begin(self) -> None:
        """Hear of what is called in this context, and in those copied from it."""
        frames.watch(self)
        move(self, Place())

    def end(self) -> None:
        """Hear no more here; calls still under way are charged by estimate until they end."""
        move(self, None)
        frames.unwatch(self)
        self._open.leave()

    def holds(self, call_id: str, manager: BudgetManager) -> bool:
        """Return whether this run holds for the call with this id, on `manager`."""
        return self._open.get(call_id) is not None and manager.is_view_of(self.manager)

    # --- what CrewAI tells ------------------------------------------------------------------------

    def sink(self, source: Any, event: Any) -> None:
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

    def pre_step(self, context: Any) -> None:
        """Note whose task begins."""
        if context.kind == "task" and context.task is not None:
            self._enter_step(str(context.task.id), context.agent)

    def _task_started(self, source: Any, event: Any) -> None:
        task = getattr(event, "task", None) or source
        self._enter_step(str(task.id), getattr(task, "agent", None))

    def _task_completed(self, source: Any, event: Any) -> None:
        self._step_over(source, event)
        agent = getattr(getattr(event, "task", None) or source, "agent", None)
        if agent is not None:
            self._confidence.task_completed(self._roles.learn(agent), event.output)

    def _judged(self, _source: Any, event: Any) -> None:
        account = self._roles.account(event.agent_id, event.agent_role) or place_in(self).account
        self._confidence.judged(account, passed=event.success)

    def _agent_started(self, _source: Any, event: Any) -> None:
        # A delegated task has no step of its own; its agent's execution is what can be seen of it.
        wraps.cover(getattr(event.agent, "llm", None))
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
        if self._clamping is not None and frame.changeable and not frame.continues:
            self._clamping.begin(frame, place_in(self).account)
        if not frame.silent:
            return
        around = self._open.within(frame.outer)
        if around is not None and frame.continues:
            return
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
        if frame.continues and frame.outer is not None and is_unbilled(error):
            self._open.frame_ended(frame.outer, error)

    def _started(self, llm: Any, event: Any) -> None:
        """Hold budget for a call, or refuse it.

        Raises:
            CrewBudgetExceededError: It cannot be paid for; it is not sent.
            CrewGateError: It could not be decided on; it is not sent.
        """
        if self._open.get(event.call_id) is not None:
            return
        wraps.cover(llm)
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
