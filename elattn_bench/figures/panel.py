"""One panel of a figure: lines with bands, slopes to compare with, and marks for what was not measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from elattn_bench.analysis import short_status
from elattn_bench.figures.limits import Guide, Limits
from elattn_bench.figures.look import README, Look
from elattn_bench.figures.palette import ink
from elattn_bench.figures.quantities import FAILURE_TEXT, Across, Quantity, Series, failures
from elattn_bench.figures.style import Style, length_ticks, set_ticks, thin
from elattn_bench.units import format_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TICK_WIDTH = 0.25  # inches that the label of a length needs


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
