"""A sheet to draw on: places in inches at scale 1, whatever the look; and places on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elattn_bench.figures.header import EDGE as EDGE
from elattn_bench.figures.look import Look
from elattn_bench.figures.style import set_ticks, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NARROW = 5.0  # inches: below, panels stand below each other
LOWEST = 0.8  # inches: a panel in a figure of fixed height; the figure grows rather than squeeze it


@dataclass(frozen=True, slots=True)
class Sheet:
    """A figure, its look and its height. All places are inches from the upper left at scale 1."""

    figure: Figure
    look: Look
    height: float

    @classmethod
    def of(cls, look: Look, height: float) -> Sheet:
        """An empty sheet of that height, or of the look's where that is fixed and more."""
        from matplotlib.figure import Figure

        whole = max(height, look.room_height or 0.0)
        return cls(Figure(figsize=(look.width, whole * look.scale)), look, whole)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """A panel at that place."""
        room = self.look.room
        place = (left / room, 1 - (top + height) / self.height, width / room, height / self.height)
        return self.figure.add_axes(place)

    def head(self, axes: Axes, words: str) -> None:
        """The panel's own title, above it at the left."""
        axes.set_title(words, loc="left", pad=5 * self.look.scale, fontweight="bold")


def panel_height(look: Look, wanted: float, others: float, panels: int = 1) -> float:
    """The height of each of the panels below each other: as wanted, or what a fixed height leaves beside others."""
    return max(LOWEST, (look.room_height - others) / panels) if look.room_height else wanted


def share(value: float, limits: tuple[float, float]) -> float:
    """Where the value stands on a logarithmic axis: 0 at its start, 1 at its end."""
    return math.log(value / limits[0]) / math.log(limits[1] / limits[0])


def at_share(place: float, limits: tuple[float, float]) -> float:
    """The value at that place of a logarithmic axis."""
    return float(limits[0] * (limits[1] / limits[0]) ** place)


def log_ticks(
    axes: Axes, axis: str, ticks: Sequence[float], label: Callable[[float], str], most: int
) -> None:
    """At most so many of the ticks, the last among them, labelled."""
    shown = thin(ticks, most)
    set_ticks(axes, axis, shown, list(map(label, shown)))
