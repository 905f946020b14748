"""The projection's figure: time and received bytes against ranks; what was measured is solid and filled, what is
projected dashed and hollow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from elattn_bench.analysis import Facet, Setting, interest
from elattn_bench.figures import drawing, style
from elattn_bench.figures.header import describe, draw_header, header_height, sizes_of
from elattn_bench.figures.legend import draw_handles, labels_of, legend_height
from elattn_bench.figures.look import README, Look
from elattn_bench.figures.sheet import NARROW, Sheet, at_share, panel_height
from elattn_bench.figures.style import Line as Styled
from elattn_bench.figures.style import Style, assign_styles, memory_tick, memory_ticks, set_ticks, thin
from elattn_bench.projection.lines import Line
from elattn_bench.projection.model import Projected, Projection
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import SPAN_UNITS, format_bytes, format_length, significant

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_HEIGHT = 3.0  # inches, as all that follow, at scale 1
NARROW_HEIGHT = 2.2
LEFT, RIGHT, BETWEEN, TITLE, TICKS = 0.82, 0.14, 0.82, 0.3, 0.46
TICK_ROOM = 0.3  # inches that the label of a tick needs
MOST_TICKS = 8  # up the side
PAD = 0.04  # of a panel, between its edge and the outermost points
MARK = 4.5  # points
LARGER = 0.7  # points: of each line's marks over those of the next, so that equal ones are seen
FORESEEN: Literal["--"] = "--"
IDEAL_WIDTH = 0.6  # points
CROSS = 1.6  # times a mark: of the cross over what does not fit, so that it shows around it
TITLES = ("Time of a call", "Received by the busiest rank")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a projection's figure needs, for messages."""

    needs: str = "an attention that can be projected"


def plot(
    run: Run,
    found: Projected,
    formats: Sequence[str],
    target: Path,
    look: Look = README,
    say: Callable[[str], object] | None = None,
) -> list[Path]:
    """Draw a figure per setting, and return the files written.

    Raises:
        UsageError: a format is unknown.
        RunDirError: the disk refuses.
    """
    known = {"projection": Kind()}
    return drawing.write(known, lambda _: draw(run, found, look), None, formats, target, look, run.name, say)


def draw(run: Run, found: Projected, look: Look = README) -> Iterator[tuple[str, Figure]]:
    """A figure per setting, of the sizes with most lines, each with the stem of its file name."""
    styles = assign_styles(map(Styled.of, run.rows), look)
    with style.house_style(look):
        for facet, projections in _leading(found).items():
            page = Page(run, found, facet, projections, styles, look)
            yield f"projection-{facet.setting.file_part}", page.draw()


def _leading(found: Projected) -> dict[Facet, list[Projection]]:
    """Of each setting the facet with most lines, at the longest length projected."""
    facets: defaultdict[Facet, list[Projection]] = defaultdict(list)
    longest = max(each.tokens for each in found.projections)
    for each in found.projections:
        if each.tokens == longest:
            facets[each.line.facet].append(each)
    settings: defaultdict[Setting, list[Facet]] = defaultdict(list)
    for facet in facets:
        settings[facet.setting].append(facet)
    chosen = (
        max(each, key=lambda facet: (len(facets[facet]), interest(facet))) for each in settings.values()
    )
    return {facet: facets[facet] for facet in chosen}


@dataclass(frozen=True, slots=True)
class Track:
    """What a panel shows of a line: (ranks, value) measured, and projected; and which of these do not fit."""

    line: Line
    measured: Sequence[tuple[int, float]]
    projected: Sequence[tuple[int, float]]
    unfit: frozenset[int]


@dataclass(frozen=True, slots=True)
class Page:
    """One figure: the lines of a facet, at one length projected, and at the longest measured over ranks."""

    run: Run
    found: Projected
    facet: Facet
    projections: Sequence[Projection]
    styles: Mapping[str, Style]
    look: Look

    def draw(self) -> Figure:
        """The figure."""
        handles = self._handles()
        remarks = describe(self.run, self.facet.setting, sizes_of(self.facet), [self._how()], self.look)
        top = header_height(remarks, self.look, self._title()) + TITLE
        sheet, panels = self._sheet(top, legend_height(labels_of(handles), self.look))
        for axes, title, tracks, is_time in zip(
            panels, TITLES, (self._times(), self._traffic()), (True, False), strict=True
        ):
            _draw_panel(axes, tracks, self.styles, self.look, is_time=is_time)
            _set_values(axes, tracks, is_time=is_time)
            self._set_ranks(axes)
            sheet.head(axes, title)
        draw_header(sheet.figure, self._title(), remarks, self.look)
        draw_handles(sheet.figure, handles, self.look)
        return sheet.figure

    def _sheet(self, top: float, legend: float) -> tuple[Sheet, list[Axes]]:
        """Two panels abreast, or below each other where the look is narrow."""
        if self.look.room < NARROW:
            height = panel_height(self.look, NARROW_HEIGHT, top + TITLE + 2 * TICKS + legend, 2)
            sheet = Sheet.of(self.look, top + 2 * (height + TICKS) + TITLE + legend)
            width = self.look.room - LEFT - RIGHT
            tops = (top, top + height + TICKS + TITLE)
            return sheet, [sheet.axes(LEFT, each, width, height) for each in tops]
        height = panel_height(self.look, PANEL_HEIGHT, top + TICKS + legend)
        sheet = Sheet.of(self.look, top + height + TICKS + legend)
        width = (self.look.room - LEFT - BETWEEN - RIGHT) / 2
        return sheet, [
            sheet.axes(left, top, width, height) for left in (LEFT, LEFT + width + BETWEEN)
        ]  # fmt: skip

    def _title(self) -> str:
        """Which length, over how many ranks."""
        ranks = [each.ranks for each in self.projections]
        length = format_length(self.projections[0].tokens)
        ends = " to ".join(map(str, dict.fromkeys((min(ranks), max(ranks)))))
        return (
            f"Projected to L = {length} over {ends} ranks{', links assumed' if self.found.is_assumed else ''}"
        )

    def _how(self) -> str:
        """On which ground it stands; which lengths are which, the legend says."""
        measured = "" if self._measured_lengths() else "Nothing was measured over ranks. "
        link = "Links are assumed." if self.found.is_assumed else "Links as this run measured them."
        solid = "Solid, filled: measured, the longest of each over ranks."
        return f"{measured}{solid} Dashed, hollow: projected. {link}"

    def _measured_lengths(self) -> str:
        """``64k to 1M``; empty where nothing was measured over ranks."""
        found = {row.seq_len for line in self._lines() for row in _shown(line)}
        return " to ".join(dict.fromkeys(map(format_length, (min(found), max(found))))) if found else ""

    def _set_ranks(self, axes: Axes) -> None:
        """The same ranks below both panels; those projected are labelled first."""
        projected = sorted({each.ranks for each in self.projections})
        measured = {row.ranks or 1 for line in self._lines() for row in _shown(line)}
        ends = (
            float(min(*projected, *measured, projected[0])),
            float(max(*projected, *measured, projected[-1])),
        )
        axes.set_xlim(*padded(*ends))
        room = axes.get_position().width * self.look.room
        shown = apart([*reversed(projected), *sorted(measured)], ends, room / TICK_ROOM)
        set_ticks(axes, "x", shown, list(map(str, shown)))
        axes.set_xlabel("ranks")

    def _lines(self) -> list[Line]:
        return list({id(each.line): each.line for each in self.projections}.values())

    def _times(self) -> list[Track]:
        return [
            self._track(line, lambda row: (row.latency_ms_p50 or 0) / 1e3, lambda each: each.seconds)
            for line in self._lines()
        ]

    def _traffic(self) -> list[Track]:
        return [
            self._track(line, lambda row: row.received_bytes, lambda each: each.received)
            for line in self._lines()
        ]

    def _track(
        self, line: Line, of_row: Callable[[Row], float | None], of_one: Callable[[Projection], float]
    ) -> Track:
        """Zeros have no place on a logarithmic axis: one rank receives nothing."""
        own = [each for each in self.projections if each.line is line]
        measured = [(row.ranks or 1, of_row(row) or 0) for row in _shown(line)]
        projected = [(each.ranks, of_one(each)) for each in own]
        return Track(
            line,
            sorted(point for point in measured if point[1]),
            sorted(point for point in projected if point[1]),
            frozenset(each.ranks for each in own if each.fits is False),
        )

    def _handles(self) -> list[Artist]:
        """The lines by name, then what dashes, thin lines, open marks and crosses mean."""
        from matplotlib.lines import Line2D

        look = self.look
        names = [
            Line2D(
                [], [], color=self.styles[line.label].color, marker=self.styles[line.label].marker, linestyle="none",
                label=line.label,
            )
            for line in self._lines()
        ]  # fmt: skip
        mark: dict[str, Any] = {"color": look.muted, "marker": "o", "markersize": MARK * look.scale}
        lengths, length = self._measured_lengths(), format_length(self.projections[0].tokens)
        kinds = [
            *([Line2D([], [], **mark, label=f"measured, L = {lengths}")] if lengths else []),
            Line2D(
                [],
                [],
                **mark,
                markerfacecolor=look.ground,
                linestyle=FORESEEN,
                label=f"projected, L = {length}",
            ),
            Line2D([], [], color=look.muted, linewidth=IDEAL_WIDTH * look.scale, label="ideal: 1 / ranks"),
        ]
        if any(each.fits is False for each in self.projections):
            room = format_bytes(self.found.memory)
            kinds.append(
                Line2D([], [], **{**mark, "marker": "x"}, linestyle="none", label=f"over {room} a rank")
            )
        return [*names, *kinds]


def _shown(line: Line) -> list[Row]:
    """The measured rows of its longest length over ranks; none where there are no two."""
    longest = max((row.seq_len for row in line.spread), default=0)
    of_one = line.alone.fitted if line.of_one_rank else ()
    return [row for row in (*of_one, *line.spread) if row.seq_len == longest]


def _draw_panel(
    axes: Axes, tracks: Sequence[Track], styles: Mapping[str, Style], look: Look, *, is_time: bool
) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for place, track in enumerate(tracks):
        larger = 0.0 if is_time else LARGER * (len(tracks) - 1 - place)
        _draw_track(axes, track, styles[track.line.label], look, larger, with_ideal=is_time)


def _draw_track(
    axes: Axes, track: Track, style: Style, look: Look, larger: float, *, with_ideal: bool
) -> None:
    label, size = track.line.label, (MARK + larger) * look.scale
    how: dict[str, Any] = {"color": style.color, "marker": style.marker, "markersize": size}
    if with_ideal and len(track.projected) > 1:
        (first, start), (last, _) = track.projected[0], track.projected[-1]
        axes.plot(
            [first, last], [start, start * first / last], color=style.color, linewidth=IDEAL_WIDTH * look.scale,
            alpha=0.7, label=f"_ideal of {label}", zorder=1.5,
        )  # fmt: skip
    axes.plot(*_xy(track.measured), **how, linestyle="-", label=f"_measured {label}", zorder=3)
    axes.plot(
        *_xy(track.projected), color=style.color, linestyle=FORESEEN, label=f"_projected {label}", zorder=2
    )
    axes.plot(
        *_xy(track.projected), **how, markerfacecolor=look.ground, linestyle="none", label=label, zorder=2.5
    )
    unfit = [point for point in track.projected if point[0] in track.unfit]
    cross = {**how, "marker": "x", "markersize": CROSS * size}
    # Below the mark, so that this stays hollow.
    axes.plot(*_xy(unfit), **cross, linestyle="none", label=f"_unfit {label}", zorder=2.4)


def _xy(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _set_values(axes: Axes, tracks: Sequence[Track], *, is_time: bool) -> None:
    values = [y for track in tracks for _, y in (*track.measured, *track.projected)] or [1.0]
    low, high = padded(min(values), max(values))
    axes.set_ylim(low, high)
    ticks = span_ticks(low, high) if is_time else memory_ticks(low, high)
    set_ticks(axes, "y", ticks, list(map(span_tick if is_time else memory_tick, ticks)))


def padded(low: float, high: float) -> tuple[float, float]:
    """The ends of a logarithmic axis, some way beyond the outermost values; an octave around a single one."""
    ends = (low, high) if high > low else (low / 2**0.5, high * 2**0.5)
    return at_share(-PAD, ends), at_share(1 + PAD, ends)


def apart(ranks: Sequence[int], ends: tuple[float, float], room: float) -> list[int]:
    """The ranks whose labels do not touch on a logarithmic axis that has room for so many; the first come first."""
    step = (ends[1] / ends[0]) ** (1 / max(room, 1.0))
    shown: list[int] = []
    for each in ranks:
        if all(max(each / other, other / each) >= step > 1 for other in shown):
            shown.append(each)
    return sorted(shown)


def span_ticks(low: float, high: float) -> list[float]:
    """Round times between two: decades of seconds below a minute, of minutes, hours, days, years above."""
    seconds = [10.0**n for n in range(-9, 2)]
    longer = [SPAN_UNITS[unit] * many for unit in ("min", "h") for many in (1, 10)]
    days = [SPAN_UNITS["d"] * many for many in (1, 10, 100)]
    years = [SPAN_UNITS["yr"] * 10.0**n for n in range(12)]
    ticks = [tick for tick in (*seconds, *longer, *days, *years) if low <= tick <= high]
    halves = [tick * part for tick in (*seconds, *longer, *days, *years) for part in (1, 2, 5)]
    return thin(ticks if len(ticks) > 1 else [tick for tick in halves if low <= tick <= high], MOST_TICKS)


def span_tick(seconds: float) -> str:
    """``10 ms``, ``1 h``, ``100 d``."""
    if seconds < SPAN_UNITS["min"]:
        return style.latency_tick(1e3 * seconds)
    unit = max((name for name, size in SPAN_UNITS.items() if seconds >= size), key=SPAN_UNITS.__getitem__)
    count = round(seconds / SPAN_UNITS[unit])
    return f"{significant(count, 1) if count < 1e4 else f'{count:.0e}'} {unit}"
