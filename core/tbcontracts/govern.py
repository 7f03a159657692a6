"""Functions under a contract: held before they are called, charged by what their result says.

Works for `def`, `async def`, generators and async generators. The hold is sized like that of any
call, from the arguments. LLM calls inside that other integrations see are not held twice: the first
one is the call that the hold is for, further ones hold for themselves.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tbcontracts.calls import Call, CallEnd
from tbcontracts.checks import check_amount
from tbcontracts.endings import Ending
from tbcontracts.errors import BudgetExceededError, ConfigurationError
from tbcontracts.exhaustion import BudgetRequest, agrant, grant, policy_of, request_for, what_now
from tbcontracts.money import amount_in, is_decimal
from tbcontracts.scores import ScoreSource, score_source
from tbcontracts.sizing import CallShape
from tbcontracts.streams import Stream, text_in
from tbcontracts.tokens import size_request
from tbcontracts.usage import Usage

if TYPE_CHECKING:
    from tbcontracts.manager import BudgetManager

AskFn = Callable[[BudgetRequest], Any]
"""Called when a contract says "ask": returns how much is granted, a number of tokens or a `Decimal`
of dollars; 0 or None refuses."""

_log = logging.getLogger("tbcontracts")


class Instead(NamedTuple):
    """What is done in the place of a call that was refused."""

    function: Callable[..., Any] | None
    """None: nothing; the work ends with what there is."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do it, with the arguments of the call."""
        return None if self.function is None else self.function(*args, **kwargs)


class Governed:
    """A function's way through the gate; the same for every kind of function.

    Args:
        manager: Whose contracts and books.
        name: The agent.
        confidence_fn: How a result is scored, if it is.
        usage_fn: Where a result's usage is, if it is not where providers put it.
        ask_fn: Whom to ask for more budget, if anybody.
        model: Which model it asks, if that is known.
    """

    def __init__(
        self,
        manager: BudgetManager,
        name: str,
        confidence_fn: ScoreSource | None,
        usage_fn: Callable[[Any], Any] | None,
        ask_fn: AskFn | None,
        model: str | None = None,
    ) -> None:
        of_agent = f"of agent {name!r}"
        for function, what in ((usage_fn, "usage_fn"), (ask_fn, "ask_fn")):
            if function is not None and not callable(function):
                msg = f"{what} {of_agent} must be a function, not {type(function).__name__}."
                raise TypeError(msg)
        score = None
        contract = manager.contract_of(name)
        if confidence_fn is None and contract is not None:
            confidence_fn = contract.confidence_key
        if confidence_fn is not None:
            score = score_source(confidence_fn, f"confidence_fn {of_agent}")
        self.manager = manager
        self.name = name
        self._score = score
        self._usage_fn = usage_fn
        self._ask_fn = ask_fn
        self._model = model

    # --- before the call --------------------------------------------------------------------------

    def admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | Instead:
        """Hold for a call, or say what is done instead.

        Raises:
            BudgetExceededError: It is refused, and the contract says to raise.
        """
        while True:
            decided = self._try(args, kwargs)
            if not isinstance(decided, BudgetExceededError):
                return decided
            self._grant(decided, request := request_for(decided), self._ask(request))

    async def aadmit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | Instead:
        """Do the same where whoever is asked may be awaited."""
        while True:
            decided = await self._atry(args, kwargs)
            if not isinstance(decided, BudgetExceededError):
                return decided
            request = request_for(decided)
            tokens = await awaited(self._ask(request))
            if not tokens:
                raise decided
            await agrant(self.manager, request, tokens)

    def _try(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Call | Instead | BudgetExceededError:
        """Hold for a call; return a refusal that somebody is to be asked about."""
        try:
            shape = _shape(args, kwargs)._replace(model=self._model)
            return self.manager.begin_call(self.name, shape, note="govern", apart=True)
        except BudgetExceededError as refusal:
            return self._about(refusal)

    async def _atry(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Call | Instead | BudgetExceededError:
        """Hold for a call without blocking the event loop."""
        try:
            shape = _shape(args, kwargs)._replace(model=self._model)
            return await self.manager.abegin_call(self.name, shape, note="govern", apart=True)
        except BudgetExceededError as refusal:
            return self._about(refusal)

    def _about(self, refusal: BudgetExceededError) -> Instead | BudgetExceededError:
        """Return what is done about a refusal, or the refusal where somebody is to be asked."""
        policy = policy_of(self.manager.contract_of(self.name))
        now = what_now(policy, refusal)
        if now == "end":
            return Instead(None)
        if now == "fallback":
            return Instead(self._checked_fallback(policy.fallback, self.name))
        if now == "ask" and self._ask_fn is not None:
            return refusal
        raise refusal

    def _ask(self, request: BudgetRequest) -> Any:
        assert self._ask_fn is not None
        return self._ask_fn(request)

    def _grant(self, refusal: BudgetExceededError, request: BudgetRequest, tokens: Any) -> None:
        """Apply what was granted; nothing granted is the refusal that it was about."""
        if not tokens:
            raise refusal
        grant(self.manager, request, tokens)

    def check_fallback(self) -> None:
        """Say at once that a fallback cannot be called here; a node's may be a node or a model.

        Raises:
            ConfigurationError: It is no function.
        """
        policy = policy_of(self.manager.contract_of(self.name))
        if policy.kind == "fallback":
            self._checked_fallback(policy.fallback, self.name)

    @staticmethod
    def _checked_fallback(fallback: Any, name: str) -> Callable[..., Any]:
        if callable(fallback):
            return fallback  # type: ignore[no-any-return]
        msg = (
            f"The fallback of agent {name!r} must be a function here, not "
            f"{type(fallback).__name__}: a governed function can only call another one."
        )
        raise ConfigurationError(msg, remedy='What helps: on_exceeded={"fallback": function}.')

    # --- during and after the call ----------------------------------------------------------------

    @contextmanager
    def inside(self, call: Call) -> Iterator[None]:
        """Let what runs in the block find its agent, and the hold that is there for it."""
        with self.manager.acting_as(self.name), self.manager.calling(call):
            yield

    def succeeded(self, call: Call, result: Any, stream: Stream | None = None) -> None:
        """Charge a call that ended well. Never raises: the result is paid for, and the user's."""
        try:
            ending = self._well(call, result, stream)
            beside = self._beside(call, ending, call.end(ending))
            if beside is not None:
                self.manager.charge_beside(call.hold, beside)
        except Exception:
            _log.exception("The usage of agent %r could not be booked.", self.name)

    async def asucceeded(self, call: Call, result: Any, stream: Stream | None = None) -> None:
        """Do the same without blocking the event loop."""
        try:
            ending = self._well(call, result, stream)
            beside = self._beside(call, ending, await call.aend(ending))
            if beside is not None:
                await self.manager.acharge_beside(call.hold, beside)
        except Exception:
            _log.exception("The usage of agent %r could not be booked.", self.name)

    def failed(self, call: Call, error: BaseException, stream: Stream | None = None) -> None:
        """Charge a call that failed by what is known of it. Never raises."""
        try:
            call.end(_badly(call, error, stream))
        except Exception:
            _log.exception("The end of a call of agent %r could not be booked.", self.name)

    async def afailed(self, call: Call, error: BaseException, stream: Stream | None = None) -> None:
        """Do the same without blocking the event loop."""
        try:
            await call.aend(_badly(call, error, stream))
        except Exception:
            _log.exception("The end of a call of agent %r could not be booked.", self.name)

    def _well(self, call: Call, result: Any, stream: Stream | None) -> Ending:
        """Return how a call ended that ended well."""
        usage, seen = self._used(call, result, stream)
        return Ending(usage, output_tokens_seen=seen)

    def _beside(self, call: Call, ending: Ending, ended: CallEnd) -> Usage | None:
        """Return a result's usage that is of another request than the one the hold was used for.

        What `usage_fn` says is of all that the function did, and that request is part of it.
        """
        usage = ending.usage
        if usage is None or not usage.measured or self._usage_fn is not None:
            return None
        posted = ended.usage
        # An estimate that was posted below may well be of the request that is reported here.
        known = posted is None or not posted.measured or posted == usage
        if known or not call.is_outer:
            return None
        return self.manager.priced(usage, call.shape)

    def score(self, result: Any) -> Any:
        """Return what `confidence_fn` says; None if there is none or it fails."""
        if self._score is None:
            return None
        try:
            return self._score(result)
        except Exception:
            _log.exception("confidence_fn of agent %r failed; the result is kept.", self.name)
            return None

    async def ascore(self, result: Any) -> Any:
        """Return what `confidence_fn` says, awaited where it has to be."""
        try:
            return await awaited(self.score(result))
        except Exception:
            _log.exception("confidence_fn of agent %r failed; the result is kept.", self.name)
            return None

    def note_score(self, score: Any) -> None:
        """Report a score; one that cannot be is logged, not raised."""
        if score is None:
            return
        try:
            self.manager.report_confidence(self.name, score)
        except Exception:
            _log.exception("The score of agent %r is not used.", self.name)

    async def anote_score(self, score: Any) -> None:
        """Report a score without blocking the event loop; see `note_score`."""
        if score is None:
            return
        try:
            await self.manager.areport_confidence(self.name, score)
        except Exception:
            _log.exception("The score of agent %r is not used.", self.name)

    def _used(
        self, call: Call, result: Any, stream: Stream | None
    ) -> tuple[Usage | None, int | None]:
        """Return the usage of a result, and the output that can be counted in it."""
        try:
            if self._usage_fn is not None:
                usage = _as_usage(self._usage_fn(result), self.manager.settings.unit)
            else:
                usage = stream.usage if stream is not None else _reported(result)
                if usage is not None and call.has_heard(usage):
                    usage = None  # a call below reported it, and has posted it
        except Exception:
            _log.exception("The usage of agent %r could not be read: an estimate.", self.name)
            usage = None
        try:
            text = "" if stream is not None else text_in(result)  # a stream's was seen on the way
            return usage, self.manager.count_text(text) if text else None
        except Exception:
            _log.exception("The answer of agent %r could not be counted.", self.name)
            return usage, None

    @property
    def keeps_pieces(self) -> bool:
        """Whether anybody wants to see all that a generator yielded."""
        return self._score is not None or self._usage_fn is not None


def _shape(args: tuple[Any, ...], kwargs: dict[str, Any]) -> CallShape:
    """Return what is known of a call before it is made: its arguments.

    An argument that cannot be looked at is the function's own business, and counts as nothing.
    """
    given = (*args, *kwargs.values())
    try:
        return CallShape(size_request(given))
    except Exception:
        _log.exception("Arguments of a governed function could not be counted.")
        return CallShape(size_request(("",) * len(given)))


def _badly(call: Call, error: BaseException, stream: Stream | None) -> Ending:
    """Return how a call ended that failed."""
    usage = None if stream is None or call.is_outer else stream.usage_until_now()
    return Ending(usage, error)


async def awaited(value: Any) -> Any:
    """Return a value, or what it becomes when it is awaited."""
    return await value if inspect.isawaitable(value) else value


def _reported(result: Any) -> Usage | None:
    """Return the usage that a result holds, or None if it holds nothing like that."""
    usage = Usage.read(result)
    return usage if usage.measured else None


def _as_usage(value: Any, unit: str) -> Usage | None:
    """Return what `usage_fn` returned as a usage: a number of tokens, or anything readable.

    In dollars a `Decimal` is what it cost.
    """
    if value is None or isinstance(value, Usage):
        return value
    if isinstance(value, int):
        return Usage(output_tokens=check_amount(value, "What usage_fn returned"))
    if unit == "usd" and is_decimal(value):
        return Usage(cost_micro_usd=amount_in(value, unit, "What usage_fn returned"))
    return Usage.read(value)
