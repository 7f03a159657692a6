"""A YAML crew whose budgets stand beside its agents, in `agents.yaml`.

Run it as it stands: a scripted provider on this machine answers, and its log is compared with the
books. With OPENAI_API_KEY and without the provider it is the crew of your own project.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before CrewAI is imported: no telemetry, no questions, no waiting at the end.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_DISABLE_VERSION_CHECK", "true")
sys.path.insert(0, str(Path(__file__).parent / "src"))

from tbcontracts.testing import FakeOpenAI, ScriptedRequest
from tbcontracts_crewai import govern_crew


def script(request: ScriptedRequest) -> str:
    """Answer as each role would."""
    if "Reporting Analyst" in request.system_text:
        return "Plant trees first, paint roofs second, and measure before and after. " * 8
    return "Fact: shade lowers the temperature of a street by four degrees. " * 3


def main() -> None:
    """Run the crew, and print who spent what and who gave to whom."""
    from city_cooling.crew import CityCooling

    with FakeOpenAI(script) as server:
        os.environ["OPENAI_BASE_URL"] = server.base_url
        os.environ["OPENAI_API_KEY"] = "offline"
        city_cooling = CityCooling()
        crew = city_cooling.crew()
        with govern_crew(crew, config=city_cooling) as run:
            crew.kickoff(inputs={"topic": "City Cooling"})
        run.manager.print_report()
        consumed = sum(account.consumed for account in run.manager.accounts().values())
        print(f"Books: {consumed:,} tokens. Server: {server.billed_tokens:,}.")


if __name__ == "__main__":
    main()
