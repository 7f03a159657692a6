"""`tbc demo`: a small run of three scripted agents, in which all that budgets do happens once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tbcontracts.cli.output import json_option, say, say_json
from tbcontracts.cli.reading import as_url, file_url
from tbcontracts.errors import BudgetExceededError, StoreError
from tbcontracts.stores import Store, open_store
from tbcontracts.stores.urls import masked
from tbcontracts.usage import Usage

if TYPE_CHECKING:
    from tbcontracts.manager import BudgetManager


@click.command(short_help="Run scripted agents under contracts.")
@click.option("--store", "url", metavar="URL", help="Leave the books there, to be looked at.")
@click.option(
    "--scope", metavar="SCOPE", default="demo", show_default=True, help="What the books are called."
)
@json_option
def demo(url: str | None, scope: str, as_json: bool) -> None:
    """Run three scripted agents under contracts: no network, no model, always the same.

    A hold, a transfer, a refusal and the confidence gate; then the report.
    """
    from tbcontracts.manager import BudgetManager  # slow to import

    if url is None:
        store: Store = open_store("memory://")
    else:
        if ":" not in url and url:
            url = file_url(url)
        store = open_store(as_url(url))
    click.get_current_context().call_on_close(store.close)
    if store.read(scope) is not None:
        msg = f"{masked(url or 'memory://')} has a scope {scope!r} already; a demo begins anew."
        raise StoreError(msg, remedy="What helps: --scope with another name.")
    manager = BudgetManager(store=store, scope=scope)
    steps = list(_run(manager))
    if as_json:
        accounts = [account.as_dict() for account in manager.accounts().values()]
        say_json({"scope": scope, "steps": steps, "agents": accounts})
        return
    for number, step in enumerate(steps, start=1):
        say(f"{number}. {step}")
    say()
    manager.print_report()
    if url is not None:
        say()
        say("Look at the books it left:")
        for command in ("show", "history", "audit", "report"):
            say(f"  tbc {command} {masked(url)} {scope}")


def _run(manager: BudgetManager) -> Iterator[str]:
    """Yield what happens, in words, as it happens."""
    manager.register_agent("researcher", priority=3, max_tokens=4_000)
    manager.register_agent("writer", priority=2, max_tokens=2_000)
    manager.register_agent("checker", priority=1, max_tokens=3_000, confidence_threshold=0.9)
    yield "Three agents have contracts: researcher 4,000 tokens, writer 2,000, checker 3,000."

    with manager.reserve("researcher", 1_500) as hold:
        hold.settle(Usage(input_tokens=900, output_tokens=340))
    yield "The researcher held 1,500 for a call. The provider billed 1,240: the rest is free again."

    hold = manager.reserve("researcher", 3_500)
    hold.settle(Usage(input_tokens=2_100, output_tokens=1_250))
    yield (
        "Its next call needed 3,500, and it had 2,760. The least important agent that could, the "
        "checker, gave 740."
    )

    manager.record_usage("writer", 1_200, note="draft")
    yield from _refused(manager, "writer", 4_000, "The writer asked for 4,000 after its draft")

    manager.record_usage("checker", 800, note="first check")
    manager.report_confidence("checker", 0.95)
    yield from _refused(manager, "checker", 500, "The checker scored 0.95, and wanted to go on")


def _refused(manager: BudgetManager, agent: str, tokens: int, what: str) -> Iterator[str]:
    try:
        manager.reserve(agent, tokens)
    except BudgetExceededError as refusal:
        yield f"{what}: that call is not sent. {refusal.reason}"
