"""Where the panels of a grid stand: as many side by side as the look's width holds, names or a legend beside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from elattn_bench.figures.legend import legend_height
from elattn_bench.figures.look import Look
from elattn_bench.figures.names import fit, names_width

MOST_COLUMNS = 4  # panels side by side that stay readable
PANEL_HEIGHTS = (3.7, 2.7, 2.2, 2.0)  # inches, as all that follow, at scale 1: for 1, 2, 3, 4 side by side
FLAT = 0.8  # of a panel's width: it need not be higher, where it is higher than LOW
LOW = 2.2
LOWEST = 0.8  # in a figure of fixed height; it grows rather than squeeze its panels
NARROWEST = 1.2
LEFT = 0.82  # tick labels and the axis label
RIGHT = 0.14
GAP = 0.14  # between panels
TITLE = 0.3  # what a column shows
TICKS = 0.46  # tick labels and the axis label below the panels
BATCH = 0.18  # what a row shows, at its right


def panels_abreast(look: Look) -> int:
    """How many panels stand side by side in the look."""
    return max(1, min(MOST_COLUMNS, int((look.room - LEFT - RIGHT + GAP) / (NARROWEST + GAP))))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand on a page, in inches at scale 1 from its upper left.

    panels: how many; the last row may be shorter.
    columns: panels side by side.
    is_wrapped: every panel has its own title, for the columns of one row stand below each other.
    names: the width of the names beside the last panel of each row; None where there is a legend instead.
    """

    room: float
    top: float
    right: float
    panel_width: float
    panel_height: float
    panels: int
    columns: int
    is_wrapped: bool
    names: float | None
    below: float

    @classmethod
    def of(
        cls, rows: int, columns: int, labels: Sequence[str], header: float, look: Look, *, nameable: bool
    ) -> Layout:
        """The layout of rows and columns of panels.

        Args:
            labels: of all lines.
            header: its height.
            nameable: whether every line ends in the last panel of some row, so that it can be named there.
        """
        abreast = min(columns, panels_abreast(look))
        wrapped = abreast < columns
        top = header + (TITLE if columns > 1 else RIGHT)
        right = RIGHT + (BATCH if rows > 1 else 0)
        count = math.ceil(columns / abreast) if wrapped else rows

        def made(names: float | None) -> Layout:
            width = (look.room - LEFT - right - (names or 0) - GAP * (abreast - 1)) / abreast
            below = TICKS + (legend_height(labels, look) if names is None else 0)
            gaps = (count - 1) * (TITLE if wrapped else GAP)
            height = min(PANEL_HEIGHTS[abreast - 1], max(LOW, FLAT * width))
            if look.room_height:
                height = max(LOWEST, (look.room_height - top - below - gaps) / count)
            return cls(look.room, top, right, width, height, rows * columns, abreast, wrapped, names, below)

        named = made(names_width(labels) - RIGHT)
        if nameable and named.panel_width >= NARROWEST and fit(labels, named.panel_height):
            return named
        return made(None)

    @property
    def rows(self) -> int:
        """How many rows of panels."""
        return math.ceil(self.panels / self.columns)

    @property
    def bottom(self) -> float:
        """Where the lowest panels end."""
        return self.top + self.rows * (self.panel_height + self.gap) - self.gap

    @property
    def gap(self) -> float:
        """Between two rows."""
        return TITLE if self.is_wrapped else GAP

    @property
    def height(self) -> float:
        """Of the whole page."""
        return self.bottom + self.below

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Row and column of every panel, in reading order."""
        return [divmod(number, self.columns) for number in range(self.panels)]

    def is_lowest(self, row: int, column: int) -> bool:
        """Whether no panel stands below."""
        return (row + 1) * self.columns + column >= self.panels

    def is_last(self, row: int, column: int) -> bool:
        """Whether no panel stands to the right."""
        return column == self.columns - 1 or row * self.columns + column == self.panels - 1

    def place(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a panel, as shares of the page."""
        left = LEFT + column * (self.panel_width + GAP)
        lower = self.top + row * (self.panel_height + self.gap) + self.panel_height
        return (
            left / self.room, 1 - lower / self.height,
            self.panel_width / self.room, self.panel_height / self.height,
        )  # fmt: skip
