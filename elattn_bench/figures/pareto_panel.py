"""A panel of error against cost: points with their orders, lines through them, the front, the exact one's strip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elattn_bench.figures.look import Look
from elattn_bench.figures.palette import ink
from elattn_bench.figures.sheet import at_share, log_ticks, share
from elattn_bench.figures.style import (
    Line,
    Style,
    latency_tick,
    latency_ticks,
    memory_tick,
    memory_ticks,
    set_ticks,
)
from elattn_bench.figures.tags import BESIDE, Box, Tag, place_tags
from elattn_bench.knobs import sort_key, text_of
from elattn_bench.results import Row
from elattn_bench.units import significant
from elattn_bench.verdicts.pareto import Point, Trade

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRIP = 0.13  # of the panel's height: where the exact attention stands, for 0 is not on a logarithmic axis
CLEAR = 0.05  # of the panel's height, between the strip and the lowest label of an error
TICK_ROOM = 0.52  # inches that the label of a tick needs
TAG_SIZE = 6.5  # points
BESIDE_SOFTMAX = 3.0  # points that labels keep from the line of softmax
LEAST_WRITTEN_OUT = 0.00005  # percent


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


def line_of(row: Row) -> Line:
    """The line that joins the orders of an implementation."""
    variant = (row.backend, 0, sort_key(row.hyperparameters))
    label = " ".join(filter(None, (row.impl, text_of(row.hyperparameters, " "))))
    return Line(row.attention != "softmax", row.attention, variant, label)


@dataclass(frozen=True, slots=True)
class Scene:
    """What all panels of a figure share: the trades shown, one pair of limits per cost, and those of errors."""

    trades: Sequence[Trade]
    softmax: Mapping[int, Row]
    costs: Sequence[Cost]
    x: Mapping[str, tuple[float, float]]
    y: tuple[float, float]
    styles: Mapping[str, Style]

    @property
    def points(self) -> list[Point]:
        """Of all trades."""
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


def draw_panel(
    axes: Axes, scene: Scene, trade: Trade, cost: Cost, size: tuple[float, float], look: Look
) -> None:
    """One trade in one cost; size: of the panel, width and height in inches at scale 1."""
    _set_axes(axes, scene, cost, size, look)
    softmax = scene.softmax_cost(trade, cost)
    if softmax:
        axes.axvline(softmax, **softmax_look(look))
    _draw_lines(axes, scene, _placed(trade.points, scene, cost), trade.front((cost.name,)), look)
    _tag(axes, scene, trade, cost, (size[0] * 72, size[1] * 72), look)


def _set_axes(axes: Axes, scene: Scene, cost: Cost, size: tuple[float, float], look: Look) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    x, y = scene.x[cost.name], scene.y
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    log_ticks(axes, "x", cost.ticks(*x), cost.tick, max(2, int(size[0] / TICK_ROOM)))
    floor = at_share(STRIP, y)
    errors = [tick for tick in latency_ticks(floor, y[1]) if tick > at_share(STRIP + CLEAR, y)]
    set_ticks(axes, "y", [scene.strip, *errors], ["exact", *map(error_tick, errors)])
    axes.axhspan(y[0], floor, color=look.grid, alpha=0.6, linewidth=0, zorder=0.5)
    axes.set_xlabel(cost.label)


def error_tick(error: float) -> str:
    """``2 %``; ``1e-6 %`` of what would need many zeros."""
    percent = 100 * error
    if percent > LEAST_WRITTEN_OUT:
        return f"{significant(percent, 1)} %"
    digit, _, power = f"{percent:.0e}".partition("e")
    return f"{digit}e{int(power)} %"


def softmax_look(look: Look) -> dict[str, Any]:
    """The line at what softmax costs."""
    return {"color": look.ink, "linewidth": 1.0 * look.scale, "linestyle": (0, (1.2, 1.6)), "zorder": 1}


def front_look(look: Look) -> dict[str, Any]:
    """The band behind the points on the front."""
    return {
        "color": look.muted, "linewidth": 3.2 * look.scale, "alpha": 0.35, "solid_capstyle": "round",
        "zorder": 1.5,
    }  # fmt: skip


def mark(style: Style, look: Look, *, filled: bool) -> dict[str, Any]:
    """A point: filled on the front, else hollow."""
    return {
        "color": style.color, "marker": style.marker, "markersize": 4.5 * look.scale, "linestyle": "none",
        "markerfacecolor": style.color if filled else look.ground, "markeredgewidth": 0.9 * look.scale,
        "markeredgecolor": style.color, "label": "_point",
    }  # fmt: skip


def _placed(points: Iterable[Point], scene: Scene, cost: Cost) -> list[_Placed]:
    """The points whose cost was measured, with their places."""
    return [
        _Placed(point, value, point.error or scene.strip)
        for point, value in ((point, cost.of(point.row)) for point in points)
        if value
    ]


def _draw_lines(
    axes: Axes, scene: Scene, placed: Sequence[_Placed], front: Sequence[Point], look: Look
) -> None:
    """The front behind all, a line through the orders of each implementation, and the points."""
    free = sorted((spot for spot in placed if spot.point in front), key=lambda spot: front.index(spot.point))
    axes.plot([spot.x for spot in free], [spot.y for spot in free], label="_front", **front_look(look))
    groups: defaultdict[str, list[_Placed]] = defaultdict(list)
    for spot in placed:
        groups[line_of(spot.point.row).label].append(spot)
    for label, spots in groups.items():
        style = scene.styles[label]
        axes.plot(
            [spot.x for spot in spots], [spot.y for spot in spots], color=style.color,
            linewidth=1.0 * look.scale, label=label, zorder=2,
        )  # fmt: skip
        for spot in spots:
            axes.plot([spot.x], [spot.y], **mark(style, look, filled=spot in free), zorder=3)


def _tag(axes: Axes, scene: Scene, trade: Trade, cost: Cost, panel: tuple[float, float], look: Look) -> None:
    """The order beside each point, where it fits; the front's first. panel: its size in points at scale 1."""
    front = trade.front((cost.name,))
    ordered = [point for point in trade.approximations if point.row.order is not None]
    spots = _placed(sorted(ordered, key=lambda point: point not in front), scene, cost)
    x = scene.x[cost.name]
    tags = [
        Tag(f"t={spot.point.row.order}", share(spot.x, x) * panel[0], share(spot.y, scene.y) * panel[1])
        for spot in spots
    ]
    taken = [Box(0, 0, panel[0], STRIP * panel[1])]
    if softmax := scene.softmax_cost(trade, cost):
        line = share(softmax, x) * panel[0]
        taken.append(Box(line - BESIDE_SOFTMAX, 0, line + BESIDE_SOFTMAX, panel[1]))
    sides = place_tags(tags, panel, look.room_points(TAG_SIZE), taken, BESIDE)
    for spot, tag, side in zip(spots, tags, sides, strict=True):
        if side:
            axes.annotate(
                tag.text, (spot.x, spot.y), xytext=(side.dx * look.scale, side.dy * look.scale), zorder=4,
                textcoords="offset points", ha=side.ha, va=side.va, fontsize=look.points(TAG_SIZE),
                color=ink(scene.styles[line_of(spot.point.row).label].color, look),
            )  # fmt: skip
