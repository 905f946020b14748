"""From rows to what a figure compares: per task and form the scores, and what failed. Nothing is drawn here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from elattn_bench.analysis import short_status
from elattn_bench.figures.quality.metrics import metric_of
from elattn_bench.figures.quality.nouns import Comparison
from elattn_bench.quality.rows import QualityRow
from elattn_bench.quality.scores import AT, Score, TaskFacet, facets, is_scored, of_facet, rows_in, scores
from elattn_bench.quality.tasks import TASKS


def comparisons(rows: Sequence[QualityRow]) -> list[Comparison]:
    """One for every task and form in which a model has a score, as the run has them."""
    found = scores(rows)
    made = [_compare(facet, found, rows) for facet in facets(found)]
    return [comparison for comparison in made if comparison.scores]


def _compare(facet: TaskFacet, found: Sequence[Score], rows: Sequence[QualityRow]) -> Comparison:
    task = TASKS[facet.task]
    models = of_facet(found, facet, task.metric).values()
    ordered = sorted(models, key=lambda score: score.mean, reverse=task.higher_is_better)
    longer = [
        score
        for score in found
        if score.facet == facet and score.length and score.metric.partition(AT)[0] == task.metric
    ]
    failed = _failures(rows_in(rows, facet), task.metric)
    return Comparison(facet, metric_of(task), tuple(ordered), tuple(longer), failed)


def _failures(rows: Iterable[QualityRow], metric: str) -> dict[str, str]:
    """Model -> ``oom``, ``1 of 3 seeds: timeout``; none where every seed has a score."""
    groups: defaultdict[str, list[QualityRow]] = defaultdict(list)
    for row in rows:
        if row.metric in (None, metric):
            groups[row.model].append(row)
    return {model: why for model, group in groups.items() if (why := _why(group))}


def _why(rows: Sequence[QualityRow]) -> str:
    seeds = {row.seed for row in rows}
    lost = Counter("diverged" if row.ok else short_status(row.status) for row in rows if not is_scored(row))
    if not lost:
        return ""
    count, reasons = sum(lost.values()), ", ".join(lost)
    return reasons if count == len(seeds) else f"{count} of {len(seeds)} seeds: {reasons}"


def failed_words(failed: Mapping[str, str]) -> str:
    """A remark that names what failed, if anything did."""
    return f"Failed: {', '.join(f'{model} ({why})' for model, why in failed.items())}." if failed else ""
