"""Where things stand in a roofline: the device's roofs as lines, the panel's extent, sides for names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from elattn_bench.figures.look import Look
from elattn_bench.figures.sheet import share
from elattn_bench.figures.tags import Box, Side, Tag, along, place_tags
from elattn_bench.results import Row
from elattn_bench.roofline import Ceilings, format_rate

NAME_SIZE = 7.0  # points: letters of names
ROOF_SIZE = 6.5  # points: letters of the roofs' names
SLOPE_SHOWN = 12  # a slope is shown from a 12th of the intensity at which it ends


@dataclass(frozen=True, slots=True)
class Roof:
    """A ceiling as a line: FLOP/s at an intensity in FLOP/byte."""

    name: str
    slope: float | None
    level: float | None

    def at(self, intensity: float) -> float:
        """How many FLOP/s it allows there."""
        return self.level if self.level is not None else (self.slope or 0.0) * intensity


def roofs(ceilings: Ceilings, dtype: str) -> list[Roof]:
    """The roofs of the device for that dtype: two slopes and a level, as far as they were measured."""
    matmul = ceilings.matmul_rate(dtype)
    slopes = {"cache": ceilings.cache_bytes_per_s, "memory": ceilings.dram_bytes_per_s}
    found = [
        Roof(f"{place} {format_rate(rate, 'B/s')}", rate, None) for place, rate in slopes.items() if rate
    ]
    return found + ([Roof(f"matmul {format_rate(matmul, 'FLOP/s')}", None, matmul)] if matmul else [])


def intensity(row: Row) -> float:
    """Operations per byte, by the formulas of the case's least work."""
    return (row.flops or 0) / (row.bytes_moved or 1)


def reached(row: Row) -> float:
    """Operations per second."""
    return (row.flops or 0) / (row.latency_ms_p50 or 1.0) * 1e3


@dataclass(frozen=True, slots=True)
class Plan:
    """The extent of both axes, the panel's size in points at scale 1, and how large the roofs' names are.

    sides: of its mark, on which each line's name stands; None where one finds no place, empty with a legend.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    size: tuple[float, float]
    roof_size: float
    sides: Sequence[Side | None]

    @classmethod
    def of(
        cls,
        lines: Mapping[str, Sequence[Row]],
        found: Sequence[Roof],
        width: float,
        height: float,
        look: Look,
    ) -> Plan:
        """A panel so wide and high, in inches."""
        rows = [row for line in lines.values() for row in line]
        places, heights = [intensity(row) for row in rows], [reached(row) for row in rows]
        x = (_leftmost(min(places), found), max(places) * 4)
        levels = [roof.level for roof in found if roof.level]
        highest = max([*heights, *levels] if levels else [*heights, *(roof.at(x[0]) for roof in found)])
        y = (min(heights) / 2, highest * 2)
        size = (width * 72, height * 72)
        empty = cls(x, y, size, look.room_points(ROOF_SIZE), ())
        tags = [Tag(label, *empty.spot(line[-1])) for label, line in lines.items()]
        spots = [[empty.spot(row) for row in line] for line in lines.values()]
        taken = [box for line in spots for pair in itertools.pairwise(line) for box in along(*pair)]
        taken += [box for roof in found for box in empty.covered(roof, found)]
        return replace(empty, sides=place_tags(tags, size, look.room_points(NAME_SIZE), taken))

    @property
    def is_named(self) -> bool:
        """Whether every name found a place."""
        return bool(self.sides) and all(self.sides)

    @property
    def width(self) -> float:
        """Of the panel, in inches."""
        return self.size[0] / 72

    @property
    def height(self) -> float:
        """Of the panel, in inches."""
        return self.size[1] / 72

    def spot(self, row: Row) -> tuple[float, float]:
        """Where the row stands, in points from the panel's lower left."""
        return self.point(intensity(row), reached(row))

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where an intensity and a rate stand, in the same points."""
        return share(x, self.x) * self.size[0], share(y, self.y) * self.size[1]

    def starts(self, roof: Roof, found: Sequence[Roof]) -> tuple[float, float]:
        """From which intensity to which the roof is drawn: a slope up to the level, the level from the first slope."""
        levels = [other.level for other in found if other.level]
        slopes = [other.slope for other in found if other.slope]
        if roof.slope:
            end = levels[0] / roof.slope if levels else self.x[1]
            return self.x[0], min(self.x[1], end)
        start = (roof.level or 0.0) / max(slopes) if slopes else self.x[0]
        return max(self.x[0], start), self.x[1]

    def covered(self, roof: Roof, found: Sequence[Roof]) -> list[Box]:
        """What the roof's line and its name cover."""
        low, high = self.starts(roof, found)
        if high <= low:
            return []
        boxes = along(self.point(low, roof.at(low)), self.point(high, roof.at(high)), reach=2.0)
        letters_wide = len(roof.name) * self.roof_size * 0.6
        x, y = self.name_spot(roof, found)
        if roof.level:
            return [*boxes, Box(x - letters_wide, y, x, y + 12)]
        norm = math.hypot(1, self.rise(roof))
        end = (x + letters_wide / norm, y + 4 + letters_wide * self.rise(roof) / norm)
        return boxes + along((x, y + 4), end, reach=5)

    def rise(self, roof: Roof) -> float:
        """The slope's rise over its run, on the sheet."""
        (x0, y0), (x1, y1) = (self.point(place, roof.at(place)) for place in (self.x[0], self.x[0] * 10))
        return (y1 - y0) / (x1 - x0)

    def name_spot(self, roof: Roof, found: Sequence[Roof]) -> tuple[float, float]:
        """Where the roof's name starts (that of a slope), or ends (that of the level)."""
        low, high = self.starts(roof, found)
        if roof.level:
            x, y = self.point(high, roof.level)
            return x - 3, y + 2
        first = max(low, self.y[0] / (roof.slope or 1.0))
        x, y = self.point(first, roof.at(first))
        return x + 6, y + 6 * self.rise(roof)


def _leftmost(place: float, found: Sequence[Roof]) -> float:
    """Where the panel begins: left of the points, and with so much of the steepest roof that its name fits on it."""
    slopes = [roof.slope for roof in found if roof.slope]
    levels = [roof.level for roof in found if roof.level]
    return min(place / 2, levels[0] / max(slopes) / SLOPE_SHOWN if slopes and levels else place)
