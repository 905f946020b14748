"""How a quantity grows with length: local slope, asymptotic exponent, verdict."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from elattn_bench.analysis import Facet, by_facet, by_label
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import format_length, significant
from elattn_bench.verdicts import draws, fits, theory
from elattn_bench.verdicts.curve import Curves
from elattn_bench.verdicts.fits import Fitted, Medians
from elattn_bench.verdicts.nouns import Estimate, Shape
from elattn_bench.visits import Visit

FEWEST_LENGTHS = 5  # for constant, factor and exponent, and two to see the noise by
NEAR = 0.15
"""So far from a law's exponent the law still says what matters: a factor of 1.5 over 16 times the length."""
FLAT = 0.1  # slope of what does not grow: 1.3 times over 16 times the length
MOST_OFF = 0.3  # of an estimate from the law that it is said to follow
WIDEST = 0.8  # interval of a verdict: a wider one may reject a law by chance, but tells little of the growth
MOST_MISFIT = 0.3  # of the medians from the curve: a line that bends by more follows no law of this form
SUSPECT = (
    0.15  # misfit from which on a row that was not stable is suspected; stable ones are the line's own way
)
FAR = 1.5  # times off the curve of the others that a disturbed row lies, at least
LAWS: Mapping[Shape, float] = {"constant": 0.0, "linear": 1.0, "quadratic": 2.0}
LOCAL = 3  # lengths for the local slope
BATCH = 500  # lines fitted at once: some ten megabytes


@dataclass(frozen=True, slots=True)
class Scaling:
    """The growth of one line in one facet.

    rows: the measured rows, lengths ascending.
    slope: the local log-log slope over the last three lengths (two where there are no more).
    exponent: of the fitted curve; of what stays constant, the slope over all lengths. None where nothing could be
        fitted.
    constant, factor: of the fitted curve ``constant + factor * L ** exponent``, in ms or bytes; as ``exponent``.
    theory: how it should grow: ``constant``, ``linear``, ``quadratic`` or ``unknown``.
    disagrees: whether the verdict contradicts the theory.
    reason: why the verdict is ``unclear``, or what the reader must know; may be empty.
    misfit: root mean square distance of the medians from the curve, in logarithms.
    curve, replicates: the fitted curve, and those that it might as well have been, [1] and [replicates]; None where
        nothing could be fitted.
    """

    facet: Facet
    label: str
    metric: str
    rows: tuple[Row, ...]
    slope: Estimate | None
    exponent: Estimate | None
    constant: float | None
    factor: float | None
    verdict: Shape
    theory: str
    disagrees: bool
    reason: str = ""
    misfit: float = 0.0
    curve: Curves | None = field(default=None, compare=False, repr=False)
    replicates: Curves | None = field(default=None, compare=False, repr=False)

    def at(self, length: float) -> float | None:
        """The fitted curve at a length; None where there is no curve."""
        if self.curve is None:
            return None
        return float(np.exp(self.curve.log_at(np.array([length], dtype=np.float64))[0, 0]))

    def times_off(self, row: Row) -> float:
        """How far the row lies above or below the curve: 2 is twice or half; 1 where there is no curve."""
        fitted, value = self.at(row.seq_len), draws.value_of(row, self.metric)
        return max(fitted / value, value / fitted) if fitted and value else 1.0

    @property
    def lengths(self) -> list[int]:
        """The measured lengths, ascending."""
        return [row.seq_len for row in self.rows]

    @property
    def sentence(self) -> str:
        """The verdict for people, in one sentence."""
        return f"{self.label}: {self.quantity} {self.clause}."

    @property
    def quantity(self) -> str:
        """What was measured, in words: of decoding, the memory that counts is the state."""
        if self.metric == "latency":
            return "latency"
        return "state" if self.facet.mode == "decode" else "peak memory"

    @property
    def clause(self) -> str:
        """The verdict without its subject: ``grows as L^1.01 [0.98, 1.04]: linear, as theory says``."""
        if self.exponent is None:
            return f"has no fitted growth: {self.reason}"
        law = f"L^{format_exponent(self.exponent)}"
        if self.verdict == "unclear":
            return f"grows as {law}: unclear, {self.reason}"
        remark = f" ({self.reason})" if self.reason else ""
        known = f"{_WORDS[self.verdict]}{self._against_theory}{remark}"
        return f"is {known}, {law}" if self.verdict == "constant" else f"grows as {law}: {known}"

    @property
    def _against_theory(self) -> str:
        if self.theory == "unknown":
            return ""
        return f", where theory says {self.theory}" if self.disagrees else ", as theory says"


_WORDS: Mapping[Shape, str] = {
    "constant": "constant",
    "linear": "linear",
    "quadratic": "quadratic",
    "between": "between two laws",
    "steeper": "steeper than quadratic",
}


def format_exponent(exponent: Estimate) -> str:
    """``1.01 [0.98, 1.04]``."""
    value, low, high = (
        f"{each + 0.0:.2f}".replace("-0.00", "0.00") for each in (exponent.value, exponent.low, exponent.high)
    )
    return f"{value} [{low}, {high}]"


def scalings(
    run: Run, metric: str = "latency", samples: Mapping[str, Sequence[Visit]] | None = None
) -> list[Scaling]:
    """The growth of every line of every facet that has measured rows, sorted by facet and line.

    The exponent is that of ``a + c L^p`` with a >= 0, fitted to log medians; its interval is the 2.5th to the 97.5th
    percentile of a bootstrap over raw samples (of every median) and lengths (residuals of the fit, resampled with
    random signs and widened by Student's t for how few they are): see ``fits.fit``.

    Args:
        run: the run.
        metric: ``latency`` or ``memory``.
        samples: raw samples by case id, as ``samples_file.read_visits`` gives them; None: read from the run's own
            directory. Rows without samples use the interval of their median instead.
    """
    drawn_from = run.samples() if samples is None and metric == "latency" else samples or {}
    lines = [
        (facet, label, tuple(measured))
        for facet, rows in by_facet(run.rows).items()
        for label, line in by_label(rows).items()
        if (measured := [row for row in line if row.ok and draws.value_of(row, metric)])
    ]
    return [_without_disturbed(each, drawn_from) for each in _judge(lines, metric, drawn_from)]


Line = tuple[Facet, str, tuple[Row, ...]]


def _judge(lines: Sequence[Line], metric: str, samples: draws.Samples) -> list[Scaling]:
    found: dict[int, Scaling] = {}
    for group in _of_equal_lengths(lines):
        for start in range(0, len(group), BATCH):
            part = group[start : start + BATCH]
            found.update(zip(part, _judge_together([lines[i] for i in part], metric, samples), strict=True))
    return [found[index] for index in range(len(lines))]


def _without_disturbed(scaling: Scaling, samples: draws.Samples) -> Scaling:
    """The scaling without the one row that was not stable and lies far off the curve of the others, if there is one.

    A neighbour that takes a core for a second makes a short call a hundred times longer.
    """
    suspects = [row for row in scaling.rows if row.stability != "stable"]
    if scaling.misfit < SUSPECT or scaling.metric != "latency" or len(scaling.rows) <= FEWEST_LENGTHS:
        return scaling
    lines = [_without(scaling, row) for row in suspects]
    tried = [
        (each, row)
        for each, row in zip(_judge(lines, scaling.metric, samples), suspects, strict=True)
        if each.misfit < scaling.misfit / 2 and each.times_off(row) > FAR
    ]
    if not tried:
        return scaling
    best, left_out = min(tried, key=lambda pair: pair[0].misfit)
    far = significant(best.times_off(left_out), 2)
    how = f"without L = {format_length(left_out.seq_len)}, which was not stable and lies {far} times off"
    return replace(best, reason="; ".join(filter(None, (best.reason, how))))


def _without(scaling: Scaling, left_out: Row) -> Line:
    return scaling.facet, scaling.label, tuple(row for row in scaling.rows if row is not left_out)


def _of_equal_lengths(lines: Sequence[Line]) -> Iterable[list[int]]:
    groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, (_, _, rows) in enumerate(lines):
        groups[tuple(row.seq_len for row in rows)].append(index)
    return groups.values()


def _judge_together(lines: Sequence[Line], metric: str, samples: draws.Samples) -> Iterator[Scaling]:
    """The scaling of lines with the same lengths, fitted in one go."""
    medians = _medians(lines, metric, samples)
    count = len(medians.lengths)
    local = fits.slope(medians, max(0, count - LOCAL)) if count > 1 else [None] * len(lines)
    if count < FEWEST_LENGTHS:
        few = f"{count} length{'s' * (count > 1)} measured, and a fit needs {FEWEST_LENGTHS}"
        for (facet, label, rows), slope in zip(lines, local, strict=True):
            law = theory.growth(rows[-1], metric)
            yield Scaling(facet, label, metric, rows, slope, None, None, None, "unclear", law, False, few)
        return
    whole, fitted = fits.slope(medians), fits.fit(medians)
    for index, line in enumerate(lines):
        yield _judge_one(line, metric, local[index], whole[index], fitted, index)


def _medians(lines: Sequence[Line], metric: str, samples: draws.Samples) -> Medians:
    generators = [draws.generator_of(f"{facet.text} {label} {metric}") for facet, label, _ in lines]
    rows_of = [rows for _, _, rows in lines]
    size = (draws.REPLICATES, len(rows_of[0]))
    return Medians(
        np.array([row.seq_len for row in rows_of[0]], dtype=np.float64),
        np.log([[draws.value_of(row, metric) or np.nan for row in rows] for rows in rows_of]),
        np.array([[draws.log_error(row, metric) for row in rows] for rows in rows_of]),
        np.stack(
            [draws.draw(rows, metric, samples, each) for rows, each in zip(rows_of, generators, strict=True)]
        ),
        draws.FLOOR[metric],
        np.stack([generator.random(size) for generator in generators]),
    )


def _judge_one(
    line: Line, metric: str, local: Estimate | None, whole: Estimate, fitted: Fitted, index: int
) -> Scaling:
    facet, label, rows = line
    flat, falls = max(abs(whole.low), abs(whole.high)) <= FLAT, whole.high < -FLAT
    # Of what does not grow, the exponent of the growing part is noise.
    exponent = whole if flat or falls else fitted.exponents[index]
    curve, replicates = (
        each.of(index)
        for each in ((fitted.levels, fitted.level_replicates) if flat else (fitted.curves, fitted.replicates))
    )
    misfit = float((fitted.level_misfit if flat else fitted.misfit)[index])
    reason = (
        "it falls with length" if falls else _bend(misfit, local) if misfit > MOST_MISFIT and not flat else ""
    )
    verdict = "unclear" if reason else shape_of(exponent)
    law = theory.growth(rows[-1], metric)
    return Scaling(
        facet, label, metric, rows, local, exponent, float(curve.constant[0]), float(curve.factor[0]), verdict, law,
        disagrees=verdict != "unclear" and law not in (theory.UNKNOWN, verdict),
        reason=reason or (_why_unclear(exponent) if verdict == "unclear" else _unsteady(rows, metric)),
        misfit=misfit, curve=curve, replicates=replicates,
    )  # fmt: skip


def _unsteady(rows: Sequence[Row], metric: str) -> str:
    if metric != "latency":  # bytes are counted, whatever the clock did
        return ""
    shaky = [row for row in rows if row.stability not in (None, "stable")]
    return f"{len(shaky)} of {len(rows)} rows were not stable" if 2 * len(shaky) > len(rows) else ""


def shape_of(exponent: Estimate) -> Shape:
    """The only law that the interval does not reject; ``between`` or ``steeper`` if it rejects all, else ``unclear``.

    A law is rejected when no exponent within ``NEAR`` of its own lies in the interval. Too wide an interval, or an
    estimate far from the only law left, makes no verdict.
    """
    if exponent.high - exponent.low > WIDEST:
        return "unclear"
    left = laws_within(exponent)
    if left:
        near = abs(exponent.value - LAWS[left[0]]) <= MOST_OFF
        return left[0] if len(left) == 1 and near else "unclear"
    return "steeper" if exponent.low > max(LAWS.values()) else "between"


def laws_within(exponent: Estimate) -> list[Shape]:
    """The laws that the interval does not reject."""
    return [
        law
        for law, exact in LAWS.items()
        if exponent.low <= exact + NEAR and (exponent.high >= exact - NEAR or law == "constant")
    ]


def _bend(misfit: float, local: Estimate | None) -> str:
    lately = f", and the last lengths grow as L^{local.value:.2f}" if local else ""
    return f"medians lie {math.expm1(misfit):.0%} off the curve{lately}"


def _why_unclear(exponent: Estimate) -> str:
    left = laws_within(exponent)
    if len(left) > 1:
        return f"could be {' or '.join(left)}"
    if exponent.high - exponent.low > WIDEST:
        return "the interval is too wide"
    return f"far from {left[0]}, which the interval just does not reject"
