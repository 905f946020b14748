"""Small multiples: one figure per level, mode, dtype and mask; a grid of panels over what else varies."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from elattn_bench.analysis import Setting, by_setting, select
from elattn_bench.figures.families import Column, draw_families, is_crowded
from elattn_bench.figures.header import (
    describe,
    draw_header,
    header_height,
    mark_legend,
    same_state_legend,
    unsupported_legend,
)
from elattn_bench.figures.layout import GAP, LEFT, MOST_COLUMNS, TICKS, Layout, panels_abreast
from elattn_bench.figures.legend import draw_legend
from elattn_bench.figures.limits import Limits, find_limits
from elattn_bench.figures.look import Look
from elattn_bench.figures.names import ends_of, name_lines, names_width
from elattn_bench.figures.panel import draw_panel, label_axes
from elattn_bench.figures.quantities import (
    DIMS,
    LATENCY,
    LENGTHS,
    MEMORY,
    ORDERS,
    STATE,
    Across,
    Quantity,
    Series,
    across_in,
    quantity_in,
    series_of,
)
from elattn_bench.figures.style import Style, assign_styles, evenly
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import format_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 3
MOST_LENGTHS = 4  # lines of one impl where orders vary along them


@dataclass(frozen=True, slots=True)
class Grid:
    """What stands on the axes of a panel, and what varies over the columns; batches make the rows."""

    stem: str
    quantity: Quantity
    across: Across
    columns: str

    @property
    def title(self) -> str:
        """``Latency against sequence length``."""
        return f"{self.quantity.title} against {self.across.name}"

    def in_mode(self, mode: str) -> Grid:
        """The grid with what a figure of that mode shows."""
        quantity, across = quantity_in(mode, self.quantity), across_in(mode, self.across)
        return replace(self, quantity=quantity, across=across)


LATENCY_GRID = Grid("latency", LATENCY, LENGTHS, columns="dim")
MEMORY_GRID = Grid("memory", MEMORY, LENGTHS, columns="dim")
ORDER = Grid("order", LATENCY, ORDERS, columns="dim")
DIM = Grid("dim", LATENCY, DIMS, columns="seq_len")


def draw_grids(grid: Grid, run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """One figure per setting and number of heads, where the run has the data."""
    usable = [row for row in run.rows if getattr(row, grid.across.axis) is not None]
    if grid.across is ORDERS:
        lengths = evenly({row.seq_len for row in usable}, MOST_LENGTHS)
        usable = [row for row in usable if row.seq_len in lengths]
    styles = assign_styles(map(grid.across.line, usable), look)
    for setting, rows in by_setting(usable).items():
        heads = sorted({row.heads for row in rows})
        for count in heads:
            suffix = f"-heads{count}" if len(heads) > 1 else ""
            stem = f"{grid.stem}-{setting.file_part}{suffix}"
            for page in make_pages(grid.in_mode(setting.mode), setting, select(rows, heads=count), look):
                if has_data(page):
                    batch = f"-batch{page.rows[0]}" if page.is_one_of_many else ""
                    for end, figure in draw_page(page, run, styles, look):
                        yield f"{stem}{batch}{end}", figure


@dataclass(frozen=True, slots=True)
class Page:
    """The panels of one figure: (row value, column value) -> lines; ``notes`` say what was left out.

    by_family: the figure has a row of panels for every family of attentions.
    is_one_of_many: there are pages of other batches.
    """

    grid: Grid
    setting: Setting
    heads: int
    rows: Sequence[int]
    columns: Sequence[int]
    panels: Mapping[tuple[int, int], Sequence[Series]]
    notes: Sequence[str]
    by_family: bool = False
    is_one_of_many: bool = False


def make_page(grid: Grid, setting: Setting, rows: Sequence[Row]) -> Page:
    """The page for the rows of one setting and number of heads: at most 3 x 4 panels, evenly chosen."""
    batches, columns = ({getattr(row, axis) for row in rows} for axis in ("batch", grid.columns))
    shown_rows, shown_columns = evenly(batches, MOST_ROWS), evenly(columns, MOST_COLUMNS)
    panels = {
        (batch, column): series_of(select(rows, batch=batch, **{grid.columns: column}), grid.across)
        for batch in shown_rows
        for column in shown_columns
    }
    name = {"dim": "dims", "seq_len": "lengths"}[grid.columns]
    notes = [*_left_out({"batches": (shown_rows, batches), name: (shown_columns, columns)}), *_failed(rows)]
    return Page(grid, setting, rows[0].heads, shown_rows, shown_columns, panels, notes)


def make_pages(grid: Grid, setting: Setting, rows: Sequence[Row], look: Look) -> Iterator[Page]:
    """One page; a page per batch where the look has no room for rows of batches.

    Of more attentions than a panel can hold a page per batch too, with a row for every family.
    """
    crowded = is_crowded(rows)
    columns = min(MOST_COLUMNS, len({getattr(row, grid.columns) for row in rows}))
    if not (crowded or look.height or columns > panels_abreast(look)):
        yield make_page(grid, setting, rows)
        return
    batches = sorted({row.batch for row in rows})
    for batch in batches:
        page = make_page(grid, setting, select(rows, batch=batch))
        yield replace(page, by_family=crowded, is_one_of_many=len(batches) > 1)


def _left_out(choices: Mapping[str, tuple[Collection[int], Collection[int]]]) -> list[str]:
    cut = [
        f"{len(few)} of {len(many)} {name}" for name, (few, many) in choices.items() if len(few) < len(many)
    ]
    return [f"Shown: {', '.join(cut)}."] if cut else []


def _failed(rows: Sequence[Row]) -> list[str]:
    count = sum(row.status == "error" for row in rows)
    return [f"{count} case{'s' * (count > 1)} ended with an error and cannot be shown."] if count else []


def has_data(page: Page) -> bool:
    """Whether there is a measured line, of two places at least where orders or dims vary along it."""
    fewest = 1 if page.grid.across.axis == LENGTHS.axis else 2
    return any(
        sum(1 for row in series.rows if row.ok and page.grid.quantity.value(row)) >= fewest
        for panel in page.panels.values()
        for series in panel
    )


def draw_page(page: Page, run: Run, styles: Mapping[str, Style], look: Look) -> Iterator[tuple[str, Figure]]:
    """The figure, or those that the page needs in this look, each with the end of its file's stem."""
    if page.by_family:
        header = _header_lines(page, run, look)
        yield from draw_families(run, page.grid.title, header, _columns(page), styles, look)
        return
    yield "", _draw_panels(page, run, styles, look)


def _draw_panels(page: Page, run: Run, styles: Mapping[str, Style], look: Look) -> Figure:
    """Header, panels with shared axes, names beside the last of each row or a legend below."""
    from matplotlib.figure import Figure

    header, labels, grid = _header_lines(page, run, look), _labels(page), page.grid
    layout = _layout(page, labels, header_height(header, look), look)
    figure = Figure(figsize=(look.width, layout.height * look.scale))
    panels = list(page.panels.values())
    limits = find_limits(panels, grid.quantity, grid.across, layout.panel_height * 72)
    for cell, panel in zip(layout.cells, panels, strict=True):
        axes = figure.add_axes(layout.place(*cell))
        draw_panel(axes, panel, grid.quantity, grid.across, styles, limits, look)
        label_axes(axes, panels, grid.quantity, grid.across, limits, layout.panel_width)
        axes.tick_params(labelbottom=layout.is_lowest(*cell), labelleft=cell[1] == 0)
        if layout.names is not None and layout.is_last(*cell):
            name_lines(axes, panel, grid.quantity, grid.across, styles, limits, layout.panel_height, look)
    _name_panels(figure.axes, page, layout, labels, look)
    _name_axes(figure, page, layout)
    draw_header(figure, grid.title, header, look)
    if layout.names is None:
        draw_legend(figure, labels, styles, look)
    return figure


def _layout(page: Page, labels: Sequence[str], header: float, look: Look) -> Layout:
    """Names beside the last panel of each row, where every line ends in one of them."""
    rows, columns = len(page.rows), len(page.columns)
    abreast = min(columns, panels_abreast(look))
    panels = list(page.panels.values())
    last = [*panels[abreast - 1 :: abreast], panels[-1]]
    nameable = set().union(*(_ends(panel, page.grid) for panel in last)) == set(labels)
    return Layout.of(rows, columns, labels, header, look, nameable=nameable)


def _ends(panel: Sequence[Series], grid: Grid) -> set[str]:
    """The lines that end in the panel, measured or not."""
    anywhere = Limits((1, 2), (1, 2), None, 0, 2)
    return {series.line.label for series, _, _ in ends_of(panel, grid.quantity, grid.across, anywhere)}


def _columns(page: Page) -> list[Column]:
    (batch,) = page.rows
    grid = page.grid
    return [
        Column(
            _column_name(page, value) if len(page.columns) > 1 else grid.quantity.label,
            grid.quantity,
            grid.across,
            page.panels[batch, value],
            f"{grid.columns.replace('seq_len', 'length')}{value}",
        )
        for value in page.columns
    ]


def _labels(page: Page) -> list[str]:
    drawn = {
        series.line
        for panel in page.panels.values()
        for series in panel
        if any(row.status != "unsupported" for row in series.rows)
    }
    return [line.label for line in sorted(drawn)]


def _header_lines(page: Page, run: Run, look: Look) -> list[str]:
    sizes = [f"heads {page.heads}"]
    if len(page.rows) == 1:
        sizes.append(f"batch {page.rows[0]}")
    if len(page.columns) == 1:
        sizes.append(_column_name(page, page.columns[0]))
    rows = _rows(page)
    states = same_state_legend(rows) if page.grid.quantity is STATE else ""
    remarks = [page.grid.quantity.caption, mark_legend(rows), unsupported_legend(rows), states, *page.notes]
    return describe(run, page.setting, sizes, remarks, look)


def _rows(page: Page) -> list[Row]:
    return [row for panel in page.panels.values() for series in panel for row in series.rows]


def _column_name(page: Page, value: int) -> str:
    return f"dim {value}" if page.grid.columns == "dim" else f"L = {format_length(value)}"


def _name_panels(
    panels: Sequence[Axes], page: Page, layout: Layout, labels: Sequence[str], look: Look
) -> None:
    """What the columns show above them, and what the rows show at their right."""
    keys = list(page.panels)
    for axes, cell, (batch, value) in zip(panels, layout.cells, keys, strict=True):
        if len(page.columns) > 1 and (layout.is_wrapped or cell[0] == 0):
            axes.set_title(_column_name(page, value), pad=4 * look.scale)
        if len(page.rows) > 1 and layout.is_last(*cell):
            place = 5.0 if layout.names is None else names_width(labels) * 72
            axes.annotate(
                f"batch {batch}", (1, 0.5), xycoords="axes fraction", xytext=(place * look.scale, 0),
                textcoords="offset points", rotation=270, va="center", fontsize=look.points(8),
            )  # fmt: skip
        if not page.panels[batch, value]:
            axes.text(0.5, 0.5, "not in this run", transform=axes.transAxes, ha="center", color=look.muted)


def _name_axes(figure: Figure, page: Page, layout: Layout) -> None:
    """One label per axis for all panels."""
    middle = (layout.top + layout.bottom) / 2
    centre = LEFT + (layout.columns * layout.panel_width + (layout.columns - 1) * GAP) / 2
    figure.text(
        0.12 / layout.room,
        1 - middle / layout.height,
        page.grid.quantity.label,
        rotation=90,
        va="center",
        ha="left",
    )
    lower = layout.bottom + TICKS - 0.06
    label = page.grid.across.label
    figure.text(centre / layout.room, 1 - lower / layout.height, label, ha="center", va="bottom")
