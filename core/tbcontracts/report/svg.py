"""The pictures: drawn here, with a text for each, and no meaning that colour alone carries.

Widths are shares of the page and heights are pixels, so that a picture fits a telephone and a
screen, and its letters stay as large as the text around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tbcontracts.checks import printable
from tbcontracts.columns import shortened
from tbcontracts.report.markup import Markup, element, joined
from tbcontracts.report.timeline import LANES, Part, TimelineView
from tbcontracts.report.view import Balance, Flow
from tbcontracts.report.words import Amounts, clock

BARS_MAX = 40
ENDS_MAX = 10
_NAME_MAX = 20
"""In columns of a terminal, which are about as wide as its letters; the tables have it whole."""
_ROW, _BAR = 46, 16
_CHART, _LANE = 150, 34
LANE_TITLES = {
    "held": "Holds granted",
    "posted": "Usage posted",
    "moved": "Moved between agents",
    "refused": "Calls refused",
}


def picture(key: str, title: str, description: str, height: int, *shapes: object) -> Markup:
    """Return a picture that says what it shows to those who do not see it."""
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-desc"),
        *shapes,
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
        width="100%",
        height=height,
    )


def balances(rows: Sequence[Balance], amounts: Amounts) -> Markup:
    """Return one bar for each agent: consumed, held, and what remains, with its reserve marked."""
    shown = rows[:BARS_MAX]
    widest = max((_extent(row) for row in shown), default=0) or 1
    shapes = [_bar(row, _ROW * at, widest, amounts) for at, row in enumerate(shown)]
    said = "; ".join(_said(row, amounts) for row in shown)
    title = "Budget of each agent"
    return picture("balances", title, said or "No agents.", _ROW * len(shown), *shapes)


def _extent(row: Balance) -> int:
    account = row.account
    return max(account.allocated, account.consumed + account.held)


def _said(row: Balance, amounts: Amounts) -> str:
    """Say what a bar shows."""
    account = row.account
    text = f"{account.agent}: {amounts.full(account.consumed)} consumed"
    if account.contract is None:
        return f"{text}, no contract"
    text += f", {amounts.short(account.held)} held, {amounts.short(account.remaining)} remaining"
    return f"{text} of {amounts.short(account.allocated)}"


def _bar(row: Balance, top: int, widest: int, amounts: Amounts) -> Markup:
    """Return the bar of an agent, with its name and numbers above."""
    account = row.account
    used = account.consumed + account.held

    def across(tokens: int) -> str:
        return f"{max(0.0, 100 * tokens / widest):.3f}%"

    def part(name: str, start: int, length: int) -> Markup | None:
        if length <= 0:
            return None
        place = {"x": across(start), "y": top + 20, "width": across(length), "height": _BAR}
        return element("rect", class_=name, **place)

    if account.contract is None:
        number = f"{amounts.short(account.consumed)}, no limit"
    else:
        number = f"{amounts.short(used)} of {amounts.short(account.allocated)}"
        if account.overdraft:
            number = f"overdrawn by {amounts.short(account.overdraft)}"
    mark = None
    reserve = row.reserve or 0
    if reserve > 0 and account.allocated - reserve >= used:
        x = across(account.allocated - reserve)
        place = {"x1": x, "x2": x, "y1": top + 17, "y2": top + 20 + _BAR + 3}
        mark = element("line", class_="reserve", **place)
    # What is held counts as used: where both are more than there is, the last of it is over.
    over = max(0, used - account.allocated) if account.contract else 0
    covered = min(account.consumed, used - over)
    held = max(0, used - over - account.consumed)
    free = max(0, account.allocated - used)
    return joined(
        element(
            "text", shortened(printable(account.agent), _NAME_MAX), x=0, y=top + 13, class_="label"
        ),
        element("text", number, x="100%", y=top + 13, class_="number end"),
        part("free", min(used, account.allocated), free),
        part("consumed", 0, covered),
        part("held", account.consumed, held),
        part("over", used - over, over),
        mark,
    )


def timeline(view: TimelineView, amounts: Amounts) -> Markup:
    """Return what was consumed and held over time, and below it what happened when."""
    parts = view.parts
    height = _CHART + 26 + _LANE * len(LANES) + 20
    most = max((max(part.total, _used(part)) for part in parts), default=0) or 1
    shapes = [_column(part, at, len(parts), most) for at, part in enumerate(parts)]
    if parts:
        shapes.append(_limits(parts, most, amounts))
    for at, lane in enumerate(LANES):
        shapes.append(_lane(parts, lane, _CHART + 26 + _LANE * at, amounts))
    if parts:
        shapes.append(_axis(view, height))
    return picture(
        "timeline", "What happened when", _timeline_said(parts, amounts), height, *shapes
    )


def _used(part: Part) -> int:
    return (part.consumed or 0) + (part.held or 0)


def _timeline_said(parts: Sequence[Part], amounts: Amounts) -> str:
    if not parts:
        return "Nothing happened yet."
    last = parts[-1]
    said = [f"At the end {amounts.full(last.consumed)} of {amounts.short(last.total)} consumed"]
    for lane in LANES:
        times = sum(part.counts.get(lane, 0) for part in parts)
        said.append(f"{LANE_TITLES[lane].lower()}: {times:,}")
    return "; ".join(said)


def _column(part: Part, at: int, of: int, most: int) -> Markup:
    """Return one part of the time: consumed at the bottom, held on it, the budget as a line."""
    place = {"x": f"{100 * at / of:.3f}%", "width": f"{100 / of:.3f}%"}
    base = float(_CHART)
    shapes: list[Markup] = []
    for name, tokens in (("consumed", part.consumed), ("held", part.held)):
        tall = round((_CHART - 12) * (tokens or 0) / most, 1)
        if tall > 0:
            base = round(base - tall, 1)
            shapes.append(element("rect", class_=f"{name} column", y=base, height=tall, **place))
    y = round(_CHART - (_CHART - 12) * part.total / most, 1)
    ends = {"x1": place["x"], "x2": f"{100 * (at + 1) / of:.3f}%"}
    shapes.append(element("line", class_="limit", y1=y, y2=y, **ends))
    return joined(*shapes)


def _limits(parts: Sequence[Part], most: int, amounts: Amounts) -> Markup:
    """Return the ground line, and what the budget was at the beginning and, if not, at the end."""
    shapes = [element("line", class_="axis", x1=0, x2="100%", y1=_CHART, y2=_CHART)]
    first, last = parts[0].total, parts[-1].total
    y = round(_CHART - (_CHART - 12) * first / most, 1)
    words = f"budget {amounts.full(first)}"
    shapes.append(element("text", words, x=2, y=_beside(y), class_="small haloed"))
    if last != first:
        y = round(_CHART - (_CHART - 12) * last / most, 1)
        place = {"x": "100%", "dx": -2, "y": _beside(y)}
        shapes.append(element("text", amounts.full(last), class_="small haloed end", **place))
    return joined(*shapes)


def _beside(y: float) -> float:
    """Return where the words of a line stand: above it, or below where there is no room."""
    return round(y - 5 if y > 16 else y + 14, 1)  # noqa: PLR2004 - the height of a line of text


def _lane(parts: Sequence[Part], lane: str, top: int, amounts: Amounts) -> Markup:
    """Return how often something happened in each part of the time."""
    times = [part.counts.get(lane, 0) for part in parts]
    most = max(times, default=0) or 1
    total = sum(part.amounts.get(lane, 0) for part in parts)
    unknown = sum(part.unknown.get(lane, 0) for part in parts)
    words = f"{LANE_TITLES[lane]}: {sum(times):,}"
    sums = [amounts.full(total)] if total else []
    if unknown:
        sums.append(f"{unknown:,} of an amount not known")
    if sums:
        words += f" ({', '.join(sums)})"
    shapes: list[Markup] = [element("text", words, x=0, y=top + 10, class_="small")]
    for at, count in enumerate(times):
        if not count:
            continue
        tall = max(3.0, round(14 * count / most, 1))
        place = {"x": f"{100 * at / len(parts):.3f}%", "width": f"{90 / len(parts):.3f}%"}
        tip = element("title", f"{LANE_TITLES[lane]}: {count:,}")
        y = round(top + 29 - tall, 1)
        shapes.append(element("rect", tip, class_=lane, y=y, height=tall, **place))
    shapes.append(element("line", class_="axis", x1=0, x2="100%", y1=top + 29, y2=top + 29))
    return joined(*shapes)


def _axis(view: TimelineView, height: int) -> Markup:
    """Return where the time begins and ends."""
    first, last = view.parts[0].from_at, view.parts[-1].until_at
    ends = (
        (clock(first), clock(last, like=first)) if view.by_time else ("first entry", "last entry")
    )
    return joined(
        element("text", ends[0], x=0, y=height - 6, class_="small"),
        element("text", ends[1], x="100%", y=height - 6, class_="small end"),
    )


_GAP, _NODE_MIN = 10, 34


def flows(all_flows: Sequence[Flow], amounts: Amounts) -> Markup:
    """Return who gave to whom: donors at the left, takers at the right, bands as wide as the gift.

    The largest ends are drawn; the table beside it has all.
    """
    donors = _largest(all_flows, lambda flow: flow.donor)
    takers = _largest(all_flows, lambda flow: flow.taker)
    drawn = [flow for flow in all_flows if flow.donor in donors and flow.taker in takers]
    total = sum(flow.amount for flow in drawn) or 1
    scale = max(60, 28 * max(len(donors), len(takers))) / total
    left, left_height = _stack(drawn, lambda flow: flow.donor, scale)
    right, right_height = _stack(drawn, lambda flow: flow.taker, scale)
    height = max(left_height, right_height)
    bands = _bands(drawn, left, right, scale)
    said = "; ".join(
        f"{end_name(flow.donor)} gave {amounts.full(flow.amount)} to {end_name(flow.taker)}"
        for flow in drawn
    )
    stretched = element(
        "svg",
        *bands,
        x="0",
        y=0,
        width="100%",
        height=height,
        viewBox=f"0 0 100 {height}",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    ends = [_end(name, top, tall, drawn, amounts, donor=True) for name, (top, tall) in left.items()]
    ends += [
        _end(name, top, tall, drawn, amounts, donor=False) for name, (top, tall) in right.items()
    ]
    title = "Who gave to whom"
    return picture("flows", title, said or "Nothing was moved.", height, stretched, *ends)


Ends = dict[str | None, tuple[float, float]]
"""Where each end of the picture is: its top, and the height of what it gave or took."""


def end_name(agent: str | None) -> str:
    """Return who stands at an end."""
    return "the pool" if agent is None else agent


def _largest(all_flows: Sequence[Flow], end: Callable[[Flow], str | None]) -> dict[str | None, int]:
    """Return the ends that gave or took most."""
    sums: dict[str | None, int] = {}
    for flow in all_flows:
        sums[end(flow)] = sums.get(end(flow), 0) + flow.amount
    return dict(sorted(sums.items(), key=lambda item: -item[1])[:ENDS_MAX])


def _stack(
    drawn: Sequence[Flow], end: Callable[[Flow], str | None], scale: float
) -> tuple[Ends, int]:
    """Put ends one below the other, each at least as high as its name and number need."""
    places: Ends = {}
    top = 0.0
    for name, amount in _largest(drawn, end).items():
        tall = max(2.0, amount * scale)
        places[name] = (top, tall)
        top += max(tall, _NODE_MIN) + _GAP
    return places, round(top)


def _bands(drawn: Sequence[Flow], left: Ends, right: Ends, scale: float) -> list[Markup]:
    """Return the bands from donors to takers."""
    used_left = dict.fromkeys(left, 0.0)
    used_right = dict.fromkeys(right, 0.0)
    bands = []
    for flow in drawn:
        wide = max(1.0, flow.amount * scale)
        y1 = round(left[flow.donor][0] + used_left[flow.donor], 1)
        y2 = round(right[flow.taker][0] + used_right[flow.taker], 1)
        used_left[flow.donor] += flow.amount * scale
        used_right[flow.taker] += flow.amount * scale
        lower1, lower2 = round(y1 + wide, 1), round(y2 + wide, 1)
        path = f"M0 {y1}C50 {y1} 50 {y2} 100 {y2}V{lower2}C50 {lower2} 50 {lower1} 0 {lower1}Z"
        bands.append(element("path", class_="band", d=path))
    return bands


def _end(
    name: str | None,
    top: float,
    tall: float,
    drawn: Sequence[Flow],
    amounts: Amounts,
    *,
    donor: bool,
) -> Markup:
    """Return one end of the picture: a bar, the name, and what was given or taken."""
    mine = [flow for flow in drawn if (flow.donor if donor else flow.taker) == name]
    number = amounts.short(sum(flow.amount for flow in mine))
    words = f"gave {number}" if donor else f"took {number}"
    side = {"x": 14} if donor else {"x": "100%", "dx": -14}
    where = "haloed" if donor else "haloed end"
    return joined(
        element("rect", class_="end-bar", x=0, y=round(top, 1), width=6, height=round(tall, 1))
        if donor
        else element(
            "svg",
            element("rect", class_="end-bar", x=-6, y=0, width=6, height=round(tall, 1)),
            x="100%",
            y=round(top, 1),
            overflow="visible",
        ),
        element(
            "text",
            shortened(printable(end_name(name)), _NAME_MAX),
            y=round(top + 14, 1),
            class_=where,
            **side,
        ),
        element("text", words, y=round(top + 29, 1), class_=f"small {where}", **side),
    )


def hatch() -> Markup:
    """Return the patterns that tell held and overdrawn apart where colours do not."""
    lines = (("hatch-held", "M0 6L6 0", "hatch-line"), ("hatch-over", "M0 0L6 6M0 6L6 0", "cross"))
    patterns = [
        element(
            "pattern",
            element("rect", width=6, height=6, class_=f"{name}-ground"),
            element("path", d=path, class_=stroke),
            id=name,
            width=6,
            height=6,
            patternUnits="userSpaceOnUse",
        )
        for name, path, stroke in lines
    ]
    return element(
        "svg", element("defs", *patterns), width=0, height=0, aria_hidden="true", class_="defs"
    )
