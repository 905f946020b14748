"""Fitted growth: latency against length with each line's curve and exponent, and where it overtakes the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attention_impls import registry
from elattn_bench.analysis import Facet, select
from elattn_bench.figures.families import is_crowded
from elattn_bench.figures.grid import file_part
from elattn_bench.figures.legend import spread_out
from elattn_bench.figures.look import Look
from elattn_bench.figures.sheet import (
    EDGE,
    LEGEND_LETTER,
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
from elattn_bench.figures.style import Line, Style, assign_styles, latency_tick, latency_ticks, length_ticks
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import format_length
from elattn_bench.verdicts.crossover import Crossover, crossovers, format_estimate
from elattn_bench.verdicts.reference import DEFAULT_REFERENCE
from elattn_bench.verdicts.scaling import Scaling, format_exponent, scalings
from elattn_bench.verdicts.winners import one_order
from elattn_bench.visits import Visit

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

MOST_LINES = 8  # more are too many to follow: then only the default order of each attention is shown
PANEL_HEIGHT = 3.3  # inches
NARROW_HEIGHT = 2.5  # inches, of a panel less wide than that
LEFT, RIGHT, ABOVE, TICKS = 0.62, 0.12, 0.16, 0.46  # inches around the panel
NAME_SIZE = 7.0  # points: letters of names at the lines' ends
NAME_ROOM = 20.0  # points: a name's two lines
NAME_OFFSET = 8.0  # points between the panel and the names
WIDEST_NAMES = 0.4  # of the sheet: wider ones go to the legend
LANE = 11.0  # points: one crossing, below the curves
BAR_NAME = 0.42  # of a narrow panel's width: the name of a crossing's bar
MARGIN = 1.15  # free at the ends of the horizontal axis
STEPS = 80  # points of a curve
TICK_ROOM = 0.27  # inches that the label of a length needs


@dataclass(frozen=True, slots=True)
class Fits:
    """What one figure shows: lines with their curves, where they overtake the reference, rows left out of the fits."""

    facet: Facet
    lines: Sequence[Scaling]
    crossings: Sequence[Crossover]
    left_out: Sequence[Row] = ()

    @property
    def x(self) -> tuple[float, float]:
        """The extent of the horizontal axis."""
        lengths = [row.seq_len for line in self.lines for row in line.rows]
        lengths += [row.seq_len for row in self.left_out]
        return min(lengths) / MARGIN, max(lengths) * MARGIN

    @property
    def data(self) -> tuple[float, float]:
        """The extent of what was measured and fitted."""
        values = [value for line in self.lines for value in _heights(line)]
        values += [row.latency_ms_p50 for row in self.left_out if row.latency_ms_p50]
        return min(values) / 1.3, max(values) * 1.3

    def y(self, height: float) -> tuple[float, float]:
        """The extent of the vertical axis in a panel so high, in inches: with a lane below for every crossing."""
        low, high = self.data
        lanes = _lanes(self) / height
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


def _lanes(fits: Fits) -> float:
    """Inches below the curves that the crossings take."""
    return LANE * len(fits.crossings) / 72


def _heights(line: Scaling) -> list[float]:
    measured = [row.latency_ms_p50 for row in line.rows if row.latency_ms_p50]
    fitted = [line.at(row.seq_len) or 0.0 for row in line.rows]
    return measured + [value for value in fitted if value > 0]


def draw_fits(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """A figure per setting, of the facet with most rows, where a curve could be fitted to a line at least."""
    measured = [row for row in run.rows if row.ok and row.latency_ms_p50]
    styles = assign_styles(map(Line.of, run.rows))
    samples = run.samples()
    for facet, rows in leading_facets(measured):
        few = rows if len({row.label for row in rows}) <= MOST_LINES else one_order(rows)
        part = replace(run, rows=few)
        lines = [line for line in scalings(part, "latency", samples) if len(line.rows) > 1]
        if any(line.exponent for line in lines):
            fitted = {row.case_id for line in lines for row in line.rows}
            labels = {line.label for line in lines}
            left_out = [row for row in few if row.label in labels and row.case_id not in fitted]
            fits = Fits(facet, lines, _crossings(part, samples), left_out)
            for suffix, page in _pages(fits, is_crowded(few)).items():
                yield f"fits-{file_part(facet.setting)}{suffix}", draw_figure(run, look, page, styles)


def _pages(fits: Fits, crowded: bool) -> dict[str, Fits]:
    """One page; of more attentions than colours one for every family, by the suffix of its file's name."""
    if not crowded:
        return {"": fits}
    families = dict.fromkeys(
        registry.family(line.rows[0].attention) for line in fits.lines if line.label != DEFAULT_REFERENCE
    )
    return {f"-{family.lower().replace(' ', '-')}": fits.of_family(family) for family in families}


def _crossings(run: Run, samples: Mapping[str, Sequence[Visit]]) -> list[Crossover]:
    if not select(run.rows, label=DEFAULT_REFERENCE):
        return []
    return crossovers(run, DEFAULT_REFERENCE, "latency", samples)


def draw_figure(run: Run, look: Look, fits: Fits, styles: Mapping[str, Style]) -> Figure:
    """One panel: measured medians, fitted curves, exponents, and a lane for each crossing."""
    at = [crossing for crossing in fits.crossings if crossing.where == "at" and crossing.length]
    shown = replace(fits, crossings=at)
    names = _names_width(fits.lines)
    height = PANEL_HEIGHT if sheet_width(look) - LEFT > PANEL_HEIGHT else NARROW_HEIGHT
    height += _lanes(shown)
    named = names <= WIDEST_NAMES * sheet_width(look) and len(fits.lines) * NAME_ROOM <= height * 72
    title = "Latency against sequence length, and the curve fitted to it"
    remarks = describe(run, fits.facet.setting, sizes_of(fits.facet), _sentences(fits, at), look)
    handles = [] if named else _handles(fits.lines, styles, look)
    top = header_height(title, remarks, look) + ABOVE
    below = legend_height([str(handle.get_label()) for handle in handles], look)
    sheet = Sheet.of(look, top + height + TICKS + below)
    width = sheet.width - LEFT - (names if named else RIGHT)
    axes = sheet.axes(LEFT, top, width, height)
    limits = shown.y(height)
    _set_axes(sheet, axes, shown, limits, width)
    for line in fits.lines:
        _draw_line(sheet, axes, line, styles[line.label])
    for row in fits.left_out:
        _draw_left_out(sheet, axes, row, styles[row.label])
    for number, crossing in enumerate(at):
        _draw_crossing(
            sheet, axes, shown, crossing, styles[crossing.label], (number + 0.5) * LANE / height / 72
        )
    if named:
        _name_lines(sheet, axes, shown, limits, height, styles)
    sheet.header(title, remarks)
    if handles:
        sheet.legend(handles)
    return sheet.figure


def _sentences(fits: Fits, at: Sequence[Crossover]) -> list[str]:
    found = {
        where: [each.label for each in fits.crossings if each.where == where]
        for where in ("always", "never", "unclear")
    }
    reference = fits.crossings[0].reference if fits.crossings else ""
    return [
        "Marks: medians with their 95 % intervals; dashed: a + c L^p fitted to them; p with its 95 % interval.",
        f"Bars below: from which length on a line is faster than {reference}, with its 95 % interval."
        if at
        else "",
        f"Faster than it at every length: {', '.join(found['always'])}." if found["always"] else "",
        f"At none: {', '.join(found['never'])}." if found["never"] else "",
        f"Not clear where: {', '.join(found['unclear'])}." if found["unclear"] else "",
        "Hollow: left out of the fit, for it was disturbed and lies far off." if fits.left_out else "",
    ]


def exponent_text(line: Scaling) -> str:
    """``L^1.01 [0.98, 1.04], linear``; the verdict alone where nothing could be fitted."""
    if line.exponent is None:
        return f"no fit, {line.verdict}"
    return f"L^{format_exponent(line.exponent)}, {line.verdict}"


def _names_width(lines: Sequence[Scaling]) -> float:
    longest = max(len(text) for line in lines for text in (line.label, exponent_text(line)))
    return longest * LEGEND_LETTER * NAME_SIZE / 7.5 + NAME_OFFSET / 72 + EDGE


def _set_axes(sheet: Sheet, axes: Axes, fits: Fits, limits: tuple[float, float], width: float) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(*fits.x)
    axes.set_ylim(*limits)
    lengths = length_ticks((row.seq_len for line in fits.lines for row in line.rows), int(width / TICK_ROOM))
    log_ticks(axes, "x", lengths, lambda length: format_length(int(length)), len(lengths))
    log_ticks(axes, "y", latency_ticks(*fits.data), latency_tick, 7)
    if fits.crossings:
        axes.axhspan(limits[0], fits.data[0], color=sheet.look.grid, alpha=0.6, linewidth=0, zorder=0.5)
    sheet.label_x(axes, "sequence length L (tokens)")


def _draw_line(sheet: Sheet, axes: Axes, line: Scaling, style: Style) -> None:
    scale = sheet.look.scale
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
        places, medians, yerr=[below, above], color=style.color, marker=style.marker, markersize=4 * scale,
        linestyle="none", elinewidth=0.8 * scale, markeredgecolor=sheet.look.ground,
        markeredgewidth=0.4 * scale, label=line.label, zorder=3,
    )  # fmt: skip
    curve = [(length, line.at(length) or 0.0) for length in _between(places[0], places[-1])]
    positive = [(length, value) for length, value in curve if value > 0]
    if positive:
        axes.plot(
            *zip(*positive, strict=True), color=style.color, linewidth=1.1 * scale, linestyle=(0, (4, 2)),
            label=f"_fit of {line.label}", zorder=2,
        )  # fmt: skip


def _draw_left_out(sheet: Sheet, axes: Axes, row: Row, style: Style) -> None:
    axes.plot(
        [row.seq_len], [row.latency_ms_p50 or 0.0], color=style.color, marker=style.marker,
        markerfacecolor=sheet.look.ground, markersize=4.5 * sheet.look.scale, linestyle="none",
        markeredgewidth=0.8 * sheet.look.scale, label="_left out", zorder=3,
    )  # fmt: skip


def _between(first: float, last: float) -> list[float]:
    return [first * (last / first) ** (step / STEPS) for step in range(STEPS + 1)]


def _draw_crossing(
    sheet: Sheet, axes: Axes, fits: Fits, crossing: Crossover, style: Style, height: float
) -> None:
    """The interval as a bar in its lane, named; a cross on the curve above it."""
    assert crossing.length is not None
    scale, found = sheet.look.scale, crossing.length
    edge = axes.get_xaxis_transform()
    low, high = max(found.low, fits.x[0]), min(found.high, fits.x[1])
    axes.plot(
        [low, high], [height, height], color=style.color, linewidth=2.4 * scale, transform=edge,
        solid_capstyle="butt", label="_interval", zorder=3,
    )  # fmt: skip
    axes.plot(
        [found.value], [height], color=style.color, marker=style.marker, markersize=4.5 * scale, transform=edge,
        markeredgecolor=sheet.look.ground, markeredgewidth=0.4 * scale, linestyle="none", label="_value", zorder=4,
    )  # fmt: skip
    line = next((line for line in fits.lines if line.label == crossing.label), None)
    meeting = line.at(found.value) if line else None
    if meeting and meeting > 0:
        axes.plot(
            [found.value], [meeting], color=style.color, marker="x", markersize=6 * scale,
            markeredgewidth=1.2 * scale, linestyle="none", label="_crossing", zorder=4,
        )  # fmt: skip
    place, offset, side = _beside(low, high, fits.x)
    axes.annotate(
        format_estimate(found), (place, height), xycoords=edge, xytext=(offset * scale, 0), zorder=5,
        textcoords="offset points", va="center", ha=side, fontsize=6.5 * scale,
        color=letters(style.color, sheet.look),
        bbox={"facecolor": sheet.look.ground, "edgecolor": "none", "pad": 0.3 * scale} if side == "center" else None,
    )  # fmt: skip


def _beside(low: float, high: float, x: tuple[float, float]) -> tuple[float, float, str]:
    """Where a bar's name stands: its place, the offset in points, and the alignment; on the bar if it takes all."""
    if share(high, x) < 1 - BAR_NAME:
        return high, 6, "left"
    return (low, -6, "right") if share(low, x) > BAR_NAME else (at_share(0.5, x), 0, "center")


def _name_lines(
    sheet: Sheet,
    axes: Axes,
    fits: Fits,
    limits: tuple[float, float],
    height: float,
    styles: Mapping[str, Style],
) -> None:
    """Name and exponent beside the end of each line, moved apart where they would overlap."""
    scale, room = sheet.look.scale, height * 72
    ends = [(line, line.rows[-1].seq_len, line.rows[-1].latency_ms_p50 or limits[0]) for line in fits.lines]
    wanted = [share(value, limits) * room for _, _, value in ends]
    half = NAME_ROOM / 2
    inner = spread_out([place - half for place in wanted], NAME_ROOM, room - NAME_ROOM)
    places = [place + half for place in inner] if inner else wanted
    for (line, length, value), place in zip(ends, places, strict=True):
        color = letters(styles[line.label].color, sheet.look)
        axes.annotate(
            f"{line.label}\n{exponent_text(line)}", (length, value),
            xytext=(fits.x[1], at_share(place / room, limits)), textcoords=_offset(sheet, axes), va="center",
            fontsize=NAME_SIZE * scale, color=color, annotation_clip=False, parse_math=False, linespacing=1.05,
            arrowprops={
                "arrowstyle": "-", "linewidth": 0.5 * scale, "alpha": 0.6, "shrinkA": 1, "shrinkB": 3,
                "relpos": (0, 0.5), "color": color,
            },
        )  # fmt: skip


def _offset(sheet: Sheet, axes: Axes) -> Transform:
    from matplotlib.transforms import offset_copy

    return offset_copy(axes.transData, sheet.figure, x=NAME_OFFSET * sheet.look.scale, units="points")


def _handles(lines: Sequence[Scaling], styles: Mapping[str, Style], look: Look) -> list[Artist]:
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [], [], color=styles[line.label].color, marker=styles[line.label].marker, markersize=4 * look.scale,
            linewidth=1.1 * look.scale, linestyle=(0, (4, 2)), label=f"{line.label}: {exponent_text(line)}",
        )
        for line in lines
    ]  # fmt: skip
