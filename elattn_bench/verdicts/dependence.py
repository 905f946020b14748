"""How a crossover moves with dim, batch, heads or order: its own exponent, with an interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elattn_bench.analysis import Facet
from elattn_bench.units import format_length
from elattn_bench.verdicts.crossover import Crossover, format_tokens
from elattn_bench.verdicts.draws import NORMAL_WIDTH
from elattn_bench.verdicts.nouns import Estimate, Where
from elattn_bench.verdicts.scaling import format_exponent

AXES = ("dim", "batch", "heads", "order")
FEWEST = 3  # values of the axis: two lie on any power law
LEAST_SPREAD = 0.03  # standard deviation of the logarithm of a crossover, at least
TAIL = 0.975


@dataclass(frozen=True, slots=True)
class Dependence:
    """The crossovers of one impl at several values of one axis, all else being equal.

    facet: of the first value. label: the impl; without the order where orders vary.
    places: (value, length in tokens), ascending.
    others: values without a crossing in the measured range, and what is there: ``always``, ``never``, ...
    exponent: of length over value; 0 where it does not depend on it.
    """

    facet: Facet
    label: str
    reference: str
    axis: str
    places: tuple[tuple[int, float], ...]
    exponent: Estimate
    others: tuple[tuple[int, Where], ...] = ()

    @property
    def sentence(self) -> str:
        """``Where linear/eager overtakes softmax/sdpa depends on dim (dim^1.5 [1.1, 1.9]): L = 550 at 128, ...``."""
        shown = ", ".join(
            f"{format_tokens(length)} at {format_length(value)}" for value, length in self.places
        )
        law = f"{self.axis}^{format_exponent(self.exponent)}"
        moves = "does not clearly depend" if self.exponent.holds(0.0) else "depends"
        beside = "".join(f", {where} at {format_length(value)}" for value, where in self.others)
        return f"Where {self.label} overtakes {self.reference} {moves} on {self.axis} ({law}): L = {shown}{beside}."


def dependences(crossovers: Sequence[Crossover]) -> list[Dependence]:
    """Every axis along which at least three crossovers of an impl lie within the measured range."""
    return [
        _dependence(label, axis, places)
        for axis in AXES
        for (_, label), places in _along(axis, crossovers).items()
        if sum(cross.where == "at" for cross in places.values()) >= FEWEST
    ]


def _along(axis: str, crossovers: Sequence[Crossover]) -> dict[tuple[Facet, str], dict[int, Crossover]]:
    """The crossovers by all that is fixed, then by the value of the axis."""
    groups: defaultdict[tuple[Facet, str], dict[int, Crossover]] = defaultdict(dict)
    for cross in crossovers:
        if cross.models is None or cross.metric != "latency":
            continue
        row = cross.models[0]
        if axis == "order" and row.order is not None:
            groups[cross.facet, row.label_without_order][row.order] = cross
        elif axis != "order":
            groups[_without(cross.facet, axis), cross.label][getattr(row, axis)] = cross
    return groups


def _dependence(label: str, axis: str, found: dict[int, Crossover]) -> Dependence:
    at = {
        value: length
        for value, cross in sorted(found.items())
        if cross.where == "at" and (length := cross.length)
    }
    others = tuple((value, cross.where) for value, cross in sorted(found.items()) if value not in at)
    places = tuple((value, length.value) for value, length in at.items())
    first = found[min(at)]
    exponent = _slope(list(at), list(at.values()))
    return Dependence(first.facet, label, first.reference, axis, places, exponent, others)


def _slope(values: Sequence[int], lengths: Sequence[Estimate]) -> Estimate:
    """Weighted least squares of the logarithms; the interval by Student's t, never narrower than the estimates' own."""
    from scipy.stats import t

    x, y = np.log(values), np.log([each.value for each in lengths])
    spread = np.array([max(np.log(each.high / each.low) / NORMAL_WIDTH, LEAST_SPREAD) for each in lengths])
    weights = 1 / spread**2
    centred = x - np.average(x, weights=weights)
    slope = (weights * centred * y).sum() / (weights * centred**2).sum()
    residuals = y - np.average(y, weights=weights) - slope * centred
    left = len(x) - 2
    scale = max(1.0, float((weights * residuals**2).sum() / left))
    half = t.ppf(TAIL, left) * np.sqrt(scale / (weights * centred**2).sum())
    return Estimate(float(slope), float(slope - half), float(slope + half))


def _without(facet: Facet, axis: str) -> Facet:
    return facet._replace(**{axis: 0})  # type: ignore[arg-type]
