"""Statistics of timings: summaries, intervals, the stopping rule. Each cites its source. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elattn_bench.units import Seconds

RESAMPLES = 1000  # of the bootstrap: the interval's own error is then far below the +-2 % we ask for
CONFIDENCE = 0.95
STABLE_SPREAD = 0.10  # IQR / median above which a case is noisy: torch.utils.benchmark's warning level
QUANTILES = 32  # that stand for a visit among several: enough for quartiles, few enough to resample
STABLE_INTERVAL = 0.05  # half the interval of the median over it: what two runs may differ by and be the same
STABLE_DRIFT = 0.05  # between the halves of a case's samples: a machine that changes under the measurement
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


def summarise(samples: Sequence[float], visits: Sequence[int] = ()) -> Summary:
    """The summary of the samples.

    Args:
        samples: in the order taken.
        visits: how many of them each visit took; nothing if there was one visit.

    Raises:
        ValueError: there are none.
    """
    if not samples:
        raise ValueError("no samples to summarise")
    values = balanced(samples, visits)
    p25, p50, p75 = np.percentile(values, [25, 50, 75])
    ci_low, ci_high = median_interval(samples, visits)
    return Summary(float(p50), float(p25), float(p75), min(samples), float(values.mean()), ci_low, ci_high)


def balanced(
    samples: Sequence[float] | NDArray[np.float64], visits: Sequence[int] = ()
) -> NDArray[np.float64]:
    """The samples with every visit of equal weight: each in the same number of its own quantiles.

    A visit takes the more samples the noisier it is; it must not outvote the quiet ones by that.
    """
    values = np.asarray(samples, dtype=np.float64)
    if len(visits) < 2:
        return values
    middles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.concatenate([np.quantile(part, middles) for part in np.split(values, np.cumsum(visits)[:-1])])


def median_interval(
    samples: Sequence[float] | NDArray[np.float64], visits: Sequence[int] = ()
) -> tuple[float, float]:
    """95 % interval of the median by the percentile bootstrap (Efron 1979), seeded: same data, same interval.

    With several visits, visits are drawn first and samples within them (the two-stage bootstrap of
    Davison & Hinkley 1997, section 3.8): samples of one visit resemble each other.
    """
    medians = _visit_medians(balanced(samples, visits), len(visits)) if len(visits) > 1 else _medians(samples)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    return float(low), float(high)


def _medians(samples: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.asarray(samples, dtype=np.float64)
    generator = np.random.default_rng(0)
    count = min(len(values), LARGEST_RESAMPLE)
    medians: NDArray[np.float64] = np.median(
        values[generator.integers(0, len(values), size=(RESAMPLES, count))], axis=1
    )
    # Fewer draws than samples widen the median's spread by sqrt(n / draws); undo it around the median.
    centre = float(np.median(values))
    return centre + (medians - centre) * math.sqrt(count / len(values))


def _visit_medians(values: NDArray[np.float64], visits: int) -> NDArray[np.float64]:
    """Medians of resampled visits, widened: the spread of n visits understates that of their source.

    Args:
        values: of so many visits, one after the other, equally many of each.
    """
    generator = np.random.default_rng(0)
    parts = values.reshape(visits, -1)
    chosen = generator.integers(0, visits, size=(RESAMPLES, visits, 1))
    within = generator.integers(0, parts.shape[1], size=(RESAMPLES, visits, parts.shape[1]))
    medians: NDArray[np.float64] = np.median(parts[chosen, within].reshape(RESAMPLES, -1), axis=1)
    centre = float(np.median(values))
    return centre + (medians - centre) * math.sqrt(visits / (visits - 1))


def spread(samples: Sequence[float] | NDArray[np.float64]) -> float:
    """Interquartile range over median (Tukey 1977): the noise of a case, robust against outliers."""
    p25, p50, p75 = np.percentile(np.asarray(samples, dtype=np.float64), [25, 50, 75])
    return float((p75 - p25) / p50)


def instability(samples: Sequence[float], visits: Sequence[int] = ()) -> str | None:
    """The criterion of a stable case that the samples fail, with the figure; None when they keep all.

    The interquartile range is at most 10 % of the median. With several visits the interval of the median is
    within 5 % of it; with one, the medians of its two halves differ by at most 5 %.
    """
    values = balanced(samples, visits)
    if (share := spread(values)) > STABLE_SPREAD:
        return f"interquartile range {share:.0%} of the median, allowed {STABLE_SPREAD:.0%}"
    if len(visits) > 1:
        low, high = median_interval(samples, visits)
        if (share := (high - low) / 2 / float(np.median(values))) > STABLE_INTERVAL:
            return f"interval of the median ±{share:.0%} over {len(visits)} visits, allowed ±{STABLE_INTERVAL:.0%}"
    elif len(values) >= 2 * FEWEST_SAMPLES:
        first, second = (float(np.median(half)) for half in np.array_split(values, 2))
        if (share := abs(second / first - 1)) > STABLE_DRIFT:
            return f"drifted by {share:.0%} between the first and the second half, allowed {STABLE_DRIFT:.0%}"
    return None


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to sample one case.

    A visit goes on until there are ``min_samples`` and ``min_time`` has passed and the interval of the
    median is within ``precision`` of it, or the noise has settled, or ``max_time`` has passed. Each case
    is visited ``visits`` times, all over the sweep.
    """

    min_samples: int
    min_time: Seconds
    max_time: Seconds
    precision: float
    warm_up_time: Seconds
    visits: int = 1

    @property
    def precision_of_all(self) -> float:
        """What all visits together come to, were they alike."""
        return self.precision / math.sqrt(self.visits)

    def stops(self, samples: Sequence[float], noise: Sequence[float], elapsed: Seconds) -> str:
        """Why a visit ends now: ``precision``, ``plateau`` or ``time``; empty while it goes on.

        Args:
            samples: all so far.
            noise: their spread at every check so far.
            elapsed: time since the first.
        """
        if elapsed >= self.max_time:
            return "time" if len(samples) >= FEWEST_SAMPLES else ""
        if len(samples) < self.min_samples or elapsed < self.min_time:
            return ""
        low, high = median_interval(samples)
        if (high - low) / 2 <= self.precision * float(np.median(samples)):
            return "precision"
        return "plateau" if has_settled(noise, len(samples)) else ""


def has_settled(noise: Sequence[float], samples: int) -> bool:
    """Whether the noise itself has stopped moving, so that more samples teach no more about it.

    After nvbench: at least 64 samples, and the last estimates of the noise within a relative standard
    deviation of 5 %.
    """
    if samples < SETTLED_SAMPLES or len(noise) < SETTLED_CHECKS:
        return False
    last = np.asarray(noise[-SETTLED_CHECKS:])
    return bool(last.std() <= SETTLED_SPREAD * last.mean())


FEWEST_SAMPLES = 3  # even past max_time: quartiles of fewer would be fiction
SETTLED_SAMPLES = 64
SETTLED_CHECKS = 5
SETTLED_SPREAD = 0.05

BUDGETS = {
    "quick": Budget(min_samples=10, min_time=0.2, max_time=0.5, precision=0.10, warm_up_time=0.3),
    "default": Budget(min_samples=10, min_time=0.2, max_time=10.0, precision=0.02, warm_up_time=3.0),
    "rigorous": Budget(
        min_samples=10, min_time=0.3, max_time=5.0, precision=0.02, warm_up_time=3.0, visits=7
    ),
}
