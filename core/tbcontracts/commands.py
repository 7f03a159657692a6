"""What can be asked of the books, and what they answer: plain immutable values.

A store takes commands and gives replies; `rules.step` says what each one does. Amounts are whole
numbers 0..2^40 in the unit of the books, times are intervals in seconds on the store's clock.
"""

from __future__ import annotations

from typing import NamedTuple

from tbcontracts.contract import BudgetContract
from tbcontracts.events import Move
from tbcontracts.usage import Usage


class Open(NamedTuple):
    """Bring contracts into force; those that are open already stay as they are."""

    contracts: tuple[BudgetContract, ...]
    unit: str = "tokens"
    """What the books are in; new ones get it, and others must have it."""


class Reserve(NamedTuple):
    """Set budget aside before a call."""

    agent: str
    amount: int
    hold_id: str
    ttl_s: float = 600.0
    key: str | None = None
    """Idempotency: the same key and arguments get the first reply again, a denial too."""
    leave: int = 0
    """What must stay with the agent after the hold, as a soft landing keeps its reserve."""
    sizing: str = "caller"
    """How the size was found; kept with the hold."""
    enforcement: str = "expected"
    """With "observe" a hold that does not fit is let through; "strict" charges a vanished owner."""
    track: bool = False
    """An agent without a contract gets a line of its own, without limit."""
    trial: bool = False
    """A refusal leaves no trace, neither in the journal nor under the key: it is asked again."""


class Refuse(NamedTuple):
    """Put a refusal on the books that was decided before them, such as an answer without bound."""

    agent: str
    amount: int
    code: str
    observed: bool = False
    track: bool = False
    model: str | None = None
    """Whose price is not known; the journal says it."""


class Settle(NamedTuple):
    """Replace a hold by what was used; after its limit too, and never refused."""

    hold_id: str
    agent: str
    amount: int
    usage: Usage | None = None
    note: str = ""
    final: bool = True
    """False posts an estimate that a later settle or void replaces by the truth."""
    track: bool = False
    """As in `Reserve`: counts where the books know neither the hold nor its agent any more."""


class Void(NamedTuple):
    """Give a hold back: nothing was billed."""

    hold_id: str
    note: str = ""


class Extend(NamedTuple):
    """Let a hold live on for `ttl_s` from now."""

    hold_id: str
    ttl_s: float


class Expire(NamedTuple):
    """End holds whose limit has passed, the oldest first."""

    most: int = 1_000


class Charge(NamedTuple):
    """Post usage that had no hold; never refused."""

    agent: str
    amount: int
    usage: Usage | None = None
    note: str = ""
    key: str | None = None
    track: bool = False


class Transfer(NamedTuple):
    """Move allocation by hand, within the rules: never below a reserve, never uphill."""

    donor: str | None
    taker: str
    amount: int
    key: str | None = None


class TopUp(NamedTuple):
    """Add new budget to an agent, or to the pool."""

    agent: str | None
    amount: int
    key: str | None = None


class Finish(NamedTuple):
    """The agent is done: what it has left, its reserve too, returns to the pool."""

    agent: str


class ChangeContract(NamedTuple):
    """Put another contract in the place of the agent's."""

    contract: BudgetContract
    was: BudgetContract | None = None
    """Only if the agent's terms are still these; so nobody undoes what another has changed."""


class Confidence(NamedTuple):
    """Note how good the agent's last answer was; None forgets it."""

    agent: str
    score: float | None


class Close(NamedTuple):
    """Take no more holds; late settles still go in."""


Command = (
    Open
    | Reserve
    | Refuse
    | Settle
    | Void
    | Extend
    | Expire
    | Charge
    | Transfer
    | TopUp
    | Finish
    | ChangeContract
    | Confidence
    | Close
)


def agent_of(command: Command) -> str | None:
    """Return the agent that a command names."""
    if isinstance(command, ChangeContract):
        return command.contract.agent_name
    agent: str | None = getattr(command, "agent", None)
    return agent


class Denied(NamedTuple):
    """A hold or transfer was refused; nothing moved."""

    agent: str
    requested: int
    available: int
    """Tokens that could be reached: the agent's own, the pool's and the donors'; 0 or more."""
    lacking: int
    """Tokens that a top-up would have to add. An overdraft counts: it is paid first."""
    code: str
    seq: int
    score: float | None = None
    threshold: float | None = None


class Granted(NamedTuple):
    """A hold stands."""

    hold_id: str
    agent: str
    amount: int
    """Budget set aside; 0 for a hold that only observe mode let through."""
    expires_at: float
    moves: tuple[Move, ...]
    seq: int
    would_deny: Denied | None = None


class Posted(NamedTuple):
    """Usage is on the books."""

    agent: str
    amount: int
    overdraft: int
    """What of the agent's usage is not covered now."""
    moves: tuple[Move, ...]
    seq: int
    """The journal's number; 0 where the store did not answer and this is posted later."""
    late: bool = False
    """The hold's limit had passed before."""


class Done(NamedTuple):
    """Anything else took effect."""

    amount: int
    """What changed hands: given back, added, returned to the pool, number of holds expired."""
    seq: int


Reply = Granted | Denied | Posted | Done
