"""Curves through the medians of many lines, and how sure they are. Arrays in, arrays out: lines know no rows here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elattn_bench.signed_rank import TAIL_SD
from elattn_bench.verdicts import curve
from elattn_bench.verdicts.curve import Array, Curves
from elattn_bench.verdicts.nouns import Estimate

PARAMETERS = 3  # of a curve: constant, factor, exponent
SEVERAL = 3  # lengths; so few lie on a straight line as well as on any other
TAILS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Medians:
    """What was measured of some lines, at the same lengths.

    lengths: [n], ascending. logs: logarithms of the medians, [lines, n].
    errors: standard deviations of these, as samples show them, [lines, n]; drawn: draws of it, [lines, replicates, n].
    floor: standard deviation between cases of one law beyond what their samples show.
    luck: uniform random numbers, [lines, replicates, n].
    """

    lengths: Array
    logs: Array
    errors: Array
    drawn: Array
    floor: float
    luck: Array


@dataclass(frozen=True, slots=True)
class Fitted:
    """Curves of some lines.

    curves: the best of each, [lines]. replicates: what they might as well have been, [lines, replicates].
    exponents: with their 95 % intervals.
    levels, level_replicates: the same as constants: of lines that do not grow.
    misfit, level_misfit: root mean square distance of the medians from curve and constant, in logarithms, [lines].
    """

    curves: Curves
    replicates: Curves
    exponents: Sequence[Estimate]
    levels: Curves
    level_replicates: Curves
    misfit: Array
    level_misfit: Array


def fit(medians: Medians) -> Fitted:
    """The curves of the lines; at least four lengths.

    Replicates: what raw samples may have given for each median, and residuals of the fit, resampled over lengths with
    random signs (Davison & Hinkley 1997, section 6.3; Wu 1986), as far as samples do not explain them; these widened
    by Student's t, for few lengths tell little of their own noise (degrees of freedom by Satterthwaite 1946).
    """
    equal = curve.fit(medians.lengths, medians.logs, np.ones_like(medians.logs))
    between, _ = _between(medians, equal)
    weights = 1 / (medians.errors**2 + between[:, None] ** 2)
    curves = curve.fit(medians.lengths, medians.logs, weights, start=equal)
    between, freedom = _between(medians, curves)
    residuals = medians.logs - curves.log_at(medians.lengths)
    widened = _widened(between, medians, freedom)
    replicated = medians.drawn + widened[:, None, None] * _resampled(residuals, medians)
    refitted = curve.refit(curves, medians.lengths, replicated, weights)
    exponents = _estimates(curves.exponent, refitted.exponent)
    middle = np.average(medians.logs, axis=1, weights=weights)
    moved = middle[:, None] + (replicated * weights[:, None, :]).sum(axis=2) / weights.sum(axis=1)[:, None]
    levels, level_replicates = (_constants(each, curves.shortest) for each in (middle, moved))
    misfits = (_root_mean_square(each) for each in (residuals, medians.logs - middle[:, None]))
    return Fitted(curves, refitted, exponents, levels, level_replicates, *misfits)


def _root_mean_square(residuals: Array) -> Array:
    return np.asarray(np.sqrt((residuals**2).mean(axis=1)))


def _constants(levels: Array, shortest: float) -> Curves:
    nothing = np.zeros_like(levels)
    return Curves(levels, nothing, nothing, shortest)


def slope(medians: Medians, first: int = 0) -> list[Estimate]:
    """The log-log slope of each line from the length of that index on.

    Its interval: what samples and floor say, or the distance of the medians from the straight line where that is more.
    """
    x = np.log(medians.lengths[first:])
    logs, drawn = medians.logs[:, first:], medians.drawn[..., first:]
    contrast = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    slopes = logs @ contrast
    between = np.full(len(logs), medians.floor)
    if len(x) > SEVERAL:
        residuals = logs - logs.mean(axis=1, keepdims=True) - slopes[:, None] * (x - x.mean())
        left = len(x) - 2
        seen = np.sqrt((residuals**2).sum(axis=1) / left) * _student(np.array(float(left))) / TAIL_SD
        between = np.maximum(between, seen)
    replicated = drawn + between[:, None, None] * _normal(medians.luck[..., first:])
    return _estimates(slopes, slopes[:, None] + replicated @ contrast)


def _estimates(values: Array, replicates: Array) -> list[Estimate]:
    lows, highs = np.quantile(replicates, TAILS, axis=1)
    return [
        Estimate(float(value), min(float(low), float(value)), max(float(high), float(value)))
        for value, low, high in zip(values, lows, highs, strict=True)
    ]


def _between(medians: Medians, curves: Curves) -> tuple[Array, Array]:
    """Standard deviation between cases beyond that of their samples, and the degrees of freedom of both: [lines]."""
    left = len(medians.lengths) - PARAMETERS
    residuals = medians.logs - curves.log_at(medians.lengths)
    seen = (residuals**2).sum(axis=1) / left
    within = (medians.errors**2).mean(axis=1)
    between = np.maximum(seen - within, medians.floor**2)
    freedom = left * ((between + within) / np.maximum(seen, medians.floor**2 / 100)) ** 2
    return np.sqrt(between), np.minimum(freedom, 1e6)


def _widened(between: Array, medians: Medians, freedom: Array) -> Array:
    """The deviation between cases that makes the whole, with what samples show, as wide as Student's t asks for."""
    within = (medians.errors**2).mean(axis=1)
    whole = (between**2 + within) * (_student(freedom) / TAIL_SD) ** 2
    return np.asarray(np.sqrt(whole - within))


def _student(freedom: Array) -> Array:
    from scipy.stats import t

    return np.asarray(t.ppf(TAILS[1], freedom))


def _resampled(residuals: Array, medians: Medians) -> Array:
    """Residuals of each line at other lengths, signs drawn, of variance one: [lines, replicates, n]."""
    scale = np.sqrt((residuals**2).mean(axis=1, keepdims=True))
    ones = np.divide(residuals, scale, out=np.ones_like(residuals), where=scale > 0)
    faces = np.concatenate([ones, -ones], axis=1)
    chosen = (medians.luck * faces.shape[1]).astype(np.intp)
    return np.asarray(np.take_along_axis(faces[:, None, :], chosen, axis=2))


def _normal(luck: Array) -> Array:
    from scipy.special import ndtri

    return np.asarray(ndtri(np.clip(luck, 1e-12, 1 - 1e-12)))
