"""Where series of values step or drift: change points by PELT, tested, for many series at once. Pure.

Values are logarithms throughout; what comes out are ratios.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from elattn_bench.verdicts.noise import Noise, noises
from elattn_bench.verdicts.nouns import Estimate
from elattn_bench.verdicts.significance import benjamini_hochberg

FEWEST_RUNS = 4  # of fewer, no test tells a step from noise
SIGNIFICANT = 0.025  # share of false discoveries among steps, and among drifts: of both together 5 % at most
PENALTY = 2.0  # times variance times log n, per change: Yao's (1988) criterion, for a place and a level
REMAINING = (
    0.5  # of a single value's step, where the next value takes back the rest: the value was an outlier
)
MOST_OUTLIERS = 4  # one value in so many may be set aside


@dataclass(frozen=True, slots=True)
class Step:
    """A change of level from one value of a series to the next.

    before, after: indices of the last value before and of the first after it.
    ratio: the level after over that before.
    p_value: that noise alone makes such a step anywhere in the series; of an accepted step, corrected for all series.
    alone: whether a single value is all there is on either side.
    """

    before: int
    after: int
    ratio: Estimate
    p_value: float
    alone: bool


@dataclass(frozen=True, slots=True)
class Course:
    """What became of one series.

    steps: the accepted changes, in order.
    likeliest: where none was accepted, the most likely place of one; None of fewer than four values.
    drift: ratio of a value to the one before, where all of the series climbs or falls and no step explains it.
    outliers: indices of single values whose step the next value took back; they count for nothing else.
    noise: standard deviation of the values' logarithms from run to run; None of fewer than four values.
    """

    steps: tuple[Step, ...] = ()
    likeliest: Step | None = None
    drift: Estimate | None = None
    outliers: tuple[int, ...] = ()
    noise: float | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A series with the changes that it would have on its own.

    kept: indices of the values that are no outliers; cuts are indices into these.
    corrected: p-values by cut that know of all other series.
    """

    values: NDArray[np.float64]
    noise: Noise
    kept: NDArray[np.int64]
    cuts: tuple[int, ...]
    corrected: Mapping[int, float] = field(default_factory=dict)

    @property
    def clean(self) -> NDArray[np.float64]:
        return self.values[self.kept]

    @property
    def outliers(self) -> tuple[int, ...]:
        return tuple(sorted(set(range(len(self.values))) - {int(index) for index in self.kept}))

    def steps(self) -> list[Step]:
        return [self._step(*place) for place in _windows(self.cuts, len(self.kept))]

    def likeliest(self) -> Step:
        count = len(self.kept)
        return min((self._step(0, cut, count) for cut in range(1, count)), key=lambda step: step.p_value)

    def _step(self, left: int, cut: int, right: int) -> Step:
        values, ends = self.clean, (int(self.kept[cut - 1]), int(self.kept[cut]))
        alone = min(cut - left, right - cut) == 1
        ratio = _ratio(values[left:cut], values[cut:right], self.noise)
        p_value = self.corrected.get(cut) or _p_value(values, left, cut, right, self.noise)
        return Step(*ends, ratio, p_value, alone)


def courses(series: Sequence[NDArray[np.float64]], threshold: float, *, exact: bool = False) -> list[Course]:
    """What became of each series; one family of tests.

    A step is accepted when, of all the changes that are reported of all series, at most 2.5 % are false (Benjamini &
    Hochberg 1995) and the levels differ by more than the threshold.

    Args:
        series: logarithms in the order of the runs; of fewer than four values nothing is said.
        threshold: the smallest change that counts, a share.
        exact: whether values are counted, not timed: then none is an outlier.
    """
    long = [index for index, values in enumerate(series) if len(values) >= FEWEST_RUNS]
    found = [Course() for _ in series]
    drafts = [
        _draft(series[index], noise, threshold, 0 if exact else len(series[index]) // MOST_OUTLIERS)
        for index, noise in zip(long, noises([series[index] for index in long]), strict=True)
    ]
    accepted = _with_steps_accepted(drafts, threshold)
    for index, course in zip(long, _with_drifts(accepted, threshold), strict=True):
        found[index] = course
    return found


def _draft(values: NDArray[np.float64], noise: Noise, threshold: float, outliers: int) -> _Draft:
    """The series' own changes, so many single values that stand apart taken out one by one at most."""
    kept = np.arange(len(values))
    while True:
        cuts = _significant(values[kept], segment(values[kept], noise.sd), noise)
        outlier = _outlier(values[kept], cuts, math.log1p(threshold))
        if outlier is None or len(values) - len(kept) >= outliers:
            break
        kept = np.delete(kept, outlier)
    if _is_line(values[kept], cuts):
        cuts = []
    return _Draft(values, noise, kept, tuple(cuts))


def segment(values: NDArray[np.float64], sd: float) -> list[int]:
    """First indices of the segments after the first, that of least squared error plus penalty.

    PELT (Killick, Fearnhead & Eckley 2012) with the normal cost of a shifted mean, as ``ruptures`` has it.
    """
    from ruptures import KernelCPD

    centred = (values - values.mean()).reshape(-1, 1)
    penalty = PENALTY * sd**2 * math.log(len(values))
    ends = KernelCPD(kernel="linear", min_size=1).fit(centred).predict(pen=penalty)
    return [int(end) for end in ends[:-1]]


def _significant(values: NDArray[np.float64], cuts: list[int], noise: Noise) -> list[int]:
    """The cuts whose sides differ beyond noise: the least certain is dropped until all do."""
    cuts = list(cuts)
    while cuts:
        p_values = [_p_value(values, *place, noise) for place in _windows(cuts, len(values))]
        worst = int(np.argmax(p_values))
        if p_values[worst] <= SIGNIFICANT:
            break
        del cuts[worst]
    return cuts


def _windows(cuts: Iterable[int], count: int) -> list[tuple[int, int, int]]:
    """Each cut between the start of the segment before it and the end of the one after."""
    places = [0, *cuts, count]
    return list(zip(places, places[1:], places[2:], strict=False))


def _p_value(values: NDArray[np.float64], left: int, cut: int, right: int, noise: Noise) -> float:
    """Student's test of two levels, as Hunter has it (Fleming et al. 2023): with a few runs a rank test finds nothing.

    The cut was chosen among all places, with the one beside it if there is one: Bonferroni's factor pays for that.
    """
    from scipy.stats import t

    distance = values[cut:right].mean() - values[left:cut].mean()
    error = noise.sd * math.sqrt(1 / (cut - left) + 1 / (right - cut))
    # An end of the window that is no end of the series was chosen too.
    choices = math.comb(len(values) - 1, 1 if (left, right) == (0, len(values)) else 2)
    return min(1.0, float(choices * 2 * t.sf(abs(distance) / error, noise.freedom)))


def _ratio(before: NDArray[np.float64], after: NDArray[np.float64], noise: Noise) -> Estimate:
    from scipy.stats import t

    middle = float(after.mean() - before.mean())
    half = float(t.ppf(0.975, noise.freedom)) * noise.sd * math.sqrt(1 / len(before) + 1 / len(after))
    return Estimate(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _outlier(values: NDArray[np.float64], cuts: Sequence[int], tolerance: float) -> int | None:
    """A value alone whose change the next value takes back, for the most part at least; None if there is none."""
    for (left, cut, right), (_, _, end) in itertools.pairwise(_windows(cuts, len(values))):
        before, alone, after = (
            float(np.mean(values[a:b])) for a, b in ((left, cut), (cut, right), (right, end))
        )
        taken_back = (alone - before) * (alone - after) > 0
        remaining = max(tolerance, abs(alone - before) * REMAINING)
        if right - cut == 1 and taken_back and abs(after - before) <= remaining:
            return cut
    return None


def _is_line(values: NDArray[np.float64], cuts: Sequence[int]) -> bool:
    """Whether stairs of several steps in one direction are better told as a straight line (Schwarz 1978)."""
    levels = [part.mean() for part in np.split(values, cuts)]
    signs = {bool(after > before) for before, after in itertools.pairwise(levels)}
    if len(cuts) < 2 or len(signs) > 1:
        return False
    runs = np.arange(len(values))
    line = np.polyval(np.polyfit(runs, values, 1), runs)
    stairs = np.concatenate([np.full(len(part), part.mean()) for part in np.split(values, cuts)])
    return _criterion(values - line, 2) < _criterion(values - stairs, 2 * len(cuts) + 1)


def _criterion(residuals: NDArray[np.float64], parameters: int) -> float:
    count = len(residuals)
    return count * math.log(max(float(residuals @ residuals), 1e-12)) + parameters * math.log(count)


def _with_steps_accepted(drafts: Sequence[_Draft], threshold: float) -> list[_Draft]:
    """The drafts with those steps that stay significant among all that were looked at, and matter."""
    # A series without a step is a test too: that of its most likely one.
    tested = [draft.steps() or [draft.likeliest()] for draft in drafts]
    corrected = iter(benjamini_hochberg([step.p_value for steps in tested for step in steps]))
    accepted = []
    for draft, steps in zip(drafts, tested, strict=True):
        places = [int(np.searchsorted(draft.kept, step.after)) for step in steps]
        p_values = {place: next(corrected) for place in places}
        cuts = [
            cut
            for cut, step in zip(places, steps, strict=True)
            if p_values[cut] <= SIGNIFICANT and _matters(step.ratio.value, threshold) and draft.cuts
        ]
        accepted.append(replace(draft, cuts=tuple(cuts), corrected=p_values))
    return accepted


def _matters(ratio: float, threshold: float) -> bool:
    return abs(math.log(ratio)) > math.log1p(threshold)


def _with_drifts(drafts: Sequence[_Draft], threshold: float) -> list[Course]:
    """The courses; of series without a step, the slope where it is beyond doubt and matters."""
    drifts = iter(_drifts([draft for draft in drafts if not draft.cuts], threshold))
    found = []
    for draft in drafts:
        steps = tuple(draft.steps())
        likeliest, drift = (None, None) if steps else (draft.likeliest(), next(drifts))
        found.append(Course(steps, likeliest, drift, draft.outliers, draft.noise.sd))
    return found


def _drifts(flat: Sequence[_Draft], threshold: float) -> list[Estimate | None]:
    """Per series the slope of Theil (1950) and Sen (1968) as a ratio per run, or None.

    Accepted by Kendall's test, of which the interval is the inverse, corrected for all series.
    """
    from scipy.stats import kendalltau

    p_values = [float(kendalltau(draft.kept, draft.clean).pvalue) for draft in flat]
    corrected = benjamini_hochberg([1.0 if math.isnan(p_value) else p_value for p_value in p_values])
    return [
        _slope(draft, threshold) if p_value <= SIGNIFICANT else None
        for draft, p_value in zip(flat, corrected, strict=True)
    ]


def _slope(draft: _Draft, threshold: float) -> Estimate | None:
    from scipy.stats import theilslopes

    slope = theilslopes(draft.clean, draft.kept)
    whole = math.exp(float(slope.slope) * int(draft.kept[-1] - draft.kept[0]))
    if slope.low_slope <= 0 <= slope.high_slope or not _matters(whole, threshold):
        return None
    return Estimate(*(math.exp(float(value)) for value in (slope.slope, slope.low_slope, slope.high_slope)))
