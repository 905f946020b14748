"""Score against sequence length: does an attention hold beyond the length it was trained on?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from elattn_bench.figures.look import Look
from elattn_bench.figures.quality.comparisons import comparisons
from elattn_bench.figures.quality.lines import Course
from elattn_bench.figures.quality.multiples import Panel, Sheetful, draw_multiples
from elattn_bench.figures.quality.notes import data_words, describe
from elattn_bench.figures.quality.nouns import Beside, Comparison
from elattn_bench.figures.quality.styles import styles_of
from elattn_bench.quality.rundir import QualityRun
from elattn_bench.quality.scores import Score, rows_in
from elattn_bench.quality.tasks import TASKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = Sheetful(
    "Score against sequence length", "sequence length L (tokens)", is_log=True, mark="length trained on"
)


def draw_lengths(run: QualityRun, look: Look, beside: Beside) -> Iterator[tuple[str, Figure]]:
    """One figure of all tasks that were judged at several lengths."""
    panels = [panel for each in comparisons(run.rows) if (panel := _panel(each))]
    if not panels:
        return
    shown = [panel.facet for panel in panels]
    rows = [row for facet in shown for row in rows_in(run.rows, facet)]
    remarks = [
        "Lines: means over seeds; bands: lowest to highest." if len({row.seed for row in rows}) > 1 else "",
        data_words(run, shown),
    ]
    lines = describe(run, rows, remarks, look, brief=len({panel.facet.task for panel in panels}) > 1)
    for end, figure in draw_multiples(ABOUT, panels, lines, styles_of(run.rows, look), look):
        yield f"lengths{end}", figure


def _panel(comparison: Comparison) -> Panel | None:
    """The models that have a score at two lengths, best first; without a suffix it is the length trained on."""
    trained = TASKS[comparison.facet.task].length
    courses = [_course(score, comparison.longer, trained) for score in comparison.scores]
    shown = tuple(course for course in courses if len(course.places) > 1)
    return Panel(comparison.facet, comparison.metric, shown, marked=trained) if shown else None


def _course(score: Score, longer: Iterable[Score], trained: int | None) -> Course:
    every = [(trained, score), *((each.length, each) for each in longer if each.model == score.model)]
    return Course.of(score.model, [(place, value) for place, at in every if place for value in at.values])
