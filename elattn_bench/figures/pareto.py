"""Error against latency and memory: what each order of an approximation buys, beside the exact attention."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elattn_bench.analysis import Facet, by_facet, select, short_status
from elattn_bench.figures.grid import file_part
from elattn_bench.figures.look import Look
from elattn_bench.figures.sheet import (
    EDGE,
    NARROW,
    Sheet,
    at_share,
    describe,
    header_height,
    leading_facets,
    legend_height,
    letters,
    log_ticks,
    share,
    sheet_width,
    sizes_of,
)
from elattn_bench.figures.style import (
    Line,
    Style,
    assign_styles,
    evenly,
    latency_tick,
    latency_ticks,
    memory_tick,
    memory_ticks,
    set_ticks,
)
from elattn_bench.figures.tags import BESIDE, Box, Tag, place_tags
from elattn_bench.knobs import sort_key, text_of
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import format_length, significant
from elattn_bench.verdicts.pareto import Point, Trade, doubtful, trades
from elattn_bench.verdicts.reference import DEFAULT_REFERENCE
from elattn_bench.verdicts.winners import DEFAULT_ORDER

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LENGTHS = 3  # small multiples below each other
PANEL_HEIGHT = 2.1  # inches
LEFT, RIGHT = 0.62, 0.22  # inches: tick labels, and what the last of them needs at the right
TITLE, TICKS = 0.26, 0.44  # inches above and below a panel
STRIP = 0.13  # of the panel's height: where the exact attention stands, for 0 is not on a logarithmic axis
CLEAR = 0.05  # of the panel's height, between the strip and the lowest label of an error
TICK_ROOM = 0.52  # inches that the label of a tick needs
LEAST_SPAN = 200.0  # margins are a share of this span at least, so that one value alone gets ticks around it
TAG_SIZE = 6.5  # points
TAKES = (
    "Errors: relative RMS distance of the float64 oracle from the exact one's, at the gate's short length (64 or 129 "
    "tokens), without rounding; exact attention has none and stands in the strip below."
)
MARKS = "Filled: on the front; hollow: another is surely no worse in error and cheaper."


@dataclass(frozen=True, slots=True)
class Cost:
    """What stands on the horizontal axis."""

    name: str
    label: str
    of: Callable[[Row], float | None]
    ticks: Callable[[float, float], Sequence[float]]
    tick: Callable[[float], str]


LATENCY = Cost("latency", "latency of one call", lambda row: row.latency_ms_p50, latency_ticks, latency_tick)
MEMORY = Cost(
    "memory", "peak memory above the inputs", lambda row: row.peak_memory_bytes, memory_ticks, memory_tick
)


def draw_pareto(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """A figure per setting and exact attention: of the facet with most approximations, lengths below each other."""
    by_exact: defaultdict[str, list[Trade]] = defaultdict(list)
    for trade in trades(run):
        by_exact[trade.exact].append(trade)
    styles = assign_styles(map(line_of, run.rows))
    for exact, found in by_exact.items():
        rows = [point.row for trade in found for point in trade.approximations]
        for facet, _ in leading_facets(rows):
            shown = [trade for trade in found if trade.facet == facet and len(trade.points) > 1]
            if not shown:
                continue
            yield f"pareto-{exact}-{file_part(facet.setting)}", _draw(run, look, facet, shown, styles)


def line_of(row: Row) -> Line:
    """The line that joins the orders of an implementation."""
    variant = (row.backend, 0, sort_key(row.hyperparameters))
    label = " ".join(filter(None, (row.impl, text_of(row.hyperparameters, " "))))
    return Line(row.attention != "softmax", row.attention, variant, label)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What all panels of a figure share: the trades shown, one pair of limits per cost, and those of errors."""

    trades: Sequence[Trade]
    softmax: Mapping[int, Row]
    costs: Sequence[Cost]
    x: Mapping[str, tuple[float, float]]
    y: tuple[float, float]
    styles: Mapping[str, Style]

    @property
    def points(self) -> list[Point]:
        return [point for trade in self.trades for point in trade.points]

    @property
    def strip(self) -> float:
        """Where on the vertical axis the exact attention stands."""
        return at_share(STRIP / 2, self.y)

    def softmax_cost(self, trade: Trade, cost: Cost) -> float | None:
        """What softmax costs at the trade's length, where it is not the exact attention itself."""
        row = self.softmax.get(trade.length)
        return cost.of(row) if row else None


@dataclass(frozen=True, slots=True)
class _Placed:
    """A point and its place in a panel's own units."""

    point: Point
    x: float
    y: float


def _scene(run: Run, facet: Facet, found: Sequence[Trade], most: int, styles: Mapping[str, Style]) -> _Scene:
    every = [trade.length for trade in found]
    lengths = evenly(every, most) if most > 1 else every[-1:]
    shown = [trade for trade in found if trade.length in lengths]
    points = [point for trade in shown for point in trade.points]
    exact = shown[0].exact
    softmax = {} if exact == "softmax" else _softmax(run, facet)
    rows = [point.row for point in points] + [softmax[length] for length in lengths if length in softmax]
    costs = [cost for cost in (LATENCY, MEMORY) if any(cost.of(row) for row in rows)]
    errors = [point.error for point in points if point.error]
    return _Scene(
        shown, softmax, costs, {cost.name: _wide(filter(None, map(cost.of, rows)), 0.12) for cost in costs},
        _above_strip(*_wide(errors, 0.1)), styles,
    )  # fmt: skip


def _softmax(run: Run, facet: Facet) -> dict[int, Row]:
    rows = select(by_facet(run.rows)[facet], label=DEFAULT_REFERENCE)
    return {row.seq_len: row for row in rows if row.ok}


def _wide(values: Iterable[float], margin: float) -> tuple[float, float]:
    """Limits that leave a share free at both ends."""
    present = list(values)
    room = max(max(present) / min(present), LEAST_SPAN) ** margin
    return min(present) / room, max(present) * room


def _above_strip(low: float, high: float) -> tuple[float, float]:
    """The limits with room for the strip below."""
    return low * (low / high) ** (STRIP / (1 - STRIP)), high


def _draw(run: Run, look: Look, facet: Facet, found: Sequence[Trade], styles: Mapping[str, Style]) -> Figure:
    wide = sheet_width(look) >= NARROW
    scene = _scene(run, facet, found, MOST_LENGTHS if wide else 1, styles)
    handles = _handles(scene, look)
    columns = len(scene.costs) if wide else 1
    rows = len(scene.trades) * len(scene.costs) // columns
    title = f"Approximations of {found[0].exact} attention: error against cost"
    remarks = describe(run, facet.setting, sizes_of(facet), _sentences(scene, found), look)
    top = header_height(title, remarks, look)
    names = [str(handle.get_label()) for handle in handles]
    sheet = Sheet.of(look, top + rows * (TITLE + PANEL_HEIGHT + TICKS) + legend_height(names, look))
    panels = [(trade, cost) for trade in scene.trades for cost in scene.costs]
    pitch = (sheet.width - EDGE) / columns
    for number, (trade, cost) in enumerate(panels):
        row, column = divmod(number, columns)
        upper = top + TITLE + row * (TITLE + PANEL_HEIGHT + TICKS)
        width = pitch - LEFT - RIGHT
        axes = sheet.axes(EDGE + column * pitch + LEFT, upper, width, PANEL_HEIGHT)
        _draw_panel(sheet, axes, scene, trade, cost, width)
        sheet.label_x(axes, cost.label)
        sheet.head(axes, f"L = {format_length(trade.length)}: error against {cost.name}")
    sheet.header(title, remarks)
    sheet.legend(handles)
    return sheet.figure


def _sentences(scene: _Scene, found: Sequence[Trade]) -> list[str]:
    left_out = (
        f"Shown: {len(scene.trades)} of {len(found)} lengths." if len(scene.trades) < len(found) else ""
    )
    return [_statement(scene.trades), _lost(scene.trades), MARKS, TAKES, doubtful(scene.points), left_out]


def _lost(shown: Sequence[Trade]) -> str:
    """At which lengths nothing exact was measured, and why."""
    reasons = [
        f"L = {format_length(trade.length)} ({', '.join(sorted({short_status(row.status) for row in trade.lost}))})"
        if trade.lost
        else f"L = {format_length(trade.length)}"
        for trade in shown
        if trade.base is None
    ]
    return f"Exact {shown[0].exact} was not measured at {', '.join(reasons)}." if reasons else ""


def _statement(shown: Sequence[Trade]) -> str:
    """What the order nearest to the default buys, at the longest length at which the exact attention was measured."""
    compared = [(trade, trade.base) for trade in shown if trade.base]
    if not compared:
        return ""
    trade, base = compared[-1]
    free = [point for point in trade.front(("latency",)) if point.error]
    if not free or base is None:
        return ""
    point = min(free, key=lambda point: abs((point.row.order or DEFAULT_ORDER) - DEFAULT_ORDER))
    return f"At L = {format_length(trade.length)} {trade.gain(point)} of {base.label}."


def _draw_panel(sheet: Sheet, axes: Axes, scene: _Scene, trade: Trade, cost: Cost, width: float) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    x, y = scene.x[cost.name], scene.y
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    log_ticks(axes, "x", cost.ticks(*x), cost.tick, max(2, int(width / TICK_ROOM)))
    floor = at_share(STRIP, y)
    errors = [tick for tick in latency_ticks(floor, y[1]) if tick > at_share(STRIP + CLEAR, y)]
    set_ticks(
        axes,
        "y",
        [scene.strip, *errors],
        ["exact", *(f"{significant(100 * error, 1)} %" for error in errors)],
    )
    axes.axhspan(y[0], floor, color=sheet.look.grid, alpha=0.6, linewidth=0, zorder=0.5)
    softmax = scene.softmax_cost(trade, cost)
    if softmax:
        axes.axvline(softmax, **_softmax_look(sheet.look))
    _draw_lines(sheet, axes, scene, _placed(trade.points, scene, cost), trade.front((cost.name,)))
    _tag(sheet, axes, scene, trade, cost, width)


def _softmax_look(look: Look) -> dict[str, Any]:
    return {"color": look.ink, "linewidth": 1.0 * look.scale, "linestyle": (0, (1.2, 1.6)), "zorder": 1}


def _front_look(look: Look) -> dict[str, Any]:
    return {
        "color": look.muted, "linewidth": 3.2 * look.scale, "alpha": 0.35, "solid_capstyle": "round",
        "zorder": 1.5,
    }  # fmt: skip


def _placed(points: Iterable[Point], scene: _Scene, cost: Cost) -> list[_Placed]:
    """The points whose cost was measured, with their places."""
    return [
        _Placed(point, value, point.error or scene.strip)
        for point, value in ((point, cost.of(point.row)) for point in points)
        if value
    ]


def _draw_lines(
    sheet: Sheet, axes: Axes, scene: _Scene, placed: Sequence[_Placed], front: Sequence[Point]
) -> None:
    """The front behind all, a line through the orders of each implementation, and the points."""
    free = sorted((spot for spot in placed if spot.point in front), key=lambda spot: front.index(spot.point))
    axes.plot([spot.x for spot in free], [spot.y for spot in free], label="_front", **_front_look(sheet.look))
    groups: defaultdict[str, list[_Placed]] = defaultdict(list)
    for spot in placed:
        groups[line_of(spot.point.row).label].append(spot)
    for label, spots in groups.items():
        style = scene.styles[label]
        axes.plot(
            [spot.x for spot in spots], [spot.y for spot in spots], color=style.color,
            linewidth=1.0 * sheet.look.scale, label=label, zorder=2,
        )  # fmt: skip
        for spot in spots:
            axes.plot([spot.x], [spot.y], **_mark(style, sheet.look, filled=spot in free), zorder=3)


def _mark(style: Style, look: Look, *, filled: bool) -> dict[str, Any]:
    return {
        "color": style.color, "marker": style.marker, "markersize": 4.5 * look.scale, "linestyle": "none",
        "markerfacecolor": style.color if filled else look.ground, "markeredgewidth": 0.9 * look.scale,
        "markeredgecolor": style.color, "label": "_point",
    }  # fmt: skip


def _tag(sheet: Sheet, axes: Axes, scene: _Scene, trade: Trade, cost: Cost, width: float) -> None:
    """The order beside each point, where it fits; the front's first."""
    front = trade.front((cost.name,))
    panel = (width * 72, PANEL_HEIGHT * 72)
    ordered = [point for point in trade.approximations if point.row.order is not None]
    spots = _placed(sorted(ordered, key=lambda point: point not in front), scene, cost)
    tags = [
        Tag(
            f"t={spot.point.row.order}",
            share(spot.x, scene.x[cost.name]) * panel[0],
            share(spot.y, scene.y) * panel[1],
        )
        for spot in spots
    ]
    taken = [Box(0, 0, panel[0], STRIP * panel[1])]
    if softmax := scene.softmax_cost(trade, cost):
        line = share(softmax, scene.x[cost.name]) * panel[0]
        taken.append(Box(line - 1, 0, line + 1, panel[1]))
    scale = sheet.look.scale
    for spot, tag, side in zip(spots, tags, place_tags(tags, panel, TAG_SIZE, taken, BESIDE), strict=True):
        if side:
            axes.annotate(
                tag.text, (spot.x, spot.y), xytext=(side.dx * scale, side.dy * scale), zorder=4,
                textcoords="offset points", ha=side.ha, va=side.va, fontsize=TAG_SIZE * scale,
                color=letters(scene.styles[line_of(spot.point.row).label].color, sheet.look),
            )  # fmt: skip


def _handles(scene: _Scene, look: Look) -> list[Artist]:
    """The lines, exact ones marked so; softmax and the front."""
    from matplotlib.lines import Line2D

    lines = {line_of(point.row): point for point in reversed(scene.points)}
    handles: list[Artist] = []
    for line in sorted(lines):
        name = line.label if lines[line].error else f"{line.label} (exact)"
        look_of = _mark(scene.styles[line.label], look, filled=True)
        handles.append(Line2D([], [], **{**look_of, "linestyle": "-", "label": name}))
    if any(trade.length in scene.softmax for trade in scene.trades):
        handles.append(Line2D([], [], **_softmax_look(look), label=f"{DEFAULT_REFERENCE}, for comparison"))
    handles.append(Line2D([], [], **_front_look(look), label="Pareto front"))
    return handles
