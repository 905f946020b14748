"""From which length on a line is cheaper than its reference: an interval on fitted curves, and the prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from elattn_bench.analysis import Facet
from elattn_bench.results import Row
from elattn_bench.roofline import Ceilings
from elattn_bench.rundir import Run
from elattn_bench.units import KIBI, format_length, significant
from elattn_bench.verdicts import draws, fits, overtaking, predicted
from elattn_bench.verdicts.curve import Array
from elattn_bench.verdicts.nouns import Estimate, Where
from elattn_bench.verdicts.overtaking import Overtaking
from elattn_bench.verdicts.reference import reference_labels
from elattn_bench.verdicts.scaling import Scaling, scalings
from elattn_bench.visits import Visit

FEWEST_COMMON = 2  # lengths at which both are measured
WELL_FITTED = 0.1  # misfit up to which a curve says more of a length than its neighbours do
UNSEEN = (
    0.05  # scatter of latencies where there are too few to see it: of runs on a quiet machine, docs/results
)
FEWEST_DIGITS, MOST_DIGITS = 2, 4  # of a crossing's length


_LATENCY: Mapping[Where, str] = {
    "at": "overtakes {reference} at L = {span}",
    "until": "is faster than {reference} up to L = {span} only",
    "always": "is faster than {reference} at every measured length, {lengths}",
    "never": "is faster than {reference} at no measured length, {lengths}",
    "unclear": "may overtake {reference}, but where is unclear",
    "not comparable": "cannot be compared with {reference}",
}
_MEMORY: Mapping[Where, str] = {
    **_LATENCY,
    "at": "needs less memory than {reference} from L = {span} on",
    "until": "needs less memory than {reference} up to L = {span} only",
    "always": "needs less memory than {reference} at every measured length, {lengths}",
    "never": "needs less memory than {reference} at no measured length, {lengths}",
    "unclear": "may need less memory than {reference}, but where is unclear",
}


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where one line of one facet overtakes the reference: needs less time, or less memory, from there on.

    length: with ``at`` and ``until``, the crossing and its interval, within the measured range; else None.
    shortest, longest: of the lengths at which both were measured; None where there is none.
    open_low, open_high: whether the interval goes on before the shortest or beyond the longest of them.
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
    open_low: bool = False
    open_high: bool = False
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
        lengths = f"{format_length(self.shortest or 0)} to {format_length(self.longest or 0)}"
        words = (_LATENCY if self.metric == "latency" else _MEMORY)[self.where]
        remark = "; ".join(filter(None, (self.reason, *self._open_ends)))
        said = words.format(reference=self.reference, span=self.span, lengths=lengths)
        return said + (f" ({remark})" if remark else "")

    @property
    def span(self) -> str:
        """The crossing with its interval: ``168 [<128, 190]`` where it goes on before the shortest length."""
        if self.length is None:
            return ""
        below = f"<{format_length(self.shortest or 0)}" if self.open_low else ""
        beyond = f">{format_length(self.longest or 0)}" if self.open_high else ""
        return format_estimate(self.length, below, beyond)

    @property
    def _open_ends(self) -> list[str]:
        before = ["<: or before the shortest length"] if self.open_low else []
        return [*before, *([">: or beyond the longest"] if self.open_high else [])]


def format_estimate(length: Estimate, below: str = "", beyond: str = "") -> str:
    """``3.1k [2.8k, 3.5k]``; k = 1024. Two digits; up to four where an end would read as the value and is not.

    Args:
        below, beyond: instead of an end where the interval goes on: ``<128``, ``>16k``.
    """
    ends = (length.low, length.high)
    for digits in range(FEWEST_DIGITS, MOST_DIGITS + 1):
        value, low, high = (format_tokens(each, digits) for each in (length.value, *ends))
        if all(text != value or end == length.value for text, end in zip((low, high), ends, strict=True)):
            break
    return f"{value} [{below or low}, {beyond or high}]"


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
    found, how = _judge(line, reference, common)
    return Crossover(
        line.facet, line.label, reference.label, line.metric, found.where, found.length,
        shortest=common[0] if common else None, longest=common[-1] if common else None,
        open_low=found.open_low, open_high=found.open_high,
        reason="; ".join(filter(None, (found.reason, how))),
        models=(line.rows[0], reference.rows[0], ceilings),
    )  # fmt: skip


def _judge(line: Scaling, reference: Scaling, common: Sequence[int]) -> tuple[Overtaking, str]:
    if len(common) < FEWEST_COMMON:
        few = f"both are measured at {len(common)} length{'s' * (len(common) != 1)}"
        return Overtaking("not comparable"), few
    fitted = all(each.curve is not None and each.misfit <= WELL_FITTED for each in (line, reference))
    (own, own_replicates), (other, other_replicates) = (
        _logs(each, common, fitted) for each in (line, reference)
    )
    lengths = np.array(common, dtype=np.float64)
    found = overtaking.judge(lengths, own - other, own_replicates - other_replicates)
    interpolated = not fitted and found.length is not None
    return found, "interpolated between measured lengths" if interpolated else ""


def _logs(scaling: Scaling, common: Sequence[int], fitted: bool) -> tuple[Array, Array]:
    """Logarithms at the common lengths, [n], and what they might as well be, [replicates, n].

    Of the fitted curve; or of the medians themselves, where a curve does not fit.
    """
    if fitted and scaling.curve and scaling.replicates:
        lengths = np.array(common, dtype=np.float64)
        return scaling.curve.log_at(lengths)[0], scaling.replicates.log_at(lengths)
    rows = [row for row in scaling.rows if row.seq_len in set(common)]
    logs = np.log([draws.value_of(row, scaling.metric) or np.nan for row in rows])
    name = f"{scaling.facet.text} {scaling.label} {scaling.metric}"
    return logs, logs + draws.draw_between(rows, scaling.metric, name, _scatter(scaling))


def _scatter(scaling: Scaling) -> float:
    """Standard deviation by which another case of the line may differ from its neighbours; bytes are exact."""
    if scaling.metric != "latency":
        return 0.0
    if scaling.curve is None:
        return UNSEEN
    count = len(scaling.rows)
    return scaling.misfit * math.sqrt(count / max(count - fits.PARAMETERS, 1))
