"""What may stand in contract files: sums of money, prices of models, shares, paths of fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from typing_extensions import LiteralString


class Table(BaseModel):
    """A table of a contract file: no key is unknown, and nothing is converted in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _or(must: LiteralString) -> WrapValidator:
    """Say of a value that is none what it must be, and not which of several checks it failed."""
    kind = "must_be"

    def checked(value: Any, check: Callable[[Any], Any]) -> Any:
        try:
            return check(value)
        except ValidationError:
            raise PydanticCustomError(kind, must) from None

    return WrapValidator(checked)


Dollars = Annotated[
    Annotated[str, Field(pattern=r"^\$?[0-9]+(\.[0-9]+)?$")]
    | Annotated[int, Field(ge=0)]
    | Annotated[float, Field(ge=0)]
    | None,
    _or('must be dollars, such as "2.50"'),
]
"""A sum as it is written; how many places it may have, and how large it may be, is said later."""
Share = Annotated[float, Field(gt=0, le=1), _or("must be a share above 0 and up to 1, such as 0.8")]
"""A share of a budget."""
FieldPath = Annotated[
    str,
    Field(pattern=r"^\s*[^.\s][^.]*(\.\s*[^.\s][^.]*)*$"),
    _or('must be a path such as "answer.confidence"'),
]
"""Where something stands in what an agent returns."""


class PriceOfModel(Table):
    """What a model costs, in dollars for a million tokens; 0 is free."""

    input: Dollars = Field(default=None, description="Input that no cache has to do with.")
    output: Dollars = Field(default=None, description="Output that is no reasoning.")
    cached_input: Dollars = Field(
        default=None, description="Input that is read from the provider's cache; as input."
    )
    cache_write: Dollars = Field(
        default=None, description="Input that is written to the provider's cache; as input."
    )
    reasoning: Dollars = Field(default=None, description="Output that is reasoning; as output.")
    request: Dollars = Field(default=None, description="Dollars for each request beside tokens.")
