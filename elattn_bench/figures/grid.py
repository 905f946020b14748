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
from elattn_bench.figures.legend import draw_legend, legend_height
from elattn_bench.figures.look import Look
from elattn_bench.figures.panel import (
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
    draw_panel,
    find_limits,
    label_axes,
    quantity_in,
    series_of,
)
from elattn_bench.figures.style import GREY, WIDTH, Style, assign_styles, evenly
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import format_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_COLUMNS = 4  # panels side by side that stay readable at README width
MOST_ROWS = 3
MOST_LENGTHS = 4  # lines of one impl where orders vary along them
PANEL_HEIGHTS = (3.7, 2.7, 2.2, 2.0)  # inches, for 1, 2, 3 and 4 panels side by side
LEFT = 0.82  # inches: tick labels and the axis label
GAP = 0.14  # inches between panels
TICKS = 0.46  # inches: tick labels and the axis label below the panels


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
    styles = assign_styles(map(grid.across.line, usable))
    for setting, rows in by_setting(usable).items():
        heads = sorted({row.heads for row in rows})
        for count in heads:
            suffix = f"-heads{count}" if len(heads) > 1 else ""
            stem = f"{grid.stem}-{file_part(setting)}{suffix}"
            for page in make_pages(grid.in_mode(setting.mode), setting, select(rows, heads=count)):
                if has_data(page):
                    batch = f"-batch{page.rows[0]}" if page.is_one_of_many else ""
                    yield f"{stem}{batch}", draw_page(page, run, styles)


def file_part(setting: Setting) -> str:
    """``op-forward-float32-full``: the setting in a file's name."""
    cold = "-cold" if setting.cache == "cold" else ""
    return f"{setting.level}-{setting.mode}-{setting.dtype}-{setting.mask}{cold}"


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


def make_pages(grid: Grid, setting: Setting, rows: Sequence[Row]) -> Iterator[Page]:
    """One page; of more attentions than a panel can hold a page per batch, with a row for every family."""
    if not is_crowded(rows):
        yield make_page(grid, setting, rows)
        return
    batches = sorted({row.batch for row in rows})
    for batch in batches:
        page = make_page(grid, setting, select(rows, batch=batch))
        yield replace(page, by_family=True, is_one_of_many=len(batches) > 1)


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


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand on a page, in inches from its upper left."""

    top: float
    left: float
    right: float
    panel_width: float
    panel_height: float
    rows: int
    columns: int
    legend_height: float

    @classmethod
    def of(cls, page: Page, labels: Sequence[str], header: float) -> Layout:
        """The layout that gives the panels all the width, and the legend the rows below that it needs."""
        rows, columns = len(page.rows), len(page.columns)
        right = 0.32 if rows > 1 else 0.14
        top = header + (0.3 if columns > 1 else 0.14)
        width = (WIDTH - LEFT - right - GAP * (columns - 1)) / columns
        return cls(top, LEFT, right, width, PANEL_HEIGHTS[columns - 1], rows, columns, legend_height(labels))

    @property
    def bottom(self) -> float:
        """Where the lowest panels end."""
        return self.top + self.rows * self.panel_height + (self.rows - 1) * GAP

    @property
    def height(self) -> float:
        """Of the whole page."""
        return self.bottom + TICKS + self.legend_height

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Row and column of every panel, in reading order."""
        return [(row, column) for row in range(self.rows) for column in range(self.columns)]

    def place(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a panel, as shares of the page."""
        left = self.left + column * (self.panel_width + GAP)
        lower = self.top + row * (self.panel_height + GAP) + self.panel_height
        return (
            left / WIDTH, 1 - lower / self.height, self.panel_width / WIDTH, self.panel_height / self.height
        )  # fmt: skip


def draw_page(page: Page, run: Run, styles: Mapping[str, Style]) -> Figure:
    """The figure: header, panels with shared axes, legend outside of the data."""
    from matplotlib.figure import Figure

    if page.by_family:
        return _draw_families(page, run, styles)
    labels = _labels(page)
    layout = Layout.of(page, labels, header_height(_header_lines(page, run)))
    figure = Figure(figsize=(WIDTH, layout.height))
    panels = list(page.panels.values())
    grid = page.grid
    limits = find_limits(panels, grid.quantity, grid.across, layout.panel_height * 72)
    for (row, column), (batch, value) in zip(layout.cells, page.panels, strict=True):
        axes = figure.add_axes(layout.place(row, column))
        draw_panel(axes, page.panels[batch, value], grid.quantity, grid.across, styles, limits)
        label_axes(axes, panels, grid.quantity, grid.across, limits, layout.panel_width)
        axes.tick_params(labelbottom=row == len(page.rows) - 1, labelleft=column == 0)
        _name_panel(axes, page, row, column)
    _name_axes(figure, page, layout)
    draw_header(figure, grid.title, _header_lines(page, run))
    draw_legend(figure, labels, styles)
    return figure


def _draw_families(page: Page, run: Run, styles: Mapping[str, Style]) -> Figure:
    (batch,) = page.rows
    columns = [
        Column(
            _column_name(page, value) if len(page.columns) > 1 else page.grid.quantity.label,
            page.grid.quantity,
            page.grid.across,
            page.panels[batch, value],
        )
        for value in page.columns
    ]
    return draw_families(run, page.grid.title, _header_lines(page, run), columns, styles)


def _labels(page: Page) -> list[str]:
    drawn = {
        series.line
        for panel in page.panels.values()
        for series in panel
        if any(row.status != "unsupported" for row in series.rows)
    }
    return [line.label for line in sorted(drawn)]


def _header_lines(page: Page, run: Run) -> list[str]:
    sizes = [f"heads {page.heads}"]
    if len(page.rows) == 1:
        sizes.append(f"batch {page.rows[0]}")
    if len(page.columns) == 1:
        sizes.append(_column_name(page, page.columns[0]))
    rows = _rows(page)
    states = same_state_legend(rows) if page.grid.quantity is STATE else ""
    remarks = [page.grid.quantity.caption, mark_legend(rows), unsupported_legend(rows), states, *page.notes]
    return describe(run, page.setting, sizes, remarks)


def _rows(page: Page) -> list[Row]:
    return [row for panel in page.panels.values() for series in panel for row in series.rows]


def _column_name(page: Page, value: int) -> str:
    return f"dim {value}" if page.grid.columns == "dim" else f"L = {format_length(value)}"


def _name_panel(axes: Axes, page: Page, row: int, column: int) -> None:
    if len(page.columns) > 1 and row == 0:
        axes.set_title(_column_name(page, page.columns[column]), pad=4)
    if len(page.rows) > 1 and column == len(page.columns) - 1:
        axes.annotate(
            f"batch {page.rows[row]}", (1, 0.5), xycoords="axes fraction", xytext=(5, 0),
            textcoords="offset points", rotation=270, va="center", fontsize=8,
        )  # fmt: skip
    if not page.panels[page.rows[row], page.columns[column]]:
        axes.text(0.5, 0.5, "not in this run", transform=axes.transAxes, ha="center", color=GREY)


def _name_axes(figure: Figure, page: Page, layout: Layout) -> None:
    """One label per axis for all panels."""
    middle = (layout.top + layout.bottom) / 2
    centre = layout.left + (WIDTH - layout.left - layout.right) / 2
    figure.text(
        0.12 / WIDTH,
        1 - middle / layout.height,
        page.grid.quantity.label,
        rotation=90,
        va="center",
        ha="left",
    )
    lower = layout.bottom + TICKS - 0.06
    figure.text(centre / WIDTH, 1 - lower / layout.height, page.grid.across.label, ha="center", va="bottom")
