"""Labels beside points: each where it covers nothing, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

LETTER = 0.66  # mean width of a letter, as a share of its size
HEIGHT = 1.3  # of a line, as a share of its letters' size
EDGE = 1.5  # points that labels keep from the panel's edge
GAP = 4.5  # points between a point and its label


@dataclass(frozen=True, slots=True)
class Tag:
    """A label and its point, in points from the panel's lower left corner."""

    text: str
    x: float
    y: float


class Box(NamedTuple):
    """A rectangle in points."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: Box) -> bool:
        """Whether the two share ground."""
        across = self.left < other.right and other.left < self.right
        return across and self.low < other.high and other.low < self.high


class Side(NamedTuple):
    """Where a label stands seen from its point: offset in points, and how the text is aligned."""

    dx: float
    dy: float
    ha: str
    va: str


ASIDE = 10.0  # points up or down: beside the label of a neighbour
BESIDE = (Side(GAP, 0, "left", "center"), Side(-GAP, 0, "right", "center"))
SIDES = (
    *BESIDE,
    Side(0, GAP, "center", "bottom"),
    Side(0, -GAP, "center", "top"),
    Side(GAP * 0.7, GAP * 0.7, "left", "bottom"),
    Side(-GAP * 0.7, GAP * 0.7, "right", "bottom"),
    Side(GAP * 0.7, -GAP * 0.7, "left", "top"),
    Side(-GAP * 0.7, -GAP * 0.7, "right", "top"),
    *(Side(dx, dy, side.ha, "center") for dy in (-ASIDE, ASIDE) for side in BESIDE for dx in (side.dx,)),
)
_LEFT_SHARE = {"left": 0.0, "center": 0.5, "right": 1.0}
_LOW_SHARE = {"bottom": 0.0, "center": 0.5, "top": 1.0}


def place_tags(
    tags: Sequence[Tag],
    panel: tuple[float, float],
    size: float,
    taken: Sequence[Box] = (),
    allowed: Sequence[Side] = SIDES,
) -> list[Side | None]:
    """The side of its point on which each label stands; None where all sides are taken.

    Args:
        tags: in order of importance: the first finds the most room.
        panel: its width and height in points.
        size: of the letters, in points.
        taken: what labels must not cover beside the tags' own points.
        allowed: the sides to try, best first.
    """
    edge = Box(EDGE, EDGE, panel[0] - EDGE, panel[1] - EDGE)
    covered = [*taken, *(around(tag.x, tag.y) for tag in tags)]
    sides: list[Side | None] = []
    for tag in tags:
        found = next((side for side in allowed if _is_free(_box(tag, side, size), edge, covered)), None)
        if found:
            covered.append(_box(tag, found, size))
        sides.append(found)
    return sides


def around(x: float, y: float, reach: float = 2.5) -> Box:
    """What a marker there covers."""
    return Box(x - reach, y - reach, x + reach, y + reach)


def along(start: tuple[float, float], end: tuple[float, float], reach: float = 1.5) -> list[Box]:
    """What a straight line between two places covers."""
    steps = 1 + int(max(abs(end[0] - start[0]), abs(end[1] - start[1])) / (2 * reach))
    shares = [step / steps for step in range(steps + 1)]
    return [
        around(start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1]), reach)
        for part in shares
    ]


def _is_free(box: Box, edge: Box, covered: Sequence[Box]) -> bool:
    inside = (
        box.left >= edge.left and box.right <= edge.right and box.low >= edge.low and box.high <= edge.high
    )
    return inside and not any(box.meets(other) for other in covered)


def _box(tag: Tag, side: Side, size: float) -> Box:
    width, height = len(tag.text) * LETTER * size, HEIGHT * size
    left = tag.x + side.dx - _LEFT_SHARE[side.ha] * width
    low = tag.y + side.dy - _LOW_SHARE[side.va] * height
    return Box(left, low, left + width, low + height)
