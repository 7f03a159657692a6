"""Budget annotations: plain JSON in a node's metadata, which LangGraph hands down to every call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tbcontracts.contract import BUDGET_FIELDS, check_fields, written_contract
from tbcontracts.exhaustion import policy_of
from tbcontracts_langchain.attribution import ANNOTATION_KEY

_NODE = "(this node)"
"""A name for as long as nobody knows the node's; what is wrong is told without it."""


def budget(agent: str | None = None, /, **fields: Any) -> dict[str, Any]:
    """Return metadata that puts a node, and all that it calls, under a contract.

    Args:
        agent: The agent's name; the node's name if not given.
        fields: The contract, as `BudgetManager.register_agent` takes it: priority, max_tokens,
            min_reserve, confidence_threshold, max_output_tokens, on_exceeded, confidence_key,
            warn_at; in dollars max_usd and min_reserve_usd, as text or a `Decimal`. Without
            `max_tokens` or `max_usd` the annotation only names an agent that is registered
            elsewhere.

    Returns:
        A mapping with one key, for `add_node(..., metadata=...)` or, where somebody else adds the
        node, for `agent.with_config(metadata=...)`.

    Raises:
        TypeError: There is no such field, or a value has the wrong type.
        ValueError: A value is out of range, or fields stand there without a budget.

    Example:
        `builder.add_node("research", fn, metadata=budget(priority=3, max_tokens=4000))`
    """
    called = "budget(...)" if agent is None else f"budget({agent!r}, ...)"
    if "agent_name" in fields:
        msg = f"The agent's name comes first: budget({fields['agent_name']!r}, ...)."
        raise TypeError(msg)
    check_fields(fields)
    try:
        contract = written_contract(_NODE if agent is None else agent, fields)
    except (TypeError, ValueError) as error:
        if agent is not None:
            raise
        raise type(error)(str(error).replace(f"agent {_NODE!r}", "this node")) from None
    fallback = policy_of(contract).fallback
    if fallback is not None and not isinstance(fallback, str):
        msg = (
            f"{called} is plain data, so its fallback must be the name of a node, "
            f"not {type(fallback).__name__}. Functions and models: "
            f"budgeted(manager, {agent or 'agent'!r}, "
            'on_exceeded={"fallback": ...}), or a contract in code.'
        )
        raise TypeError(msg)
    if fields and not any(field in fields for field in BUDGET_FIELDS):
        msg = f"{called} has {', '.join(fields)} but no {' or '.join(BUDGET_FIELDS)}."
        raise ValueError(msg)
    annotation: dict[str, Any] = {
        name: str(value) if name.endswith("_usd") and value is not None else value
        for name, value in fields.items()
    }
    if isinstance(fields.get("on_exceeded"), Mapping):
        annotation["on_exceeded"] = dict(fields["on_exceeded"])
    if agent is not None:
        annotation["agent"] = contract.agent_name
    return {ANNOTATION_KEY: annotation}
