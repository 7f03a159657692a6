"""Numbers, times and refusals in words, as a person reads them who never saw the code."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import NamedTuple

from tbcontracts.checks import printable
from tbcontracts.report.moments import AccountThen, Denial

UNKNOWN = "not known"
_MICRO = 1_000_000


class Amounts(NamedTuple):
    """Writes amounts of one unit."""

    unit: str
    """"tokens", or "usd" for millionths of a dollar."""

    def short(self, amount: int | None) -> str:
        """Return a number for a table; what is not known says so."""
        if amount is None:
            return UNKNOWN
        return dollars(amount) if self.unit == "usd" else f"{amount:,}"

    def full(self, amount: int | None) -> str:
        """Return a number with its unit, for a sentence."""
        if amount is None or self.unit == "usd":
            return self.short(amount)
        return f"{amount:,} {self.noun if amount != 1 else 'token'}"

    @property
    def noun(self) -> str:
        """The unit as the heading of a column."""
        return "dollars" if self.unit == "usd" else "tokens"


def dollars(micro_usd: int) -> str:
    """Return millionths of a dollar as dollars: all that is there, and two places at least."""
    sign = "-" if micro_usd < 0 else ""
    whole, part = divmod(abs(micro_usd), _MICRO)
    places = f"{part:06}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{places}"


def share(part: int, whole: int) -> str:
    """Return a share in percent; a little is never shown as nothing, nor almost all as all."""
    if whole <= 0:
        return "0 %" if part <= 0 else "more than 100 %"
    percent = 100 * part / whole
    if 0 < percent < 1:
        return "under 1 %"
    if 99 < percent < 100:  # noqa: PLR2004 - almost all
        return "over 99 %"
    return f"{percent:.0f} %"


def moment(at: float | None) -> str:
    """Return a moment as date and time, UTC."""
    if at is None:
        return UNKNOWN
    try:
        return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # a clock of a test may show anything
        return f"{at:g} s"


def clock(at: float, *, like: float | None = None) -> str:
    """Return a time of day, UTC, with the date where it is not the one of `like`."""
    try:
        time = datetime.fromtimestamp(at, timezone.utc)
        other = None if like is None else datetime.fromtimestamp(like, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return f"{at:g} s"
    text = f"{time:%H:%M:%S}.{time.microsecond // 1000:03}"
    return text if other is not None and other.date() == time.date() else f"{time:%Y-%m-%d} {text}"


CODES = {
    "budget_exceeded": "not enough budget",
    "reserve_kept": "only its reserve is left",
    "fragmented": "spread over too many donors",
    "scope_closed": "scope is closed",
    "confident": "its work counts as done",
    "unbounded": "no upper bound",
    "unattributed": "no contract",
    "unknown_price": "price not known",
    "uphill": "from a higher priority",
}
"""Each code of a refusal, in a few words."""


def code_in_words(code: str) -> str:
    """Return the reason of a refusal in a few words."""
    return CODES.get(code) or code.replace("_", " ") or "no reason was given"


def reason_of(denial: Denial, amounts: Amounts) -> str:
    """Return why a call was refused, in sentences."""
    asked = f"asked for {amounts.full(denial.entry.amount)}"
    own = f"it had {amounts.full(denial.entry.remaining)} left of its own"
    if denial.entry.remaining < 0:
        own = f"it was overdrawn by {amounts.full(-denial.entry.remaining)}, which is paid first"
    if denial.code == "reserve_kept" or (denial.code == "budget_exceeded" and denial.kept):
        own += ", and its reserve is kept for the call that closes its work"
    reach = _reach(denial, amounts)
    score, threshold = denial.entry.facts.get("score"), denial.entry.facts.get("threshold")
    scored = f"scored {score}, and at {threshold}" if score is not None else "is good enough:"
    known = {
        "budget_exceeded": f"It {asked}; {own}. {reach}",
        "reserve_kept": f"It {asked}; {own}. {reach}",
        "fragmented": (
            f"It {asked}; {own}. The 64 largest gifts that it may take do not add up to that, and "
            "more donors are not asked for one call."
        ),
        "scope_closed": f"It {asked}, but the scope had been closed and takes no more calls.",
        "confident": (f"It {asked}, but its last answer {scored} its work counts as done."),
        "unbounded": (
            f"It {asked}. In strict mode a call must say how long its answer can become, and this "
            "one did not."
        ),
        "unattributed": f"It {asked}. No contract answers for it, and such calls are refused.",
        "unknown_price": (
            f"The price of {_model_of(denial)} is not known, and what a call may cost must be "
            "known before it is sent."
        ),
        "uphill": f"It {asked} from an agent of a higher priority; budget never flows uphill.",
    }
    return known.get(denial.code) or f"It {asked}. The code of the reason is {denial.code!r}."


def _model_of(denial: Denial) -> str:
    model = denial.entry.facts.get("model")
    return "its model" if model is None else f"the model {printable(str(model))!r}"


def _reach(denial: Denial, amounts: Amounts) -> str:
    """Say what pool and donors had."""
    books = denial.books
    pool = f"The pool had {amounts.full(books.pool)}"
    if books.could_give is None:
        return f"{pool}; what others could have given is not known, as the journal was cut."
    return f"{pool}, and others could have given {amounts.full(books.could_give)}."


def help_for(denial: Denial, amounts: Amounts) -> str:
    """Return what would have let a call through."""
    lacking = denial.lacking
    more = "more budget" if not lacking else f"{amounts.full(lacking)} more"
    in_dollars = amounts.unit == "usd"
    most, least = ("max_usd", "min_reserve_usd") if in_dollars else ("max_tokens", "min_reserve")
    known = {
        "budget_exceeded": f"{more} by a top-up, a larger {most}, or a smaller call.",
        "reserve_kept": f"{more} by a top-up, or a smaller {least}.",
        "fragmented": f"{more} by a top-up, or fewer agents with more budget each.",
        "scope_closed": "another scope.",
        "confident": "a new scope, a higher confidence_threshold, or reset_confidence.",
        "unbounded": "a cap on the answer: max_tokens on the model, or max_output_tokens.",
        "unattributed": 'a contract for this name, or unattributed="track".',
        "unknown_price": f"a price for {_model_of(denial)}, in prices of the contract file.",
        "uphill": "a donor of lower or equal priority, or a top-up.",
    }
    return known.get(denial.code, "the page of errors in the documentation lists every code.")


def why_in_words(one: AccountThen) -> str:
    """Return why an account could give what it could."""
    if one.why == "reserve" and one.reserve is not None and one.remaining is not None:
        if one.remaining <= 0:
            return "had nothing left"
        return "keeps its reserve"
    return {
        "self": "asked",
        "gives": "all above its reserve",
        "uphill": "has a higher priority",
        "finished": "had finished",
        "no_contract": "has no contract",
        "unknown": "the journal was cut",
    }.get(one.why, "had nothing left")
