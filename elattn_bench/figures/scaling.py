"""The lead figure: latency and peak memory against length, side by side, each line named at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from elattn_bench.analysis import Facet, by_facet, leading_facet, one_order
from elattn_bench.figures.families import Column, draw_families, is_crowded
from elattn_bench.figures.header import (
    describe,
    draw_header,
    header_height,
    mark_legend,
    same_state_legend,
    sizes_of,
    unsupported_legend,
)
from elattn_bench.figures.legend import draw_legend
from elattn_bench.figures.limits import find_limits
from elattn_bench.figures.look import Look
from elattn_bench.figures.names import name_lines
from elattn_bench.figures.panel import draw_panel, label_axes
from elattn_bench.figures.places import Places
from elattn_bench.figures.quantities import (
    LATENCY,
    LENGTHS,
    MEMORY,
    Across,
    Quantity,
    Series,
    across_in,
    quantity_in,
    series_of,
)
from elattn_bench.figures.style import Line, Style, assign_styles
from elattn_bench.results import Row
from elattn_bench.rundir import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_scaling(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """The figure, for the facet that most people ask about; nothing where nothing was measured."""
    facets = {facet: rows for facet, rows in by_facet(run.rows).items() if any(row.ok for row in rows)}
    if not facets:
        return
    facet = leading_facet(facets)
    rows = one_order(facets[facet])
    styles = assign_styles(map(Line.of, run.rows), look)
    for end, figure in draw_facet(run, facet, rows, styles, look):
        yield f"scaling{end}", figure


def draw_decode(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """Of mode decode, a figure per batch and other sizes: latency per token and the state, all orders."""
    styles = assign_styles(map(Line.of, run.rows), look)
    for facet, rows in by_facet(run.rows).items():
        if facet.mode == "decode" and any(row.ok for row in rows):
            for end, figure in draw_facet(run, facet, rows, styles, look):
                yield f"{_decode_stem(facet)}{end}", figure


def _decode_stem(facet: Facet) -> str:
    level = "" if facet.level == "op" else f"{facet.level}-"
    stem = f"decode-{level}{facet.dtype}-batch{facet.batch}-heads{facet.heads}-dim{facet.dim}"
    return "-".join([stem, *facet.setting.unusual])


def draw_facet(
    run: Run, facet: Facet, rows: Sequence[Row], styles: Mapping[str, Style], look: Look
) -> Iterator[tuple[str, Figure]]:
    """Latency and memory where they were measured; several figures where the look has no room for one."""
    across = across_in(facet.mode, LENGTHS)
    panel = series_of(rows, across)
    shown = [quantity_in(facet.mode, item) for item in (LATENCY, MEMORY)]
    quantities = [item for item in shown if any(row.ok and item.value(row) for row in rows)]
    title = " and ".join(quantity.title.lower() for quantity in quantities)
    title = f"{title.capitalize()} against {across.name}"
    header = _header_lines(run, facet, rows, look)
    if is_crowded(rows):
        columns = [
            Column(quantity.label, quantity, across, panel, quantity.title.lower()) for quantity in quantities
        ]
        yield from draw_families(run, title, header, columns, styles, look)
        return
    yield "", _draw_quantities(title, header, panel, quantities, across, styles, look)


def _draw_quantities(
    title: str,
    header: Sequence[str],
    panel: Sequence[Series],
    quantities: Sequence[Quantity],
    across: Across,
    styles: Mapping[str, Style],
    look: Look,
) -> Figure:
    """A panel for each quantity, its lines named."""
    from matplotlib.figure import Figure

    labels = [series.line.label for series in panel]
    places = Places.of(len(quantities), labels, header_height(header, look), look)
    figure = Figure(figsize=(look.width, places.height * look.scale))
    for index, quantity in enumerate(quantities):
        axes = figure.add_axes(places.of_panel(index))
        limits = find_limits([panel], quantity, across, places.panel_height * 72)
        draw_panel(axes, panel, quantity, across, styles, limits, look)
        label_axes(axes, [panel], quantity, across, limits, places.panel_width)
        axes.set_title(quantity.label, loc="left", pad=5 * look.scale, fontweight="bold")
        if places.is_lowest(index):
            axes.set_xlabel(across.label)
        if places.is_named(index):
            name_lines(axes, panel, quantity, across, styles, limits, places.panel_height, look)
    draw_header(figure, title, header, look)
    if places.names is None:
        draw_legend(figure, labels, styles, look)
    return figure


def _header_lines(run: Run, facet: Facet, rows: Sequence[Row], look: Look) -> list[str]:
    remarks = [LATENCY.caption, mark_legend(rows), unsupported_legend(rows)]
    if facet.mode == "decode":
        remarks.append(same_state_legend(rows))
    return describe(run, facet.setting, sizes_of(facet), remarks, look)
