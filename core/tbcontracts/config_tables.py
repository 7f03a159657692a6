"""What a contract file may hold, table by table: the shapes of its keys, and what each is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from tbcontracts.checks import AMOUNT_MAX
from tbcontracts.config_dollars import Dollars, FieldPath, PriceOfModel, Share, Table
from tbcontracts.contract import PRIORITY_MAX

WORD, TABLE = "<word>", "<table>"
"""How errors tell the two shapes apart that some keys can have."""


def _kind(value: object) -> str:
    """Tell the two shapes apart that some keys can have, so that errors speak of the one meant."""
    return TABLE if isinstance(value, (Mapping, BaseModel)) else WORD


class Fallback(Table):
    """What an agent does instead when its budget is used up."""

    fallback: str = Field(
        min_length=1, description="A node of the graph, or the name of a cheaper model."
    )


class ContractTable(Table):
    """A contract; `BudgetContract` describes the fields."""

    priority: int = Field(default=1, ge=1, le=PRIORITY_MAX, description="Higher is more important.")
    max_tokens: int | None = Field(
        default=None,
        ge=0,
        le=AMOUNT_MAX,
        description="The whole budget of the agent in a scope, not the length of one answer: 1000.",
    )
    max_usd: Dollars = Field(
        default=None, description='The same in dollars, where unit is "usd": "2.50".'
    )
    min_reserve: int | None = Field(
        default=None,
        ge=0,
        le=AMOUNT_MAX,
        description="What no transfer may take; a tenth of max_tokens.",
    )
    min_reserve_usd: Dollars = Field(
        default=None, description="The same in dollars; a tenth of max_usd."
    )
    confidence_threshold: float | None = Field(
        default=None, ge=0, le=1, description="At or above this score the next call is refused."
    )
    max_output_tokens: int | None = Field(
        default=None, ge=1, le=AMOUNT_MAX, description="The longest answer to expect of one call."
    )
    on_exceeded: Annotated[
        Annotated[Literal["raise", "end", "ask"], Tag(WORD)] | Annotated[Fallback, Tag(TABLE)],
        Discriminator(_kind),
    ] = Field(default="raise", description="What happens when the budget is used up.")
    confidence_key: FieldPath | None = Field(
        default=None,
        description="Where a score of 0 to 1 stands in what the agent returns: answer.confidence.",
    )
    warn_at: list[Share] | None = Field(
        default=None, description="Its own in the place of the file's; [] for no warnings."
    )


class AgentTable(ContractTable):
    """The contract of one agent, or of each one whose name matches."""

    agents_max: int | None = Field(
        default=None,
        ge=1,
        le=AMOUNT_MAX,
        description="Of a pattern: how many agents it makes in one scope at most; 1000.",
    )


class UnattributedTable(ContractTable):
    """The contract that pays for calls which no other contract answers for."""

    agent: str = Field(description="The name of its line in the report.")


class BudgetFile(Table):
    """A whole contract file; `BudgetManager` describes the settings."""

    schema_: str | None = Field(
        default=None, alias="$schema", description="Where editors find this schema."
    )
    store: str = Field(default="memory://", description="Where the books are, as a URL.")
    scope: str = Field(
        default="default", description="The name of the books; may hold {utc:%Y-%m}."
    )
    enforcement: Literal["observe", "expected", "strict"] = Field(
        default="expected", description="How strictly contracts are kept."
    )
    unit: Literal["tokens", "usd"] = Field(
        default="tokens", description="What budgets are counted in; usd is US dollars."
    )
    count: Annotated[
        Annotated[Literal["total", "uncached"], Tag(WORD)]
        | Annotated[dict[str, float], Tag(TABLE)],
        Discriminator(_kind),
    ] = Field(default="total", description="How much of a budget a usage takes.")
    policy: Literal["priority"] = Field(default="priority", description="Who gives, and when.")
    unattributed: Annotated[
        Annotated[Literal["track", "deny"], Tag(WORD)] | Annotated[UnattributedTable, Tag(TABLE)],
        Discriminator(_kind),
    ] = Field(default="track", description="What happens to calls that no contract answers for.")
    on_contract_change: Literal["keep", "apply", "raise"] = Field(
        default="keep", description="What happens when the books have another contract."
    )
    on_store_error: Literal["deny", "allow"] = Field(
        default="deny", description="What happens to calls when the store does not answer."
    )
    outbox: str | None = Field(
        default=None, description="A file in which this process notes what was used."
    )
    warn_at: list[Share] = Field(
        default_factory=list,
        description="Shares of its budget at which to warn of an agent, such as 0.8.",
    )
    prices: (
        Annotated[
            Annotated[Literal["genai-prices"], Tag(WORD)]
            | Annotated[dict[str, PriceOfModel], Tag(TABLE)],
            Discriminator(_kind),
        ]
        | None
    ) = Field(
        default=None,
        description="What models cost, by name, in dollars for a million tokens; models that are "
        'not named here have the prices of genai-prices, if that is installed. "genai-prices" '
        "alone gives the costs of budgets in tokens, too.",
    )
    telemetry: Literal["otel"] | None = Field(
        default=None, description="Where events and measurements go: OpenTelemetry."
    )
    agents: dict[str, AgentTable] = Field(
        default_factory=dict,
        description="A contract for each agent, by name or by a pattern with *, ? or [...].",
    )
