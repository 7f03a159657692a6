"""What is done in the place of a call that was refused, where a contract says so.

"end": the call is made again as the closing one: without tools, with the wish for a final answer,
and paid from the agent's reserve. {"fallback": model}: another model answers it. Both pass the gate
like any other call, and what is refused there is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from tbcontracts import BudgetExceededError, BudgetManager, ConfidenceGateError
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError
from tbcontracts.exhaustion import policy_of, what_now
from tbcontracts_crewai.clamping import Clamping, settings_carried
from tbcontracts_crewai.frames import Detour, Frame

FINISH = (
    "This is your last turn: the budget is nearly used up, and no tools are left. Give your "
    "best complete final answer now, from what you have."
)
_detours: ContextVar[frozenset[tuple[int, str]]] = ContextVar(
    "tbcontracts_crewai_detours", default=frozenset()
)


class Instead:
    """Finds what is done instead of refused calls of one run.

    Args:
        manager: Whose contracts and books.
        clamping: What lowers output caps, if anything does.
    """

    def __init__(self, manager: BudgetManager, clamping: Clamping | None = None) -> None:
        self._manager = manager
        self._clamping = clamping
        self._models: dict[tuple[str, Any, Any], Any] = {}

    def find(
        self, trouble: BudgetExceededError, refusal: BudgetExceededError, frame: Frame | None
    ) -> Detour | None:
        """Return what is done instead of a call; None if it stays refused.

        Args:
            trouble: The core's refusal.
            refusal: The same as the error that will be raised.
            frame: The call.
        """
        account = trouble.agent_name
        contract = self._manager.contract_of(account)
        if frame is None or contract is None:
            return None
        if self._clamping is not None:
            once_more = self._clamping.again(frame, trouble)
            if once_more is not None:
                return Detour(refusal, frame.asked, frame.arguments, once_more)
        if (id(self), account) in _detours.get():
            return None
        policy = policy_of(contract)
        now = what_now(policy, trouble)
        if now == "end" and not isinstance(trouble, ConfidenceGateError):
            arguments = closing_arguments(frame.arguments)
            return Detour(refusal, frame.asked, arguments, partial(self._closing, account))
        if now == "fallback":
            model = self._model(contract, policy.fallback, frame.asked)
            around = partial(self._in_its_place, account, frame.asked, model)
            return Detour(refusal, model, frame.arguments, around)
        return None

    def _model(self, contract: BudgetContract, fallback: Any, like: Any) -> Any:
        """Return the model that answers instead; one that is only named is made once."""
        check_fallback(contract)
        if not isinstance(fallback, str):
            return fallback
        key = (fallback, getattr(like, "provider", None), getattr(like, "base_url", None))
        if key not in self._models:
            self._models[key] = model_named(fallback, like)
        return self._models[key]

    @contextmanager
    def _detour(self, account: str) -> Iterator[None]:
        """Let what is refused in the block stay refused."""
        token = _detours.set(_detours.get() | {(id(self), account)})
        try:
            yield
        finally:
            _detours.reset(token)

    @contextmanager
    def _closing(self, account: str) -> Iterator[None]:
        with self._detour(account), self._manager.closing(account):
            yield

    @contextmanager
    def _in_its_place(self, account: str, llm: Any, model: Any) -> Iterator[None]:
        with self._detour(account), settings_carried(llm, model):
            yield


def closing_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the call that finishes: no tools, and the wish for an answer.

    A call that is for something else than an agent's next step (structured output, a guardrail)
    stays as it is.
    """
    changed = dict(arguments)
    agent = arguments.get("from_agent")
    had_tools = bool(changed.pop("tools", None)) or bool(getattr(agent, "tools", None))
    changed.pop("available_functions", None)
    if had_tools and arguments.get("response_model") is None:
        given = arguments.get("messages") or ()
        before = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
        changed["messages"] = [*before, {"role": "user", "content": FINISH}]
    return changed


def model_named(name: str, like: Any) -> Any:
    """Return a model by its name, reached as another one of the same provider is.

    Args:
        name: What `LLM(model=...)` takes.
        like: The model whose endpoint and key it uses, if its provider is the same.
    """
    from crewai import LLM

    provider = name.partition("/")[0] if "/" in name else None
    settings: dict[str, Any] = {}
    if provider in (None, getattr(like, "provider", None)):
        for field in ("base_url", "api_key", "max_retries", "timeout"):
            value = getattr(like, field, None)
            if value is not None:
                settings[field] = value
    if getattr(like, "is_litellm", False):
        settings["is_litellm"] = True
    return LLM(model=name, **settings)


def check_fallback(contract: BudgetContract) -> None:
    """Refuse a fallback that no crew can use.

    Raises:
        ConfigurationError: It is neither a model nor the name of one.
    """
    policy = policy_of(contract)
    if policy.kind == "fallback" and not _is_model(policy.fallback):
        msg = (
            f"The fallback of agent {contract.agent_name!r} must be an LLM or the name of one in a "
            f"crew, not {type(policy.fallback).__name__}."
        )
        helps = 'What helps: on_exceeded={"fallback": "gpt-4o-mini"}.'
        raise ConfigurationError(msg, remedy=helps)


def _is_model(value: Any) -> bool:
    """Return whether a fallback can answer calls."""
    return (isinstance(value, str) and bool(value.strip())) or callable(
        getattr(value, "call", None)
    )
