"""What contract files say of money: sums, as text or as numbers, and prices of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from tbcontracts.model_price import ModelPrice


class Table(BaseModel):
    """A table of a contract file: no key is unknown, and nothing is converted in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_NO_DOLLARS: Final = ("dollars", 'must be dollars, such as "2.50"')


def _as_dollars(value: Any, check: Callable[[Any], Any]) -> Any:
    """Say of a sum that is none what it must be, and not which of three kinds of number it is not.

    How many places it may have, and how large it may be, is said where it is used.
    """
    try:
        return check(value)
    except ValidationError:
        raise PydanticCustomError(*_NO_DOLLARS) from None


Dollars = Annotated[
    Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")]
    | Annotated[int, Field(ge=0)]
    | Annotated[float, Field(ge=0)]
    | None,
    WrapValidator(_as_dollars),
]
"""A sum as it is written, as text or as a number."""


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

    def price(self) -> ModelPrice:
        """Return the price of a model."""
        return ModelPrice.per_million(as_written=True, **self.model_dump())
