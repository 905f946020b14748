"""From which length on a line is cheaper than its reference: an interval on fitted curves, and the prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from elattn_bench.analysis import Facet
from elattn_bench.results import Row
from elattn_bench.roofline import Ceilings
from elattn_bench.rundir import Run
from elattn_bench.units import KIBI, format_length, significant
from elattn_bench.verdicts import draws, predicted
from elattn_bench.verdicts.curve import Array
from elattn_bench.verdicts.nouns import Estimate, Where
from elattn_bench.verdicts.reference import reference_labels
from elattn_bench.verdicts.scaling import Scaling, scalings
from elattn_bench.visits import Visit

FEWEST_COMMON = 2  # lengths at which both are measured
WELL_FITTED = 0.1  # misfit up to which a curve says more of a length than its neighbours do
TAIL = 0.025
FEWEST_DIGITS, MOST_DIGITS = 2, 4  # of a crossing's length


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where one line of one facet overtakes the reference: needs less time, or less memory, from there on.

    length: with ``where == "at"``, the crossing and its interval, within the measured range; else None.
    shortest, longest: of the lengths at which both were measured; None where there is none.
    reason: what the reader must know; may be empty.
    """

    facet: Facet
    label: str
    reference: str
    metric: str
    where: Where
    length: Estimate | None
    shortest: int | None
    longest: int | None
    reason: str = ""
    models: tuple[Row, Row, Ceilings] | None = field(default=None, compare=False, repr=False)

    @property
    def predicted(self) -> float | None:
        """The crossing of the two cost models, in tokens; None where they do not cross or nobody knows.

        Computed when asked for: it takes a hundred evaluations of the cost formulas.
        """
        return predicted.crossing(*self.models) if self.models and self.metric == "latency" else None

    @property
    def sentence(self) -> str:
        """The verdict for people: ``... overtakes softmax/sdpa at L = 3.1k [2.8k, 3.5k].``"""
        return f"{self.label} {self.clause}."

    @property
    def clause(self) -> str:
        """The verdict without its subject."""
        remark = f" ({self.reason})" if self.reason else ""
        is_memory = self.metric == "memory"
        span = f"{format_length(self.shortest or 0)} to {format_length(self.longest or 0)}"
        if self.where == "at" and self.length:
            verb = "needs less memory than {} from" if is_memory else "overtakes {} at"
            return f"{verb.format(self.reference)} L = {format_estimate(self.length)}{remark}"
        if self.where == "always":
            verb = "needs less memory than" if is_memory else "is faster than"
            return f"{verb} {self.reference} at every measured length, {span}{remark}"
        if self.where == "never":
            verb = "does not need less memory than" if is_memory else "is not faster than"
            return f"{verb} {self.reference} within the measured range, {span}{remark}"
        if self.where == "unclear":
            return f"may overtake {self.reference}, but where is unclear{remark}"
        return f"cannot be compared with {self.reference}{remark}"


def format_estimate(length: Estimate) -> str:
    """``3.1k [2.8k, 3.5k]``; k = 1024. Two digits; up to four where an end would read as the value and is not."""
    ends = (length.low, length.high)
    for digits in range(FEWEST_DIGITS, MOST_DIGITS + 1):
        value, low, high = (format_tokens(each, digits) for each in (length.value, *ends))
        if all(text != value or end == length.value for text, end in zip((low, high), ends, strict=True)):
            break
    return f"{value} [{low}, {high}]"


def format_tokens(tokens: float, digits: int = FEWEST_DIGITS) -> str:
    """A length that need not be whole, with so many significant digits: ``310``, ``3.1k``; k = 1024."""
    if tokens >= KIBI:
        return f"{significant(tokens / KIBI, digits)}k"
    return significant(float(f"{tokens:.{digits}g}"), digits)


def crossovers(
    run: Run,
    reference: str,
    metric: str = "latency",
    samples: Mapping[str, Sequence[Visit]] | None = None,
) -> list[Crossover]:
    """Where each line overtakes the reference, for every facet that has it; sorted by facet and line.

    Args:
        run: the run.
        reference: as ``reference.compare_to_reference`` takes it.
        metric: ``latency`` or ``memory``; that of a training step is ``latency`` in facets of mode ``train``.
        samples: as ``scaling.scalings`` takes them.

    Raises:
        UsageError: the run holds no such impl, or the reference names several.
    """
    return from_scalings(run, scalings(run, metric, samples), reference)


def from_scalings(run: Run, found: Sequence[Scaling], reference: str) -> list[Crossover]:
    """The same, of scalings that are known already."""
    labels = reference_labels(run.rows, reference)
    references = {each.facet: each for each in found if each.label == labels.get(each.facet)}
    ceilings = Ceilings.from_json(run.info.get("ceilings", {}))
    return [
        _cross(line, references[line.facet], ceilings)
        for line in found
        if line.facet in references and line.label != labels[line.facet]
    ]


def _cross(line: Scaling, reference: Scaling, ceilings: Ceilings) -> Crossover:
    common = sorted({*line.lengths} & {*reference.lengths})
    models = (line.rows[0], reference.rows[0], ceilings)
    shortest, longest = (common[0], common[-1]) if common else (None, None)

    def verdict(where: Where, length: Estimate | None = None, reason: str = "") -> Crossover:
        return Crossover(
            line.facet, line.label, reference.label, line.metric, where, length, shortest, longest, reason, models
        )  # fmt: skip

    if len(common) < FEWEST_COMMON:
        return verdict(
            "not comparable", reason=f"both are measured at {len(common)} length{'s' * (len(common) != 1)}"
        )
    lengths = np.array(common, dtype=np.float64)
    fitted = _are_fitted(line, reference)
    logs = [_logs(each, common, fitted) for each in (line, reference)]
    crossing = _crossings(lengths, (logs[0][0] - logs[1][0])[None])[0]
    low, high = _interval(_crossings(lengths, logs[0][1] - logs[1][1]))
    how = "" if fitted else "interpolated between measured lengths"
    return verdict(*_judge(float(crossing), low, high, (common[0], common[-1]), how))


def _are_fitted(*lines: Scaling) -> bool:
    return all(each.curve is not None and each.misfit <= WELL_FITTED for each in lines)


def _logs(scaling: Scaling, common: Sequence[int], fitted: bool) -> tuple[Array, Array]:
    """Logarithms at the common lengths, [n], and what they might as well be, [replicates, n].

    Of the fitted curve; or of the medians themselves, where a curve does not fit.
    """
    if fitted and scaling.curve and scaling.replicates:
        lengths = np.array(common, dtype=np.float64)
        return scaling.curve.log_at(lengths)[0], scaling.replicates.log_at(lengths)
    rows = [row for row in scaling.rows if row.seq_len in set(common)]
    logs = np.log([draws.value_of(row, scaling.metric) or np.nan for row in rows])
    return logs, logs + draws.draw_between(rows, scaling.metric, f"{scaling.facet.text} {scaling.label}")


def _crossings(lengths: Array, differences: Array) -> Array:
    """Where each row of differences of logarithms ends to be positive: -inf never was, inf still is at the end."""
    positive = differences > 0
    last = positive.shape[1] - 1 - positive[:, ::-1].argmax(axis=1)
    after = np.minimum(last + 1, len(lengths) - 1)
    rows = np.arange(len(differences))
    above, below = differences[rows, last], differences[rows, after]
    share = np.divide(above, above - below, out=np.zeros_like(above), where=above > below)
    logs = np.log(lengths)
    crossing = np.exp(logs[last] + share * (logs[after] - logs[last]))
    crossing = np.where(last == len(lengths) - 1, np.inf, crossing)
    return np.asarray(np.where(positive.any(axis=1), crossing, -np.inf))


def _interval(crossings: Array) -> tuple[float, float]:
    ordered = np.sort(crossings)  # of infinities too, so no interpolation
    outside = int(TAIL * len(ordered))
    return float(ordered[outside]), float(ordered[-1 - outside])


def _judge(
    crossing: float, low: float, high: float, ends: tuple[int, int], how: str
) -> tuple[Where, Estimate | None, str]:
    if high == -np.inf:
        return "always", None, ""
    if low == np.inf:
        return "never", None, ""
    shortest, longest = ends
    open_ends = [
        *(["or before the shortest length"] if low == -np.inf else []),
        *(["or beyond the longest"] if high == np.inf else []),
    ]
    if len(open_ends) == 2 or not np.isfinite(crossing):
        return "unclear", None, "; ".join(filter(None, [_lean(crossing), how]))
    estimate = Estimate(crossing, max(min(low, crossing), shortest), min(max(high, crossing), longest))
    return "at", estimate, "; ".join(filter(None, [*open_ends, how]))


def _lean(crossing: float) -> str:
    if crossing == -np.inf:
        return "it is ahead at every measured length, but not beyond doubt"
    return (
        "it is behind at the longest, but not beyond doubt" if crossing == np.inf else "the two are too close"
    )
