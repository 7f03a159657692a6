"""Middleware that winds an agent down with its budget, for `langchain.agents.create_agent`.

The callback handler alone refuses and charges. The middleware stands where a call can still be
changed: it shortens answers to what is left, changes to a cheaper model near the limit, tells the
agent what it has left, and at the end of the budget does what the contract says. It charges
nothing; that is the handler's, which it brings along where the run has none.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import nullcontext
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, NamedTuple

from langchain.agents.middleware import AgentMiddleware, AgentState, hook_config
from langchain.agents.middleware.types import (
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    PrivateStateAttr,
)
from langchain.chat_models import init_chat_model
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config
from langgraph.channels.untracked_value import UntrackedValue
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command
from typing_extensions import NotRequired

from tbcontracts import BudgetContract, BudgetExceededError, BudgetManager, ConfidenceGateError
from tbcontracts.clamping import (
    MIN_OUTPUT_TOKENS,
    Left,
    awhat_is_left,
    check_floor,
    what_is_left,
)
from tbcontracts.errors import ConfigurationError
from tbcontracts.exhaustion import Policy, policy_of, what_now
from tbcontracts.money import amount_in, figure
from tbcontracts_langchain.asking import ask
from tbcontracts_langchain.chat_model import BudgetedChatModel
from tbcontracts_langchain.clamp import (
    Payer,
    Watch,
    configured,
    find_payer,
    known,
    named,
    with_fitting_cap,
    with_handlers,
)
from tbcontracts_langchain.model_requests import asked_by, capped, with_line
from tbcontracts_langchain.steps import Attempt, Course, Lookup, adrive, drive

NEAR_THE_LIMIT = 0.2
CLOSING_LINE = (
    "This is your last answer: your budget is used up, and tools are no longer available. "
    "Give your best complete answer now, from what you have."
)
_ANNOUNCED_STEPS = 20
_ENDED = "tbcontracts_ended"

_log = logging.getLogger("tbcontracts")


class BudgetState(AgentState[Any]):
    """The state of an agent, and whether its budget ended this run; seen by the middleware only."""

    tbcontracts_ended: NotRequired[Annotated[bool, UntrackedValue, PrivateStateAttr]]


class _Prepared(NamedTuple):
    """A request, and what is around its call."""

    request: ModelRequest[Any]
    callbacks: Any
    metadata: Mapping[str, Any]


class BudgetMiddleware(AgentMiddleware[Any, Any, Any]):
    """Keeps an agent's model calls to its contract, and winds it down near the end.

    Put it last in the list of middleware, closest to the model: then what it caps is what is sent,
    and retries and fallbacks around it pass through it again. The run's own callbacks are still
    needed for model calls that are no turn of the agent: those of its tools, and of middleware
    that calls models before a turn, such as summaries.

    Args:
        manager: Whose contracts and books.
        agent: Who pays. None finds out as the callback handler does: by annotation, the agent's
            `name`, or its node.
        downgrade_to: A cheaper model (or "provider:model") for calls near the limit.
        downgrade_below: Where that begins: less than so many tokens can be reached (dollars as a
            `Decimal`), or, as a fraction, less than this part of the contract's whole budget.
        on_exceeded: What happens at the end of the budget, if not what the contract says: "raise",
            "end", "ask" or {"fallback": model, or function of the request}.
        announce: Tell the agent what it has left, in the system message of each call. It is said
            in steps of 5 %, so that the provider's prompt cache holds between two steps.
        min_output_tokens: The shortest answer worth sending for; a call with less left is refused.

    Raises:
        UnknownAgentError: The agent has no contract.
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.

    Example:
        `create_agent(model, tools, middleware=[BudgetMiddleware(manager, "writer")])`
    """

    state_schema: type[BudgetState] = BudgetState

    def __init__(
        self,
        manager: BudgetManager,
        agent: str | None = None,
        *,
        downgrade_to: Any = None,
        downgrade_below: float | Decimal = NEAR_THE_LIMIT,
        on_exceeded: str | Mapping[str, Any] | None = None,
        announce: bool = False,
        min_output_tokens: int = MIN_OUTPUT_TOKENS,
    ) -> None:
        super().__init__()
        if not isinstance(manager, BudgetManager):
            msg = f"manager must be a BudgetManager, not {type(manager).__name__}."
            raise TypeError(msg)
        self.manager: BudgetManager = manager
        self.agent: str | None = known(manager, agent)
        self.announce: bool = announce
        self.min_output_tokens: int = check_floor(min_output_tokens)
        self.downgrade_to: Any = None
        if downgrade_to is not None:
            self.downgrade_to = _model(downgrade_to, "downgrade_to")
        self.downgrade_below: float | int = _check_threshold(downgrade_below, manager.settings.unit)
        self._policy: Policy | None = None
        if on_exceeded is not None:
            contract = BudgetContract(self.agent or "of the middleware", on_exceeded=on_exceeded)
            self._policy = policy = policy_of(contract)
            if isinstance(policy.fallback, str):
                self._policy = policy._replace(fallback=_model(policy.fallback, "fallback"))

    # --- hooks ------------------------------------------------------------------------------------

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: BudgetState, runtime: Any) -> dict[str, Any] | None:
        """Go to the end where the budget ended this run, if anything led back from there."""
        return {"jump_to": "end"} if state.get(_ENDED) else None

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: BudgetState, runtime: Any) -> dict[str, Any] | None:
        """Do the same where the agent is awaited."""
        return self.before_model(state, runtime)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> Any:
        """Make a turn's model call as the budget allows, or do what stands in its place.

        Raises:
            BudgetExceededError: It is refused, and the contract says to raise.
        """

        def make(call: _Prepared) -> ModelResponse[Any]:
            with configured(call.callbacks, call.metadata):
                return handler(call.request)

        return drive(self._course(request), make)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> Any:
        """Do the same where the agent is awaited."""

        async def make(call: _Prepared) -> ModelResponse[Any]:
            with configured(call.callbacks, call.metadata):
                return await handler(call.request)

        return await adrive(self._course(request), make)

    # --- one turn ---------------------------------------------------------------------------------

    def _course(self, request: ModelRequest[Any]) -> Course:
        """Make one call, or do what the policy says in its place."""
        config = ensure_config()
        callbacks = config.get("callbacks")
        metadata = {**(config.get("metadata") or {}), **named(self.agent)}
        payer = find_payer(self.manager, callbacks, metadata)
        contract = payer.contract
        if contract is None:
            return (yield Attempt(self._prepared(request, callbacks, Watch())))
        policy = policy_of(contract) if self._policy is None else self._policy
        books, name = payer.books, contract.agent_name
        with books.keeping_reserve(name) if policy.kind == "end" else nullcontext():
            request = yield from self._downgraded(request, payer, contract)
            request = yield from self._announced(request, payer, name)
            while True:
                try:
                    return (yield from self._call(request, payer, callbacks))
                except BudgetExceededError as refusal:
                    if not payer.refused(refusal):
                        raise
                    now = what_now(policy, refusal)
                    if now == "end":
                        return (yield from self._ended(request, payer, callbacks, refusal))
                    if now == "fallback" and not _names_a_node(policy):
                        return (yield from self._instead(request, payer, callbacks, policy))
                    if now != "ask" or payer.asks_itself:
                        raise
                    asking = partial(ask, books, refusal)
                yield Lookup(asking, asking)

    def _call(self, request: ModelRequest[Any], payer: Payer, callbacks: Any) -> Course:
        """Make a call with a cap that fits."""
        asked = asked_by(request)
        if asked is None or isinstance(asked.model, BudgetedChatModel):  # that one caps itself
            return (yield Attempt(self._prepared(request, callbacks, Watch())))
        system = [] if request.system_message is None else [request.system_message]
        messages = [*system, *request.messages]

        def with_cap(cap: int | None, watch: Watch) -> _Prepared:
            fitting = asked.fitting(cap, messages, self.manager)
            return self._prepared(capped(request, asked, fitting), callbacks, watch)

        shape = asked.shape(messages)
        floor = self.min_output_tokens
        return (yield from with_fitting_cap(payer, shape, floor, asked.longest, with_cap))

    def _prepared(self, request: ModelRequest[Any], callbacks: Any, watch: Watch) -> _Prepared:
        told = with_handlers(callbacks, self.manager, watch)
        return _Prepared(request, told, named(self.agent))

    def _downgraded(
        self, request: ModelRequest[Any], payer: Payer, contract: BudgetContract
    ) -> Generator[Lookup, Any, ModelRequest[Any]]:
        """Change to the cheaper model near the limit."""
        if self.downgrade_to is None:
            return request
        name = contract.agent_name
        left: Left | None = yield Lookup(
            partial(what_is_left, payer.books, name, own=False),
            partial(awhat_is_left, payer.books, name, own=False),
        )
        below = self.downgrade_below
        limit = below * contract.max_tokens if isinstance(below, float) else below
        if left is None or left.reachable >= limit:
            return request
        return request.override(model=self.downgrade_to)

    def _announced(
        self, request: ModelRequest[Any], payer: Payer, name: str
    ) -> Generator[Lookup, Any, ModelRequest[Any]]:
        """Tell the agent what it has left, in this call only."""
        if not self.announce:
            return request
        accounts = yield Lookup(payer.books.accounts, payer.books.aaccounts)
        account = accounts[name]
        unit = payer.books.settings.unit
        return with_line(request, announcement(account.remaining, account.allocated, unit))

    # --- the end of the budget --------------------------------------------------------------------

    def _ended(
        self,
        request: ModelRequest[Any],
        payer: Payer,
        callbacks: Any,
        refusal: BudgetExceededError,
    ) -> Course:
        """End the agent with a last answer, paid from its reserve; else with a plain message."""
        name = payer.agent or refusal.agent_name
        if isinstance(refusal, ConfidenceGateError):
            return _last(_message(f"Agent {name!r} stops here: its work is good enough.", refusal))
        closing = with_line(request, CLOSING_LINE).override(tools=[], tool_choice=None)
        budget = "token budget" if refusal.unit == "tokens" else "budget"
        plain = _message(f"The {budget} of agent {name!r} is used up; its work ends here.", refusal)
        try:
            with payer.books.closing(name):
                response = yield from self._call(closing, payer, callbacks)
        except GraphBubbleUp:
            raise
        except BudgetExceededError:
            return _last(plain)
        except Exception as error:
            # The agent is to end in any case; the text of the error may hold what was asked.
            _log.warning(
                "The closing call of agent %r failed with %s; it ends without one.",
                name,
                type(error).__name__,
            )
            return _last(plain)
        return _last(response if _says_something(response) else plain)

    def _instead(
        self, request: ModelRequest[Any], payer: Payer, callbacks: Any, policy: Policy
    ) -> Course:
        """Have another model answer, which passes the gate too, or a function."""
        other: Any = policy.fallback
        if isinstance(other, (str, Runnable)):
            other = _model(other, "fallback")
            return (yield from self._call(request.override(model=other), payer, callbacks))
        if not callable(other):
            msg = f"A fallback of an agent must be a model or a function, not {other!r}."
            raise ConfigurationError(msg, remedy='What helps: on_exceeded={"fallback": model}.')
        answer = yield Lookup(partial(other, request), partial(other, request))
        return AIMessage(answer) if isinstance(answer, str) else answer


def announcement(remaining: int, allocated: int, unit: str = "tokens") -> str:
    """Say what is left of a budget, rounded down to a twentieth of it."""
    step = max(1, allocated // _ANNOUNCED_STEPS)
    left = max(0, remaining)
    if unit == "usd":
        about = f"less than {figure(step, unit)}"
        about = about if left < step else f"about {figure(left - left % step, unit)}"
        return f"You have {about} left of {figure(allocated, unit)}; finish before it is used up."
    about = f"fewer than {step:,}" if left < step else f"about {left - left % step:,}"
    return f"You have {about} tokens left of {allocated:,}; finish before they are used up."


def _last(response: ModelResponse[Any] | AIMessage) -> ExtendedModelResponse[Any]:
    """Return an answer after which the agent ends, whatever it was about to do."""
    if isinstance(response, AIMessage):
        response = ModelResponse(result=[response])
    return ExtendedModelResponse(response, Command(update={"jump_to": "end", _ENDED: True}))


def _message(text: str, refusal: BudgetExceededError) -> AIMessage:
    """Return an answer that no model gave; programs find the reason in its metadata."""
    facts = {"code": refusal.code, "agent": refusal.agent_name, "scope": refusal.scope}
    return AIMessage(text, response_metadata={"tbcontracts": facts})


def _says_something(response: ModelResponse[Any]) -> bool:
    """Return whether a closing call gave an answer, not another wish for tools it does not have."""
    if response.structured_response is not None:
        return True
    last = response.result[-1]
    return isinstance(last, AIMessage) and not last.tool_calls and bool(last.text)


def _names_a_node(policy: Policy) -> bool:
    """Return whether a fallback is a node of the graph around, which is the graph's affair.

    A model that is only named has a colon in it ("provider:model"), which no node may have.
    """
    return isinstance(policy.fallback, str) and ":" not in policy.fallback


def _model(value: Any, what: str) -> Any:
    """Return a model, made by LangChain where it is only named.

    Raises:
        TypeError: It is none.
    """
    if isinstance(value, str):
        return init_chat_model(value)
    if isinstance(value, Runnable):
        return value
    msg = f'{what} must be a chat model or "provider:model", not {type(value).__name__}.'
    raise TypeError(msg)


def _check_threshold(value: Any, unit: str) -> float:
    """Return where a downgrade begins, if it is an amount or a fraction.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    if not isinstance(value, float):
        return amount_in(value, unit, "downgrade_below")
    if 0 <= value <= 1:
        return value
    msg = f"downgrade_below as a fraction must be between 0 and 1, not {value!r}."
    raise ValueError(msg)
