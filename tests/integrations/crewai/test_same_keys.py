"""A contract has the same keys wherever it is written: in a file, an annotation, a crew's block."""

from __future__ import annotations

from typing import Any

import pytest

from tbcontracts.config import load
from tbcontracts.config_tables import ContractTable
from tbcontracts_crewai.config import _FIELDS
from tbcontracts_langgraph import budget


def test_files_annotations_and_blocks_have_the_same_keys() -> None:
    """A contract's fields, wherever it is written down."""
    values: dict[str, Any] = {
        "priority": 2,
        "max_tokens": 100,
        "min_reserve": 5,
        "confidence_threshold": 0.5,
        "max_output_tokens": 50,
        "on_exceeded": "end",
        "confidence_key": "answer.confidence",
        "warn_at": (0.5, 0.9),
    }
    dollars = {"max_usd": "2.50", "min_reserve_usd": "0.25"}
    assert set(ContractTable.model_fields) == {*values, *dollars}
    assert set(_FIELDS) == {*values, *dollars}
    assert set(budget(**values)["tbcontracts"]) == set(values)
    assert set(budget(**dollars)["tbcontracts"]) == set(dollars)
    (filed,) = load({"agents": {"a": {**values, "warn_at": [0.9, 0.5]}}}).contracts
    assert {key: getattr(filed, key) for key in values} == values
    (in_usd,) = load({"unit": "usd", "agents": {"a": dollars}}).contracts
    assert (in_usd.max_tokens, in_usd.reserve) == (2_500_000, 250_000)
    with pytest.raises(TypeError, match="no field 'agents_max'"):
        budget(max_tokens=1, agents_max=2)
