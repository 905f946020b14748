"""Learning curves: the metric after every epoch, and the loss below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elattn_bench.figures.header import draw_header, header_height
from elattn_bench.figures.legend import draw_handles, legend_height
from elattn_bench.figures.look import Look
from elattn_bench.figures.names import End, fit, names_width, write_names
from elattn_bench.figures.quality.comparisons import comparisons, failed_words
from elattn_bench.figures.quality.lines import Course, draw_course, ends_of
from elattn_bench.figures.quality.metrics import LOSS, Metric, padded, score_ticks
from elattn_bench.figures.quality.notes import data_words, describe, far_words
from elattn_bench.figures.quality.nouns import Beside, Comparison
from elattn_bench.figures.quality.styles import handle, styles_of
from elattn_bench.figures.sheet import EDGE, LOWEST, Sheet, panel_height
from elattn_bench.figures.style import Style, evenly, set_ticks
from elattn_bench.quality.rundir import QualityRun
from elattn_bench.quality.scores import rows_in
from elattn_bench.quality.tasks import TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EARLY = 4.0  # the reach of the axis beyond the last epoch, as a multiple of its span
LEAST_SPAN = 0.02  # of the scores: what hardly differs is not stretched
MOST_LINES = 10  # more cannot be told apart
SCORE_HEIGHT = 2.3  # inches, as all that follow, at scale 1
LOSS_SHARE = 0.45  # of the height of the score's panel
LEFT = 0.7
RIGHT = 0.12
BETWEEN = 0.16
ABOVE = 0.12
TICKS = 0.48
TICK_ROOM = 0.3  # that the number of an epoch needs
WIDEST_NAMES = 0.45  # of the figure: wider ones go to a legend


@dataclass(frozen=True, slots=True)
class _Curves:
    """What a figure shows: courses of the score and of the loss, by model, best first."""

    metric: Metric
    scores: Sequence[Course]
    losses: Sequence[Course]

    @property
    def labels(self) -> list[str]:
        """The models."""
        return [course.label for course in self.scores]

    @property
    def limits(self) -> tuple[float, float]:
        """Of the scores: the last epoch, where models are compared, keeps a share of the height."""
        every = ends_of(self.scores)
        low, high = ends_of(course.since(course.places[-1]) for course in self.scores)
        reach = EARLY * max(high - low, LEAST_SPAN * max(abs(low), abs(high)))
        return max(every[0], low - reach), min(every[1], high + reach)

    @property
    def is_cut(self) -> bool:
        """Whether early epochs lie off the axis."""
        return self.limits != ends_of(self.scores)


def draw_curves(run: QualityRun, look: Look, beside: Beside) -> Iterator[tuple[str, Figure]]:
    """A figure for every task and form whose models were trained for two epochs."""
    styles = styles_of(run.rows, look)
    for comparison in comparisons(run.rows):
        curves = _curves(run, comparison)
        if any(len(course.places) > 1 for course in curves.scores):
            yield f"curves-{comparison.facet.stem}", _draw(run, look, comparison, curves, styles)


def _curves(run: QualityRun, comparison: Comparison) -> _Curves:
    """Of the best models; floors last. Epoch 0 would leave no room for what follows."""
    jobs = {row.key for row in rows_in(run.rows, comparison.facet)}
    name = TASKS[comparison.facet.task].metric
    rows = [row for row in run.curves if row.key in jobs and row.metric == name]
    ordered = sorted(comparison.seen()[0], key=lambda score: score.is_floor)
    scores, losses = [], []
    for model in [score.model for score in ordered][:MOST_LINES]:
        mine = [row for row in rows if row.model == model and row.epoch > 0]
        scores.append(Course.of(model, ((row.epoch, row.value) for row in mine)))
        losses.append(Course.of(model, ((row.epoch, row.loss) for row in mine if row.loss is not None)))
    return _Curves(
        comparison.metric, [each for each in scores if each.places], [each for each in losses if each.places]
    )


def _draw(
    run: QualityRun, look: Look, comparison: Comparison, curves: _Curves, styles: Mapping[str, Style]
) -> Figure:
    title = f"Learning curves: {comparison.facet.text}"
    rows = rows_in(run.rows, comparison.facet)
    lines = describe(run, rows, _remarks(run, comparison, curves), look)
    top = header_height(lines, look, title)
    names = names_width(curves.labels)
    parts = 1 + (LOSS_SHARE if curves.losses else 0)
    taken = top + ABOVE + TICKS + (BETWEEN if curves.losses else 0)
    height = _height(look, taken, parts)
    is_named = names <= WIDEST_NAMES * look.room and fit(curves.labels, height)
    below = 0.0 if is_named else legend_height(curves.labels, look)
    height = _height(look, taken + below, parts)
    sheet = Sheet.of(look, taken + below + parts * height)
    width = look.room - EDGE - LEFT - (names if is_named else RIGHT)
    axes = sheet.axes(EDGE + LEFT, top + ABOVE, width, height)
    _draw_scores(axes, curves, styles, height, look)
    if is_named:
        _name(axes, curves, styles, height, look)
    lowest = axes
    if curves.losses:
        axes.tick_params(axis="x", labelbottom=False)
        lowest = sheet.axes(EDGE + LEFT, top + ABOVE + height + BETWEEN, width, LOSS_SHARE * height)
        _draw_losses(lowest, curves, styles, LOSS_SHARE * height, look)
    lowest.set_xlabel("epoch")
    for panel in (axes, lowest):
        _set_epochs(panel, curves, width)
    draw_header(sheet.figure, title, lines, look)
    if not is_named:
        draw_handles(
            sheet.figure, [handle(label, styles[label], look, line=True) for label in curves.labels], look
        )
    return sheet.figure


def _height(look: Look, taken: float, parts: float) -> float:
    return max(LOWEST, panel_height(look, SCORE_HEIGHT * parts, taken) / parts)


def _remarks(run: QualityRun, comparison: Comparison, curves: _Curves) -> list[str]:
    near, far = comparison.seen()
    shown, every = len(curves.scores), len(near)
    seeds = max(spread.seeds for course in curves.scores for spread in course.spreads)
    return [
        "Lines: means over seeds; bands: lowest to highest." if seeds > 1 else "",
        "The loss is that of training.",
        "Early epochs lie off the axis." if curves.is_cut else "",
        f"Shown: {shown} of {every} models, floors last." if shown < every else "",
        far_words(comparison, far),
        failed_words(comparison.failed),
        data_words(run, [comparison.facet]),
    ]


def _draw_scores(axes: Axes, curves: _Curves, styles: Mapping[str, Style], height: float, look: Look) -> None:
    for course in curves.scores:
        draw_course(axes, course, styles[course.label], look, marks=False)
    axes.set_ylim(*padded(*curves.limits))
    axes.set_ylabel(curves.metric.axis(height))
    score_ticks(axes, curves.metric, height)


def _draw_losses(axes: Axes, curves: _Curves, styles: Mapping[str, Style], height: float, look: Look) -> None:
    for course in curves.losses:
        draw_course(axes, course, styles[course.label], look, marks=False)
    axes.set_ylim(*padded(*ends_of(curves.losses)))
    axes.set_ylabel("loss")
    score_ticks(axes, LOSS, height)


def _set_epochs(axes: Axes, curves: _Curves, width: float) -> None:
    epochs = sorted({int(place) for course in curves.scores for place in course.places})
    axes.set_xlim(*_epoch_limits(epochs))
    ticks = evenly(epochs, max(2, min(10, int(width / TICK_ROOM))))
    set_ticks(axes, "x", ticks, [str(tick) for tick in ticks])


def _epoch_limits(epochs: Sequence[int]) -> tuple[float, float]:
    return padded(epochs[0], epochs[-1], 0.03)


def _name(axes: Axes, curves: _Curves, styles: Mapping[str, Style], height: float, look: Look) -> None:
    """The models at the ends of their lines."""
    low, high = axes.get_ylim()
    left, right = _epoch_limits(sorted({int(place) for course in curves.scores for place in course.places}))
    ends = [
        End(
            course.label, styles[course.label].color, (course.places[-1] - left) / (right - left),
            (course.spreads[-1].mean - low) / (high - low),
        )
        for course in curves.scores
    ]  # fmt: skip
    write_names(axes, ends, height, look)
