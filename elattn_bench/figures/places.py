"""Where the panels of the lead figure stand: side by side where they fit, else below each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from elattn_bench.figures.legend import legend_height
from elattn_bench.figures.look import Look
from elattn_bench.figures.names import fit, names_width

PANEL_HEIGHT = 3.1  # inches, as all that follow, at scale 1
STACKED_HEIGHT = 2.1  # of panels below each other
LOWEST = 0.8  # in a figure of fixed height; it grows rather than squeeze its panels
NARROWEST = 1.2
NARROWEST_PLACE = 3.0  # of a panel with its ticks and its names: narrower ones stand below each other
LEFT = 0.62  # tick labels
RIGHT = 0.1  # of panels without names
TITLE = 0.3  # of a panel
TICKS = 0.48  # tick labels and the axis label below
BETWEEN = 0.26  # tick labels of a panel that has another below
WIDEST_NAMES = 0.45  # of a panel's place: wider ones, of lines with knobs, would leave no room for the lines


@dataclass(frozen=True, slots=True)
class Places:
    """Where things stand, in inches at scale 1.

    panels, columns: how many, and how many of them side by side.
    names: the width of names; None where there is a legend instead.
    in_each: whether the lines are named beside every panel, or only beside the last of a row.
    """

    room: float
    top: float
    panels: int
    columns: int
    panel_height: float
    names: float | None
    in_each: bool
    below: float

    @classmethod
    def of(cls, panels: int, labels: Sequence[str], header: float, look: Look) -> Places:
        """The places that name lines beside every panel; else beside the last; else in a legend."""
        columns = panels if look.room / panels >= NARROWEST_PLACE else 1
        rows = math.ceil(panels / columns)
        names = names_width(labels)

        def made(names: float | None, *, in_each: bool) -> Places:
            below = TICKS + (legend_height(labels, look) if names is None else 0)
            height = STACKED_HEIGHT if rows > 1 else PANEL_HEIGHT
            if look.room_height:
                free = look.room_height - header - below - rows * TITLE - (rows - 1) * BETWEEN
                height = max(LOWEST, free / rows)
            return cls(look.room, header, panels, columns, height, names, in_each, below)

        each, last = made(names, in_each=True), made(names, in_each=False)
        if fit(labels, each.panel_height):
            if names <= WIDEST_NAMES * look.room / columns and each.panel_width >= NARROWEST:
                return each
            if last.panel_width >= NARROWEST:
                return last
        return made(None, in_each=False)

    @property
    def rows(self) -> int:
        """How many rows of panels."""
        return math.ceil(self.panels / self.columns)

    @property
    def panel_width(self) -> float:
        """Of a panel."""
        taken = sum(LEFT + self._right(column) for column in range(self.columns))
        return (self.room - taken) / self.columns

    @property
    def height(self) -> float:
        """Of the figure."""
        return self.top + self.rows * (TITLE + self.panel_height) + (self.rows - 1) * BETWEEN + self.below

    def is_named(self, index: int) -> bool:
        """Whether the lines of that panel are named beside it."""
        column = index % self.columns
        return self.names is not None and (self.in_each or column == self.columns - 1)

    def is_lowest(self, index: int) -> bool:
        """Whether no panel stands below."""
        return index + self.columns >= self.panels

    def of_panel(self, index: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a panel, as shares of the figure."""
        row, column = divmod(index, self.columns)
        before = sum(LEFT + self.panel_width + self._right(other) for other in range(column))
        lower = self.top + (row + 1) * (TITLE + self.panel_height) + row * BETWEEN
        return (
            (before + LEFT) / self.room, 1 - lower / self.height,
            self.panel_width / self.room, self.panel_height / self.height,
        )  # fmt: skip

    def _right(self, column: int) -> float:
        """Inches to the right of a panel in that column."""
        return self.names if self.names is not None and self.is_named(column) else RIGHT
