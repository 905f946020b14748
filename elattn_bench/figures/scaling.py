"""The lead figure: latency and peak memory against length, side by side, each line named at its end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from elattn_bench.analysis import Facet, by_facet
from elattn_bench.figures.families import Column, draw_families, is_crowded
from elattn_bench.figures.header import (
    describe,
    draw_header,
    header_height,
    mark_legend,
    same_state_legend,
    unsupported_legend,
)
from elattn_bench.figures.legend import draw_legend, legend_height
from elattn_bench.figures.look import Look
from elattn_bench.figures.names import fit, name_lines, names_width
from elattn_bench.figures.panel import (
    LATENCY,
    LENGTHS,
    MEMORY,
    across_in,
    draw_panel,
    find_limits,
    label_axes,
    quantity_in,
    series_of,
)
from elattn_bench.figures.style import WIDTH, Line, Style, assign_styles
from elattn_bench.results import Row
from elattn_bench.rundir import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_ORDER = 6  # the order that the papers recommend, and our default
PANEL_HEIGHT = 3.1  # inches
LEFT = 0.62  # inches: tick labels
PANEL_TITLE = 0.3  # inches
WIDEST_NAMES = 0.45  # of a panel's place: wider ones, of lines with knobs, would leave no room for the lines
TICKS = 0.48  # inches: tick labels and the axis label below


def draw_scaling(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """The figure, for the facet that most people ask about; nothing where nothing was measured."""
    facets = {facet: rows for facet, rows in by_facet(run.rows).items() if any(row.ok for row in rows)}
    if not facets:
        return
    facet = max(facets, key=interest)
    rows = one_order(facets[facet])
    yield "scaling", draw_figure(run, facet, rows, assign_styles(map(Line.of, run.rows)))


def draw_decode(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """Of mode decode, a figure per batch and other sizes: latency per token and the state, all orders."""
    styles = assign_styles(map(Line.of, run.rows))
    for facet, rows in by_facet(run.rows).items():
        if facet.mode == "decode" and any(row.ok for row in rows):
            yield _decode_stem(facet), draw_figure(run, facet, rows, styles)


def _decode_stem(facet: Facet) -> str:
    cold = "-cold" if facet.cache == "cold" else ""
    level = "" if facet.level == "op" else f"{facet.level}-"
    return f"decode-{level}{facet.dtype}-batch{facet.batch}-heads{facet.heads}-dim{facet.dim}{cold}"


def interest(facet: Facet) -> tuple[bool, bool, bool, bool, int, int, int]:
    """op, forward, non-causal, float32 first; then the largest dim, the smallest batch, the fewest heads."""
    return (
        facet.level == "op", facet.mode == "forward", not facet.causal, facet.dtype == "float32",
        facet.dim, -facet.batch, -facet.heads,
    )  # fmt: skip


def one_order(rows: Sequence[Row]) -> list[Row]:
    """Of every attention that has orders only the one nearest to the default among those measured."""
    orders: defaultdict[str, set[int]] = defaultdict(set)
    for row in rows:
        if row.ok and row.order is not None:
            orders[row.attention].add(row.order)
    nearest = {
        attention: min(found, key=lambda order: (abs(order - DEFAULT_ORDER), order))
        for attention, found in orders.items()
    }
    return [row for row in rows if row.order in (None, nearest.get(row.attention, row.order))]


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
    title = " and ".join(quantity.title.lower() for quantity in quantities)
    title = f"{title.capitalize()} against {across.name}"
    if is_crowded(rows):
        columns = [Column(quantity.label, quantity, across, panel) for quantity in quantities]
        return draw_families(run, title, lines, columns, styles)
    pitch = WIDTH / len(quantities)
    named = fit(labels, PANEL_HEIGHT) and names_width(labels) <= WIDEST_NAMES * pitch
    below = TICKS + (0 if named else legend_height(labels))
    names = names_width(labels) if named else 0.1
    height = header_height(lines) + PANEL_TITLE + PANEL_HEIGHT + below
    figure = Figure(figsize=(WIDTH, height))
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
            name_lines(axes, panel, quantity, across, styles, limits, PANEL_HEIGHT)
    draw_header(figure, title, lines)
    if not named:
        draw_legend(figure, labels, styles)
    return figure


def _sizes(facet: Facet) -> list[str]:
    return [f"heads {facet.heads}", f"batch {facet.batch}", f"dim {facet.dim}"]
