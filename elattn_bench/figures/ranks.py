"""Scaling over ranks: latency, efficiency and memory against ranks, and received bytes against length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from elattn_bench.figures.header import describe, draw_header, header_height, sizes_of
from elattn_bench.figures.legend import draw_legend, legend_height
from elattn_bench.figures.look import Look
from elattn_bench.figures.ranks_panels import Curve, Panel, Shown, leading, panels_of, remarks_of
from elattn_bench.figures.sheet import NARROW, Sheet, log_ticks, panel_height
from elattn_bench.figures.style import (
    Line,
    Style,
    assign_styles,
    latency_tick,
    latency_ticks,
    length_ticks,
    memory_tick,
    memory_ticks,
    set_ticks,
    thin,
)
from elattn_bench.rundir import Run
from elattn_bench.units import format_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Scaling over ranks, and what they exchange"
PANEL_HEIGHT = 1.75  # inches, as all that follow, at scale 1
NARROW_HEIGHT = 1.15  # of panels that stand below each other
LEFT, RIGHT, HEAD, TICKS = 0.66, 0.14, 0.32, 0.46  # around every panel
TICK_ROOM = 0.36  # inches that the label of a length needs
MOST_TICKS = 6  # on a vertical axis
ON_A_SLIDE, IN_A_COLUMN = 3, 4  # panels: more would be too small to read, or too long a column
ROOM, SHARE = (
    1.25,
    0.07,
)  # of a logarithmic axis beyond its outermost values: times, or of its length if that is more


def draw_ranks(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """A figure per setting, of the facet with most impls, where a line was measured over several ranks."""
    styles = assign_styles(map(Line.of, run.rows), look)
    for shown in leading(run.rows):
        yield f"ranks-{shown.facet.setting.file_part}", draw_figure(run, look, shown, styles)


def draw_figure(run: Run, look: Look, shown: Shown, styles: Mapping[str, Style]) -> Figure:
    """Up to six panels, three abreast; the first three on a slide; the first four below each other in a column."""
    panels = panels_of(shown)
    if look.room_height:
        panels = panels[:ON_A_SLIDE]
    elif look.room <= NARROW:
        panels = panels[:IN_A_COLUMN]
    abreast = 1 if look.room <= NARROW else 2 if len(panels) in (2, 4) else 3
    rows = math.ceil(len(panels) / abreast)
    header = describe(run, shown.facet.setting, sizes_of(shown.facet), remarks_of(shown, panels), look)
    top, below = header_height(header, look, TITLE), legend_height(shown.labels, look)
    wanted = PANEL_HEIGHT if abreast > 1 else NARROW_HEIGHT
    height = panel_height(look, wanted, top + below + rows * (HEAD + TICKS), rows)
    width = look.room / abreast - LEFT - RIGHT
    sheet = Sheet.of(look, top + below + rows * (HEAD + height + TICKS))
    for number, panel in enumerate(panels):
        row, column = divmod(number, abreast)
        left, upper = column * look.room / abreast + LEFT, top + HEAD + row * (HEAD + height + TICKS)
        _draw_panel(sheet, sheet.axes(left, upper, width, height), panel, styles, width)
    draw_header(sheet.figure, TITLE, header, look)
    draw_legend(sheet.figure, shown.labels, styles, look)
    return sheet.figure


def _draw_panel(sheet: Sheet, axes: Axes, panel: Panel, styles: Mapping[str, Style], width: float) -> None:
    sheet.head(axes, panel.head)
    _set_x(axes, panel, width)
    _set_y(axes, panel, sheet.look)
    for curve in panel.curves:
        _draw_curve(axes, panel, curve, styles[curve.label], sheet.look)


def _set_x(axes: Axes, panel: Panel, width: float) -> None:
    places = sorted({place for curve in panel.curves for place in curve.x})
    axes.set_xscale("log", base=2)
    margin = max((places[-1] / places[0]) ** 0.06, 1.1)
    axes.set_xlim(places[0] / margin, places[-1] * margin)
    if panel.over_lengths:
        log_ticks(axes, "x", length_ticks(places, int(width / TICK_ROOM)), _length, MOST_TICKS)
        axes.set_xlabel("sequence length L (tokens)")
    else:
        ticks = thin(places, int(width / TICK_ROOM))
        set_ticks(axes, "x", ticks, list(map(str, ticks)))
        axes.set_xlabel("ranks")


def _length(length: float) -> str:
    return format_length(int(length))


def _set_y(axes: Axes, panel: Panel, look: Look) -> None:
    values = [
        value for curve in panel.curves for value in (*curve.y, *curve.low, *curve.high, *curve.expected)
    ]
    if panel.kind == "efficiency":
        _set_shares(axes, max(values), look)
        return
    room = max(ROOM, (max(values) / min(values)) ** SHARE)
    low, high = min(values) / room, max(values) * room
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks, label = _BY_KIND[panel.kind]
    log_ticks(axes, "y", ticks(low, high), label, MOST_TICKS)


_BY_KIND: Mapping[str, tuple[Callable[[float, float], Sequence[float]], Callable[[float], str]]] = {
    "latency": (latency_ticks, latency_tick),
    "received": (memory_ticks, memory_tick),
    "memory": (memory_ticks, memory_tick),
    "time": (latency_ticks, lambda times: f"{times:g}x"),
}


def _set_shares(axes: Axes, highest: float, look: Look) -> None:
    """From nothing up, so that heights are shares; the ideal is 100 %."""
    top = max(1.1, 1.05 * highest)
    axes.set_ylim(0, top)
    quarters = [quarter / 4 for quarter in range(int(4 * top) + 1)]
    ticks = thin(quarters, MOST_TICKS) if len(quarters) > MOST_TICKS else quarters
    set_ticks(axes, "y", ticks, [f"{tick:.0%}".replace("%", " %") for tick in ticks])
    axes.axhline(1, color=look.muted, linewidth=0.8 * look.scale, zorder=1.5, label="_ideal")


def _draw_curve(axes: Axes, panel: Panel, curve: Curve, style: Style, look: Look) -> None:
    below = [max(0.0, value - low) for value, low in zip(curve.y, curve.low, strict=True)]
    above = [max(0.0, high - value) for value, high in zip(curve.y, curve.high, strict=True)]
    by_formula = bool(panel.over_lengths and curve.expected)
    axes.errorbar(
        curve.x, curve.y, yerr=[below, above], color=style.color, marker=style.marker,
        linestyle="none" if by_formula else style.dashes, elinewidth=0.8 * look.scale, label=curve.label, zorder=3,
        markeredgecolor=look.ground, markeredgewidth=0.4 * look.scale,
    )  # fmt: skip
    if curve.expected:
        axes.plot(
            curve.x, curve.expected, color=style.color, label=f"_expected of {curve.label}", zorder=2,
            linestyle=style.dashes if by_formula else (0, (1, 2)),
            linewidth=(1.1 if by_formula else 0.7) * look.scale,
        )  # fmt: skip
