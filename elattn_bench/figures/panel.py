"""One panel of a figure: lines with bands, slopes to compare with, and marks for what was not measured."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from elattn_bench.analysis import short_status
from elattn_bench.figures.look import README, Look
from elattn_bench.figures.palette import ink
from elattn_bench.figures.style import (
    Line,
    Style,
    latency_tick,
    latency_ticks,
    length_ticks,
    memory_tick,
    memory_ticks,
    set_ticks,
    thin,
)
from elattn_bench.results import Row
from elattn_bench.units import format_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TICK_WIDTH = 0.25  # inches that the label of a length needs
LANE_POINTS = 9.0  # height of a lane for marks of failures: one line of their text
MOST_LANES = 0.5  # of the panel's height for all lanes together
GUIDE_SHARE = 0.26  # of the panel's width
GUIDE_ROOM = 0.1  # of the panel's width, for the guides' labels
GUIDE_GAP = 0.06  # of the measured height, between guides and lines
FAILURE_TEXT = {"oom": "oom", "timeout": "timeout"}


@dataclass(frozen=True, slots=True)
class Quantity:
    """What stands on the vertical axis."""

    title: str
    label: str
    value: Callable[[Row], float | None]
    band: Callable[[Row], tuple[float, float] | None]
    ticks: Callable[[float, float], Sequence[float]]
    tick_label: Callable[[float], str]
    caption: str


def _quartiles(row: Row) -> tuple[float, float] | None:
    low, high = row.latency_ms_p25, row.latency_ms_p75
    return (low, high) if low is not None and high is not None else None


LATENCY = Quantity(
    "Latency", "latency of one call", lambda row: row.latency_ms_p50, _quartiles, latency_ticks, latency_tick,
    "Lines: median; bands: quartiles.",
)  # fmt: skip
MEMORY = Quantity(
    "Peak memory", "peak memory above the inputs", lambda row: row.peak_memory_bytes or None,
    lambda row: None, memory_ticks, memory_tick, "",
)  # fmt: skip
STEP = replace(LATENCY, title="Latency per token", label="latency of one step")
STATE = replace(
    MEMORY,
    title="State",
    label="state: sums, or a KV cache",
    value=lambda row: row.state_bytes or None,
)


@dataclass(frozen=True, slots=True)
class Across:
    """What stands on the horizontal axis, and what a slope of 1 and of 2 is called there."""

    axis: str
    name: str
    label: str
    line: Callable[[Row], Line]
    guides: tuple[tuple[int, str], ...]

    def of(self, row: Row) -> int:
        """The row's place on the axis."""
        return int(getattr(row, self.axis))


LENGTHS = Across("seq_len", "sequence length", "sequence length L (tokens)", Line.of, ((1, "L"), (2, "L²")))
CONTEXTS = replace(LENGTHS, name="context length", label="context length L (tokens)", guides=((1, "L"),))
DIMS = Across("dim", "dim", "dim D (channels, all heads)", Line.of, ((1, "D"), (2, "D²")))
ORDERS = Across("order", "Taylor order", "Taylor order t", Line.at_length, ((1, "t"), (2, "t²")))


def quantity_in(mode: str, quantity: Quantity) -> Quantity:
    """What a figure of that mode shows: in decoding the time of a step, and the memory that outlives it."""
    return {LATENCY: STEP, MEMORY: STATE}.get(quantity, quantity) if mode == "decode" else quantity


def across_in(mode: str, across: Across) -> Across:
    """What a figure of that mode calls the axis: in decoding seq_len is the context's length."""
    return CONTEXTS if mode == "decode" and across is LENGTHS else across


@dataclass(frozen=True, slots=True)
class Series:
    """The rows of one line in one panel, from left to right."""

    line: Line
    rows: Sequence[Row]


def series_of(rows: Iterable[Row], across: Across) -> list[Series]:
    """The lines of a panel, in the order of their names."""
    groups: defaultdict[Line, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=across.of):
        groups[across.line(row)].append(row)
    return [Series(line, groups[line]) for line in sorted(groups)]


def failures(series: Series) -> list[Row]:
    """The rows out of memory or out of time."""
    return [row for row in series.rows if short_status(row.status) in FAILURE_TEXT]


@dataclass(frozen=True, slots=True)
class Guide:
    """Where the slope guides start and how far right they reach; and the heights that they need free."""

    left: float
    right: float
    base: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The extent of both axes, shared by all panels of a figure.

    guide: None where all stands at one place, so that nothing can rise.
    lane: height of one failure lane, as a share of the panel's height.
    roof: where the lanes begin; there are no values above.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    guide: Guide | None
    lane: float
    roof: float


def find_limits(
    panels: Sequence[Sequence[Series]], quantity: Quantity, across: Across, height: float
) -> Limits:
    """Limits that leave room for the failure lanes on top, and for the guides where they need least of it.

    Args:
        height: of a panel, in points at scale 1.
    """
    every = [series for panel in panels for series in panel]
    lines = [line for line in (_points(series, quantity, across) for series in every) if line]
    places = [across.of(row) for series in every for row in series.rows]
    low, high = (
        min(low for line in lines for _, low, _ in line),
        max(high for line in lines for _, _, high in line),
    )
    left, right = min(places), max(places)
    guide = _place_guide(lines, (left, right), (low, high), max(slope for slope, _ in across.guides))
    low, high = low / 1.25, high * 1.15
    if guide:
        low, high = min(low, guide.lowest), max(high, guide.highest)
    lanes = max(sum(bool(failures(series)) for series in panel) for panel in panels)
    lane = min(LANE_POINTS / height, MOST_LANES / (lanes + 0.7))
    share = 1 - (lane * (lanes + 0.7) if lanes else 0)
    margin = max((right / left) ** 0.04, 1.1)
    x, y = (left / margin, right * margin), (low, low * (high / low) ** (1 / share))
    return Limits(x, y, guide, lane, high)


Point: TypeAlias = tuple[float, float, float]


def _points(series: Series, quantity: Quantity, across: Across) -> list[Point]:
    """Place, low and high end of every measured row."""
    found: list[Point] = []
    for row in series.rows:
        value = quantity.value(row)
        if row.ok and value:
            low, high = quantity.band(row) or (value, value)
            found.append((across.of(row), min(low, value), max(high, value)))
    return found


def _place_guide(
    lines: Sequence[Sequence[Point]], x: tuple[float, float], y: tuple[float, float], steepest: int
) -> Guide | None:
    """Guides at the upper left or at the lower right, wherever the axes need to grow less for them."""
    if x[0] == x[1]:
        return None
    reach, room = (x[1] / x[0]) ** GUIDE_SHARE, (x[1] / x[0]) ** GUIDE_ROOM
    rise, gap = reach**steepest, (y[1] / y[0]) ** GUIDE_GAP
    end = x[1] / room
    roof = min((low for line in lines for _, low, _ in _part(line, end / reach, x[1])), default=y[1])
    lower = Guide(end / reach, end, roof / gap / rise, roof / gap**1.5 / rise, y[1])
    floor = max(
        (high for line in lines for _, _, high in _part(line, x[0], x[0] * reach * room)), default=y[0]
    )
    upper = Guide(x[0], x[0] * reach, floor * gap, y[0], floor * gap**2 * rise)
    return lower if y[0] / lower.lowest <= upper.highest / y[1] else upper


def _part(line: Sequence[Point], left: float, right: float) -> Iterator[Point]:
    """The points of the line between two places, and where it crosses them."""
    yield from (point for point in line if left <= point[0] <= right)
    for before, after in itertools.pairwise(line):
        for place in (left, right):
            if before[0] < place < after[0]:
                share = math.log(place / before[0]) / math.log(after[0] / before[0])
                low, high = (before[i] ** (1 - share) * after[i] ** share for i in (1, 2))
                yield place, low, high


def draw_panel(
    axes: Axes,
    panel: Sequence[Series],
    quantity: Quantity,
    across: Across,
    styles: Mapping[str, Style],
    limits: Limits,
    look: Look = README,
) -> None:
    """Draw the lines, the guides and the failures of one panel."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(*limits.x)
    axes.set_ylim(*limits.y)
    if limits.guide and panel:
        _draw_guides(axes, across, limits.guide, look)
    for series in panel:
        _draw_series(axes, series, quantity, across, styles[series.line.label], look)
    failing = [series for series in panel if failures(series)]
    for lane, series in enumerate(failing):
        height = 1 - limits.lane * (lane + 0.5)
        _draw_failures(axes, series, across, styles[series.line.label], height, look)


def _draw_series(
    axes: Axes, series: Series, quantity: Quantity, across: Across, style: Style, look: Look
) -> None:
    places = [across.of(row) for row in series.rows]
    values = [(quantity.value(row) if row.ok else None) or math.nan for row in series.rows]
    axes.plot(
        places, values, color=style.color, marker=style.marker, linestyle=style.dashes,
        label=series.line.label, markeredgecolor=look.ground, markeredgewidth=0.4 * look.scale, zorder=3,
    )  # fmt: skip
    bands = [(quantity.band(row) if row.ok else None) or (math.nan, math.nan) for row in series.rows]
    if not all(math.isnan(low) for low, _ in bands):
        low, high = zip(*bands, strict=True)
        axes.fill_between(places, low, high, color=style.color, alpha=0.18, linewidth=0, zorder=2)


def _draw_guides(axes: Axes, across: Across, guide: Guide, look: Look) -> None:
    reach = guide.right / guide.left
    for slope, name in across.guides:
        top = guide.base * reach**slope
        axes.plot(
            [guide.left, guide.right],
            [guide.base, top],
            color=look.muted,
            linewidth=0.8 * look.scale,
            linestyle=(0, (2, 1.5)),
            zorder=1,
        )
        axes.annotate(
            name, (guide.right, top), xytext=(2 * look.scale, 0), textcoords="offset points",
            color=look.muted, fontsize=look.points(6.5), va="top" if slope == 1 else "bottom",
        )  # fmt: skip


def _draw_failures(
    axes: Axes, series: Series, across: Across, style: Style, height: float, look: Look
) -> None:
    """Open markers in a lane at the top edge, at the lengths where it happened; crossed for a time-out."""
    lost = failures(series)
    edge, size = axes.get_xaxis_transform(), look.scale * look.stroke
    for row in lost:
        how: dict[str, Any] = {"color": style.color, "linestyle": "none", "transform": edge, "zorder": 4}
        axes.plot(
            [across.of(row)],
            [height],
            marker=style.marker,
            markersize=4 * size,
            markerfacecolor=look.ground,
            **how,
        )
        if short_status(row.status) == "timeout":
            axes.plot(
                [across.of(row)], [height], marker="x", markersize=6 * size, markeredgewidth=0.8 * size, **how
            )
    _name_failures(axes, series, across, style, height, look)


def _name_failures(
    axes: Axes, series: Series, across: Across, style: Style, height: float, look: Look
) -> None:
    """Say what the marks mean: to the left of the first, else to the right of the last.

    Where there is no room on either side, and they are several, the words would hide a mark, and are left out.
    """
    lost = [across.of(row) for row in failures(series)]
    places = [across.of(row) for row in series.rows]
    fits = places.index(lost[0]) > len(places) / 3
    if not fits and len(lost) > 1 and lost[-1] == places[-1]:
        return
    statuses = dict.fromkeys(short_status(row.status) for row in failures(series))
    axes.annotate(
        " / ".join(FAILURE_TEXT[status] for status in statuses), (lost[0] if fits else lost[-1], height),
        xycoords=axes.get_xaxis_transform(), xytext=((-5 if fits else 5) * look.scale, 0),
        textcoords="offset points", ha="right" if fits else "left", va="center", zorder=5,
        fontsize=look.points(6), color=ink(style.color, look),
        bbox={"facecolor": look.ground, "edgecolor": "none", "pad": 0.3},
    )  # fmt: skip


def label_axes(
    axes: Axes,
    panels: Sequence[Sequence[Series]],
    quantity: Quantity,
    across: Across,
    limits: Limits,
    width: float,
) -> None:
    """Ticks in the quantity's own units, as many as fit into ``width`` inches at scale 1."""
    places = sorted({across.of(row) for panel in panels for series in panel for row in series.rows})
    most = max(2, int(width / TICK_WIDTH))
    ticks = thin(places, most) if across.axis == "order" else length_ticks(places, most)
    set_ticks(axes, "x", ticks, [format_length(tick) for tick in ticks])
    heights = quantity.ticks(limits.y[0], limits.roof)
    set_ticks(axes, "y", heights, [quantity.tick_label(height) for height in heights])
