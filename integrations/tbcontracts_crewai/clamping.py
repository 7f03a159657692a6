"""Output caps lowered to what is left, for calls through CrewAI's own model classes.

A call that is clamped goes through a copy of the model, made for it alone: the model that agents
share, and that other threads are calling, is not touched, and there is nothing to put back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from tbcontracts import BudgetExceededError, BudgetManager, ConfidenceGateError
from tbcontracts.clamping import ATTEMPTS, output_cap
from tbcontracts.sizing import CallShape
from tbcontracts_crewai.frames import Frame
from tbcontracts_crewai.roles import Roles
from tbcontracts_crewai.usage import call_shape, with_output_cap

_log = logging.getLogger("tbcontracts")
_attempts: ContextVar[int] = ContextVar("tbcontracts_crewai_clamps", default=0)


class Clamping:
    """Lowers the output caps of one run's calls.

    Args:
        manager: Whose contracts and books.
        roles: Who pays for whom.
        min_output_tokens: The shortest answer that a cap may be lowered to.
    """

    def __init__(self, manager: BudgetManager, roles: Roles, min_output_tokens: int) -> None:
        self._manager = manager
        self._roles = roles
        self._floor = min_output_tokens

    def begin(self, frame: Frame, account: str | None) -> None:
        """Let a call go through a copy of its model, with a lower cap, where it does not fit.

        Whatever goes wrong here leaves the call as it is: the gate decides on it.
        """
        try:
            agent = frame.arguments.get("from_agent")
            payer = account if agent is None else self._roles.learn(agent)
            cap = self._cap(frame, payer)
            if cap is None:
                return
            copied = with_output_cap(frame.asked, cap)
            frame.stack.enter_context(settings_carried(frame.asked, copied))
            frame.llm = copied
        except Exception:
            _log.exception("The output cap of a call could not be lowered.")

    def again(
        self, frame: Frame, trouble: BudgetExceededError
    ) -> Callable[[], AbstractContextManager[Any]] | None:
        """Return what to make a refused call again in, where a still lower cap may fit.

        That is so where others took what it had counted on.
        """
        if frame.llm is frame.asked or isinstance(trouble, ConfidenceGateError):
            return None
        if _attempts.get() >= ATTEMPTS:
            return None
        cap = self._cap(frame, trouble.agent_name)
        present = call_shape(frame.llm, ()).output_cap
        return _attempt if cap is not None and present is not None and cap < present else None

    def _cap(self, frame: Frame, account: str | None) -> int | None:
        """Return the cap to send a call with; None where its own will do."""
        shape = self._shape(frame)
        cap = output_cap(self._manager, account, shape, floor=self._floor)
        own = shape.output_cap
        return cap if cap is not None and (own is None or cap < own) else None

    @staticmethod
    def _shape(frame: Frame) -> CallShape:
        tools = frame.arguments.get("tools")
        return call_shape(
            frame.asked,
            frame.arguments.get("messages") or (),
            tools=list(tools) if isinstance(tools, (list, tuple)) else None,
            response_model=frame.arguments.get("response_model"),
        )


@contextmanager
def _attempt() -> Iterator[None]:
    """Count how often a call was made again."""
    token = _attempts.set(_attempts.get() + 1)
    try:
        yield
    finally:
        _attempts.reset(token)


@contextmanager
def settings_carried(llm: Any, other: Any) -> Iterator[None]:
    """Let another model have what CrewAI set for this call only: stop words, and streaming."""
    from crewai.llms import base_llm

    wanted = {
        "call_stop_override": getattr(llm, "stop_sequences", None),
        "call_stream_override": getattr(llm, "_effective_stream", lambda: None)(),
    }
    with ExitStack() as stack:
        for name, value in wanted.items():
            override: Callable[..., AbstractContextManager[Any]] = getattr(base_llm, name)
            if value is not None:
                stack.enter_context(override(other, value))
        yield
