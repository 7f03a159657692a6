"""The demo: a LangGraph graph and a CrewAI crew under token budget contracts.

Without arguments it runs offline: real clients talk to a scripted provider on this machine, and the
books are compared with that provider's log. With `--live` it asks OpenAI (`OPENAI_API_KEY`).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

# Before CrewAI is imported: no telemetry, no questions, no files outside a folder of its own.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_DISABLE_VERSION_CHECK", "true")
os.environ.setdefault("OTEL_SDK_DISABLED", "true")

import demo_crew
import demo_graph

from tbcontracts.testing import FakeOpenAI

WIDTH = 78


class Provider(NamedTuple):
    """Where the models of the demo are."""

    base_url: str | None
    api_key: str
    model: str
    server: FakeOpenAI | None
    """The scripted provider; None when it is a real one."""


def main() -> int:
    """Run both halves; return the exit code."""
    arguments = parse_arguments()
    if arguments.live and not agreed(arguments):
        return 2
    print("tbcontracts demo")
    print("=" * WIDTH)
    equal = [run_graph(arguments), run_crew(arguments)]
    print()
    if arguments.live:
        print("Compare the books with your provider's usage page; it is the bill.")
    elif all(equal):
        print("Both halves: what the books say is what the provider's log says.")
    else:
        print("The books differ from the provider's log: that is a bug, please report it.")
    return 0 if all(equal) else 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--live", action="store_true", help="ask OpenAI instead (costs money)")
    parser.add_argument("--yes", action="store_true", help="with --live: do not ask first")
    model = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
    parser.add_argument("--model", default=model, help=f"with --live: which model ({model})")
    return parser.parse_args()


def agreed(arguments: argparse.Namespace) -> bool:
    """Say what a live run can cost at worst, and ask."""
    if not os.environ.get("OPENAI_API_KEY"):
        print("--live needs OPENAI_API_KEY; without --live the demo runs offline.", file=sys.stderr)
        return False
    budgets = sum(demo_graph.BUDGETS.values()) + sum(demo_crew.BUDGETS.values())
    print(f"A live run asks {arguments.model}. Its contracts allow {budgets:,} tokens in all;")
    print("calls already sent when a budget runs out may pass that by what their answers are")
    print("longer than expected. At 10 dollars per million tokens that is at most about")
    print(f"{2 * budgets * 10 / 1_000_000:.2f} dollars. Set your provider's own limit too.")
    return arguments.yes or input("Go on? [y/N] ").strip().lower() in ("y", "yes")


@contextlib.contextmanager
def provider(arguments: argparse.Namespace, script: object) -> Iterator[Provider]:
    """Yield the provider to ask: a scripted one on this machine, or the real one."""
    if arguments.live:
        yield Provider(None, os.environ["OPENAI_API_KEY"], arguments.model, None)
        return
    with FakeOpenAI(script) as server:  # type: ignore[arg-type]
        yield Provider(server.base_url, "not-a-key", "gpt-4o-mini", server)


def run_graph(arguments: argparse.Namespace) -> bool:
    """Run the LangGraph half; return whether the books equal the log."""
    heading("1. LangGraph: planner, researcher (it loops), critic, writer")
    with provider(arguments, demo_graph.script) as where:
        manager = demo_graph.run(where.base_url, where.api_key, where.model)
        return settle_up(manager, where)


def run_crew(arguments: argparse.Namespace) -> bool:
    """Run the CrewAI half, where CrewAI can be installed."""
    heading("2. CrewAI: a crew from agents.yaml-style configuration")
    if sys.version_info >= (3, 14):
        print("CrewAI does not support Python 3.14 yet, so this half is left out here.")
        print("With Python 3.10 to 3.13 it runs.")
        return True
    print("Importing CrewAI; that takes some seconds ...", flush=True)
    logging.disable(logging.ERROR)  # CrewAI logs each refusal, too; below it is told once
    with provider(arguments, demo_crew.script) as where:
        manager = demo_crew.run(where.base_url, where.api_key, where.model)
        return settle_up(manager, where)


def settle_up(manager: object, where: Provider) -> bool:
    """Print the statement, and compare it with the provider's log."""
    from tbcontracts import BudgetManager

    assert isinstance(manager, BudgetManager)
    print()
    manager.print_report()
    books = sum(account.consumed for account in manager.accounts().values())
    if where.server is None:
        print(f"\nbooks {books:,}")
        return True
    billed = where.server.billed_tokens
    sign = "=" if books == billed else "is not"
    print(f"\nbooks {books:,} {sign} server {billed:,}   ({len(where.server.log)} requests sent)")
    return books == billed


def heading(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}\n{'-' * WIDTH}")


if __name__ == "__main__":
    sys.exit(main())
