"""The extent of the axes: room for failures on top, and for slopes to compare with where they need least of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from elattn_bench.figures.quantities import Across, Quantity, Series, failures

LANE_POINTS = 9.0  # height of a lane for marks of failures: one line of their text
MOST_LANES = 0.5  # of the panel's height for all lanes together
GUIDE_SHARE = 0.26  # of the panel's width
GUIDE_ROOM = 0.1  # of the panel's width, for the guides' labels
GUIDE_GAP = 0.06  # of the measured height, between guides and lines


@dataclass(frozen=True, slots=True)
class Guide:
    """Where the slope guides start and how far right they reach; and the heights that they need free."""

    left: float
    right: float
    base: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The extent of both axes, shared by all panels of a figure.

    guide: None where all stands at one place, so that nothing can rise.
    lane: height of one failure lane, as a share of the panel's height.
    roof: where the lanes begin; there are no values above.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    guide: Guide | None
    lane: float
    roof: float


def find_limits(
    panels: Sequence[Sequence[Series]], quantity: Quantity, across: Across, height: float
) -> Limits:
    """Limits that leave room for the failure lanes on top, and for the guides where they need least of it.

    Args:
        height: of a panel, in points at scale 1.
    """
    every = [series for panel in panels for series in panel]
    lines = [line for line in (_points(series, quantity, across) for series in every) if line]
    places = [across.of(row) for series in every for row in series.rows]
    low, high = (
        min(low for line in lines for _, low, _ in line),
        max(high for line in lines for _, _, high in line),
    )
    left, right = min(places), max(places)
    guide = _place_guide(lines, (left, right), (low, high), max(slope for slope, _ in across.guides))
    low, high = low / 1.25, high * 1.15
    if guide:
        low, high = min(low, guide.lowest), max(high, guide.highest)
    lanes = max(sum(bool(failures(series)) for series in panel) for panel in panels)
    lane = min(LANE_POINTS / height, MOST_LANES / (lanes + 0.7))
    share = 1 - (lane * (lanes + 0.7) if lanes else 0)
    margin = max((right / left) ** 0.04, 1.1)
    x, y = (left / margin, right * margin), (low, low * (high / low) ** (1 / share))
    return Limits(x, y, guide, lane, high)


Point: TypeAlias = tuple[float, float, float]


def _points(series: Series, quantity: Quantity, across: Across) -> list[Point]:
    """Place, low and high end of every measured row."""
    found: list[Point] = []
    for row in series.rows:
        value = quantity.value(row)
        if row.ok and value:
            low, high = quantity.band(row) or (value, value)
            found.append((across.of(row), min(low, value), max(high, value)))
    return found


def _place_guide(
    lines: Sequence[Sequence[Point]], x: tuple[float, float], y: tuple[float, float], steepest: int
) -> Guide | None:
    """Guides at the upper left or at the lower right, wherever the axes need to grow less for them."""
    if x[0] == x[1]:
        return None
    reach, room = (x[1] / x[0]) ** GUIDE_SHARE, (x[1] / x[0]) ** GUIDE_ROOM
    rise, gap = reach**steepest, (y[1] / y[0]) ** GUIDE_GAP
    end = x[1] / room
    roof = min((low for line in lines for _, low, _ in _part(line, end / reach, x[1])), default=y[1])
    lower = Guide(end / reach, end, roof / gap / rise, roof / gap**1.5 / rise, y[1])
    floor = max(
        (high for line in lines for _, _, high in _part(line, x[0], x[0] * reach * room)), default=y[0]
    )
    upper = Guide(x[0], x[0] * reach, floor * gap, y[0], floor * gap**2 * rise)
    return lower if y[0] / lower.lowest <= upper.highest / y[1] else upper


def _part(line: Sequence[Point], left: float, right: float) -> Iterator[Point]:
    """The points of the line between two places, and where it crosses them."""
    yield from (point for point in line if left <= point[0] <= right)
    for before, after in itertools.pairwise(line):
        for place in (left, right):
            if before[0] < place < after[0]:
                share = math.log(place / before[0]) / math.log(after[0] / before[0])
                low, high = (before[i] ** (1 - share) * after[i] ** share for i in (1, 2))
                yield place, low, high
