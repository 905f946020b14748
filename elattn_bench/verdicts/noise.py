"""How much one case varies from run to run: robust against changes, and steadied by the other cases. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIDDLE_SD = 0.674490  # the median of the absolute value of a normal variable, in its standard deviations
SMALLEST = 1e-3  # of any noise: a change of a thousandth interests nobody, and bytes do not vary at all
# Of a normal series of 4 to 40 values, by simulation of 40,000 each: the noise found has the spread of so many degrees
# of freedom, per difference and beside, and comes out too large by this share over the number of values.
FREEDOM, FREEDOM_BESIDE, BIAS = 0.33, 0.6, 1.2
FEWEST_CASES = 4  # whose noises can tell how much noises differ


@dataclass(frozen=True, slots=True)
class Noise:
    """A standard deviation of logarithms, and how well it is known.

    freedom: degrees of freedom of Student's distribution; infinite where it is known exactly.
    """

    sd: float
    freedom: float


def noises(series: Sequence[NDArray[np.float64]]) -> list[Noise]:
    """The noise of each series, in its own unit, each moderated by what all of them say.

    A dozen runs say little of one case's noise, but cases of one machine resemble each other: the variance of
    each is drawn towards that of all, the further the more alike they are (Smyth 2004, section 6.2).

    Args:
        series: values in the order of the runs, at least two each.
    """
    own = [own_noise(values) for values in series]
    prior = _prior(own)
    return own if prior is None else [_moderated(noise, prior) for noise in own]


def own_noise(values: NDArray[np.float64]) -> Noise:
    """The noise of one series, from the median of the absolute differences of successive values.

    A change is one difference, however many runs it lasts (von Neumann et al. 1941), and the median does not mind a
    few of them (Hampel 1974).
    """
    differences = np.abs(np.diff(values))
    sd = float(np.median(differences)) / MIDDLE_SD / math.sqrt(2) / (1 + BIAS / len(values))
    return Noise(max(sd, SMALLEST), FREEDOM_BESIDE + FREEDOM * len(differences))


def _prior(own: Sequence[Noise]) -> Noise | None:
    """The noise of all cases together, its freedom the greater the more alike they are; None of too few cases."""
    if len(own) < FEWEST_CASES:
        return None
    from scipy.special import digamma, polygamma

    half = np.array([noise.freedom for noise in own]) / 2
    logs = np.array([2 * math.log(noise.sd) for noise in own]) - digamma(half) + np.log(half)
    # What of the spread of the variances their own uncertainty does not explain.
    excess = float(np.var(logs, ddof=1) - np.mean(polygamma(1, half)))
    mean = float(np.mean(logs))
    if excess <= 0:
        return Noise(math.exp(mean / 2), math.inf)
    freedom = 2 * _inverse_trigamma(excess)
    return Noise(math.exp((mean + float(digamma(freedom / 2)) - math.log(freedom / 2)) / 2), freedom)


def _inverse_trigamma(value: float) -> float:
    from scipy.optimize import brentq
    from scipy.special import polygamma

    smallest, largest = 1e-3, 1e6
    if not polygamma(1, largest) < value < polygamma(1, smallest):
        return largest if value <= polygamma(1, largest) else smallest
    return float(brentq(lambda x: polygamma(1, x) - value, smallest, largest))


def _moderated(own: Noise, prior: Noise) -> Noise:
    if math.isinf(prior.freedom):
        return Noise(max(prior.sd, SMALLEST), math.inf)
    freedom = own.freedom + prior.freedom
    variance = (own.freedom * own.sd**2 + prior.freedom * prior.sd**2) / freedom
    return Noise(max(math.sqrt(variance), SMALLEST), freedom)
