"""The report: what happened in a scope, as one page that explains itself, or as a live view."""

from __future__ import annotations

from tbcontracts.report.following import live_view
from tbcontracts.report.writing import areport_page, awrite_report, report_page, write_report

__all__ = ["areport_page", "awrite_report", "live_view", "report_page", "write_report"]
