"""From rows to standings: per question and model, the score over seeds and what it took. Nothing is drawn here."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from elattn_bench.analysis import short_status
from elattn_bench.figures.quality.metrics import Metric, find_metric, parted
from elattn_bench.figures.quality.nouns import Beside, Comparison, Question, Spread, Standing
from elattn_bench.quality.models import NETWORKS
from elattn_bench.quality.rows import QualityRow

FLOOR_ATTENTIONS = ("mean",)  # no attention at all: what every other has to beat


def is_floor(row: QualityRow) -> bool:
    """Whether the model only puts others into proportion: a plain network, or no attention at all."""
    network = NETWORKS.get(row.network)
    return network.is_floor if network else row.attention in FLOOR_ATTENTIONS


def comparisons(rows: Sequence[QualityRow], beside: Beside) -> list[Comparison]:
    """One for every question in which a model has a score, as the run has them."""
    groups: defaultdict[Question, list[QualityRow]] = defaultdict(list)
    for row in rows:
        groups[Question(row.task, row.causal)].append(row)
    found = [_compare(question, group, beside) for question, group in groups.items()]
    return [comparison for comparison in found if comparison.standings]


def main_metric(rows: Iterable[QualityRow]) -> str | None:
    """The metric that the rows name first: a job's main one."""
    return next((parted(row.metric)[0] for row in rows if row.metric), None)


def values_of(rows: Iterable[QualityRow], metric: str) -> list[float]:
    """The finite values of the metric, one per seed."""
    values = (row.value for row in rows if row.ok and row.metric == metric)
    return [value for value in values if value is not None and math.isfinite(value)]


def by_model(rows: Iterable[QualityRow]) -> dict[str, list[QualityRow]]:
    """The rows of each model, models in the order trained."""
    groups: defaultdict[str, list[QualityRow]] = defaultdict(list)
    for row in rows:
        groups[row.model].append(row)
    return dict(groups)


def _compare(question: Question, rows: Sequence[QualityRow], beside: Beside) -> Comparison:
    metric = find_metric(main_metric(rows) or "")
    models = by_model(rows)
    standings = [found for group in models.values() if (found := _standing(group, metric, beside))]
    standings.sort(key=lambda standing: metric.best_first(standing.score.mean))
    failed = {model: why for model, group in models.items() if (why := _failures(group, metric))}
    return Comparison(question, metric, tuple(standings), failed)


def _standing(rows: Sequence[QualityRow], metric: Metric, beside: Beside) -> Standing | None:
    values = values_of(rows, metric.name)
    if not values:
        return None
    shown = [row for row in rows if row.ok and row.metric == metric.name]
    return Standing(
        row=shown[0],
        score=Spread.of(values),
        is_floor=is_floor(shown[0]),
        params=_median(row.params for row in shown),
        step_ms=_median(row.step_ms_p50 for row in shown),
        train_ms=_median(None if row.train_s is None else 1e3 * row.train_s for row in shown),
        memory=_median(row.peak_memory_bytes for row in shown),
        latency_ms=beside.latency_ms.get(shown[0].model),
    )


def _median(values: Iterable[float | None]) -> float | None:
    """Of those above 0, which alone have a place on a logarithmic axis."""
    present = [value for value in values if value]
    return statistics.median(present) if present else None


def _failures(rows: Sequence[QualityRow], metric: Metric) -> str:
    """``oom``; ``1 of 3 seeds: timeout``; empty where every seed has a score."""
    seeds = {row.seed for row in rows}
    lost = Counter(short_status(row.status) for row in rows if not row.ok)
    if diverged := sum(row.ok and row.metric == metric.name and not _finite(row) for row in rows):
        lost["diverged"] = diverged
    if not lost:
        return ""
    count, reasons = sum(lost.values()), ", ".join(lost)
    return reasons if count == len(seeds) else f"{count} of {len(seeds)} seeds: {reasons}"


def _finite(row: QualityRow) -> bool:
    return row.value is not None and math.isfinite(row.value)


def failed_words(failed: Mapping[str, str]) -> str:
    """A remark that names what failed, if anything did."""
    return f"Failed: {', '.join(f'{model} ({why})' for model, why in failed.items())}." if failed else ""
