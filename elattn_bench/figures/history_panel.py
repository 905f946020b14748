"""A panel of a history: the cases of one line, the runs along it, changes marked; or the control case."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elattn_bench.analysis import Facet
from elattn_bench.figures.look import Look
from elattn_bench.figures.style import MARKERS, Style, set_ticks, shade
from elattn_bench.units import format_length, significant
from elattn_bench.verdicts.history import LEAST_BYTES, CaseHistory, History
from elattn_bench.verdicts.means import geometric_mean

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

ROOM = 0.5  # of the measured height, above it, for the ratios of changes
MARGIN = 0.08  # of the measured height, around it
FEWEST_TICKS, MOST_TICKS = 3, 6
LEAST_SPAN = math.log(1.2)  # of a panel's height: noise shall look like noise
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
MIDDLE_TICKS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0)
FINE_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 2.0)
TICK_SIZE, TITLE_SIZE, RATIO_SIZE = 6.5, 7.0, 6.0  # points: letters


@dataclass(frozen=True, slots=True)
class Panel:
    """The cases of one line in one facet, lengths ascending."""

    label: str
    facet: Facet
    cases: tuple[CaseHistory, ...]

    @property
    def changes(self) -> dict[int, list[float]]:
        """By the run that brought them, the geometric means of the ratios of steps up and of steps down."""
        found: defaultdict[tuple[int, bool], list[float]] = defaultdict(list)
        for case in self.cases:
            for step in case.sure_steps:
                found[case.run_of(step.after), step.ratio.value < 1].append(step.ratio.value)
        means: defaultdict[int, list[float]] = defaultdict(list)
        for (run, _), ratios in sorted(found.items()):
            means[run].append(geometric_mean(ratios) or 1.0)
        return dict(means)

    @property
    def size(self) -> float:
        """How much changed, for sorting: the sum of all factors' logarithms, whatever their direction."""
        factors = [ratio for ratios in self.changes.values() for ratio in ratios]
        drifts = [case.course.drift for case in self.cases if case.course.drift]
        return math.fsum(abs(math.log(factor)) for factor in factors) + len(drifts)


def panels_of(found: History) -> list[Panel]:
    """All panels, those that changed most first, those of too few runs last."""
    groups: defaultdict[tuple[str, Facet], list[CaseHistory]] = defaultdict(list)
    for case in found.cases:
        groups[case.latest.label, Facet.of(case.latest)].append(case)
    panels = [Panel(label, facet, tuple(cases)) for (label, facet), cases in groups.items()]
    return sorted(
        panels, key=lambda panel: (-panel.size, all(case.course.noise is None for case in panel.cases))
    )


def title_of(panel: Panel, every: Sequence[Panel]) -> str:
    """The line, what of its facet differs between panels, and its drift."""
    varying = [name for name in Facet._fields if len({getattr(each.facet, name) for each in every}) > 1]
    words = [
        panel.facet.setting.words[name]
        if name in panel.facet.setting.words
        else f"{name} {getattr(panel.facet, name)}"
        for name in varying
    ]
    drifts = [case.course.drift.value for case in panel.cases if case.course.drift]
    drift = f": {100 * ((geometric_mean(drifts) or 1.0) - 1):+.1f}% per run" if drifts else ""
    return ", ".join([panel.label, *words]) + drift


def draw_panel(
    axes: Axes, panel: Panel, lengths: Sequence[int], look: Look, starred: Collection[int] = ()
) -> None:
    """The cases of a line, and what changed; with a star in those runs."""
    cases = [case for case in panel.cases if case.latest.seq_len in lengths]
    for case in cases:
        _draw_case(axes, case, style_of(case.latest.seq_len, lengths, look), look)
    ends = [
        (end or LEAST_BYTES) / case.points[0].divisible
        for case in cases
        for point in case.points
        for end in (point.low, point.high)
    ]
    _set_heights(axes, ends or [1.0], ROOM if panel.changes else MARGIN, look)
    for run, ratios in panel.changes.items():
        _mark(axes, run, ratios, "*" * (run in starred), look)


def draw_control(axes: Axes, found: History, look: Look) -> None:
    """The same case in every run: how fast the machine was."""
    speeds = {run: speed for run, speed in enumerate(found.speeds) if speed is not None}
    axes.plot(
        list(speeds), list(speeds.values()), color=look.muted, linewidth=1.1 * look.scale, marker="s",
        markersize=2.4 * look.scale,
    )  # fmt: skip
    _set_heights(axes, list(speeds.values()), MARGIN, look)


def style_of(length: int, lengths: Sequence[int], look: Look) -> Style:
    """Short is faint, long is strong; every length has its own marker."""
    place = lengths.index(length)
    return Style(shade(look.colors[0], place, len(lengths), look), MARKERS[place], "-")


def _draw_case(axes: Axes, case: CaseHistory, style: Style, look: Look) -> None:
    first = case.points[0].divisible
    places = [point.run for point in case.points]
    values = [point.divisible / first for point in case.points]
    lower, upper = _bars(case)
    axes.errorbar(
        places, values, yerr=(lower, upper), color=style.color, linewidth=1.1 * look.scale,
        elinewidth=0.7 * look.scale, marker=style.marker, markersize=2.6 * look.scale, zorder=2,
    )  # fmt: skip
    for index in case.course.outliers:
        axes.plot(
            places[index], values[index], style.marker, color=style.color, markerfacecolor=look.ground,
            markersize=4 * look.scale, zorder=3,
        )  # fmt: skip


def _bars(case: CaseHistory) -> tuple[list[float], list[float]]:
    """How far the intervals reach below and above the values drawn."""
    first = case.points[0].divisible
    lower = [max(0.0, point.value - point.low) / first for point in case.points]
    upper = [max(0.0, point.high - point.value) / first for point in case.points]
    return lower, upper


def _set_heights(axes: Axes, ends: Sequence[float], above: float, look: Look) -> None:
    """A logarithmic axis around the values, with room above them."""
    low, high = math.log(min(ends)), math.log(max(ends))
    missing = max(0.0, LEAST_SPAN - (high - low)) / 2
    low, high = low - missing, high + missing
    span = high - low
    low, high = low - MARGIN * span, high + above * span
    axes.set_yscale("log")
    axes.set_ylim(math.exp(low), math.exp(high))
    ticks = _ticks(low, high)
    set_ticks(axes, "y", ticks, [f"{tick:g}x" for tick in ticks])
    axes.axhline(1, color=look.muted, linewidth=0.5 * look.scale, zorder=0.9)


def _ticks(low: float, high: float) -> list[float]:
    """Round ratios between two logarithms: the coarsest choice that gives three, six at most."""
    if high - low > math.log(TICKS[-1] / TICKS[0]):
        return _decades(low, high)
    for choice in (TICKS, MIDDLE_TICKS, FINE_TICKS):
        ticks = [tick for tick in choice if low <= math.log(tick) <= high]
        if len(ticks) >= FEWEST_TICKS:
            break
    return ticks if len(ticks) <= MOST_TICKS else ticks[:: -(-len(ticks) // MOST_TICKS)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten between two logarithms, six at most; memory that was 0 bytes once spans many."""
    first, last = math.ceil(low / math.log(10)), math.floor(high / math.log(10))
    return [10.0**power for power in range(first, last + 1, -(-(last - first + 1) // MOST_TICKS))]


def _mark(axes: Axes, run: int, ratios: Sequence[float], star: str, look: Look) -> None:
    """A line before the run that brought a change, and the ratios beside it."""
    axes.axvline(run - 0.5, color=look.ink, linewidth=0.8 * look.scale, linestyle=(0, (3, 2)), zorder=1.5)
    axes.annotate(
        "\n".join(f"{_digits(ratio)}x{star}" for ratio in ratios), (run - 0.5, 1),
        xycoords=("data", "axes fraction"), xytext=(1.5 * look.scale, -2 * look.scale),
        textcoords="offset points", rotation=90, fontsize=look.points(RATIO_SIZE), color=look.ink, va="top", ha="left",
        bbox={"facecolor": look.ground, "edgecolor": "none", "pad": 0.4 * look.scale, "alpha": 0.8},
    )  # fmt: skip


def _digits(ratio: float) -> str:
    """Two digits, in powers of ten beyond the ticks."""
    return significant(ratio, 2) if TICKS[0] <= ratio <= TICKS[-1] else f"{ratio:.2g}"


def label(axes: Axes, names: Sequence[str], most: int, title: str, look: Look) -> None:
    """The title above, the names of runs below, at most so many; the others are ticks."""
    step = -(-len(names) // max(1, most))
    ticks = list(range(len(names)))[::-1][::step][::-1]
    set_ticks(axes, "x", ticks, [names[tick] for tick in ticks])
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(labelsize=look.points(TICK_SIZE))
    axes.set_title(title, loc="left", pad=3 * look.scale, fontsize=look.points(TITLE_SIZE))


def handles_of(lengths: Sequence[int], look: Look) -> list[Artist]:
    """What the shades mean."""
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [], [], color=style.color, marker=style.marker, markersize=3 * look.scale,
            linewidth=1.1 * look.scale, label=f"L = {format_length(length)}",
        )
        for length in lengths
        for style in [style_of(length, lengths, look)]
    ]  # fmt: skip
