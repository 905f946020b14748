"""What the models of a run reached and took, over seeds, and against a reference. Pure: no torch, no disk."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from elattn_bench.knobs import Hyperparameters
from elattn_bench.quality.models import NETWORKS
from elattn_bench.quality.nouns import Task
from elattn_bench.quality.ratios import mean_interval, ratio_of_means
from elattn_bench.quality.rows import QualityRow
from elattn_bench.quality.tasks import TASKS
from elattn_bench.verdicts.nouns import Estimate

Family = Literal["transformer", "network", "floor"]
FAMILIES: tuple[Family, ...] = ("transformer", "network", "floor")
"""In the order of tables. ``floor``: what puts the others into proportion: small networks, and uniform attention."""

AT = "@"  # between a metric and the length that it was measured at: accuracy@512
UNIFORM = "mean"  # the attention that does not attend: it averages


class TaskFacet(NamedTuple):
    """What is held fixed while models are compared: a table, a panel of a figure."""

    task: str
    causal: bool
    split: str = "test"

    @property
    def text(self) -> str:
        """For titles: ``etth1-96, causal``; the usual split, test, is not named."""
        words = (self.task, "causal" if self.causal else "non-causal")
        return ", ".join((*words, self.split) if self.split != "test" else words)

    @property
    def stem(self) -> str:
        """The same as part of a file's name: ``etth1-96-causal``."""
        words = (self.task, "causal" if self.causal else "full")
        return "-".join((*words, self.split) if self.split != "test" else words)


@dataclass(frozen=True, slots=True)
class Score:
    """A metric of a model, over seeds.

    Args:
        values: one per seed, in the order trained.
        backend: of the attention, the one that ran; empty where there is none.
        params, epochs: as every seed has them.
        train_s, step_ms_p50, peak_memory_bytes: medians over seeds; None where not measured.
        train_examples, test_examples: how many there were.
    """

    facet: TaskFacet
    model: str
    family: Family
    attention: str
    backend: str
    order: int | None
    qk_norm: str | None
    hyperparameters: Hyperparameters
    metric: str
    values: tuple[float, ...]
    higher_is_better: bool
    params: int | None
    epochs: int
    train_s: float | None
    step_ms_p50: float | None
    peak_memory_bytes: float | None
    train_examples: int | None
    test_examples: int | None

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.values)

    @property
    def low(self) -> float:
        """The lowest of the seeds."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The highest of the seeds."""
        return max(self.values)

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len(self.values)

    @property
    def is_floor(self) -> bool:
        """Whether it only puts the others into proportion."""
        return self.family == "floor"

    @property
    def sd(self) -> float | None:
        """The standard deviation over seeds (n - 1); None of one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> Estimate | None:
        """The mean with its 95 % interval by Student's t; None of one seed."""
        return mean_interval(self.values)

    @property
    def length(self) -> int | None:
        """The length that the metric is of, in tokens; None: the one trained at."""
        suffix = self.metric.partition(AT)[2]
        return int(suffix) if suffix.isdecimal() else None


def scores(rows: Iterable[QualityRow], tasks: Mapping[str, Task] = TASKS) -> list[Score]:
    """One per task, form, model and metric, in the order trained; jobs that failed or diverged have none.

    Args:
        tasks: by name; those of the rows.
    """
    groups: defaultdict[tuple[TaskFacet, str, str], list[QualityRow]] = defaultdict(list)
    for row in rows:
        if row.metric is not None and is_scored(row):
            groups[facet_of(row), row.model, row.metric].append(row)
    return [_score(key[0], found, tasks[key[0].task]) for key, found in groups.items()]


def is_scored(row: QualityRow) -> bool:
    """Whether the line has a number: its job neither failed nor diverged."""
    return row.ok and row.value is not None and math.isfinite(row.value)


def facet_of(row: QualityRow) -> TaskFacet:
    """The facet that the row lies in."""
    return TaskFacet(row.task, row.causal, row.split)


def rows_in(rows: Iterable[QualityRow], facet: TaskFacet) -> list[QualityRow]:
    """The rows that stand in the facet, failed ones too; networks without attention as in ``of_facet``."""
    return [row for row in rows if _stands_in(facet_of(row), row.attention, facet)]


def is_share(metric: str) -> bool:
    """Whether the metric is shown in per cent."""
    return metric.partition(AT)[0] == "accuracy"


def _score(facet: TaskFacet, rows: Sequence[QualityRow], task: Task) -> Score:
    first = rows[0]
    return Score(
        facet, first.model, family_of(first), first.attention, first.backend, first.order, first.qk_norm,
        first.hyperparameters, first.metric or "", tuple(row.value for row in rows if row.value is not None),
        task.higher_is_better, first.params, first.epochs, _median(row.train_s for row in rows),
        _median(row.step_ms_p50 for row in rows), _median(row.peak_memory_bytes for row in rows),
        first.train_examples, first.test_examples,
    )  # fmt: skip


def family_of(row: QualityRow) -> Family:
    """Of the row's model."""
    if row.attention:
        return "floor" if row.attention == UNIFORM else "transformer"
    network = NETWORKS.get(row.network)
    return "floor" if network is None or network.is_floor else "network"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def facets(found: Sequence[Score]) -> list[TaskFacet]:
    """In the order trained, without those of networks alone that stand beside attentions of the other form too."""
    known = list(dict.fromkeys(score.facet for score in found))
    attending = {score.facet for score in found if score.attention}
    tasks = {facet.task for facet in attending}
    return [facet for facet in known if facet in attending or facet.task not in tasks]


def of_facet(found: Iterable[Score], facet: TaskFacet, metric: str) -> dict[str, Score]:
    """The scores in the metric, by model: transformers, networks, floors, each from the best down.

    A network without attention knows no form: it stands beside either.
    """
    chosen = [
        score for score in found if score.metric == metric and _stands_in(score.facet, score.attention, facet)
    ]
    own = {score.model for score in chosen if score.facet == facet}
    kept = [score for score in chosen if score.facet == facet or score.model not in own]
    return {score.model: score for score in sorted(kept, key=_place)}


def _stands_in(own: TaskFacet, attention: str, facet: TaskFacet) -> bool:
    other = facet._replace(causal=not facet.causal)
    return own == facet or (own == other and not attention)


def _place(score: Score) -> tuple[int, float, str]:
    return FAMILIES.index(score.family), -score.mean if score.higher_is_better else score.mean, score.model


def ratio(score: Score, reference: Score) -> Estimate | None:
    """The score over the reference's, with its 95 % interval over seeds; above 1 is better.

    Of errors, of which less is better, it is the reference's over the score. None of a single seed.
    """
    above, below = oriented(score, reference)
    return ratio_of_means(above, below)


def plain_ratio(score: Score, reference: Score) -> float | None:
    """The same without interval, of a single seed too; None where it would divide by 0."""
    above, below = (statistics.fmean(values) for values in oriented(score, reference))
    return above / below if below else None


def oriented(score: Score, reference: Score) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The two sides of the ratio that is above 1 where the score is better."""
    if score.higher_is_better:
        return score.values, reference.values
    return reference.values, score.values


def share_of_params(score: Score, reference: Score) -> float | None:
    """Parameters over the reference's; None where either is unknown, or the reference has none."""
    if score.params is None or not reference.params:
        return None
    return score.params / reference.params
