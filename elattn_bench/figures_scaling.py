"""The lead figure: latency and peak memory against length, side by side, each line named at its end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from elattn_bench.analysis import Facet, by_facet
from elattn_bench.figures_header import (
    describe,
    draw_header,
    header_height,
    mark_legend,
    same_state_legend,
    unsupported_legend,
)
from elattn_bench.figures_legend import draw_legend, legend_height, spread_out
from elattn_bench.figures_panel import (
    LATENCY,
    LENGTHS,
    MEMORY,
    Limits,
    Quantity,
    Series,
    across_in,
    draw_panel,
    failures,
    find_limits,
    label_axes,
    quantity_in,
    series_of,
)
from elattn_bench.figures_style import WIDTH, Line, Style, assign_styles, ink
from elattn_bench.results import Row
from elattn_bench.rundir import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEFAULT_ORDER = 6  # the order that the papers recommend, and our default
PANEL_HEIGHT = 3.1  # inches
LEFT = 0.62  # inches: tick labels
PANEL_TITLE = 0.3  # inches
LETTER = 0.057  # inches: mean width of a letter in a name
NAME_OFFSET = 10.0  # points between the panel's right edge and the names
TICKS = 0.48  # inches: tick labels and the axis label below
NAME_POINTS = 9.0  # height of a name
LEADER = {"arrowstyle": "-", "linewidth": 0.5, "alpha": 0.6, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)}


def draw_scaling(run: Run) -> Iterator[tuple[str, Figure]]:
    """The figure, for the facet that most people ask about; nothing where nothing was measured."""
    facets = {facet: rows for facet, rows in by_facet(run.rows).items() if any(row.ok for row in rows)}
    if not facets:
        return
    facet = max(facets, key=_interest)
    rows = _one_order(facets[facet])
    yield "scaling", draw_figure(run, facet, rows, assign_styles(map(Line.of, run.rows)))


def draw_decode(run: Run) -> Iterator[tuple[str, Figure]]:
    """Of mode decode, a figure per batch and other sizes: latency per token and the state, all orders."""
    styles = assign_styles(map(Line.of, run.rows))
    for facet, rows in by_facet(run.rows).items():
        if facet.mode == "decode" and any(row.ok for row in rows):
            yield _decode_stem(facet), draw_figure(run, facet, rows, styles)


def _decode_stem(facet: Facet) -> str:
    cold = "-cold" if facet.cache == "cold" else ""
    level = "" if facet.level == "op" else f"{facet.level}-"
    return f"decode-{level}{facet.dtype}-batch{facet.batch}-heads{facet.heads}-dim{facet.dim}{cold}"


def _interest(facet: Facet) -> tuple[bool, bool, bool, bool, int, int, int]:
    """op, forward, non-causal, float32 first; then the largest dim, the smallest batch, the fewest heads."""
    return (
        facet.level == "op", facet.mode == "forward", not facet.causal, facet.dtype == "float32",
        facet.dim, -facet.batch, -facet.heads,
    )  # fmt: skip


def _one_order(rows: Sequence[Row]) -> list[Row]:
    """Of every attention that has orders only the one nearest to the default."""
    orders = {row.order for row in rows if row.order is not None}
    nearest = min(orders, key=lambda order: (abs(order - DEFAULT_ORDER), order), default=None)
    return [row for row in rows if row.order in (None, nearest)]


def draw_figure(run: Run, facet: Facet, rows: Sequence[Row], styles: Mapping[str, Style]) -> Figure:
    """Two panels, or one where memory was not measured."""
    from matplotlib.figure import Figure

    across = across_in(facet.mode, LENGTHS)
    panel = series_of(rows, across)
    labels = [series.line.label for series in panel]
    shown = [quantity_in(facet.mode, item) for item in (LATENCY, MEMORY)]
    quantities = [item for item in shown if any(row.ok and item.value(row) for row in rows)]
    remarks = [LATENCY.caption, mark_legend(rows), unsupported_legend(rows)]
    if facet.mode == "decode":
        remarks.append(same_state_legend(rows))
    lines = describe(run, facet.setting, _sizes(facet), remarks)
    named = (len(labels) - 1) * NAME_POINTS <= PANEL_HEIGHT * 72
    below = TICKS + (0 if named else legend_height(labels))
    names = max(map(len, labels)) * LETTER + NAME_OFFSET / 72 + 0.1 if named else 0.1
    height = header_height(lines) + PANEL_TITLE + PANEL_HEIGHT + below
    figure = Figure(figsize=(WIDTH, height))
    pitch = WIDTH / len(quantities)
    width = pitch - LEFT - names
    for index, quantity in enumerate(quantities):
        place = ((index * pitch + LEFT) / WIDTH, below / height, width / WIDTH, PANEL_HEIGHT / height)
        axes = figure.add_axes(place)
        limits = find_limits([panel], quantity, across, PANEL_HEIGHT * 72)
        draw_panel(axes, panel, quantity, across, styles, limits)
        label_axes(axes, [panel], quantity, across, limits, width)
        axes.set_title(quantity.label, loc="left", pad=5, fontweight="bold")
        axes.set_xlabel(across.label)
        if named:
            _name_lines(axes, panel, quantity, styles, limits)
    title = " and ".join(quantity.title.lower() for quantity in quantities)
    draw_header(figure, f"{title.capitalize()} against {across.name}", lines)
    if not named:
        draw_legend(figure, labels, styles)
    return figure


def _sizes(facet: Facet) -> list[str]:
    return [f"heads {facet.heads}", f"batch {facet.batch}", f"dim {facet.dim}"]


def _name_lines(
    axes: Axes, panel: Sequence[Series], quantity: Quantity, styles: Mapping[str, Style], limits: Limits
) -> None:
    """Each name beside the end of its line, or beside its failures; moved apart where they would overlap."""
    from matplotlib.transforms import offset_copy

    ends = [end for end in (_end(series, panel, quantity, limits) for series in panel) if end]
    room = PANEL_HEIGHT * 72
    places = spread_out([share * room for _, _, share in ends], NAME_POINTS, room) or []
    edge = offset_copy(axes.transAxes, cast("Figure", axes.figure), x=NAME_OFFSET, units="points")
    for (series, length, share), place in zip(ends, places, strict=True):
        color = ink(styles[series.line.label].color)
        x = math.log(length / limits.x[0]) / math.log(limits.x[1] / limits.x[0])
        axes.annotate(
            series.line.label, (x, share), xytext=(1, place / room), xycoords="axes fraction",
            textcoords=edge, va="center", fontsize=7.5, color=color, annotation_clip=False,
            arrowprops={**LEADER, "color": color},
        )  # fmt: skip


def _end(
    series: Series, panel: Sequence[Series], quantity: Quantity, limits: Limits
) -> tuple[Series, int, float] | None:
    """Where a line ends: its length, and its height as a share of the panel's."""
    lost = failures(series)
    if lost:
        lane = [other for other in panel if failures(other)].index(series)
        return series, lost[-1].seq_len, 1 - limits.lane * (lane + 0.5)
    measured = [row for row in series.rows if row.ok and quantity.value(row)]
    if not measured:
        return None
    value = quantity.value(measured[-1]) or 1.0
    share = math.log(value / limits.y[0]) / math.log(limits.y[1] / limits.y[0])
    return series, measured[-1].seq_len, share
