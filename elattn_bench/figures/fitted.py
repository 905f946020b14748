"""The panel of fitted growth: medians, curves, a lane below them for every crossing, names with exponents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from attention_impls import registry
from elattn_bench.analysis import Facet
from elattn_bench.figures.legend import spread_out
from elattn_bench.figures.look import Look
from elattn_bench.figures.names import LETTER, leader
from elattn_bench.figures.palette import ink
from elattn_bench.figures.sheet import EDGE, at_share, log_ticks, share
from elattn_bench.figures.style import Style, latency_tick, latency_ticks, length_ticks
from elattn_bench.results import Row
from elattn_bench.units import format_length
from elattn_bench.verdicts.crossover import Crossover, format_estimate
from elattn_bench.verdicts.nouns import Estimate
from elattn_bench.verdicts.reference import DEFAULT_REFERENCE
from elattn_bench.verdicts.scaling import Scaling, format_exponent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

NAME_SIZE = 7.0  # points, as all sizes of letters: names at the lines' ends
NAME_ROOM = 20.0  # points: a name's two lines
NAME_OFFSET = 8.0  # points between the panel and the names
BAR_SIZE = 6.5
LANE = 11.0  # points: one crossing, below the curves
BAR_NAME = 0.42  # of a narrow panel's width: the name of a crossing's bar
MARGIN = 1.15  # free at the ends of the horizontal axis
STEPS = 80  # points of a curve
TICK_ROOM = 0.27  # inches that the label of a length needs

Limits = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Fits:
    """What one figure shows: lines with their curves, where they overtake the reference, rows left out of the fits."""

    facet: Facet
    lines: Sequence[Scaling]
    crossings: Sequence[Crossover]
    left_out: Sequence[Row] = ()

    @property
    def bars(self) -> list[tuple[Crossover, Estimate]]:
        """The crossings that have a place, with it."""
        return [(each, each.length) for each in self.crossings if each.where == "at" and each.length]

    @property
    def lanes(self) -> float:
        """Inches below the curves that the bars take."""
        return LANE * len(self.bars) / 72

    @property
    def x(self) -> Limits:
        """The extent of the horizontal axis."""
        lengths = [row.seq_len for line in self.lines for row in line.rows]
        lengths += [row.seq_len for row in self.left_out]
        return min(lengths) / MARGIN, max(lengths) * MARGIN

    @property
    def data(self) -> Limits:
        """The extent of what was measured and fitted."""
        values = [value for line in self.lines for value in _heights(line)]
        values += [row.latency_ms_p50 for row in self.left_out if row.latency_ms_p50]
        return min(values) / 1.3, max(values) * 1.3

    def y(self, height: float) -> Limits:
        """The extent of the vertical axis in a panel so high, in inches: with a lane below for every bar."""
        low, high = self.data
        lanes = self.lanes / height
        return low * (low / high) ** (lanes / (1 - lanes)), high

    def of_family(self, family: str) -> Fits:
        """Of many lines those of a family, and the reference."""
        lines = [line for line in self.lines if _is_in(line.label, line.rows, family)]
        labels = {line.label for line in lines}
        return replace(
            self,
            lines=lines,
            crossings=[crossing for crossing in self.crossings if crossing.label in labels],
            left_out=[row for row in self.left_out if row.label in labels],
        )


def _is_in(label: str, rows: Sequence[Row], family: str) -> bool:
    return label == DEFAULT_REFERENCE or registry.family(rows[0].attention) == family


def _heights(line: Scaling) -> list[float]:
    measured = [row.latency_ms_p50 for row in line.rows if row.latency_ms_p50]
    fitted = [line.at(row.seq_len) or 0.0 for row in line.rows]
    return measured + [value for value in fitted if value > 0]


def name_of(line: Scaling) -> tuple[str, str]:
    """The line's label, and what was found about it."""
    return line.label, exponent_text(line)


def exponent_text(line: Scaling) -> str:
    """``L^1.01 [0.98, 1.04], linear``; the verdict alone where nothing could be fitted."""
    if line.exponent is None:
        return f"no fit, {line.verdict}"
    return f"L^{format_exponent(line.exponent)}, {line.verdict}"


def names_width(lines: Sequence[Scaling]) -> float:
    """Inches at scale 1 that the names need to the right of the panel."""
    longest = max(len(text) for line in lines for text in name_of(line))
    return longest * LETTER + NAME_OFFSET / 72 + EDGE


def draw_fitted(axes: Axes, fits: Fits, styles: Mapping[str, Style], size: Limits, look: Look) -> None:
    """All that stands inside of the panel; size: its width and height in inches at scale 1."""
    width, height = size
    _set_axes(axes, fits, fits.y(height), width, look)
    for line in fits.lines:
        _draw_line(axes, line, styles[line.label], look)
    for row in fits.left_out:
        _draw_left_out(axes, row, styles[row.label], look)
    for number, (crossing, found) in enumerate(fits.bars):
        style, lane = styles[crossing.label], (number + 0.5) * LANE / height / 72
        _draw_bar(axes, fits.x, found, style, lane, look)
        _draw_cross(axes, fits, crossing.label, found, style, look)


def _set_axes(axes: Axes, fits: Fits, limits: Limits, width: float, look: Look) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(*fits.x)
    axes.set_ylim(*limits)
    lengths = length_ticks((row.seq_len for line in fits.lines for row in line.rows), int(width / TICK_ROOM))
    log_ticks(axes, "x", lengths, lambda length: format_length(int(length)), len(lengths))
    log_ticks(axes, "y", latency_ticks(*fits.data), latency_tick, 7)
    if fits.bars:
        axes.axhspan(limits[0], fits.data[0], color=look.grid, alpha=0.6, linewidth=0, zorder=0.5)
    axes.set_xlabel("sequence length L (tokens)")


def _draw_line(axes: Axes, line: Scaling, style: Style, look: Look) -> None:
    places = [row.seq_len for row in line.rows]
    medians = [row.latency_ms_p50 or 0.0 for row in line.rows]
    below = [
        max(0.0, value - (row.latency_ms_ci_low or value))
        for row, value in zip(line.rows, medians, strict=True)
    ]
    above = [
        max(0.0, (row.latency_ms_ci_high or value) - value)
        for row, value in zip(line.rows, medians, strict=True)
    ]
    axes.errorbar(
        places, medians, yerr=[below, above], color=style.color, marker=style.marker, linestyle="none",
        elinewidth=0.8 * look.scale, label=line.label, zorder=3, **_edge(look),
    )  # fmt: skip
    curve = [(length, line.at(length) or 0.0) for length in _between(places[0], places[-1])]
    positive = [(length, value) for length, value in curve if value > 0]
    if positive:
        axes.plot(
            *zip(*positive, strict=True), color=style.color, linewidth=1.1 * look.scale, linestyle=style.dashes,
            label=f"_fit of {line.label}", zorder=2,
        )  # fmt: skip


def _edge(look: Look) -> dict[str, Any]:
    """Around filled marks, so that those which overlap are told apart."""
    return {"markeredgecolor": look.ground, "markeredgewidth": 0.4 * look.scale}


def _draw_left_out(axes: Axes, row: Row, style: Style, look: Look) -> None:
    axes.plot(
        [row.seq_len], [row.latency_ms_p50 or 0.0], color=style.color, marker=style.marker, linestyle="none",
        markerfacecolor=look.ground, markeredgewidth=0.8 * look.scale, label="_left out", zorder=3,
    )  # fmt: skip


def _between(first: float, last: float) -> list[float]:
    return [first * (last / first) ** (step / STEPS) for step in range(STEPS + 1)]


def _draw_bar(axes: Axes, x: Limits, found: Estimate, style: Style, lane: float, look: Look) -> None:
    """The interval as a bar in its lane, the value on it, both written beside."""
    edge = axes.get_xaxis_transform()
    low, high = max(found.low, x[0]), min(found.high, x[1])
    axes.plot(
        [low, high], [lane, lane], color=style.color, linewidth=2.4 * look.scale, transform=edge,
        solid_capstyle="butt", label="_interval", zorder=3,
    )  # fmt: skip
    axes.plot(
        [found.value], [lane], color=style.color, marker=style.marker, transform=edge, linestyle="none",
        label="_value", zorder=4, **_edge(look),
    )  # fmt: skip
    place, offset, side = _beside(low, high, x)
    box = {"facecolor": look.ground, "edgecolor": "none", "pad": 0.3 * look.scale}
    axes.annotate(
        format_estimate(found), (place, lane), xycoords=edge, xytext=(offset * look.scale, 0), zorder=5,
        textcoords="offset points", va="center", ha=side, fontsize=look.points(BAR_SIZE),
        color=ink(style.color, look), bbox=box if side == "center" else None,
    )  # fmt: skip


def _beside(low: float, high: float, x: Limits) -> tuple[float, float, str]:
    """Where a bar's name stands: its place, the offset in points, and the alignment; on the bar if it takes all."""
    if share(high, x) < 1 - BAR_NAME:
        return high, 6, "left"
    return (low, -6, "right") if share(low, x) > BAR_NAME else (at_share(0.5, x), 0, "center")


def _draw_cross(axes: Axes, fits: Fits, label: str, found: Estimate, style: Style, look: Look) -> None:
    """A cross on the curve above the bar's value."""
    line = next((line for line in fits.lines if line.label == label), None)
    meeting = line.at(found.value) if line else None
    if meeting and meeting > 0:
        axes.plot(
            [found.value], [meeting], color=style.color, marker="x", markersize=6 * look.scale,
            markeredgewidth=1.2 * look.scale, linestyle="none", label="_crossing", zorder=4,
        )  # fmt: skip


def draw_names(axes: Axes, fits: Fits, styles: Mapping[str, Style], height: float, look: Look) -> None:
    """Name and exponent beside the end of each line, moved apart where they would overlap."""
    limits, room = fits.y(height), height * 72
    ends = [(line, line.rows[-1].seq_len, line.rows[-1].latency_ms_p50 or limits[0]) for line in fits.lines]
    wanted = [share(value, limits) * room for _, _, value in ends]
    half = NAME_ROOM / 2
    inner = spread_out([place - half for place in wanted], NAME_ROOM, room - NAME_ROOM)
    places = [place + half for place in inner] if inner else wanted
    for (line, length, value), place in zip(ends, places, strict=True):
        color = ink(styles[line.label].color, look)
        axes.annotate(
            "\n".join(name_of(line)), (length, value), xytext=(fits.x[1], at_share(place / room, limits)),
            textcoords=_offset(axes, look), va="center", fontsize=look.points(NAME_SIZE), color=color,
            annotation_clip=False, parse_math=False, linespacing=1.05, arrowprops=leader(color, look),
        )  # fmt: skip


def _offset(axes: Axes, look: Look) -> Transform:
    from matplotlib.transforms import offset_copy

    return offset_copy(
        axes.transData, cast("Figure", axes.figure), x=NAME_OFFSET * look.scale, units="points"
    )
