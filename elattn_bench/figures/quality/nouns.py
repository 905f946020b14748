"""The nouns of these figures: the models of a task beside each other, and what is drawn beside the measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from elattn_bench.figures.quality.metrics import Metric
from elattn_bench.quality.claims import Target
from elattn_bench.quality.references import pick
from elattn_bench.quality.scores import Score, TaskFacet

FAR = 1.5  # of the span of what is measured: floors further off are named, not drawn
LEAST_SPAN = 0.1  # of the scores themselves: what hardly differs makes nothing far


@dataclass(frozen=True, slots=True)
class Comparison:
    """All models that have a score in a task and form, best first; those that failed, with why.

    Args:
        longer: the same models' scores at other lengths than trained on.
    """

    facet: TaskFacet
    metric: Metric
    scores: tuple[Score, ...]
    longer: tuple[Score, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    def seen(self, extra: Sequence[float] = ()) -> tuple[list[Score], list[Score]]:
        """Those to draw, and the floors that lie so far off that the others could not be told apart beside them.

        Args:
            extra: further scores that a figure has to show.
        """
        measured = [score for score in self.scores if not score.is_floor] or self.scores
        ends = [*extra, *(end for score in measured for end in (score.low, score.high))]
        low, high = min(ends), max(ends)
        reach = FAR * max(high - low, LEAST_SPAN * max(abs(low), abs(high)))
        near = [
            score for score in self.scores if not score.is_floor or low - reach <= score.mean <= high + reach
        ]
        return near, [score for score in self.scores if score not in near]

    def of(self, model: str) -> Score | None:
        """The score of that model, if it has one."""
        return pick({score.model: score for score in self.scores}, model)


@dataclass(frozen=True, slots=True)
class Beside:
    """What is drawn beside a run and is not in it.

    Args:
        targets: claims of papers, as ``claims.targets`` has them.
        latency_ms: model's label -> median latency of its attention in a sweep.
        latency_label: at which size that was, for the axis: ``latency at L=4k``.
        reference: the model that the overview is relative to; None: softmax, else vgg.
    """

    targets: tuple[Target, ...] = ()
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    latency_label: str = "attention's latency"
    reference: str | None = None
