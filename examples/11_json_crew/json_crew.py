"""A JSON crew, as `crewai create crew` makes them now, with a budget in each agent's file.

Run it as it stands: a scripted provider on this machine answers, and its log is compared with the
books.
"""

from __future__ import annotations

import os
from pathlib import Path

# Before CrewAI is imported: no telemetry, no questions, no waiting at the end.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_DISABLE_VERSION_CHECK", "true")

from tbcontracts.testing import FakeOpenAI
from tbcontracts_crewai import govern_crew


def main() -> None:
    """Load the crew, run it, and print who spent what."""
    from crewai.project.crew_loader import load_crew

    with FakeOpenAI() as server:
        os.environ["OPENAI_BASE_URL"] = server.base_url
        os.environ["OPENAI_API_KEY"] = "offline"
        crew, inputs = load_crew(Path(__file__).parent / "crew.jsonc")
        with govern_crew(crew) as run:
            crew.kickoff(inputs=inputs)
        run.manager.print_report()
        consumed = sum(account.consumed for account in run.manager.accounts().values())
        print(f"Books: {consumed:,} tokens. Server: {server.billed_tokens:,}.")


if __name__ == "__main__":
    main()
