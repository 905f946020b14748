"""How sure a difference between two medians is: the ratio's interval, a test, its correction for many. No torch."""

from __future__ import annotations

import functools
import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from elattn_bench.analysis import Ratio
from elattn_bench.results import Row
from elattn_bench.signed_rank import TAIL_SD
from elattn_bench.verdicts.noise import MIDDLE_SD
from elattn_bench.visits import Visit

SIGNIFICANT = 0.05  # the share of false discoveries among all that are called faster or slower
FEWEST_RANKS = 20  # values a side for a rank test: of n values each, no p lies below 2 / C(2n, n)
TRIMMED = 0.2  # of either end, Yuen's and Wilcox's usual share: an outlier or two decide nothing
FEWEST_CASES = 12  # to see a scatter; that of fewer is mostly chance
MOST_SCATTER = (
    0.05  # as a share; three pairs of runs of one commit on a shared machine scattered by 2 to 3.5 %
)
QUADRATURE = 100  # points of the normal law; more change p by a tenth of itself at most
# Degrees of freedom of Student's t. The heavy tail is that of runs of one commit on a shared machine: of the 48 stable
# ratios between the runs 08, 09 and 10 of docs/results/amd-epyc-2-cores-history, each over its scatter, 1 is the
# likeliest. 2 finds more changes, and still calls none of those; from 2.5 on it does.
HEAVY_TAIL, LIGHT_TAIL = 2.0, 30.0
PRIOR_CASES = 50  # what the heavy tail weighs against the cases at hand: tails of fewer are mostly chance
TAIL_SHARE = 0.8  # the cases closest to the centre that tell the tail; the fifth farther out may have changed

Visits: TypeAlias = Sequence[Visit]


def ratio_of_medians(above: Row, below: Row) -> Ratio | None:
    """Median latency of ``above`` over that of ``below`` with its 95 % interval; None where either is missing.

    The intervals of the two medians, bootstrapped from their samples with visits respected (``stats``), make
    that of the difference of their logarithms: each end is as far from the centre as the two distances that
    could bring it there, added as squares (Zou & Donner 2008, MOVER: no law of the noise, no symmetry). It is
    what a bootstrap of both sides gives, without drawing again.
    """
    if not above.latency_ms_p50 or not below.latency_ms_p50:
        return None
    down_above, up_above = _log_distances(above)
    down_below, up_below = _log_distances(below)
    centre = above.latency_ms_p50 / below.latency_ms_p50
    low, high = math.hypot(down_above, up_below), math.hypot(up_above, down_below)
    return Ratio(centre, centre * math.exp(-low), centre * math.exp(high))


def _log_distances(row: Row) -> tuple[float, float]:
    """From the median down to the low end of its interval and up to the high one, as logarithms."""
    median = row.latency_ms_p50 or math.nan
    low, high = row.latency_ms_ci_low or median, row.latency_ms_ci_high or median
    return max(0.0, math.log(median / low)), max(0.0, math.log(high / median))


def p_values(pairs: Sequence[tuple[Visits, Visits]]) -> list[float]:
    """For each pair of measurements: how often chance alone would set equally fast ones as far apart; two-sided.

    What is compared are samples or, where both sides have several visits, the visits' medians: samples of one
    visit resemble each other. Twenty values a side or more: Mann-Whitney U (Mann & Whitney 1947). Fewer: Yuen's
    trimmed t-test of the logarithms (Yuen 1974), for ranks of few values cannot be surer than their number of
    orders, and then no correction for many cases would leave anything.
    """
    values = [(_values(a, b), _values(b, a)) for a, b in pairs]
    few = [place for place, each in enumerate(values) if min(map(len, each)) < FEWEST_RANKS]
    found = {
        place: mann_whitney(*each) for place, each in enumerate(values) if min(map(len, each)) >= FEWEST_RANKS
    }
    for places, a, b in _groups({place: values[place] for place in few}):
        found |= zip(places, map(float, _trimmed_means(a, b)), strict=True)
    return [found[place] for place in range(len(pairs))]


def _values(visits: Visits, others: Visits) -> NDArray[np.float64]:
    """Logarithms of what is compared of the first side."""
    if len(visits) > 1 and len(others) > 1:
        values = np.array([float(np.median(visit.latency_ms)) for visit in visits])
    else:
        values = np.concatenate([np.asarray(visit.latency_ms, dtype=np.float64) for visit in visits])
    logs: NDArray[np.float64] = np.log(values)
    return logs


def mann_whitney(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Two-sided p of Mann-Whitney's U by the normal law, corrected for ties and continuity (Lehmann 1975).

    As scipy's, which takes a millisecond a call and would need minutes for the cases of a large run.
    """
    ordered, total, count = np.sort(b), len(a) + len(b), len(a) * len(b)
    u = (np.searchsorted(ordered, a, "left") + np.searchsorted(ordered, a, "right")).sum() / 2
    ties = np.unique(np.concatenate([a, b]), return_counts=True)[1].astype(np.float64)
    variance = count / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return math.erfc(max(0.0, abs(u - count / 2) - 0.5) / math.sqrt(2 * variance))


def _groups(
    pairs: Mapping[int, tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> list[tuple[list[int], NDArray[np.float64], NDArray[np.float64]]]:
    """Pairs of equal sizes as two matrices, with their places: one call of scipy per size, not per case."""
    places: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for place, (a, b) in pairs.items():
        places[len(a), len(b)].append(place)
    return [
        (
            group,
            np.stack([pairs[place][0] for place in group]),
            np.stack([pairs[place][1] for place in group]),
        )
        for group in places.values()
    ]


def _trimmed_means(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import ttest_ind

    if min(a.shape[1], b.shape[1]) < 2:
        return np.ones(len(a))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of values without spread, which are seen to below
        found = ttest_ind(a, b, axis=1, equal_var=False, trim=TRIMMED).pvalue
    # Values without any spread have no p: they are either equal or surely not.
    sure = np.where(np.median(a, axis=1) == np.median(b, axis=1), 1.0, 0.0)
    return np.where(np.isfinite(found), found, sure)


@dataclass(frozen=True, slots=True)
class Scatter:
    """By how much two runs differ where nothing changed, beyond the cases' own intervals.

    sd: of logarithms, what a normal law with the same middle half would have as standard deviation.
    tail: degrees of freedom of the Student's t that the ratios follow; few make large differences likely.
    """

    sd: float
    tail: float = HEAVY_TAIL


def scatter(ratios: Sequence[Ratio]) -> Scatter:
    """How two runs differ in cases that did not change, told by the cases together.

    Two runs find other clocks, neighbours and places in memory, which no sample of either shows; cases together do. The
    scatter is that of the half of all cases that lie closest together (the shorth; Rousseeuw & Leroy 1988), so that
    changes of fewer than half do not count, an empirical null (Efron 2004). Its law is Student's t, the usual one
    for errors with outliers (Lange, Little & Taylor 1989). An sd of 0 for fewer than twelve cases; never above 5 %,
    for what scatters more is the code that changed.
    """
    if len(ratios) < FEWEST_CASES:
        return Scatter(0.0)
    logs = np.sort(np.log([ratio.value for ratio in ratios]))
    half = len(logs) // 2 + 1
    widths = logs[half - 1 :] - logs[: len(logs) - half + 1]
    start = int(np.argmin(widths))
    shortest, centre = float(widths[start]) / 2, float(logs[start] + logs[start + half - 1]) / 2
    own = float(np.median([_own_sd(ratio) for ratio in ratios]))
    sd = math.sqrt(max(0.0, (shortest / MIDDLE_SD) ** 2 - own**2))
    return Scatter(min(sd, MOST_SCATTER), _tail(np.abs(logs - centre), shortest))


def _tail(distances: NDArray[np.float64], half_width: float) -> float:
    """Degrees of freedom of the t whose middle 80 % is as much wider than its half; drawn towards the heavy tail.

    The mean of the inverse degrees of freedom, the heavy tail's weighing as much as fifty cases (shrinkage,
    Efron & Morris 1975).
    """
    from scipy.special import stdtrit

    grid = np.geomspace(1, LIGHT_TAIL, 100)
    wider = stdtrit(grid, (1 + TAIL_SHARE) / 2) / stdtrit(grid, 0.75)  # falls from 3.1 to 1.9
    seen = float(np.quantile(distances, TAIL_SHARE)) / half_width if half_width else math.inf
    found = float(np.interp(-seen, -wider, grid))
    return (PRIOR_CASES + len(distances)) / (PRIOR_CASES / HEAVY_TAIL + len(distances) / found)


def scatter_p(ratio: Ratio, scattered: Scatter) -> float:
    """How often a case that did not change would differ as much or more, for such a scatter; two-sided.

    The case's own noise is normal, the scatter Student's t: the law of their sum, by Gauss-Hermite quadrature
    (Golub & Welsch 1969), for it has no formula.
    """
    from scipy.special import stdtr, stdtrit

    distance, own = abs(math.log(ratio.value)), _own_sd(ratio)
    if not scattered.sd:
        return math.erfc(distance / own / math.sqrt(2)) if own else float(distance == 0)
    scale = scattered.sd * MIDDLE_SD / stdtrit(scattered.tail, 0.75)
    places, weights = _normal_points()
    beyond = stdtr(scattered.tail, (own * places - distance) / scale)
    return float(min(1.0, 2 * np.average(beyond, weights=weights)))


@functools.cache
def _normal_points() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of the standard normal law and their weights, which replace an integral over it."""
    return np.polynomial.hermite_e.hermegauss(QUADRATURE)


def _own_sd(ratio: Ratio) -> float:
    return math.log(ratio.high / ratio.low) / 2 / TAIL_SD


def corrected(found: Sequence[float | None]) -> list[float | None]:
    """The p-values corrected for being many: of those at most 0.05, 5 % are expected to be false alarms.

    Benjamini & Hochberg 1995. None stays None: a case without a test is not among the many.
    """
    adjusted = iter(benjamini_hochberg([p for p in found if p is not None]))
    return [None if p is None else next(adjusted) for p in found]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected: of those at most a share, that share is false at most (Benjamini & Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return [float(p) for p in false_discovery_control(p_values, method="bh")] if p_values else []
