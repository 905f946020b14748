"""Statistics of timings: summaries, intervals, the stopping rule. Each cites its source. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elattn_bench.units import Seconds

RESAMPLES = 1000  # of the bootstrap: the interval's own error is then far below the +-2 % we ask for
CONFIDENCE = 0.95
STABLE_SPREAD = 0.10  # IQR / median above which a case is noisy: torch.utils.benchmark's warning level
LARGEST_RESAMPLE = 256  # samples drawn per resample; more would cost time and change no verdict


@dataclass(frozen=True, slots=True)
class Summary:
    """Location and spread of one case's samples, in the samples' own unit.

    p25, p50, p75: quartiles, by linear interpolation (Hyndman & Fan 1996, definition 7).
    ci_low, ci_high: 95 % percentile-bootstrap interval of the median (Efron 1979).
    """

    p50: float
    p25: float
    p75: float
    min: float
    mean: float
    ci_low: float
    ci_high: float


def summarise(samples: Sequence[float]) -> Summary:
    """The summary of the samples.

    Raises:
        ValueError: there are none.
    """
    if not samples:
        raise ValueError("no samples to summarise")
    values = np.asarray(samples, dtype=np.float64)
    p25, p50, p75 = np.percentile(values, [25, 50, 75])
    ci_low, ci_high = median_interval(values)
    return Summary(
        float(p50), float(p25), float(p75), float(values.min()), float(values.mean()), ci_low, ci_high
    )


def median_interval(samples: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the median by the percentile bootstrap (Efron 1979), seeded: same data, same interval."""
    values = np.asarray(samples, dtype=np.float64)
    generator = np.random.default_rng(0)
    count = min(len(values), LARGEST_RESAMPLE)
    draws = values[generator.integers(0, len(values), size=(RESAMPLES, count))]
    # Fewer draws than samples widen the median's spread by sqrt(n / draws); undo it around the median.
    medians = np.median(draws, axis=1)
    centre = float(np.median(values))
    medians = centre + (medians - centre) * np.sqrt(count / len(values))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    return float(low), float(high)


def spread(samples: Sequence[float]) -> float:
    """Interquartile range over median (Tukey 1977): the noise of a case, robust against outliers."""
    p25, p50, p75 = np.percentile(np.asarray(samples, dtype=np.float64), [25, 50, 75])
    return float((p75 - p25) / p50)


def stability(samples: Sequence[float]) -> str:
    """``stable`` when the spread is at most 10 %, else ``noisy``."""
    return "stable" if spread(samples) <= STABLE_SPREAD else "noisy"


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to sample one case.

    Sampling goes on until there are ``min_samples`` and ``min_time`` has passed and the interval of
    the median is within ``precision`` of it, or until ``max_time`` has passed.
    """

    min_samples: int
    min_time: Seconds
    max_time: Seconds
    precision: float
    warm_up_time: Seconds

    def is_met(self, samples: Sequence[float], elapsed: Seconds) -> bool:
        """Whether sampling may stop."""
        if elapsed >= self.max_time:
            return len(samples) >= FEWEST_SAMPLES
        if len(samples) < self.min_samples or elapsed < self.min_time:
            return False
        low, high = median_interval(samples)
        return (high - low) / 2 <= self.precision * float(np.median(samples))


FEWEST_SAMPLES = 3  # even past max_time: quartiles of fewer would be fiction

BUDGETS = {
    "quick": Budget(min_samples=10, min_time=0.05, max_time=0.5, precision=0.10, warm_up_time=0.3),
    "default": Budget(min_samples=10, min_time=0.2, max_time=5.0, precision=0.02, warm_up_time=2.0),
    "rigorous": Budget(min_samples=30, min_time=1.0, max_time=20.0, precision=0.01, warm_up_time=3.0),
}
