"""Lowering the output cap of a LangChain call to what is left, whichever model makes it.

What is left is read before the call starts and the callback handler's hold decides. A call that is
refused because others were faster is clamped again, but only if nothing was sent: a second handler
counts the calls that were begun, and the refused one must be the only one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.runnables.config import (
    RunnableConfig,
    ensure_config,
    var_child_runnable_config,
)

from tbcontracts import BudgetContract, BudgetExceededError, BudgetManager
from tbcontracts.checks import check_name
from tbcontracts.clamping import ATTEMPTS, aoutput_cap, learned_input, output_cap
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import RequestSize
from tbcontracts_langchain.attribution import EXPLICIT_KEY
from tbcontracts_langchain.handler import BudgetCallbackHandler, budget_callbacks
from tbcontracts_langchain.steps import Attempt, Course, Lookup
from tbcontracts_langchain.usage import OUTPUT_CAPS, call_shape

Callbacks = Sequence[BaseCallbackHandler] | BaseCallbackManager | None


# --- who pays, and who is told --------------------------------------------------------------------


class Payer(NamedTuple):
    """Whose budget a call needs."""

    books: BudgetManager
    agent: str | None
    handler: BudgetCallbackHandler
    """The handler that the run has already, or else a new one."""

    @property
    def contract(self) -> BudgetContract | None:
        """The agent's contract; None where it has none, and so no end of a budget."""
        return None if self.agent is None else self.books.contract_of(self.agent)

    @property
    def asks_itself(self) -> bool:
        """Whether the run's handler asks for more budget before it refuses, as a graph's does."""
        return hasattr(self.handler, "until_paid")

    def refused(self, refusal: BudgetExceededError) -> bool:
        """Return whether a refusal is this agent's or of a total above it, not of one below."""
        return (refusal.agent_name, refusal.scope) in self._accounts()

    def _accounts(self) -> Iterator[tuple[str | None, str]]:
        """Yield whose budget a call is held on, and where; outer managers' too."""
        yield self.agent, self.books.scope_name
        outer = self.books.identity[2]
        while outer is not None:
            manager, agent = outer
            yield agent, manager.scope_name
            outer = manager.identity[2]


def find_payer(manager: BudgetManager, callbacks: Callbacks, metadata: Mapping[str, Any]) -> Payer:
    """Find out whose budget a call needs, as the handler will when the call starts.

    Args:
        manager: Whose contracts.
        callbacks: Those that the call will have.
        metadata: The metadata that it will have.
    """
    handler = handler_in(callbacks, manager) or BudgetCallbackHandler(manager)
    books, agent = handler.payer(getattr(callbacks, "parent_run_id", None), metadata)
    account = agent if agent is not None else books.current_agent
    pays_for_all = books.settings.unattributed
    has_none = account is None or books.contract_of(account) is None
    if has_none and isinstance(pays_for_all, BudgetContract):
        account = pays_for_all.agent_name
    return Payer(books, account, handler)


def known(manager: BudgetManager, agent: str | None) -> str | None:
    """Return an agent's name in its one spelling; None for none.

    Raises:
        UnknownAgentError: It has no contract.
    """
    if agent is None:
        return None
    manager.acting_as(agent)  # asks for the contract; nobody acts until the block is entered
    return check_name(agent)


def named(agent: str | None) -> dict[str, Any]:
    """Return the metadata that names the agent of one call, ahead of everything else."""
    return {} if agent is None else {EXPLICIT_KEY: agent}


def handler_in(callbacks: Callbacks, manager: BudgetManager) -> BudgetCallbackHandler | None:
    """Return the handler of a manager that callbacks hold, on whichever of its books."""
    for handler in _handlers(callbacks):
        if isinstance(handler, BudgetCallbackHandler) and handler.manager.is_view_of(manager):
            return handler
    return None


def with_handlers(callbacks: Callbacks, manager: BudgetManager, watch: Watch) -> Any:
    """Return callbacks with a watch, and with the manager's handler if it is not there."""
    ours = [] if handler_in(callbacks, manager) else budget_callbacks(manager)
    if not isinstance(callbacks, BaseCallbackManager):
        return [watch, *(callbacks or ()), *ours]
    copied = callbacks.copy()
    for handler in ours:
        copied.add_handler(handler, inherit=True)
    copied.handlers = [watch, *copied.handlers]
    copied.inheritable_handlers = [watch, *copied.inheritable_handlers]
    return copied


def _handlers(callbacks: Callbacks) -> Sequence[BaseCallbackHandler]:
    if isinstance(callbacks, BaseCallbackManager):
        return callbacks.handlers
    return callbacks or ()


@contextmanager
def configured(callbacks: Any, metadata: Mapping[str, Any]) -> Iterator[None]:
    """Have model calls inside the block start with these callbacks and more metadata."""
    config = ensure_config()
    changed: RunnableConfig = {
        **config,
        "callbacks": callbacks,
        "metadata": {**(config.get("metadata") or {}), **metadata},
    }
    token = var_child_runnable_config.set(changed)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


class Watch(BaseCallbackHandler):
    """Counts the model calls that were begun, those that were then refused too.

    It is told first. Told last, it would leave a coroutine behind that LangChain made for it and
    never awaits, whenever a handler before it refuses an awaited call.
    """

    run_inline = True

    def __init__(self) -> None:
        self.begun: int = 0

    def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
        """Count a call to a chat model."""
        self.begun += 1

    def on_llm_start(self, *arguments: Any, **kwargs: Any) -> None:
        """Count a call to a text model."""
        self.begun += 1


# --- the cap --------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A model with the arguments of one call."""

    model: BaseChatModel
    kwargs: Mapping[str, Any]

    def shape(self, messages: Sequence[BaseMessage], stop: list[str] | None = None) -> CallShape:
        """Describe the call as the start hook will."""
        params = self.model._get_invocation_params(stop=stop, **self.kwargs)
        labels = self.model._get_ls_params(stop=stop, **self.kwargs)
        serialized = self.model._serialized
        return call_shape(messages, params, cast("Mapping[str, Any]", labels), serialized)

    @property
    def longest(self) -> int | None:
        """The longest answer that the model can give, if LangChain knows it."""
        profile = getattr(self.model, "profile", None) or {}
        found = profile.get("max_output_tokens")
        return found if isinstance(found, int) and found > 0 else None

    def capped(self, cap: int) -> Asked | None:
        """Return the same with another output cap; None if the model takes none that is known.

        A cap among the arguments is replaced there, because arguments win. Else it is set where
        the model itself keeps it, so that each provider is sent it in its own way.
        """
        in_kwargs = [name for name in OUTPUT_CAPS if self.kwargs.get(name) is not None]
        if in_kwargs:
            return self._replace(kwargs={**self.kwargs, **dict.fromkeys(in_kwargs, cap)})
        field = next((name for name in OUTPUT_CAPS if name in type(self.model).model_fields), None)
        if field is None:
            return None
        copied = self.model.model_copy(update={field: cap})
        vars(copied).pop("_serialized", None)  # LangChain keeps it once it was asked for
        return self._replace(model=copied)

    def fitting(
        self, cap: int | None, messages: Sequence[BaseMessage], manager: BudgetManager
    ) -> Asked:
        """Return the same with a cap; as it is where there is none to set, or none can be set."""
        shape = self.shape(messages)
        if cap is None or cap == shape.output_cap:
            return self
        capped = self.capped(cap)
        if capped is not None and capped.shape(messages).output_cap == cap:
            return capped
        kind = type(self.model).__name__
        manager.warn_once(
            f"unclampable {kind}",
            f"The answers of {kind} cannot be shortened to what is left of a budget: it has no "
            f"output cap by one of the names {', '.join(OUTPUT_CAPS)}. Its calls are held and "
            "charged like any other.",
        )
        return self


def unbound(runnable: Any) -> Asked | None:
    """Return the chat model in a runnable that was bound to arguments; None if there is none."""
    kwargs: dict[str, Any] = {}
    while isinstance(runnable, RunnableBinding):
        kwargs = {**runnable.kwargs, **kwargs}
        runnable = runnable.bound
    return Asked(runnable, kwargs) if isinstance(runnable, BaseChatModel) else None


def with_fitting_cap(
    payer: Payer,
    shape: CallShape,
    floor: int,
    longest: int | None,
    request: Callable[[int | None, Watch], Any],
) -> Course:
    """Make a call with the longest output cap that its hold fits with.

    Args:
        payer: Whose budget it needs.
        shape: What is known of it, with the cap that it has.
        floor: The shortest answer worth sending for.
        longest: The longest answer that the model can give, if that is known.
        request: Returns the call with a cap, or as it is for None, and with the watch among its
            callbacks.

    Raises:
        BudgetExceededError: It is refused, and no other cap would help.
    """
    refused: tuple[int | None, BudgetExceededError] | None = None
    for _ in range(ATTEMPTS):
        arguments = (payer.books, payer.agent, shape)
        cap: int | None = yield Lookup(
            partial(output_cap, *arguments, floor=floor, longest=longest),
            partial(aoutput_cap, *arguments, floor=floor, longest=longest),
        )
        if refused is not None and refused[0] == cap:
            break
        watch = Watch()
        try:
            return (yield Attempt(request(cap, watch)))
        except BudgetExceededError as refusal:
            if watch.begun != 1 or not payer.refused(refusal):
                raise
            refused = cap, refusal
            shape = _learned(payer.books, shape, cap, refusal)
    assert refused is not None
    raise refused[1]


def _learned(
    books: BudgetManager, shape: CallShape, cap: int | None, refusal: BudgetExceededError
) -> CallShape:
    """Return what a refusal says of a call: how large the hold was, and so the input really is."""
    sent = shape.output_cap if cap is None else cap
    if sent is None:
        return shape
    input_tokens = learned_input(books, shape, sent, refusal)
    if input_tokens is None:
        return shape
    return shape._replace(size=RequestSize(input_tokens, input_tokens))
