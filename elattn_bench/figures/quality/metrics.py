"""Metrics as figures write them: name, unit, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elattn_bench.figures.style import set_ticks
from elattn_bench.quality.nouns import Task
from elattn_bench.quality.scores import is_share
from elattn_bench.units import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTER = 0.062  # inches: mean width of a letter in an axis title
TICK_HEIGHT = 0.42  # inches between two ticks, at least


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: how it is written, and which way is better."""

    words: str
    higher_is_better: bool
    is_share: bool = False

    def axis(self, height: float) -> str:
        """The title of an axis so many inches long: in one line, or in two."""
        if self.higher_is_better:
            return self.words
        title = f"{self.words} (lower is better)"
        return title if len(title) * LETTER <= height else title.replace(" (", "\n(")

    def ticks(self, values: Sequence[float]) -> list[str]:
        """``90 %``, ``0.35``; all with as many decimals as the one that needs most."""
        shown = [f"{100 * value if self.is_share else value:.6g}" for value in values]
        decimals = max((len(text.partition(".")[2]) for text in shown), default=0)
        return [f"{float(text):.{decimals}f}" + " %" * self.is_share for text in shown]

    def text(self, value: float) -> str:
        """A score in a sentence: ``90.1 %``, ``0.353``."""
        return f"{100 * value:.1f} %" if self.is_share else significant(value, 3)


WORDS: Mapping[str, str] = {
    "mse": "mean squared error", "mae": "mean absolute error", "bits_per_byte": "bits per byte",
}  # fmt: skip
"""What a metric is called where its name in quality.csv is none that people use."""

LOSS = Metric("loss", higher_is_better=False)


def metric_of(task: Task) -> Metric:
    """The task's main metric."""
    words = WORDS.get(task.metric, task.metric.replace("_", " "))
    return Metric(words, task.higher_is_better, is_share(task.metric))


def score_ticks(axes: Axes, metric: Metric, height: float) -> None:
    """Round scores along the vertical axis of a panel so many inches high, at scale 1."""
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_ylim()
    wanted = max(2, min(6, int(height / TICK_HEIGHT)))
    ticks = [float(tick) for tick in MaxNLocator(wanted).tick_values(low, high) if low <= tick <= high]
    set_ticks(axes, "y", ticks, metric.ticks(ticks))


def padded(low: float, high: float, share: float = 0.07) -> tuple[float, float]:
    """Limits of a linear axis with a share of room at both ends; of one value, a little around it."""
    room = share * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room
