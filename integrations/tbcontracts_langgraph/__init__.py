"""tbcontracts for LangGraph: budgets as node annotations, a whole graph governed at once."""

from __future__ import annotations

from tbcontracts_langgraph.annotations import budget
from tbcontracts_langgraph.carried import manager_of
from tbcontracts_langgraph.graph import govern_graph
from tbcontracts_langgraph.node import budgeted
from tbcontracts_langgraph.roster import agents_of

__all__ = ["agents_of", "budget", "budgeted", "govern_graph", "manager_of"]
