"""The figure of a history: a small panel per line of cases, the runs along it, changes marked."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elattn_bench.analysis import Facet
from elattn_bench.figures.files import save
from elattn_bench.figures.look import README, Look
from elattn_bench.figures.style import COLORS, evenly, house_style, set_ticks, shade
from elattn_bench.units import format_length, significant
from elattn_bench.verdicts.history import CaseHistory, History
from elattn_bench.verdicts.means import geometric_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEMS = {"latency": "history", "memory": "history-memory"}
MOST_PANELS = 12  # a page; more are too small or too far apart to be compared
MOST_LENGTHS = 5  # shades of one colour that are told apart
MOST_NAMES = 14  # runs named below a panel, the others are ticks
NAME_LETTERS = 12  # of a run's name
LEFT, RIGHT, GAP = 0.5, 0.12, 0.5  # inches: tick labels, edge, between panels with their tick labels
PANEL_HEIGHT, PANEL_GAP = 1.05, 0.32  # inches: a panel, and the title between it and the one above
NARROWEST = 2.0  # inches: a panel
LETTER = 0.062  # inches: of the smallest text
ROOM = 0.5  # of the measured height, above it, for the ratios of changes
MARGIN = 0.08  # of the measured height, around it
FEWEST_TICKS, MOST_TICKS = 3, 6
LEAST_SPAN = math.log(1.2)  # of a panel's height: noise shall look like noise
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
MIDDLE_TICKS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0)
FINE_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 2.0)


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


def plot_history(found: History, formats: Sequence[str], out_dir: Path, look: Look = README) -> list[Path]:
    """Draw the figure, and return the files written.

    Raises:
        RunDirError: the disk refuses.
    """
    with house_style():
        figure = draw_history(found, look)
    written = [out_dir / f"{STEMS[found.metric]}.{suffix}" for suffix in formats]
    for path in written:
        save(figure, path)
    return written


def panels_of(found: History) -> list[Panel]:
    """All panels, those that changed most first, those of too few runs last."""
    groups: defaultdict[tuple[str, Facet], list[CaseHistory]] = defaultdict(list)
    for case in found.cases:
        groups[case.latest.label, Facet.of(case.latest)].append(case)
    panels = [Panel(label, facet, tuple(cases)) for (label, facet), cases in groups.items()]
    return sorted(
        panels, key=lambda panel: (-panel.size, all(case.course.noise is None for case in panel.cases))
    )


def draw_history(found: History, look: Look = README) -> Figure:
    """The figure: values relative to each case's first run, runs along the horizontal axis."""
    from matplotlib.figure import Figure

    every = panels_of(found)
    control = found.metric == "latency" and any(found.speeds)
    shown = every[: MOST_PANELS - control]
    lengths = evenly({case.latest.seq_len for panel in shown for case in panel.cases}, MOST_LENGTHS)
    header = _header(found, every, shown, lengths, look)
    layout = _Layout.of(len(shown) + control, header, found, look)
    figure = Figure(figsize=(look.width, layout.height), facecolor=look.ground)
    titled = [_title(panel, every) for panel in shown] + ["the control case"] * control
    for index, title in enumerate(titled):
        axes = figure.add_axes(layout.place(index), facecolor=look.ground)
        if index < len(shown):
            _draw_panel(axes, shown[index], lengths, look)
        else:
            _draw_control(axes, found, look)
        _label(axes, found, title, look, named=index + layout.columns >= len(titled))
    _write_header(figure, found, header, look)
    _write_legend(figure, found, lengths, look)
    return figure


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where panels stand, in inches."""

    top: float
    columns: int
    rows: int
    names: float
    look: Look

    @classmethod
    def of(cls, panels: int, header: Sequence[str], found: History, look: Look) -> _Layout:
        scale = look.scale
        usable = look.width - (LEFT + RIGHT) * scale + GAP * scale
        columns = max(1, min(3, panels, int(usable / ((NARROWEST + GAP) * scale))))
        names = LETTER * scale * max(len(name) for name in _names(found)) + 0.12 * scale
        top = (0.42 + 0.15 * len(header) + PANEL_GAP - 0.1) * scale
        return cls(top, columns, -(-panels // columns), names, look)

    @property
    def height(self) -> float:
        scale = self.look.scale
        panels = self.rows * (PANEL_HEIGHT + PANEL_GAP) - PANEL_GAP
        return self.top + panels * scale + self.names + 0.32 * scale

    @property
    def width(self) -> float:
        scale = self.look.scale
        return (self.look.width - (LEFT + RIGHT) * scale - GAP * scale * (self.columns - 1)) / self.columns

    def place(self, index: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a panel, as shares of the figure."""
        row, column = divmod(index, self.columns)
        scale = self.look.scale
        left = LEFT * scale + column * (self.width + GAP * scale)
        lower = self.top + (row * (PANEL_HEIGHT + PANEL_GAP) + PANEL_HEIGHT) * scale
        whole = (self.look.width, self.height)
        return left / whole[0], 1 - lower / whole[1], self.width / whole[0], PANEL_HEIGHT * scale / whole[1]


def _names(found: History) -> list[str]:
    """The runs' names, short."""
    names = [run.name for run in found.runs]
    return [name if len(name) <= NAME_LETTERS else f"{name[: NAME_LETTERS - 2]}.." for name in names]


def _draw_panel(axes: Axes, panel: Panel, lengths: Sequence[int], look: Look) -> None:
    cases = [case for case in panel.cases if case.latest.seq_len in lengths]
    for case in cases:
        _draw_case(axes, case, _color(case.latest.seq_len, lengths, look), look)
    ends = [
        end / case.points[0].value
        for case in cases
        for point in case.points
        for end in (point.low, point.high)
    ]
    _set_heights(axes, ends or [1.0], ROOM if panel.changes else MARGIN, look)
    for run, ratios in panel.changes.items():
        _mark(axes, run, ratios, look)


def _draw_control(axes: Axes, found: History, look: Look) -> None:
    speeds = {run: speed for run, speed in enumerate(found.speeds) if speed is not None}
    axes.plot(
        list(speeds), list(speeds.values()), color=look.muted, linewidth=1.1 * look.scale, marker="s",
        markersize=2.4 * look.scale,
    )  # fmt: skip
    _set_heights(axes, list(speeds.values()), MARGIN, look)


def _color(length: int, lengths: Sequence[int], look: Look) -> str:
    """Short is light, long is dark; on a dark ground all are lighter."""
    return shade(COLORS[5 if look.style == "dark" else 0], lengths.index(length), len(lengths))


def _draw_case(axes: Axes, case: CaseHistory, color: str, look: Look) -> None:
    first = case.points[0].value
    places = [point.run for point in case.points]
    values = [point.value / first for point in case.points]
    lower, upper = _bars(case)
    axes.errorbar(
        places, values, yerr=(lower, upper), color=color, linewidth=1.1 * look.scale, elinewidth=0.7 * look.scale,
        marker="o", markersize=2.4 * look.scale, zorder=2,
    )  # fmt: skip
    for index in case.course.outliers:
        axes.plot(
            places[index], values[index], "o", color=color, markerfacecolor=look.ground,
            markersize=4 * look.scale, zorder=3,
        )  # fmt: skip


def _bars(case: CaseHistory) -> tuple[list[float], list[float]]:
    """How far the intervals reach below and above the values drawn."""
    first = case.points[0].value
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
    for choice in (TICKS, MIDDLE_TICKS, FINE_TICKS):
        ticks = [tick for tick in choice if low <= math.log(tick) <= high]
        if len(ticks) >= FEWEST_TICKS:
            break
    return ticks if len(ticks) <= MOST_TICKS else ticks[:: -(-len(ticks) // MOST_TICKS)]


def _mark(axes: Axes, run: int, ratios: Sequence[float], look: Look) -> None:
    """A line before the run that brought a change, and the ratios beside it."""
    axes.axvline(run - 0.5, color=look.ink, linewidth=0.8 * look.scale, linestyle=(0, (3, 2)), zorder=1.5)
    axes.annotate(
        "\n".join(f"{significant(ratio, 2)}x" for ratio in ratios), (run - 0.5, 1),
        xycoords=("data", "axes fraction"), xytext=(1.5 * look.scale, -2 * look.scale),
        textcoords="offset points", rotation=90, fontsize=6 * look.scale, color=look.ink, va="top", ha="left",
        bbox={"facecolor": look.ground, "edgecolor": "none", "pad": 0.4, "alpha": 0.8},
    )  # fmt: skip


def _label(axes: Axes, found: History, title: str, look: Look, *, named: bool) -> None:
    """Title, the names of runs below the lowest panels, colours."""
    names = _names(found)
    step = -(-len(names) // MOST_NAMES)
    ticks = list(range(len(names)))[::-1][::step][::-1]
    set_ticks(axes, "x", ticks, [names[tick] for tick in ticks] if named else [""] * len(ticks))
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(labelsize=6.5 * look.scale, colors=look.ink)
    axes.grid(color=look.grid)
    for spine in axes.spines.values():
        spine.set_color(look.muted)
    axes.set_title(title, loc="left", pad=3, fontsize=7 * look.scale, color=look.ink)


def _title(panel: Panel, every: Sequence[Panel]) -> str:
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


def _header(
    found: History, every: Sequence[Panel], shown: Sequence[Panel], lengths: Sequence[int], look: Look
) -> list[str]:
    """What is shown of what, how to read it, and what was left out."""
    names = [run.name for run in found.runs]
    what = "Median latency" if found.metric == "latency" else "Peak memory"
    bars = "; bars: 95 % intervals" if found.metric == "latency" else ""
    aside = any(case.course.outliers for panel in shown for case in panel.cases)
    marks = " Open marks: single runs set aside, for the next took them back." if aside else ""
    text = (
        f"{what} over that of the first run, {names[0]} to {names[-1]}. Vertical lines: changes, with "
        f"after/before{bars}.{marks}{_left_out(every, shown, lengths)}"
    )
    environment = found.runs[-1].info.get("environment", {})
    threads = environment.get("threads")
    device = f"{found.runs[-1].device_name}, {threads} threads" if threads else found.runs[-1].device_name
    letters = int(look.width / look.scale * 16)  # that fit into a line
    return [f"{device}; {len(names)} runs", *textwrap.wrap(text, letters, break_on_hyphens=False)]


def _left_out(every: Sequence[Panel], shown: Sequence[Panel], lengths: Sequence[int]) -> str:
    hidden = every[len(shown) :]
    changed = sum(bool(panel.changes) for panel in hidden)
    panels = f" Not shown: {len(hidden)} of {len(every)} lines, {changed} of them changed." if hidden else ""
    count = len({case.latest.seq_len for panel in shown for case in panel.cases})
    return panels + (
        f" {count - len(lengths)} of {count} lengths are left out." if count > len(lengths) else ""
    )


def _write_header(figure: Figure, found: History, lines: Sequence[str], look: Look) -> None:
    width, height = figure.get_size_inches()
    left, scale = 0.1 / width, look.scale
    title = (
        look.title
        or f"{'Latency' if found.metric == 'latency' else 'Peak memory'} over {len(found.runs)} runs"
    )
    figure.text(
        left,
        1 - 0.1 * scale / height,
        title,
        fontsize=10 * scale,
        fontweight="bold",
        va="top",
        color=look.ink,
    )
    for number, line in enumerate(lines):
        top = (0.34 + 0.15 * number) * scale
        figure.text(
            left, 1 - top / height, line, fontsize=7.5 * scale, color=look.muted, va="top", parse_math=False
        )


def _write_legend(figure: Figure, found: History, lengths: Sequence[int], look: Look) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=_color(length, lengths, look),
            marker="o",
            markersize=3 * look.scale,
            label=f"L = {format_length(length)}",
        )
        for length in lengths
    ]
    figure.legend(
        handles=handles, loc="lower center", ncols=len(handles), fontsize=7 * look.scale, labelcolor=look.ink,
        borderaxespad=0.3,
    )  # fmt: skip
