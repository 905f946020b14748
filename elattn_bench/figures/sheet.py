"""A sheet to draw on: places in inches at scale 1, whatever the look; header, panels and legend in its colours."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elattn_bench.analysis import Facet, Setting, by_facet
from elattn_bench.figures.look import Look
from elattn_bench.figures.style import ink, set_ticks
from elattn_bench.results import Row
from elattn_bench.rundir import Run

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EDGE = 0.1  # inches between the sheet's edge and its text
TITLE_LETTER, TITLE_LINE = (
    0.088,
    0.2,
)  # inches: mean width of a letter of the title (10 pt bold), and its line
LETTER, LINE = 0.057, 0.145  # inches: the same for remarks (7.5 pt)
LEGEND_LETTER, LEGEND_ROW = 0.062, 0.17  # inches: the same for the legend
HANDLE = 0.5  # inches: what stands before a name in the legend, and the space around it
NARROW = 5.0  # inches: below, panels stand below each other


@dataclass(frozen=True, slots=True)
class Sheet:
    """A figure and its look. All places are inches from the upper left at scale 1, all sizes points at scale 1."""

    figure: Figure
    look: Look
    height: float

    @classmethod
    def of(cls, look: Look, height: float) -> Sheet:
        """An empty sheet of that height."""
        from matplotlib.figure import Figure

        size = (look.width, height * look.scale)
        return cls(Figure(figsize=size, facecolor=look.ground), look, height)

    @property
    def width(self) -> float:
        """Of the sheet."""
        return sheet_width(self.look)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """A panel at that place, in the look's colours."""
        look = self.look
        place = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        axes = self.figure.add_axes(place, facecolor=look.ground)
        axes.tick_params(
            which="both", labelsize=7 * look.scale, color=look.ink, labelcolor=look.ink,
            width=0.7 * look.scale, length=3 * look.scale, pad=3 * look.scale,
        )  # fmt: skip
        for spine in axes.spines.values():
            spine.set(color=look.ink, linewidth=0.7 * look.scale)
        axes.grid(True, color=look.grid, linewidth=0.6 * look.scale)
        return axes

    def text(self, left: float, top: float, words: str, size: float = 8, **look: Any) -> None:
        """Words, their upper left corner at that place unless told otherwise."""
        settings = {"color": self.look.ink, "va": "top", "parse_math": False, **look}
        self.figure.text(
            left / self.width, 1 - top / self.height, words, fontsize=size * self.look.scale, **settings
        )

    def label_x(self, axes: Axes, words: str) -> None:
        """Name the horizontal axis."""
        axes.set_xlabel(
            words, fontsize=8 * self.look.scale, color=self.look.ink, labelpad=3 * self.look.scale
        )

    def head(self, axes: Axes, words: str) -> None:
        """The panel's own title, above it at the left."""
        axes.set_title(
            words, loc="left", pad=5 * self.look.scale, fontweight="bold", fontsize=8 * self.look.scale,
            color=self.look.ink,
        )  # fmt: skip

    def header(self, title: str, remarks: Sequence[str]) -> None:
        """The title and the remarks, at the upper left."""
        lines = _title_lines(title, self.look)
        for number, line in enumerate(lines):
            self.text(EDGE, EDGE + TITLE_LINE * number, line, size=10, fontweight="bold")
        for number, line in enumerate(remarks):
            top = EDGE + TITLE_LINE * len(lines) + 0.04 + LINE * number
            self.text(EDGE, top, line, size=7.5, color=self.look.muted)

    def legend(self, handles: Sequence[Artist]) -> None:
        """What marks mean, at the lower edge; handles have labels."""
        names = [str(handle.get_label()) for handle in handles]
        legend = self.figure.legend(
            handles=list(handles), loc="lower center", ncols=legend_columns(names, self.look),
            bbox_to_anchor=(0.5, 0.0), fontsize=7.5 * self.look.scale, handlelength=1.8, borderpad=0.3,
            columnspacing=1.2, labelcolor=self.look.ink, frameon=False,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)


def sheet_width(look: Look) -> float:
    """The width in inches at scale 1: what fits beside each other."""
    return look.width / look.scale


def _title_lines(title: str, look: Look) -> list[str]:
    return textwrap.wrap(look.title or title, int((sheet_width(look) - 2 * EDGE) / TITLE_LETTER))


def wrap(sentences: Iterable[str], look: Look) -> list[str]:
    """The sentences, as lines that fit into the sheet."""
    text = " ".join(filter(None, sentences)).replace(" %", "\u00a0%")  # no line begins with a unit
    return textwrap.wrap(text, int((sheet_width(look) - 2 * EDGE) / LETTER), break_on_hyphens=False)


def describe(
    run: Run, setting: Setting, sizes: Sequence[str], sentences: Iterable[str], look: Look
) -> list[str]:
    """The lines below a title: device and run, what is held fixed, and how to read the figure."""
    threads = run.info.get("environment", {}).get("threads") if run.rows[0].device == "cpu" else None
    device = f"{run.device_name}, {threads} threads" if threads else run.device_name
    fixed = ", ".join([f"{setting.level} level", *setting.text.split(", ")[1:], *sizes])
    return [*wrap([f"{device}; run {run.name}"], look), *wrap([f"{fixed}.", *sentences], look)]


def header_height(title: str, remarks: Sequence[str], look: Look) -> float:
    """Of title and remarks, in inches at scale 1."""
    return EDGE + TITLE_LINE * len(_title_lines(title, look)) + 0.04 + LINE * len(remarks)


def legend_columns(names: Sequence[str], look: Look) -> int:
    """How many names fit beside each other."""
    widest = max(map(len, names), default=1) * LEGEND_LETTER + HANDLE
    return max(1, min(len(names), int((sheet_width(look) - 2 * EDGE) / widest)))


def legend_height(names: Sequence[str], look: Look) -> float:
    """In inches at scale 1."""
    return LEGEND_ROW * math.ceil(len(names) / legend_columns(names, look)) + 0.12 if names else 0.0


def letters(color: str, look: Look) -> str:
    """The colour of a line, fit for letters on the look's ground."""
    return color if look.style == "dark" else ink(color)


def share(value: float, limits: tuple[float, float]) -> float:
    """Where the value stands on a logarithmic axis: 0 at its start, 1 at its end."""
    return math.log(value / limits[0]) / math.log(limits[1] / limits[0])


def at_share(place: float, limits: tuple[float, float]) -> float:
    """The value at that place of a logarithmic axis."""
    return float(limits[0] * (limits[1] / limits[0]) ** place)


def log_ticks(
    axes: Axes, axis: str, ticks: Sequence[float], label: Callable[[float], str], most: int
) -> None:
    """At most so many of the ticks, labelled."""
    shown = ticks[:: -max(1, math.ceil(len(ticks) / max(most, 1)))][::-1]  # the last among them
    set_ticks(axes, axis, shown, [label(tick) for tick in shown])


def leading_facets(rows: Iterable[Row]) -> list[tuple[Facet, list[Row]]]:
    """For each setting the facet that holds most of the rows; of equals the largest dim and smallest batch.

    A figure for every facet would be dozens; what changes with dims and batches other kinds show.
    """
    best: dict[Setting, tuple[Facet, list[Row]]] = {}
    for facet, found in by_facet(rows).items():
        rival = best.get(facet.setting)
        if rival is None or _weight(facet, found) > _weight(*rival):
            best[facet.setting] = (facet, found)
    return list(best.values())


def _weight(facet: Facet, rows: Sequence[Row]) -> tuple[int, int, int, int]:
    return len(rows), facet.dim, -facet.batch, -facet.heads


def sizes_of(facet: Facet) -> list[str]:
    """``heads 8, batch 1, dim 256``, one by one."""
    return [f"heads {facet.heads}", f"batch {facet.batch}", f"dim {facet.dim}"]
