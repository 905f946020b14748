"""Lines with bands: the mean over seeds, and from the lowest to the highest."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elattn_bench.figures.look import Look
from elattn_bench.figures.style import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND = 0.18  # how strong a band is, beside its line


@dataclass(frozen=True, slots=True)
class Spread:
    """A value over seeds: mean, lowest, highest, and how many seeds."""

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value per seed, at least one."""
        return cls(sum(values) / len(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Course:
    """A score along an axis: ascending places, and the spread over seeds at each."""

    label: str
    places: tuple[float, ...]
    spreads: tuple[Spread, ...]

    @classmethod
    def of(cls, label: str, values: Iterable[tuple[float, float]]) -> Course:
        """From pairs of place and value, one per seed and place; what is not finite is left out."""
        groups: defaultdict[float, list[float]] = defaultdict(list)
        for place, value in values:
            if math.isfinite(value):
                groups[place].append(value)
        places = sorted(groups)
        return cls(label, tuple(places), tuple(Spread.of(groups[place]) for place in places))

    def since(self, place: float) -> Course:
        """The part from that place on."""
        kept = [index for index, each in enumerate(self.places) if each >= place]
        return Course(self.label, tuple(self.places[i] for i in kept), tuple(self.spreads[i] for i in kept))


def ends_of(courses: Iterable[Course]) -> tuple[float, float]:
    """The lowest and the highest of all."""
    spreads = [spread for course in courses for spread in course.spreads]
    return min(spread.low for spread in spreads), max(spread.high for spread in spreads)


def draw_course(axes: Axes, course: Course, style: Style, look: Look, *, marks: bool) -> None:
    """The line through the means, with its band where seeds differ."""
    means = [spread.mean for spread in course.spreads]
    axes.plot(
        course.places, means, color=style.color, linestyle=style.dashes, label=course.label, zorder=3,
        marker=style.marker if marks or len(means) == 1 else None, markeredgecolor=look.ground,
        markeredgewidth=0.4 * look.scale,
    )  # fmt: skip
    draw_band(axes, course.places, course.spreads, style.color)


def draw_band(axes: Axes, places: Sequence[float], spreads: Sequence[Spread], color: str) -> None:
    """From the lowest to the highest seed."""
    if any(spread.seeds > 1 for spread in spreads):
        lows, highs = [spread.low for spread in spreads], [spread.high for spread in spreads]
        axes.fill_between(places, lows, highs, color=color, alpha=BAND, linewidth=0, zorder=2)
