"""All tasks at a glance: how good each model is against the reference, as a map of cells."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from elattn_bench.figures.header import draw_header, header_height
from elattn_bench.figures.look import SMALLEST, Look
from elattn_bench.figures.names import LETTER
from elattn_bench.figures.palette import CONTRAST, contrast, ink, mixed
from elattn_bench.figures.quality.notes import data_words, describe
from elattn_bench.figures.quality.nouns import Beside
from elattn_bench.figures.quality.styles import styles_of
from elattn_bench.figures.sheet import EDGE, NARROW, Sheet
from elattn_bench.figures.style import Style, set_ticks
from elattn_bench.quality.overview import UNCLEAR, Cell, Overview, overviews
from elattn_bench.quality.rundir import QualityRun
from elattn_bench.quality.scores import Score, TaskFacet, rows_in, scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL_HEIGHT = 0.22  # inches, as all that follow, at scale 1
HIGHEST_CELL = 0.34
WIDEST_CELL = 1.0
HEAD_LINE = 0.13  # a line of a task's name
BELOW = 0.12
BESIDE = 0.05  # left and right of a number together
NAME_LINE = 0.115  # a line of a model's name, where it has several
NAME_LETTERS = 22  # of such a line
RIGHT = 0.1
FULL = math.log(1.15)  # a ratio that far from 1 has the strongest tint
STRONGEST = 0.6  # share of the colour in it
NUMBER_SIZE = 7.0  # points: the numbers
ADVANCE = 0.62  # mean width of a digit, as a share of its size


def draw_overview(run: QualityRun, look: Look, beside: Beside) -> Iterator[tuple[str, Figure]]:
    """One figure, of all tasks and forms in which the reference and another model have a score."""
    styles = styles_of(run.rows, look)
    several = [each for each in overviews(scores(run.rows), beside.reference) if len(each.facets) > 1]
    pages = [page for each in several for page in _pages(each, look)]
    for number, page in enumerate(pages, start=1):
        yield "overview" if number == 1 else f"overview-{number}", _draw(run, look, page, styles)


def _pages(found: Overview, look: Look) -> Iterator[Overview]:
    """As many tasks as have room for their numbers; several figures of about as many each where not all have."""
    longest = max(len(cell.words) for cell in found.cells.values())
    narrowest = ADVANCE * longest * look.room_points(SMALLEST) / 72 + BESIDE
    most = max(1, int(_free(found.models, look) / narrowest))
    each = -(-len(found.facets) // -(-len(found.facets) // most))
    for start in range(0, len(found.facets), each):
        yield found.part(found.facets[start : start + each])


def _free(models: Iterable[Score], look: Look) -> float:
    """Inches beside the models' names."""
    return look.room - EDGE - _names_width(models, look) - RIGHT


def _names_width(models: Iterable[Score], look: Look) -> float:
    return LETTER * max(map(len, "\n".join(_name(each.model, look) for each in models).split("\n"))) + 0.12


def _name(model: str, look: Look) -> str:
    """The label, in several lines where a figure is narrow."""
    return (
        model
        if look.room >= NARROW
        else "\n".join(textwrap.wrap(model, NAME_LETTERS, break_on_hyphens=False))
    )


def _draw(run: QualityRun, look: Look, found: Overview, styles: Mapping[str, Style]) -> Figure:
    title = f"Quality against {found.reference}, all tasks"
    rows = [row for facet in found.facets for row in rows_in(run.rows, facet)]
    lines = describe(run, rows, _remarks(run, found), look, brief=True)
    width = min(WIDEST_CELL, _free(found.models, look) / len(found.facets))
    heads = [_head(facet, width) for facet in found.facets]
    upright = any(max(map(len, head.split("\n"))) * LETTER > width - 0.06 for head in heads)
    heads = [facet.text for facet in found.facets] if upright else heads
    head = LETTER * max(map(len, heads)) if upright else HEAD_LINE * max(h.count("\n") + 1 for h in heads)
    top = header_height(lines, look, title) + head + 0.14
    free = (look.room_height or 0.0) - top - BELOW
    lines_of_name = max(_name(each.model, look).count("\n") + 1 for each in found.models)
    lowest = max(CELL_HEIGHT, NAME_LINE * lines_of_name + 0.03)
    height = max(lowest, min(HIGHEST_CELL, free / len(found.models))) * len(found.models)
    sheet = Sheet.of(look, top + height + BELOW)
    axes = sheet.axes(EDGE + _names_width(found.models, look), top, width * len(found.facets), height)
    _set_axes(axes, found, heads, styles, look, upright=upright)
    for (model, facet), cell in found.cells.items():
        place = (found.facets.index(facet), [each.model for each in found.models].index(model))
        _draw_cell(axes, place, cell, width, look)
    draw_header(sheet.figure, title, lines, look)
    return sheet.figure


def _head(facet: TaskFacet, width: float) -> str:
    """The task, in two lines where it is too long for one, and its form."""
    task = facet.task
    if len(task) * LETTER > width - 0.06 and "-" in task:
        first, _, rest = task.rpartition("-")
        task = f"{first}-\n{rest}"
    return f"{task}\n{'causal' if facet.causal else 'non-causal'}"


def _remarks(run: QualityRun, found: Overview) -> list[str]:
    return [
        f"Percent of {found.reference}'s score in the same task; of errors {found.reference}'s over the model's: "
        "above 100 is better (blue).",
        UNCLEAR if found.is_unclear else "",
        "Grey names: floors." if any(score.is_floor for score in found.models) else "",
        data_words(run, found.facets),
    ]


def _set_axes(
    axes: Axes, found: Overview, heads: Sequence[str], styles: Mapping[str, Style], look: Look, *, upright: bool
) -> None:  # fmt: skip
    """Models downwards, each in its colour; tasks above."""
    axes.set_xlim(-0.5, len(found.facets) - 0.5)
    axes.set_ylim(len(found.models) - 0.5, -0.5)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    set_ticks(axes, "x", range(len(heads)), heads)
    axes.tick_params(axis="x", rotation=90 if upright else 0)
    set_ticks(axes, "y", range(len(found.models)), [_name(score.model, look) for score in found.models])
    for label, score in zip(axes.get_yticklabels(), found.models, strict=True):
        label.set_color(ink(styles[score.model].color, look))
        label.set_parse_math(False)
    for label in axes.get_xticklabels():
        label.set_color(look.ink)


def _draw_cell(axes: Axes, place: tuple[int, int], cell: Cell, width: float, look: Look) -> None:
    from matplotlib.patches import Rectangle

    column, row = place
    axes.add_patch(
        Rectangle(
            (column - 0.5, row - 0.5), 1, 1, facecolor=_tint(cell, look), edgecolor=look.ground,
            linewidth=1.2 * look.scale, zorder=1,
        )
    )  # fmt: skip
    fitting = 72 * (width - BESIDE) / (ADVANCE * len(cell.words))
    size = look.points(min(NUMBER_SIZE, fitting))
    axes.text(
        column, row, cell.words, ha="center", va="center", fontsize=size, color=look.ink, zorder=3,
    )  # fmt: skip


def _tint(cell: Cell, look: Look) -> str:
    """Blue above 1 and vermilion below, the stronger the further; never too strong for letters."""
    color = look.colors[0] if cell.ratio > 1 else look.colors[1]
    part = STRONGEST * min(1.0, abs(math.log(cell.ratio)) / FULL)
    while part > 0 and contrast(mixed(look.ground, color, part), look.ink) < CONTRAST:
        part -= 0.05
    return mixed(look.ground, color, max(part, 0.0))
