"""The table of the providers' page, made from what the cells were found to be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.providers.cells import Client, Found, Kind

PAGE = Path(__file__).parents[2] / "docs" / "content" / "providers.md"
BEGIN, END = "<!-- begin: made by make providers -->", "<!-- end: made by make providers -->"
MISSING = "-"
COLUMNS = (
    "OpenAI",
    "OpenAI responses",
    "Azure",
    "Anthropic",
    "Gemini",
    "Bedrock",
    "Mistral",
    "Groq",
    "DeepSeek",
    "DeepSeek, stream_usage=True",
    "OpenRouter",
    "Ollama",
    "LiteLLM",
    "ChatOpenAI elsewhere",
    "vLLM",
    "LiteLLM proxy",
)
"""The order of the clients, which parallel tests do not keep."""


class Cell(NamedTuple):
    """A cell of the table."""

    group: str
    client: str
    kind: str
    outcome: str
    """What it was found to be, with the parts that did not get through."""
    charged: int
    billed: int
    reason: str
    """Why it is no better; empty where it could not be."""

    @property
    def place(self) -> tuple[str, str, str]:
        """Which cell it is."""
        return self.group, self.client, self.kind


def cell_of(client: Client, kind: Kind, found: Found) -> Cell:
    """Return a finding as it stands in the table."""
    lost = f" (no {', '.join(found.lost)})" if found.lost else ""
    reason = client.expected(kind).reason
    outcome = f"{found.outcome}{lost}"
    return Cell(client.group, client.name, kind.name, outcome, found.charged, found.billed, reason)


def render(cells: Iterable[Cell]) -> str:
    """Return the tables: one for each framework, and why cells are not as good as they could be."""
    found = {cell.place: cell for cell in cells}
    groups = _in_order(group for group, _, _ in found)
    return "\n\n".join([*(_grid(group, found) for group in groups), _reasons(found.values())])


def _grid(group: str, found: dict[tuple[str, str, str], Cell]) -> str:
    clients = _in_order(client for of, client, _ in found if of == group)
    kinds = _in_order(kind for of, _, kind in found if of == group)
    lines = [
        f"**Through {group}**\n",
        f"| Kind | {' | '.join(clients)} |",
        f"|---|{'---|' * len(clients)}",
    ]
    for kind in kinds:
        cells = (found.get((group, client, kind)) for client in clients)
        shown = " | ".join(MISSING if cell is None else cell.outcome for cell in cells)
        lines.append(f"| {kind} | {shown} |")
    return "\n".join(lines)


def _reasons(cells: Iterable[Cell]) -> str:
    """Return a line for each kind and reason, with what was charged and billed in the test."""
    lines = ["**Charged, billed, and why**\n", "| Kind | Clients | Charged | Billed | Why |"]
    lines.append("|---|---|---|---|---|")
    same: dict[tuple[str, int, int, str], list[str]] = {}
    for cell in cells:
        if cell.reason:
            key = (cell.kind, cell.charged, cell.billed, cell.reason)
            same.setdefault(key, []).append(f"{cell.client} ({cell.group})")
    for (kind, charged, billed, reason), clients in sorted(same.items(), key=lambda one: one[0]):
        lines.append(f"| {kind} | {'; '.join(clients)} | {charged} | {billed} | {reason} |")
    return "\n".join(lines)


def column(client: str) -> int:
    """Return the place of a client among the columns."""
    return COLUMNS.index(client)


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def written() -> str:
    """Return the tables that stand on the page."""
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def write(tables: str) -> None:
    """Put tables onto the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


def on_the_page(tables: str) -> dict[tuple[str, str, str], Cell]:
    """Read the cells of tables that `render` made."""
    cells: dict[tuple[str, str, str], Cell] = {}
    group, clients = "", []
    for line in tables.splitlines():
        headed = re.fullmatch(r"\*\*Through (?P<group>.+)\*\*", line)
        if headed:
            group = headed["group"]
        if line.startswith("**Charged"):
            break
        if not line.startswith("| "):
            continue
        first, *rest = line.strip("| ").split(" | ")
        if first == "Kind":
            clients = rest
            continue
        for client, outcome in zip(clients, rest, strict=True):
            if outcome != MISSING:
                cell = Cell(group, client, first, outcome, 0, 0, "")
                cells[cell.place] = cell
    for place, charged, billed, reason in _reasons_on(tables):
        cells[place] = cells[place]._replace(charged=charged, billed=billed, reason=reason)
    return cells


def _reasons_on(tables: str) -> Iterator[tuple[tuple[str, str, str], int, int, str]]:
    for line in tables.partition("**Charged")[2].splitlines()[4:]:
        kind, clients, charged, billed, reason = line.strip("| ").split(" | ")
        for one in clients.split("; "):
            client, _, group = one.removesuffix(")").rpartition(" (")
            yield (group, client, kind), int(charged), int(billed), reason
