"""Intervals over seeds: of a mean, and of the ratio of two means. Statistics alone; no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from elattn_bench.stats import CONFIDENCE
from elattn_bench.verdicts.nouns import Estimate

FEWEST_SEEDS = 2  # below, nobody knows how far another seed would lie
MOST_SEEDS = 100  # that anyone would train to decide a claim


def mean_interval(values: Sequence[float]) -> Estimate | None:
    """The mean and its 95 % interval by Student's t (Student 1908); None of fewer than two values.

    Of two seeds the half-width is 9 standard deviations, of three 2.5, of five 1.2: few seeds say little.
    """
    if len(values) < FEWEST_SEEDS:
        return None
    mean, half = statistics.fmean(values), _t(len(values) - 1) * math.sqrt(_variance(values))
    return Estimate(mean, mean - half, mean + half)


def ratio_of_means(above: Sequence[float], below: Sequence[float]) -> Estimate | None:
    """The ratio of the means of two independent samples, with its 95 % interval; see ``_fieller``.

    None of fewer than two values on a side, or where the interval has no ends: the denominator may be 0.
    """
    if min(len(above), len(below)) < FEWEST_SEEDS:
        return None
    moments = _moments(above), _moments(below)
    return _fieller(*moments, _t(_freedom(*moments)))


_Moments = tuple[float, float, int]
"""A mean, the variance of that mean, and how many values it is of."""


def _moments(values: Sequence[float]) -> _Moments:
    return statistics.fmean(values), _variance(values), len(values)


def _variance(values: Sequence[float]) -> float:
    """Of the mean."""
    return statistics.variance(values) / len(values)


def _fieller(above: _Moments, below: _Moments, quantile: float) -> Estimate | None:
    """The ratios r for which mean(above) - r mean(below) is not surely different from 0 (Fieller 1954).

    Variances may differ: the degrees of freedom are Satterthwaite's at the measured ratio (Hasler, Vonk & Hothorn
    2008). Seeds are not paired: two networks share a seed's number, not its noise.
    """
    (a, var_a, _), (b, var_b, _) = above, below
    leading = b * b - quantile**2 * var_b
    if b == 0 or leading <= 0:
        return None
    root = quantile * math.sqrt(max(0.0, var_a * leading + a * a * var_b))
    value, low, high = a / b, (a * b - root) / leading, (a * b + root) / leading
    # Without spread both ends are the ratio itself, but for rounding.
    return Estimate(value, min(low, value), max(high, value)) if root else Estimate(value, value, value)


def _freedom(above: _Moments, below: _Moments) -> float:
    """Of mean(above) - r mean(below) at the measured ratio r (Satterthwaite 1946)."""
    (a, var_a, count_a), (b, var_b, count_b) = above, below
    scaled = (a / b) ** 2 * var_b if b else 0.0
    total = var_a + scaled
    if total == 0:
        return float(count_a + count_b - 2)
    return total**2 / (var_a**2 / (count_a - 1) + scaled**2 / (count_b - 1))


def _t(freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))


def seeds_to_decide(above: Sequence[float], below: Sequence[float], threshold: float) -> int | None:
    """How many seeds of each side might bring the interval off the threshold, if means and spreads stay as they are.

    None: more than a hundred, or the samples are too small to say.
    """
    if min(len(above), len(below)) < FEWEST_SEEDS:
        return None
    (a, var_a, count_a), (b, var_b, count_b) = _moments(above), _moments(below)
    for count in range(max(count_a, count_b), MOST_SEEDS + 1):
        shrunk = (a, var_a * count_a / count, count), (b, var_b * count_b / count, count)
        interval = _fieller(*shrunk, _t(_freedom(*shrunk)))
        if interval and not interval.holds(threshold):
            return count
    return None
