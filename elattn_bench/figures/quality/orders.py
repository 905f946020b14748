"""Score against the order of a polynomial, with softmax as a band."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from elattn_bench.figures.look import Look
from elattn_bench.figures.quality.comparisons import comparisons
from elattn_bench.figures.quality.lines import Course, Spread
from elattn_bench.figures.quality.multiples import REFERENCE, Panel, Sheetful, draw_multiples
from elattn_bench.figures.quality.notes import data_words, describe
from elattn_bench.figures.quality.nouns import Beside, Comparison
from elattn_bench.figures.style import Line, Style, assign_styles
from elattn_bench.knobs import sort_key
from elattn_bench.quality.rows import QualityRow
from elattn_bench.quality.rundir import QualityRun
from elattn_bench.quality.scores import Score, facet_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = Sheetful("Score against the order of the polynomial", "order t")


def draw_orders(run: QualityRun, look: Look, beside: Beside) -> Iterator[tuple[str, Figure]]:
    """One figure of all tasks and forms in which an attention has a score in two orders."""
    panels = [panel for each in comparisons(run.rows) if (panel := _panel(each))]
    if not panels:
        return
    shown = [panel.facet for panel in panels]
    rows = [row for row in run.rows if row.order is not None and facet_of(row) in shown]
    remarks = [
        "Lines: means over seeds; bands: lowest to highest." if len({row.seed for row in rows}) > 1 else "",
        data_words(run, shown),
    ]
    lines = describe(run, rows, remarks, look, brief=len({panel.facet.task for panel in panels}) > 1)
    for end, figure in draw_multiples(ABOUT, panels, lines, _styles(rows, look), look):
        yield f"orders{end}", figure


def _panel(comparison: Comparison) -> Panel | None:
    groups: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for score in comparison.scores:
        if score.order is not None:
            groups[family(score)] += [(score.order, value) for value in score.values]
    courses = [Course.of(label, pairs) for label, pairs in groups.items()]
    shown = tuple(course for course in courses if len(course.places) > 1)
    base = comparison.of(REFERENCE)
    band = Spread.of(base.values) if base else None
    return Panel(comparison.facet, comparison.metric, shown, band) if shown else None


def family(model: Score | QualityRow) -> str:
    """The model's label without its order: one line."""
    return " ".join(word for word in model.model.split() if word != f"t={model.order}")


def _styles(rows: Iterable[QualityRow], look: Look) -> Mapping[str, Style]:
    lines = {
        family(row): Line(True, row.attention, (row.backend, 0, sort_key(row.hyperparameters)), family(row))
        for row in rows
    }
    return assign_styles(lines.values(), look)
