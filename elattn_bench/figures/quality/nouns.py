"""The nouns of these figures: a question, a model's standing in it, and what is drawn beside the measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from elattn_bench.figures.quality.metrics import Metric
from elattn_bench.quality.claims import Target
from elattn_bench.quality.rows import QualityRow

FAR = 1.5  # of the span of what is measured: floors further off are named, not drawn
LEAST_SPAN = 0.1  # of the scores themselves: what hardly differs makes nothing far


class Question(NamedTuple):
    """A task in one form: all that one figure compares."""

    task: str
    causal: bool

    @property
    def text(self) -> str:
        """``fashion-mnist, non-causal``."""
        return f"{self.task}, {'causal' if self.causal else 'non-causal'}"

    @property
    def stem(self) -> str:
        """The same as part of a file's name."""
        return f"{self.task}-{'causal' if self.causal else 'full'}"


@dataclass(frozen=True, slots=True)
class Spread:
    """A metric over the seeds of a model: mean, lowest, highest, and how many seeds."""

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value per seed, at least one."""
        return cls(sum(values) / len(values), min(values), max(values), len(values))

    def meets(self, other: Spread) -> bool:
        """Whether the two ranges share ground."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True, slots=True)
class Standing:
    """What a model came to in a question: its score, and medians over seeds of what it took.

    Args:
        row: one of its rows, for all that its seeds share.
        is_floor: whether it only puts others into proportion.
        latency_ms: of its attention alone in a sweep, where one is joined.
    """

    row: QualityRow
    score: Spread
    is_floor: bool
    params: float | None
    step_ms: float | None
    train_ms: float | None
    memory: float | None
    latency_ms: float | None = None

    @property
    def model(self) -> str:
        """Its label."""
        return self.row.model


@dataclass(frozen=True, slots=True)
class Comparison:
    """A question and all models that have a score in it, best first; those that failed, with why."""

    question: Question
    metric: Metric
    standings: tuple[Standing, ...]
    failed: Mapping[str, str] = field(default_factory=dict)

    def seen(self, extra: Sequence[float] = ()) -> tuple[list[Standing], list[Standing]]:
        """Those to draw, and the floors that lie so far off that the others could not be told apart beside them.

        Args:
            extra: further scores that a figure has to show.
        """
        measured = [standing for standing in self.standings if not standing.is_floor] or self.standings
        ends = [*extra, *(end for each in measured for end in (each.score.low, each.score.high))]
        low, high = min(ends), max(ends)
        reach = FAR * max(high - low, LEAST_SPAN * max(abs(low), abs(high)))
        near = [
            each
            for each in self.standings
            if not each.is_floor or low - reach <= each.score.mean <= high + reach
        ]
        return near, [each for each in self.standings if each not in near]

    def of(self, model: str) -> Standing | None:
        """The standing of that model, if it has one."""
        return next((standing for standing in self.standings if standing.model == model), None)


@dataclass(frozen=True, slots=True)
class Beside:
    """What is drawn beside a run and is not in it.

    Args:
        targets: claims of papers, as ``claims.targets`` has them.
        latency_ms: model's label -> median latency of its attention in a sweep.
        latency_label: at which size that was, for the axis: ``latency at L=4k``.
        lengths: task -> the length trained on, where scores at other lengths are to be compared with it.
        reference: the model that ratios are relative to.
    """

    targets: tuple[Target, ...] = ()
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    latency_label: str = "attention's latency"
    lengths: Mapping[str, int] = field(default_factory=dict)
    reference: str = "softmax"
