"""The roofline: what each implementation reaches, under what this device was measured to reach.

Williams, Waterman & Patterson (2009), "Roofline: an insightful visual performance model for multicore architectures".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elattn_bench.analysis import Facet, by_label
from elattn_bench.figures.grid import file_part
from elattn_bench.figures.look import Look
from elattn_bench.figures.sheet import (
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
from elattn_bench.figures.style import Line, Style, assign_styles, latency_ticks
from elattn_bench.figures.tags import Box, Side, Tag, along, place_tags
from elattn_bench.results import Row
from elattn_bench.roofline import Ceilings, format_rate
from elattn_bench.rundir import Run
from elattn_bench.units import format_length
from elattn_bench.verdicts.winners import one_order

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_HEIGHT = 3.4  # inches
NARROW_HEIGHT = 2.6  # inches, of a panel less wide than that
LEFT, RIGHT, ABOVE, TICKS = 0.78, 0.14, 0.12, 0.46  # inches around the panel
NAME_SIZE = 7.0  # points: letters of names
ROOF_SIZE = 6.5  # points: letters of the roofs' names
SLOPE_SHOWN = 12  # a slope is shown from a 12th of the intensity at which it ends
TICK_ROOM = 0.4  # inches that the label of a tick needs
HOW = (
    "Work and bytes by formula, the least that a call needs: an implementation that moves more stands lower, not "
    "further left. Marks: each line's longest length; paths lead there from shorter ones. The flat roof is that of "
    "matrix products; element-wise work (an exponential counts one) multiplies none, and its honest roof is bandwidth. "
    "What stands above the memory's slope found its data in the cache."
)


@dataclass(frozen=True, slots=True)
class Roof:
    """A ceiling as a line: FLOP/s at an intensity in FLOP/byte."""

    name: str
    slope: float | None
    level: float | None

    def at(self, intensity: float) -> float:
        """How many FLOP/s it allows there."""
        return self.level if self.level is not None else (self.slope or 0.0) * intensity


def roofs(ceilings: Ceilings, dtype: str) -> list[Roof]:
    """The roofs of the device for that dtype: two slopes and a level, as far as they were measured."""
    matmul = ceilings.matmul_rate(dtype)
    slopes = {"cache": ceilings.cache_bytes_per_s, "memory": ceilings.dram_bytes_per_s}
    found = [
        Roof(f"{place} {format_rate(rate, 'B/s')}", rate, None) for place, rate in slopes.items() if rate
    ]
    return found + ([Roof(f"matmul {format_rate(matmul, 'FLOP/s')}", None, matmul)] if matmul else [])


def draw_roofline(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """A figure per setting, of the facet with most rows; nothing where the run has no ceilings."""
    ceilings = Ceilings.from_json(run.info.get("ceilings") or {})
    styles = assign_styles(map(Line.of, run.rows))
    for facet, rows in leading_facets(row for row in run.rows if _has_work(row)):
        lines = by_label(one_order(rows))
        if found := roofs(ceilings, facet.dtype):
            yield f"roofline-{file_part(facet.setting)}", _draw(run, look, facet, lines, found, styles)


def _has_work(row: Row) -> bool:
    return bool(row.ok and row.latency_ms_p50 and row.flops and row.bytes_moved)


def intensity(row: Row) -> float:
    """Operations per byte, by the formulas of the case's least work."""
    return (row.flops or 0) / (row.bytes_moved or 1)


def reached(row: Row) -> float:
    """Operations per second."""
    return (row.flops or 0) / (row.latency_ms_p50 or 1.0) * 1e3


def _draw(
    run: Run,
    look: Look,
    facet: Facet,
    lines: Mapping[str, Sequence[Row]],
    found: Sequence[Roof],
    styles: Mapping[str, Style],
) -> Figure:
    width = sheet_width(look) - LEFT - RIGHT
    height = PANEL_HEIGHT if width > PANEL_HEIGHT else NARROW_HEIGHT
    plan = _Plan.of(lines, found, width, height)
    title = f"Roofline: operations per second under this device's ceilings, {facet.dtype}"
    longest = max(row.seq_len for rows in lines.values() for row in rows)
    remarks = describe(
        run, facet.setting, [*sizes_of(facet), f"L up to {format_length(longest)}"], [HOW], look
    )
    handles = [] if plan.is_named else _handles(lines, styles, look)
    below = legend_height([str(handle.get_label()) for handle in handles], look)
    top = header_height(title, remarks, look) + ABOVE
    sheet = Sheet.of(look, top + height + TICKS + below)
    axes = sheet.axes(LEFT, top, width, height)
    _set_axes(sheet, axes, plan, width)
    for roof in found:
        _draw_roof(sheet, axes, roof, found, plan)
    for label, rows in lines.items():
        _draw_line(sheet, axes, label, rows, styles[label])
    if plan.is_named:
        _name(sheet, axes, plan, lines, styles)
    sheet.header(title, remarks)
    if handles:
        sheet.legend(handles)
    return sheet.figure


@dataclass(frozen=True, slots=True)
class _Plan:
    """The extent of both axes, and on which side of its mark each name stands; None where one finds no place."""

    x: tuple[float, float]
    y: tuple[float, float]
    size: tuple[float, float]
    sides: Sequence[Side | None]

    @classmethod
    def of(
        cls, lines: Mapping[str, Sequence[Row]], found: Sequence[Roof], width: float, height: float
    ) -> _Plan:
        rows = [row for line in lines.values() for row in line]
        places, heights = [intensity(row) for row in rows], [reached(row) for row in rows]
        x = (_leftmost(min(places), found), max(places) * 4)
        levels = [roof.level for roof in found if roof.level]
        highest = max([*heights, *levels] if levels else [*heights, *(roof.at(x[0]) for roof in found)])
        y = (min(heights) / 2, highest * 2)
        size = (width * 72, height * 72)
        empty = cls(x, y, size, ())
        tags = [Tag(label, *empty.spot(line[-1])) for label, line in lines.items()]
        spots = [[empty.spot(row) for row in line] for line in lines.values()]
        taken = [box for line in spots for pair in itertools.pairwise(line) for box in along(*pair)]
        taken += [box for roof in found for box in empty.covered(roof, found)]
        return cls(x, y, size, place_tags(tags, size, NAME_SIZE, taken))

    @property
    def is_named(self) -> bool:
        """Whether every name found a place."""
        return all(self.sides)

    def spot(self, row: Row) -> tuple[float, float]:
        """Where the row stands, in points from the panel's lower left."""
        return self.point(intensity(row), reached(row))

    def point(self, x: float, y: float) -> tuple[float, float]:
        return share(x, self.x) * self.size[0], share(y, self.y) * self.size[1]

    def starts(self, roof: Roof, found: Sequence[Roof]) -> tuple[float, float]:
        """From which intensity to which the roof is drawn: a slope up to the level, the level from the first slope."""
        levels = [other.level for other in found if other.level]
        slopes = [other.slope for other in found if other.slope]
        if roof.slope:
            end = levels[0] / roof.slope if levels else self.x[1]
            return self.x[0], min(self.x[1], end)
        start = (roof.level or 0.0) / max(slopes) if slopes else self.x[0]
        return max(self.x[0], start), self.x[1]

    def covered(self, roof: Roof, found: Sequence[Roof]) -> list[Box]:
        """What the roof's line and its name cover."""
        low, high = self.starts(roof, found)
        if high <= low:
            return []
        boxes = along(self.point(low, roof.at(low)), self.point(high, roof.at(high)), reach=2.0)
        letters_wide = len(roof.name) * ROOF_SIZE * 0.6
        x, y = self.name_spot(roof, found)
        if roof.level:
            return [*boxes, Box(x - letters_wide, y, x, y + 12)]
        norm = math.hypot(1, self.rise(roof))
        end = (x + letters_wide / norm, y + 4 + letters_wide * self.rise(roof) / norm)
        return boxes + along((x, y + 4), end, reach=5)

    def rise(self, roof: Roof) -> float:
        """The slope's rise over its run, on the sheet."""
        (x0, y0), (x1, y1) = (self.point(place, roof.at(place)) for place in (self.x[0], self.x[0] * 10))
        return (y1 - y0) / (x1 - x0)

    def name_spot(self, roof: Roof, found: Sequence[Roof]) -> tuple[float, float]:
        """Where the roof's name starts (that of a slope), or ends (that of the level)."""
        low, high = self.starts(roof, found)
        if roof.level:
            x, y = self.point(high, roof.level)
            return x - 3, y + 2
        first = max(low, self.y[0] / (roof.slope or 1.0))
        x, y = self.point(first, roof.at(first))
        return x + 6, y + 6 * self.rise(roof)


def _leftmost(place: float, found: Sequence[Roof]) -> float:
    """Where the panel begins: left of the points, and with so much of the steepest roof that its name fits on it."""
    slopes = [roof.slope for roof in found if roof.slope]
    levels = [roof.level for roof in found if roof.level]
    return min(place / 2, levels[0] / max(slopes) / SLOPE_SHOWN if slopes and levels else place)


def _set_axes(sheet: Sheet, axes: Axes, plan: _Plan, width: float) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*plan.x)
    axes.set_ylim(*plan.y)
    log_ticks(axes, "x", latency_ticks(*plan.x), lambda value: f"{value:g}", max(2, int(width / TICK_ROOM)))
    log_ticks(axes, "y", latency_ticks(*plan.y), rate_tick, 7)
    sheet.label_x(axes, "arithmetic intensity (FLOP per byte)")


def rate_tick(per_second: float) -> str:
    """``50 GFLOP/s``: no more digits than the tick has."""
    number, unit = format_rate(per_second, "FLOP/s").split()
    return f"{float(number):g} {unit}"


def _draw_roof(sheet: Sheet, axes: Axes, roof: Roof, found: Sequence[Roof], plan: _Plan) -> None:
    low, high = plan.starts(roof, found)
    if high <= low:
        return
    scale = sheet.look.scale
    dashes = "--" if roof.slope and roof is not found[0] else "-"
    axes.plot(
        [low, high], [roof.at(low), roof.at(high)], color=sheet.look.muted, linewidth=1.2 * scale,
        linestyle=dashes, label=f"_{roof.name}", zorder=1.5,
    )  # fmt: skip
    x, y = plan.name_spot(roof, found)
    place = (at_share(x / plan.size[0], plan.x), at_share(y / plan.size[1], plan.y))
    angle = 0.0 if roof.level else math.degrees(math.atan(plan.rise(roof)))
    axes.annotate(
        roof.name, place, xytext=(0, 0), textcoords="offset points", rotation=angle, rotation_mode="anchor",
        ha="right" if roof.level else "left", va="bottom", fontsize=ROOF_SIZE * scale, color=sheet.look.muted,
    )  # fmt: skip


def _draw_line(sheet: Sheet, axes: Axes, label: str, rows: Sequence[Row], style: Style) -> None:
    scale = sheet.look.scale
    places, heights = [intensity(row) for row in rows], [reached(row) for row in rows]
    axes.plot(
        places, heights, color=style.color, linewidth=0.8 * scale, marker=".", markersize=2.5 * scale,
        alpha=0.5, label=f"_path of {label}", zorder=2,
    )  # fmt: skip
    axes.plot(
        places[-1:], heights[-1:], color=style.color, marker=style.marker, markersize=5.5 * scale,
        markeredgecolor=sheet.look.ground, markeredgewidth=0.5 * scale, linestyle="none", label=label, zorder=3,
    )  # fmt: skip


def _name(
    sheet: Sheet,
    axes: Axes,
    plan: _Plan,
    lines: Mapping[str, Sequence[Row]],
    styles: Mapping[str, Style],
) -> None:
    scale = sheet.look.scale
    for (label, rows), side in zip(lines.items(), plan.sides, strict=True):
        assert side is not None
        axes.annotate(
            label, (intensity(rows[-1]), reached(rows[-1])), xytext=(side.dx * scale, side.dy * scale),
            textcoords="offset points", ha=side.ha, va=side.va, fontsize=NAME_SIZE * scale, zorder=4,
            color=letters(styles[label].color, sheet.look), parse_math=False,
        )  # fmt: skip


def _handles(lines: Mapping[str, Sequence[Row]], styles: Mapping[str, Style], look: Look) -> list[Artist]:
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [], [], color=styles[label].color, marker=styles[label].marker, markersize=5 * look.scale,
            linestyle="none", label=label,
        )
        for label in lines
    ]  # fmt: skip
