"""Many attentions in one figure: a row of panels per family, its lines named, all others grey behind them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attention_impls import registry
from elattn_bench.figures.header import LINE, draw_header, header_height
from elattn_bench.figures.names import name_lines, names_width
from elattn_bench.figures.panel import Across, Limits, Quantity, Series, draw_panel, find_limits, label_axes
from elattn_bench.figures.style import COLORS, WIDTH, Style
from elattn_bench.results import Row
from elattn_bench.rundir import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ATTENTIONS = 1 + len(COLORS)  # more would share colours
REFERENCE = "softmax/sdpa"  # in every panel, to be compared with
OTHERS = "#DDDDDD"  # lines of other families: seen, not read
PANEL_HEIGHT = 1.55  # inches
LEFT = 0.72  # inches: tick labels
GAP = 0.24  # inches between panels
NAME_COLUMN = 0.26  # inches: the family's name, at the left edge
TICKS = 0.48  # inches: tick labels and the axis label below
TITLES = 0.3  # inches: what the columns show
GREY_LINES = f"Grey lines: the attentions of the other families; {REFERENCE} is in every panel."


@dataclass(frozen=True, slots=True)
class Column:
    """Panels below each other: what they show, and all their lines."""

    title: str
    quantity: Quantity
    across: Across
    lines: Sequence[Series]

    def shown(self, family: str) -> list[Series]:
        """The lines of a family, and the one that stands in every panel."""
        return [
            series for series in self.lines if _family(series) == family or series.line.label == REFERENCE
        ]


def is_crowded(rows: Iterable[Row]) -> bool:
    """Whether there are more attentions than colours, so that one panel cannot hold them."""
    return len({row.attention for row in rows if row.ok}) > MOST_ATTENTIONS


def draw_families(
    run: Run, title: str, header: Sequence[str], columns: Sequence[Column], styles: Mapping[str, Style]
) -> Figure:
    """A grid of panels: families below each other, the columns side by side; axes are shared."""
    from matplotlib.figure import Figure

    families = _families(columns)
    layout = _Layout.of(columns, len(families), header_height(header) + TITLES)
    figure = Figure(figsize=(WIDTH, layout.height))
    limits = _limits(columns, families)
    for index, column in enumerate(columns):
        for number, family in enumerate(families):
            axes = figure.add_axes(layout.place(number, index))
            _draw(axes, column, family, styles, limits[column.quantity.title], layout.width)
            if layout.is_named(index):
                _name(axes, column, family, styles, limits[column.quantity.title])
            axes.tick_params(labelbottom=number == len(families) - 1, labelleft=layout.has_ticks(index))
            if number == 0:
                axes.set_title(column.title, loc="left", pad=5, fontweight="bold")
            if number == len(families) - 1 and not layout.shared:
                axes.set_xlabel(column.across.label)
    for number, family in enumerate(families):
        _, lower, _, share = layout.place(number, 0)
        figure.text(0.1 / WIDTH, lower + share / 2, family, rotation=90, va="center", fontweight="bold")
    if layout.shared:
        figure.text(layout.middle, 0.06 / layout.height, columns[0].across.label, ha="center", va="bottom")
    draw_header(figure, title, [*header, GREY_LINES])
    return figure


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where panels stand, in inches. Columns of one quantity share its ticks and, at the right, its names."""

    top: float
    rows: int
    columns: int
    names: float
    shared: bool

    @classmethod
    def of(cls, columns: Sequence[Column], rows: int, top: float) -> _Layout:
        names = names_width([series.line.label for column in columns for series in column.lines])
        shared = len({column.quantity.title for column in columns}) == 1
        return cls(top + LINE, rows, len(columns), names, shared)

    @property
    def height(self) -> float:
        """Of the figure."""
        return self.top + self.rows * (PANEL_HEIGHT + GAP) - GAP + TICKS

    @property
    def pitch(self) -> float:
        """From one column to the next."""
        if self.shared:
            return (WIDTH - NAME_COLUMN - LEFT - self.names + GAP) / self.columns
        return (WIDTH - NAME_COLUMN) / self.columns

    @property
    def width(self) -> float:
        """Of a panel."""
        return self.pitch - (GAP if self.shared else LEFT + self.names)

    @property
    def middle(self) -> float:
        """Of all columns, as a share of the figure's width."""
        left = NAME_COLUMN + LEFT
        return (left + (self.columns * self.pitch - GAP) / 2) / WIDTH

    def is_named(self, column: int) -> bool:
        """Whether the lines of the column's panels are named."""
        return not self.shared or column == self.columns - 1

    def has_ticks(self, column: int) -> bool:
        """Whether the column's heights are labelled."""
        return not self.shared or column == 0

    def place(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a panel, as shares of the figure."""
        left = NAME_COLUMN + LEFT + column * self.pitch
        lower = self.top + row * (PANEL_HEIGHT + GAP) + PANEL_HEIGHT
        height = self.height
        return left / WIDTH, 1 - lower / height, self.width / WIDTH, PANEL_HEIGHT / height


def _draw(
    axes: Axes, column: Column, family: str, styles: Mapping[str, Style], limits: Limits, width: float
) -> None:
    shown = column.shown(family)
    for series in column.lines:
        if series not in shown:
            _draw_behind(axes, series, column)
    draw_panel(axes, shown, column.quantity, column.across, styles, limits)
    label_axes(axes, [shown], column.quantity, column.across, limits, width)


def _name(axes: Axes, column: Column, family: str, styles: Mapping[str, Style], limits: Limits) -> None:
    shown = column.shown(family)
    name_lines(axes, shown, column.quantity, column.across, styles, limits, PANEL_HEIGHT)


def _draw_behind(axes: Axes, series: Series, column: Column) -> None:
    places = [column.across.of(row) for row in series.rows]
    values = [(column.quantity.value(row) if row.ok else None) or math.nan for row in series.rows]
    axes.plot(places, values, color=OTHERS, linewidth=0.9, zorder=0.5, label="_behind")


def _limits(columns: Sequence[Column], families: Sequence[str]) -> dict[str, Limits]:
    """One pair of axes for every quantity."""
    found = {}
    for title, column in {column.quantity.title: column for column in columns}.items():
        alike = [each for each in columns if each.quantity.title == title]
        panels = [each.shown(family) for each in alike for family in families]
        found[title] = find_limits(panels, column.quantity, column.across, PANEL_HEIGHT * 72)
    return found


def _families(columns: Sequence[Column]) -> list[str]:
    """The families that have a line, in the table's order."""
    present = {_family(series) for column in columns for series in column.lines}
    return [name for name in (*registry.FAMILIES, "others") if name in present]


def _family(series: Series) -> str:
    return registry.family(series.line.attention)
