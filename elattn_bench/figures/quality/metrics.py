"""Metrics as figures write them: name, unit, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elattn_bench.figures.style import set_ticks
from elattn_bench.units import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTER = 0.062  # inches: mean width of a letter in an axis title
TICK_HEIGHT = 0.42  # inches between two ticks, at least


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its name in quality.csv, how it is written, and which way is better."""

    name: str
    words: str
    higher_is_better: bool
    is_share: bool = False

    def axis(self, height: float) -> str:
        """The title of an axis so many inches long: in one line, or in two."""
        if self.higher_is_better:
            return self.words
        title = f"{self.words} (lower is better)"
        return title if len(title) * LETTER <= height else title.replace(" (", "\n(")

    def best_first(self, value: float) -> float:
        """A key that sorts the best first."""
        return -value if self.higher_is_better else value

    def ticks(self, values: Sequence[float]) -> list[str]:
        """``90 %``, ``0.35``; all with as many decimals as the one that needs most."""
        shown = [f"{100 * value if self.is_share else value:.6g}" for value in values]
        decimals = max((len(text.partition(".")[2]) for text in shown), default=0)
        return [f"{float(text):.{decimals}f}" + " %" * self.is_share for text in shown]

    def text(self, value: float) -> str:
        """A score in a sentence: ``90.1 %``, ``0.353``."""
        return f"{100 * value:.1f} %" if self.is_share else significant(value, 3)

    def ratio(self, value: float, reference: float) -> float | None:
        """How good against the reference, above 1 is better: of errors, the reference's over the value."""
        above, below = (value, reference) if self.higher_is_better else (reference, value)
        return above / below if below > 0 and above > 0 else None


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", higher_is_better=True, is_share=True),
        Metric("mse", "mean squared error", higher_is_better=False),
        Metric("mae", "mean absolute error", higher_is_better=False),
        Metric("bits_per_byte", "bits per byte", higher_is_better=False),
        Metric("loss", "loss", higher_is_better=False),
    )
}


def find_metric(name: str) -> Metric:
    """The metric of that name; one that is unknown is its own words, and more of it is better."""
    return METRICS.get(name) or Metric(name, name.replace("_", " "), higher_is_better=True)


def parted(name: str) -> tuple[str, int | None]:
    """``bits_per_byte@512`` as the metric and the length that it was judged at."""
    base, _, length = name.partition("@")
    return base, int(length) if length.isdecimal() else None


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
