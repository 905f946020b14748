"""An interval without assumptions on the noise: the signed-rank interval of a centre. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from elattn_bench.stats import CONFIDENCE

FEWEST_VALUES = 6  # of five, all have the same sign by chance in 6 % of cases: no 95 % interval exists
EXACT_UP_TO = 60  # values; beyond, the normal approximation is off by less than one rank in a thousand
TAIL_SD = 1.959964  # standard deviations that leave 2.5 % on either side of a normal distribution


@dataclass(frozen=True, slots=True)
class Interval:
    """A centre and its 95 % interval, in the values' own unit; infinite for fewer than six values."""

    centre: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of what lies between the ends."""
        return (self.high - self.low) / 2


def interval(values: Sequence[float]) -> Interval:
    """The Hodges-Lehmann centre of the values and the interval that Wilcoxon's signed-rank test does not reject.

    Exact for any distribution that is symmetric about its centre, outliers included, from six values on:
    Wilcoxon 1945; Hodges & Lehmann 1963. Values are independent; takes time and memory of order n^2.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("no values to find the centre of")
    means = _pair_means(values)
    centre = float(np.median(means))
    outside = _outside(len(values))
    if outside is None:
        return Interval(centre, -math.inf, math.inf)
    return Interval(centre, float(means[outside]), float(means[-1 - outside]))


def _pair_means(values: Sequence[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The means of all pairs of values, each with itself too, ascending (Walsh averages)."""
    each = np.asarray(values, dtype=np.float64)
    first, second = np.triu_indices(len(each))
    return np.sort((each[first] + each[second]) / 2)


@lru_cache
def _outside(count: int) -> int | None:
    """How many pair means lie outside the interval on either side; None where there is no interval."""
    tail = (1 - CONFIDENCE) / 2
    if count > EXACT_UP_TO:
        spread = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
        return math.floor(count * (count + 1) / 4 - TAIL_SD * spread - 0.5)
    within = int(np.searchsorted(np.cumsum(_rank_sum_probabilities(count)), tail, side="right"))
    return within - 1 if within else None


def _rank_sum_probabilities(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Probability of every sum of the ranks 1..count when a fair coin decides which of them count."""
    probabilities = np.zeros(count * (count + 1) // 2 + 1)
    probabilities[0] = 1.0
    for rank in range(1, count + 1):
        shifted = np.concatenate([np.zeros(rank), probabilities[:-rank]])
        probabilities = (probabilities + shifted) / 2
    return probabilities
