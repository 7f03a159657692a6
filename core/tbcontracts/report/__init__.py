"""The report: what happened in a scope, as one page or a live table."""
