"""The roofline: what each implementation reaches, under what this device was measured to reach.

Williams, Waterman & Patterson (2009), "Roofline: an insightful visual performance model for multicore architectures".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elattn_bench.analysis import Facet, by_label, leading_facets, one_order
from elattn_bench.figures.header import describe, draw_header, header_height, sizes_of
from elattn_bench.figures.legend import draw_handles, labels_of, legend_height
from elattn_bench.figures.look import Look
from elattn_bench.figures.palette import ink
from elattn_bench.figures.roofline_plan import NAME_SIZE, ROOF_SIZE, Plan, Roof, intensity, reached, roofs
from elattn_bench.figures.sheet import Sheet, at_share, log_ticks, panel_height
from elattn_bench.figures.style import Line, Style, assign_styles, latency_ticks
from elattn_bench.results import Row
from elattn_bench.roofline import Ceilings, format_rate
from elattn_bench.rundir import Run
from elattn_bench.units import format_length

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_HEIGHT = 3.4  # inches, as all that follow, at scale 1
NARROW_HEIGHT = 2.6  # of a panel less wide than that
LEFT, RIGHT, ABOVE, TICKS = 0.78, 0.14, 0.12, 0.46  # around the panel
TICK_ROOM = 0.4  # inches that the label of a tick needs
TITLE = "Roofline: operations per second under the measured ceilings"
HOW = (
    "Work and bytes by formula, the least that a call needs. Marks: each line's longest length; paths: shorter ones. "
    "The flat roof is of matrix products; of element-wise work (an exponential counts one) the roof is bandwidth. "
    "Above the memory's slope, data came from the cache."
)


def draw_roofline(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """A figure per setting, of the facet with most impls; nothing where the run has no ceilings."""
    ceilings = Ceilings.from_json(run.info.get("ceilings") or {})
    styles = assign_styles(map(Line.of, run.rows), look)
    for facet, rows in leading_facets(row for row in run.rows if _has_work(row, run.device_name)):
        lines = by_label(one_order(rows))
        if found := roofs(ceilings, facet.dtype):
            yield f"roofline-{facet.setting.file_part}", _draw(run, look, facet, lines, found, styles)


def _has_work(row: Row, device_name: str) -> bool:
    """Whether the row has a place under these ceilings: they are of one device, and of the one that the run names."""
    is_there = row.ranks is None and row.device_name in ("", device_name)
    return bool(is_there and row.ok and row.latency_ms_p50 and row.flops and row.bytes_moved)


def _draw(
    run: Run,
    look: Look,
    facet: Facet,
    lines: Mapping[str, Sequence[Row]],
    found: Sequence[Roof],
    styles: Mapping[str, Style],
) -> Figure:
    longest = max(row.seq_len for rows in lines.values() for row in rows)
    sizes = [*sizes_of(facet), f"L up to {format_length(longest)}"]
    remarks = describe(run, facet.setting, sizes, [HOW], look)
    top = header_height(remarks, look, TITLE) + ABOVE
    plan, handles = _planned(lines, found, styles, top + TICKS, look)
    width, height = plan.width, plan.height
    sheet = Sheet.of(look, top + height + TICKS + legend_height(labels_of(handles), look))
    axes = sheet.axes(LEFT, top, width, height)
    _set_axes(axes, plan)
    for roof in found:
        _draw_roof(axes, roof, found, plan, look)
    for label, rows in lines.items():
        _draw_line(axes, label, rows, styles[label], look)
    if plan.is_named:
        _name(axes, plan, lines, styles, look)
    draw_header(sheet.figure, TITLE, remarks, look)
    draw_handles(sheet.figure, handles, look)
    return sheet.figure


def _planned(
    lines: Mapping[str, Sequence[Row]],
    found: Sequence[Roof],
    styles: Mapping[str, Style],
    others: float,
    look: Look,
) -> tuple[Plan, list[Artist]]:
    """The plan that names lines beside their marks, and no legend; else the one that leaves room for a legend."""
    width = look.room - LEFT - RIGHT
    wanted = PANEL_HEIGHT if width > PANEL_HEIGHT else NARROW_HEIGHT
    plan = Plan.of(lines, found, width, panel_height(look, wanted, others), look)
    if plan.is_named:
        return plan, []
    handles = _handles(lines, styles)
    below = legend_height(labels_of(handles), look)
    plan = Plan.of(lines, found, width, panel_height(look, wanted, others + below), look)
    return replace(plan, sides=()), handles


def _set_axes(axes: Axes, plan: Plan) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*plan.x)
    axes.set_ylim(*plan.y)
    most = max(2, int(plan.width / TICK_ROOM))
    log_ticks(axes, "x", latency_ticks(*plan.x), lambda value: f"{value:g}", most)
    log_ticks(axes, "y", latency_ticks(*plan.y), rate_tick, 7)
    axes.set_xlabel("arithmetic intensity (FLOP per byte)")


def rate_tick(per_second: float) -> str:
    """``50 GFLOP/s``: no more digits than the tick has."""
    number, unit = format_rate(per_second, "FLOP/s").split()
    return f"{float(number):g} {unit}"


def _draw_roof(axes: Axes, roof: Roof, found: Sequence[Roof], plan: Plan, look: Look) -> None:
    low, high = plan.starts(roof, found)
    if high <= low:
        return
    dashes = "--" if roof.slope and roof is not found[0] else "-"
    axes.plot(
        [low, high], [roof.at(low), roof.at(high)], color=look.muted, linewidth=1.2 * look.scale,
        linestyle=dashes, label=f"_{roof.name}", zorder=1.5,
    )  # fmt: skip
    x, y = plan.name_spot(roof, found)
    place = (at_share(x / plan.size[0], plan.x), at_share(y / plan.size[1], plan.y))
    angle = 0.0 if roof.level else math.degrees(math.atan(plan.rise(roof)))
    axes.annotate(
        roof.name, place, xytext=(0, 0), textcoords="offset points", rotation=angle, rotation_mode="anchor",
        ha="right" if roof.level else "left", va="bottom", fontsize=look.points(ROOF_SIZE), color=look.muted,
    )  # fmt: skip


def _draw_line(axes: Axes, label: str, rows: Sequence[Row], style: Style, look: Look) -> None:
    scale = look.scale
    places, heights = [intensity(row) for row in rows], [reached(row) for row in rows]
    axes.plot(
        places, heights, color=style.color, linewidth=0.8 * scale, marker=".", markersize=2.5 * scale,
        alpha=0.5, label=f"_path of {label}", zorder=2,
    )  # fmt: skip
    axes.plot(
        places[-1:], heights[-1:], color=style.color, marker=style.marker, markersize=5.5 * scale,
        markeredgecolor=look.ground, markeredgewidth=0.5 * scale, linestyle="none", label=label, zorder=3,
    )  # fmt: skip


def _name(
    axes: Axes, plan: Plan, lines: Mapping[str, Sequence[Row]], styles: Mapping[str, Style], look: Look
) -> None:
    for (label, rows), side in zip(lines.items(), plan.sides, strict=True):
        assert side is not None
        axes.annotate(
            label, (intensity(rows[-1]), reached(rows[-1])), zorder=4, parse_math=False,
            xytext=(side.dx * look.scale, side.dy * look.scale), textcoords="offset points", ha=side.ha,
            va=side.va, fontsize=look.points(NAME_SIZE), color=ink(styles[label].color, look),
        )  # fmt: skip


def _handles(lines: Mapping[str, Sequence[Row]], styles: Mapping[str, Style]) -> list[Artist]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=styles[label].color, marker=styles[label].marker, linestyle="none", label=label)
        for label in lines
    ]
