"""Score against sequence length: does an attention hold beyond the length it was trained on?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from elattn_bench.figures.look import Look
from elattn_bench.figures.quality.lines import Course
from elattn_bench.figures.quality.metrics import parted
from elattn_bench.figures.quality.multiples import Panel, Sheetful, draw_multiples
from elattn_bench.figures.quality.notes import data_words, describe
from elattn_bench.figures.quality.nouns import Beside, Comparison
from elattn_bench.figures.quality.standings import comparisons, values_of
from elattn_bench.figures.quality.styles import styles_of
from elattn_bench.quality.rows import QualityRow
from elattn_bench.quality.rundir import QualityRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = Sheetful(
    "Score against sequence length", "sequence length L (tokens)", is_log=True, mark="length trained on"
)
TRAINED_AT: Mapping[str, int] = {"shakespeare": 256, "mqar": 64, "selective-copy": 128}
"""The length that the loaders of these tasks train on unless told otherwise."""


def draw_lengths(run: QualityRun, look: Look, beside: Beside) -> Iterator[tuple[str, Figure]]:
    """One figure of all tasks that were judged at several lengths."""
    panels = [
        panel for comparison in comparisons(run.rows, beside) if (panel := _panel(run, comparison, beside))
    ]
    if not panels:
        return
    questions = [panel.question for panel in panels]
    rows = [row for row in run.rows if (row.task, row.causal) in questions]
    remarks = [
        "Lines: means over seeds; bands: lowest to highest." if len({row.seed for row in rows}) > 1 else "",
        data_words(run, questions),
    ]
    lines = describe(run, rows, remarks, look, brief=len({panel.question.task for panel in panels}) > 1)
    for end, figure in draw_multiples(ABOUT, panels, lines, styles_of(run.rows, look), look):
        yield f"lengths{end}", figure


def _panel(run: QualityRun, comparison: Comparison, beside: Beside) -> Panel | None:
    """The models that have a score at two lengths, best first."""
    task = comparison.question.task
    trained = beside.lengths.get(task, TRAINED_AT.get(task))
    rows = [row for row in run.rows if (row.task, row.causal) == comparison.question]
    courses = []
    for standing in comparison.standings:
        mine = [row for row in rows if row.model == standing.model]
        pairs = [pair for row in mine if (pair := _at(row, comparison.metric.name, trained))]
        courses.append(Course.of(standing.model, pairs))
    shown = tuple(course for course in courses if len(course.places) > 1)
    return Panel(comparison.question, comparison.metric, shown, marked=trained) if shown else None


def _at(row: QualityRow, metric: str, trained: int | None) -> tuple[float, float] | None:
    """Length and score of a row, where both are known; without a suffix it is the length trained on."""
    base, length = parted(row.metric or "")
    place = length or trained
    values = values_of([row], row.metric or "") if base == metric else []
    return (place, values[0]) if place and values else None
