"""Many attentions in one figure: a row of panels per family, its lines named, all others grey behind them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attention_impls import registry
from elattn_bench.figures.header import draw_header, header_height
from elattn_bench.figures.limits import Limits, find_limits
from elattn_bench.figures.look import README, Look
from elattn_bench.figures.names import name_lines, names_width
from elattn_bench.figures.panel import draw_panel, label_axes
from elattn_bench.figures.quantities import Across, Quantity, Series
from elattn_bench.figures.style import COLORS, Style
from elattn_bench.results import Row
from elattn_bench.rundir import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ATTENTIONS = 1 + len(COLORS)  # more would share colours
REFERENCE = "softmax/sdpa"  # in every panel, to be compared with
PANEL_HEIGHT = 1.55  # inches, as all that follow, at scale 1
NARROWEST = 0.8  # a panel; columns for which there is no room get a figure of their own
LEFT = 0.72  # tick labels
GAP = 0.24  # between panels
NAME_COLUMN = 0.26  # the family's name, at the left edge
TICKS = 0.48  # tick labels and the axis label below
TITLES = 0.3  # what the columns show
OTHERS = README.faint  # lines of other families: seen, not read
GREY_LINES = f"Grey lines: the attentions of the other families; {REFERENCE} is in every panel."


@dataclass(frozen=True, slots=True)
class Column:
    """Panels below each other: what they show, and all their lines; the stem tells it from other columns."""

    title: str
    quantity: Quantity
    across: Across
    lines: Sequence[Series]
    stem: str

    def shown(self, family: str) -> list[Series]:
        """The lines of a family, and the one that stands in every panel."""
        return [
            series for series in self.lines if _family(series) == family or series.line.label == REFERENCE
        ]


def is_crowded(rows: Iterable[Row]) -> bool:
    """Whether there are more attentions than colours, so that one panel cannot hold them."""
    return len({row.attention for row in rows if row.ok}) > MOST_ATTENTIONS


def draw_families(
    run: Run,
    title: str,
    header: Sequence[str],
    columns: Sequence[Column],
    styles: Mapping[str, Style],
    look: Look,
) -> Iterator[tuple[str, Figure]]:
    """A grid of panels: families below each other, the columns side by side; axes are shared.

    Where the look has no room for all, it is several figures, each with the end of its file's stem.
    """
    families = _families(columns)
    limits = _limits(columns, families)
    most = _most_columns(columns, look)
    parts = [columns[first : first + most] for first in range(0, len(columns), most)]
    pages = [[family] for family in families] if look.height else [families]
    for part in parts:
        for page in pages:
            end = f"-{part[0].stem}" * (len(parts) > 1) + f"-{page[0]}" * (len(pages) > 1)
            yield end.lower().replace(" ", "-"), _draw_part(title, header, part, page, styles, limits, look)


def _draw_part(
    title: str,
    header: Sequence[str],
    columns: Sequence[Column],
    families: Sequence[str],
    styles: Mapping[str, Style],
    limits: Mapping[str, Limits],
    look: Look,
) -> Figure:
    from matplotlib.figure import Figure

    lines = [*header, GREY_LINES]
    layout = _Layout.of(columns, len(families), header_height(lines, look) + TITLES, look)
    figure = Figure(figsize=(look.width, layout.height * look.scale))
    for index, column in enumerate(columns):
        for number, family in enumerate(families):
            axes = figure.add_axes(layout.place(number, index))
            named = layout.is_named(index)
            _draw(axes, column, family, styles, limits[column.quantity.title], layout, look, named=named)
            axes.tick_params(labelbottom=number == len(families) - 1, labelleft=layout.has_ticks(index))
            if number == 0:
                axes.set_title(column.title, loc="left", pad=5 * look.scale, fontweight="bold")
            if number == len(families) - 1 and not layout.shared:
                axes.set_xlabel(column.across.label)
    for number, family in enumerate(families):
        _, lower, _, share = layout.place(number, 0)
        figure.text(0.1 / look.room, lower + share / 2, family, rotation=90, va="center", fontweight="bold")
    if layout.shared:
        figure.text(layout.middle, 0.06 / layout.height, columns[0].across.label, ha="center", va="bottom")
    draw_header(figure, title, lines, look)
    return figure


def _most_columns(columns: Sequence[Column], look: Look) -> int:
    """How many columns stand side by side in panels that can be read; one at least."""
    counts = range(len(columns), 0, -1)
    layouts = ((count, _Layout.of(columns[:count], 1, 0, look)) for count in counts)
    return next((count for count, layout in layouts if layout.width >= NARROWEST), 1)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where panels stand, in inches at scale 1. Columns of one quantity share ticks and, at the right, names."""

    room: float
    top: float
    rows: int
    columns: int
    names: float
    shared: bool
    panel_height: float

    @classmethod
    def of(cls, columns: Sequence[Column], rows: int, top: float, look: Look) -> _Layout:
        names = names_width([series.line.label for column in columns for series in column.lines])
        shared = len({column.quantity.title for column in columns}) == 1
        panel_height = PANEL_HEIGHT
        if look.room_height:
            panel_height = max(PANEL_HEIGHT, (look.room_height - top - TICKS + GAP) / rows - GAP)
        return cls(look.room, top, rows, len(columns), names, shared, panel_height)

    @property
    def height(self) -> float:
        """Of the figure."""
        return self.top + self.rows * (self.panel_height + GAP) - GAP + TICKS

    @property
    def pitch(self) -> float:
        """From one column to the next."""
        if self.shared:
            return (self.room - NAME_COLUMN - LEFT - self.names + GAP) / self.columns
        return (self.room - NAME_COLUMN) / self.columns

    @property
    def width(self) -> float:
        """Of a panel."""
        return self.pitch - (GAP if self.shared else LEFT + self.names)

    @property
    def middle(self) -> float:
        """Of all columns, as a share of the figure's width."""
        left = NAME_COLUMN + LEFT
        return (left + (self.columns * self.pitch - GAP) / 2) / self.room

    def is_named(self, column: int) -> bool:
        """Whether the lines of the column's panels are named."""
        return not self.shared or column == self.columns - 1

    def has_ticks(self, column: int) -> bool:
        """Whether the column's heights are labelled."""
        return not self.shared or column == 0

    def place(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a panel, as shares of the figure."""
        left = NAME_COLUMN + LEFT + column * self.pitch
        lower = self.top + row * (self.panel_height + GAP) + self.panel_height
        height = self.height
        return left / self.room, 1 - lower / height, self.width / self.room, self.panel_height / height


def _draw(
    axes: Axes,
    column: Column,
    family: str,
    styles: Mapping[str, Style],
    limits: Limits,
    layout: _Layout,
    look: Look,
    *,
    named: bool,
) -> None:
    shown = column.shown(family)
    for series in column.lines:
        if series not in shown:
            _draw_behind(axes, series, column, look)
    draw_panel(axes, shown, column.quantity, column.across, styles, limits, look)
    label_axes(axes, [shown], column.quantity, column.across, limits, layout.width)
    if named:
        name_lines(axes, shown, column.quantity, column.across, styles, limits, layout.panel_height, look)


def _draw_behind(axes: Axes, series: Series, column: Column, look: Look) -> None:
    places = [column.across.of(row) for row in series.rows]
    values = [(column.quantity.value(row) if row.ok else None) or math.nan for row in series.rows]
    axes.plot(places, values, color=look.faint, linewidth=0.9 * look.scale, zorder=0.5, label="_behind")


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
