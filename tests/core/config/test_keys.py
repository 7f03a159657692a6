"""What a contract file may hold: keys in the schema and on the page, stars, dollars."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.core.config.conftest import wrong

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.config import json_schema, load
from tbcontracts.config_dollars import PriceOfModel
from tbcontracts.config_tables import AgentTable, BudgetFile
from tbcontracts.model_price import ModelPrice


def test_the_schema_accepts_what_the_loader_accepts() -> None:
    """The JSON Schema knows all keys, and is plain JSON."""
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == {
        "$schema" if name == "schema_" else name for name in BudgetFile.model_fields
    }
    assert set(schema["$defs"]["AgentTable"]["properties"]) == set(AgentTable.model_fields)
    assert schema["additionalProperties"] is False
    assert all("description" in field for field in schema["properties"].values())


def test_a_star_in_a_name_is_no_pattern_of_that_spelling() -> None:
    """They are two agents: all that match, and the one that is called so."""
    both = load({"agents": {"a*": {"max_tokens": 5}, "a[*]": {"max_tokens": 6}}}).contracts
    assert [(one.agent_name, one.max_tokens) for one in both] == [("a*", 5), ("a*", 6)]
    manager = BudgetManager()
    for one in both:
        manager.register(one)
    assert manager.remaining("a*") == 6
    other = manager.contract_of("ab")
    assert other is not None
    assert other.max_tokens == 5


def test_every_key_is_on_the_page_of_files() -> None:
    """Whatever a contract file may hold, somebody who never reads the code finds it there."""
    page = Path(__file__).parents[3] / "docs" / "content" / "files.md"
    said = page.read_text(encoding="utf-8")
    tables = (BudgetFile, AgentTable, PriceOfModel)
    keys = {field.alias or name for table in tables for name, field in table.model_fields.items()}
    assert [key for key in sorted(keys) if not re.search(rf"`{re.escape(key)}[`.]", said)] == []


def test_dollars_may_have_their_sign() -> None:
    """In files and in code as for `tbc`; digits that only look like some are none."""
    content = {
        "unit": "usd",
        "agents": {"a": {"max_usd": "$1", "min_reserve_usd": "$0.50"}},
        "prices": {"m": {"input": "$3", "output": 1}},
    }
    manager = BudgetManager.from_config(content)
    assert manager.contracts["a"] == BudgetContract.in_usd(
        "a", max_usd=" $1 ", min_reserve_usd="0.5"
    )
    assert "must be dollars" in wrong({"unit": "usd", "agents": {"a": {"max_usd": "\uff11"}}})
    for odd in ("\uff11", "$$1", "1$", "$"):
        with pytest.raises(ValueError, match="must be dollars"):
            BudgetContract.in_usd("a", max_usd=odd)
        with pytest.raises(ValueError, match="must be dollars"):
            ModelPrice.per_million(input=odd)
