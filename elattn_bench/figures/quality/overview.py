"""All tasks at a glance: how good each model is against the reference, as a map of cells."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elattn_bench.figures.header import draw_header, header_height
from elattn_bench.figures.look import SMALLEST, Look
from elattn_bench.figures.names import LETTER
from elattn_bench.figures.palette import CONTRAST, contrast, ink, mixed
from elattn_bench.figures.quality.notes import data_words, describe
from elattn_bench.figures.quality.nouns import Beside, Comparison, Question, Standing
from elattn_bench.figures.quality.standings import comparisons
from elattn_bench.figures.quality.styles import styles_of
from elattn_bench.figures.sheet import EDGE, NARROW, Sheet
from elattn_bench.figures.style import Style, set_ticks
from elattn_bench.quality.rundir import QualityRun

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


@dataclass(frozen=True, slots=True)
class _Cell:
    """A ratio to the reference, and whether the seeds of the two tell them apart."""

    ratio: float
    clear: bool

    @property
    def words(self) -> str:
        """``98.2``; ``~99.8`` where the seeds overlap; percent."""
        percent = 100 * self.ratio
        number = f"{percent:.1f}" if percent < 999.5 else ">999"
        return number if self.clear else f"~{number}"


@dataclass(frozen=True, slots=True)
class _Map:
    """The reference, the others from the best on average down, networks and floors last; cells where both meet."""

    reference: str
    models: Sequence[Standing]
    questions: Sequence[Question]
    cells: Mapping[tuple[str, Question], _Cell]


def draw_overview(run: QualityRun, look: Look, beside: Beside) -> Iterator[tuple[str, Figure]]:
    """One figure, of all tasks and forms in which the reference and another model have a score."""
    found = _map(comparisons(run.rows, beside), beside.reference)
    styles = styles_of(run.rows, look)
    if len(found.questions) < 2:
        return
    for number, page in enumerate(_pages(found, look), start=1):
        yield "overview" if number == 1 else f"overview-{number}", _draw(run, look, page, styles)


def _pages(found: _Map, look: Look) -> Iterator[_Map]:
    """As many tasks as have room for their numbers; several figures of about as many each where not all have."""
    longest = max(len(cell.words) for cell in found.cells.values())
    narrowest = ADVANCE * longest * look.room_points(SMALLEST) / 72 + BESIDE
    most = max(1, int(_free(found.models, look) / narrowest))
    each = -(-len(found.questions) // -(-len(found.questions) // most))
    for start in range(0, len(found.questions), each):
        shown = found.questions[start : start + each]
        models = [
            each for each in found.models if any((each.model, question) in found.cells for question in shown)
        ]
        cells = {key: cell for key, cell in found.cells.items() if key[1] in shown}
        yield _Map(found.reference, models, shown, cells)


def _free(models: Iterable[Standing], look: Look) -> float:
    """Inches beside the models' names."""
    return look.room - EDGE - _names_width(models, look) - RIGHT


def _names_width(models: Iterable[Standing], look: Look) -> float:
    return LETTER * max(map(len, "\n".join(_name(each.model, look) for each in models).split("\n"))) + 0.12


def _name(model: str, look: Look) -> str:
    """The label, in several lines where a figure is narrow."""
    return (
        model
        if look.room >= NARROW
        else "\n".join(textwrap.wrap(model, NAME_LETTERS, break_on_hyphens=False))
    )


def _map(every: Sequence[Comparison], reference: str) -> _Map:
    shown = [each for each in every if each.of(reference) and len(each.standings) > 1]
    cells = {
        (standing.model, comparison.question): cell
        for comparison in shown
        for standing in comparison.standings
        if (cell := _cell(comparison, standing, reference))
    }
    models = {standing.model: standing for comparison in shown for standing in comparison.standings}
    ordered = sorted(
        (standing for model, standing in models.items() if any(key[0] == model for key in cells)),
        key=lambda standing: (
            standing.model != reference,
            standing.is_floor,
            not standing.row.attention,
            -_average(cells, standing.model),
        ),
    )
    return _Map(reference, ordered, [comparison.question for comparison in shown], cells)


def _cell(comparison: Comparison, standing: Standing, reference: str) -> _Cell | None:
    base = comparison.of(reference)
    ratio = comparison.metric.ratio(standing.score.mean, base.score.mean) if base else None
    if base is None or ratio is None:
        return None
    alone = standing.score.seeds == 1 or base.score.seeds == 1
    clear = standing.model == reference or not (alone or standing.score.meets(base.score))
    return _Cell(ratio, clear)


def _average(cells: Mapping[tuple[str, Question], _Cell], model: str) -> float:
    """The mean logarithm of the model's ratios."""
    logs = [math.log(cell.ratio) for (name, _), cell in cells.items() if name == model]
    return sum(logs) / len(logs)


def _draw(run: QualityRun, look: Look, found: _Map, styles: Mapping[str, Style]) -> Figure:
    title = f"Quality against {found.reference}, all tasks"
    rows = [row for row in run.rows if (row.task, row.causal) in found.questions]
    lines = describe(run, rows, _remarks(run, found), look, brief=True)
    width = min(WIDEST_CELL, _free(found.models, look) / len(found.questions))
    heads = [_head(question, width) for question in found.questions]
    upright = any(max(map(len, head.split("\n"))) * LETTER > width - 0.06 for head in heads)
    heads = [question.text for question in found.questions] if upright else heads
    head = LETTER * max(map(len, heads)) if upright else HEAD_LINE * max(h.count("\n") + 1 for h in heads)
    top = header_height(lines, look, title) + head + 0.14
    free = (look.room_height or 0.0) - top - BELOW
    lines_of_name = max(_name(each.model, look).count("\n") + 1 for each in found.models)
    lowest = max(CELL_HEIGHT, NAME_LINE * lines_of_name + 0.03)
    height = max(lowest, min(HIGHEST_CELL, free / len(found.models))) * len(found.models)
    sheet = Sheet.of(look, top + height + BELOW)
    axes = sheet.axes(EDGE + _names_width(found.models, look), top, width * len(found.questions), height)
    _set_axes(axes, found, heads, styles, look, upright=upright)
    for (model, question), cell in found.cells.items():
        place = (found.questions.index(question), [each.model for each in found.models].index(model))
        _draw_cell(axes, place, cell, width, look)
    draw_header(sheet.figure, title, lines, look)
    return sheet.figure


def _head(question: Question, width: float) -> str:
    """The task, in two lines where it is too long for one, and its form."""
    task = question.task
    if len(task) * LETTER > width - 0.06 and "-" in task:
        first, _, rest = task.rpartition("-")
        task = f"{first}-\n{rest}"
    return f"{task}\n{'causal' if question.causal else 'non-causal'}"


def _remarks(run: QualityRun, found: _Map) -> list[str]:
    unclear = any(not cell.clear for cell in found.cells.values())
    return [
        f"Percent of {found.reference}'s score in the same task; of errors {found.reference}'s over the model's: "
        "above 100 is better (blue).",
        "~: the seeds of the two overlap, or there is one." if unclear else "",
        "Grey names: floors." if any(standing.is_floor for standing in found.models) else "",
        data_words(run, found.questions),
    ]


def _set_axes(
    axes: Axes, found: _Map, heads: Sequence[str], styles: Mapping[str, Style], look: Look, *, upright: bool
) -> None:  # fmt: skip
    """Models downwards, each in its colour; tasks above."""
    axes.set_xlim(-0.5, len(found.questions) - 0.5)
    axes.set_ylim(len(found.models) - 0.5, -0.5)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    set_ticks(axes, "x", range(len(heads)), heads)
    axes.tick_params(axis="x", rotation=90 if upright else 0)
    set_ticks(axes, "y", range(len(found.models)), [_name(standing.model, look) for standing in found.models])
    for label, standing in zip(axes.get_yticklabels(), found.models, strict=True):
        label.set_color(ink(styles[standing.model].color, look))
        label.set_parse_math(False)
    for label in axes.get_xticklabels():
        label.set_color(look.ink)


def _draw_cell(axes: Axes, place: tuple[int, int], cell: _Cell, width: float, look: Look) -> None:
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


def _tint(cell: _Cell, look: Look) -> str:
    """Blue above 1 and vermilion below, the stronger the further; never too strong for letters."""
    color = look.colors[0] if cell.ratio > 1 else look.colors[1]
    part = STRONGEST * min(1.0, abs(math.log(cell.ratio)) / FULL)
    while part > 0 and contrast(mixed(look.ground, color, part), look.ink) < CONTRAST:
        part -= 0.05
    return mixed(look.ground, color, max(part, 0.0))
