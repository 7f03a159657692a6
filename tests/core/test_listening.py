"""The journal as log lines: which level each kind has, and what stands in a line."""

from __future__ import annotations

import json
import logging

import pytest

from tbcontracts import BudgetExceededError, BudgetManager, Usage
from tbcontracts.errors import ConfigurationError
from tbcontracts.listening import log_entries
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import RequestSize


def busy(manager: BudgetManager) -> None:
    """Do one of everything that is written."""
    manager.register_agent("writer", priority=2, max_tokens=100, min_reserve=0)
    manager.register_agent("donor", max_tokens=100, min_reserve=0)
    manager.reserve("writer", 150).settle(120)
    with pytest.raises(BudgetExceededError):
        manager.reserve("writer", 5_000)
    with pytest.raises(BudgetExceededError):
        manager.record_usage("writer", Usage(input_tokens=1, output_tokens=200), "private words")
    manager.top_up(None, 5)
    assert manager.flush_listeners(10)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return level and text of what was logged."""
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_denials_and_overdrafts_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """The rest is for debugging."""
    manager = BudgetManager(scope="run")
    log_entries(manager)
    with caplog.at_level(logging.DEBUG, "tbcontracts.journal"):
        busy(manager)
    assert lines(caplog) == [
        ("DEBUG", "'run' 1: opened 100 tokens, agent 'writer', 100 left"),
        ("DEBUG", "'run' 2: opened 100 tokens, agent 'donor', 100 left"),
        ("DEBUG", "'run' 3: held 150 tokens, agent 'writer', with 50 from 1, 0 left"),
        ("DEBUG", "'run' 4: settled 120 tokens, agent 'writer', 30 left"),
        (
            "WARNING",
            "'run' 5: denied 5,000 tokens, agent 'writer', because budget_exceeded, 30 left",
        ),
        (
            "WARNING",
            "'run' 6: charged 201 tokens, agent 'writer', with 50 from 1, 121 overdrawn",
        ),
        ("DEBUG", "'run' 7: topped_up 5 tokens, the pool"),
    ]


def test_a_scope_that_is_closed_is_no_pool(caplog: pytest.LogCaptureFixture) -> None:
    """Whom an entry without an agent is about is said as `tbc history` says it."""
    manager = BudgetManager(scope="run")
    log_entries(manager)
    with caplog.at_level(logging.DEBUG, "tbcontracts.journal"):
        manager.close_scope()
        assert manager.flush_listeners(10)
    assert lines(caplog)[-1][1].endswith("closed 0 tokens, the scope")


def test_what_is_left_is_said_plainly(caplog: pytest.LogCaptureFixture) -> None:
    """A refusal of one that is overdrawn says so, too; a name without a contract has no rest."""
    manager = BudgetManager()
    log_entries(manager)
    caplog.set_level(logging.DEBUG, "tbcontracts.journal")
    manager.register_agent("writer", max_tokens=100)
    with pytest.raises(BudgetExceededError):
        manager.record_usage("writer", 120)
    with pytest.raises(BudgetExceededError):
        manager.reserve("writer", 10)
    with pytest.warns(UserWarning, match="'nobody' has no contract"):
        manager.begin_call("nobody", CallShape(RequestSize(1, 1))).hold.settle(50)
    assert manager.flush_listeners(10)
    ends = [text.partition(", agent ")[2] for _, text in lines(caplog)]
    assert "'writer', because budget_exceeded, 20 overdrawn" in ends
    assert ends[-1] == "'nobody', 50 used in all, without a contract"


def test_dollars_are_said_as_dollars(caplog: pytest.LogCaptureFixture) -> None:
    """And what nobody knows as that, with the model that it is of."""
    manager = BudgetManager(unit="usd", prices={"m": {"input": 1, "output": 1}})
    manager.register_agent("a", max_usd="0.10")
    log_entries(manager)
    shape = CallShape(RequestSize(10, 10), output_cap=5)
    with caplog.at_level(logging.DEBUG, "tbcontracts.journal"):
        manager.begin_call("a", shape._replace(model="m")).hold.void()
        with pytest.raises(BudgetExceededError):
            manager.begin_call("a", shape._replace(model="unheard of"))
        assert manager.flush_listeners(10)
    texts = [text for _, text in lines(caplog)]
    assert "'default' 2: held $0.000015, agent 'a', $0.099985 left" in texts
    assert texts[-1] == (
        "'default' 4: denied an amount not known, agent 'a', because unknown_price of "
        "'unheard of', $0.10 left"
    )


def test_levels_logger_and_end_are_the_callers(caplog: pytest.LogCaptureFixture) -> None:
    """Other levels, another logger, and an end."""
    manager = BudgetManager()
    log = logging.getLogger("mine")
    remove = log_entries(manager, log, {"topped_up": logging.INFO, "denied": logging.ERROR})
    with caplog.at_level(logging.INFO, "mine"):
        busy(manager)
        remove()
        manager.top_up("donor", 5)
        assert manager.flush_listeners(10)
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("mine", "ERROR"),
        ("mine", "WARNING"),
        ("mine", "INFO"),
    ]
    with pytest.raises(ConfigurationError, match="no kind of entry 'denid'"):
        log_entries(manager, levels={"denid": logging.INFO})


def test_records_hold_plain_data_without_notes(caplog: pytest.LogCaptureFixture) -> None:
    """For structured logs; the caller's words and what a provider sent stay out."""
    manager = BudgetManager()
    log_entries(manager)
    with caplog.at_level(logging.DEBUG, "tbcontracts.journal"):
        busy(manager)
    entries = [vars(record)["tbcontracts"] for record in caplog.records]
    assert "private words" in str([entry.as_dict() for entry in manager.journal()])
    assert "private words" not in json.dumps(entries)
    assert entries[5]["facts"] == {"input_tokens": 1, "output_tokens": 200}
    assert entries[5]["scope"] == "default"


def test_a_name_without_a_contract_is_never_overdrawn(caplog: pytest.LogCaptureFixture) -> None:
    """It has no limit to pass; an agent with a budget of 0 has."""
    manager = BudgetManager()
    log_entries(manager)
    manager.register_agent("broke", max_tokens=0)
    with caplog.at_level(logging.WARNING, "tbcontracts.journal"):
        with pytest.raises(BudgetExceededError):
            manager.record_usage("broke", 5)
        assert manager.flush_listeners(10)
    assert [record.getMessage() for record in caplog.records] == [
        "'default' 2: charged 5 tokens, agent 'broke', 5 overdrawn"
    ]
    assert manager.contract_in("default", "nobody") is None
