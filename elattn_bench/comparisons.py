"""What is faster, by how much, from which length on: one run against its reference, or two runs. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from elattn_bench.analysis import (
    Facet,
    Ratio,
    by_facet,
    by_label,
    latency_ratio,
    quotient,
    short_status,
)
from elattn_bench.environment import PASSING
from elattn_bench.errors import UsageError
from elattn_bench.names import check_names, nearest
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import format_length

DEFAULT_REFERENCE = "softmax/sdpa"
DEFAULT_THRESHOLD = 0.05  # a change below 5 % is within what two runs of one machine differ by
METRICS = ("latency", "memory", "params")
FAILURES = ("slower", "memory", "error")

Verdict = Literal["faster", "slower", "same", "unclear", "only in A", "only in B", "not measured"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One case against the reference at the same sizes.

    speed_up: reference's latency over the case's; above 1 the case is faster.
    memory_ratio, params_ratio: the case's over the reference's; below 1 the case needs less.
    missing: why there is no speed-up: ``oom``, ``timeout``, ``reference oom``, ...; else empty.
    """

    row: Row
    reference: Row | None
    speed_up: Ratio | None
    memory_ratio: float | None
    params_ratio: float | None
    missing: str = ""

    @property
    def beats_reference(self) -> bool | None:
        """Whether the case is faster beyond doubt; None where nobody can say.

        A case that ran where the reference ran out of memory or time is faster; the reverse is not.
        """
        if self.speed_up is not None:
            return self.speed_up.low > 1
        if self.reference is None:
            return None
        gave_up = ("oom", "timeout")
        lost, reference_lost = (short_status(row.status) in gave_up for row in (self.row, self.reference))
        if self.row.ok and reference_lost:
            return True
        return False if lost and self.reference.ok else None


def compare_to_reference(
    run: Run, reference: str = DEFAULT_REFERENCE, metrics: Sequence[str] = METRICS
) -> list[Comparison]:
    """Every case of the run against the reference of its facet and length; sorted by facet and line.

    Args:
        run: the run.
        reference: ``attention``, ``attention/backend`` or either with an order, ``ea-series/eager t=6``.
        metrics: which of ``latency``, ``memory`` and ``params`` to fill in.

    Raises:
        UsageError: the run holds no such impl, the reference names several, or a metric is unknown.
    """
    check_names("metric", metrics, METRICS)
    labels = reference_labels(run.rows, reference)
    comparisons = []
    for facet, rows in by_facet(run.rows).items():
        references = {row.seq_len: row for row in rows if row.label == labels.get(facet)}
        for line in by_label(rows).values():
            comparisons += [_compare(row, references.get(row.seq_len), metrics) for row in line]
    return comparisons


def _compare(row: Row, reference: Row | None, metrics: Sequence[str]) -> Comparison:
    if reference is None:
        return Comparison(row, None, None, None, None, _missing(row, None))
    speed_up = latency_ratio(reference, row) if "latency" in metrics else None
    memory = quotient(row.peak_memory_bytes, reference.peak_memory_bytes) if "memory" in metrics else None
    params = quotient(row.params, reference.params) if "params" in metrics else None
    return Comparison(row, reference, speed_up, memory, params, _missing(row, reference))


def _missing(row: Row, reference: Row | None) -> str:
    if not row.ok:
        return short_status(row.status)
    if reference is None:
        return "no reference"
    return "" if reference.ok else f"reference {short_status(reference.status)}"


def reference_labels(rows: Sequence[Row], reference: str) -> dict[Facet, str]:
    """The one line that the reference's name means, in each facet that has it.

    Raises:
        UsageError: no line has that name, or several lines of one facet do.
    """
    wanted = " ".join(reference.split())
    labels = {facet: _matching_labels(group, wanted) for facet, group in by_facet(rows).items()}
    found = {label for matching in labels.values() for label in matching}
    if not found:
        raise UsageError(_no_such_reference(rows, wanted))
    for matching in labels.values():
        if len(matching) > 1:
            raise UsageError(
                f"--reference {wanted}: a reference is one impl, and this run has {len(matching)} "
                f"of that name: {', '.join(matching)}; name one of them"
            )
    return {facet: matching[0] for facet, matching in labels.items() if matching}


def _matching_labels(rows: Sequence[Row], wanted: str) -> list[str]:
    return [label for label, line in by_label(rows).items() if wanted in _spellings(line[0])]


def _spellings(row: Row) -> set[str]:
    order = label_suffix(row)
    return {row.attention, row.impl, row.attention + order, row.impl + order}


def label_suffix(row: Row) -> str:
    """What the label says beyond the impl: `` t=6``, or nothing."""
    return row.label.removeprefix(row.impl)


def _no_such_reference(rows: Sequence[Row], wanted: str) -> str:
    known = list(by_label(rows))
    near = nearest(wanted, [*known, *dict.fromkeys(row.impl for row in rows)])
    hint = f"did you mean '{near}'?" if near else "name one of them"
    return f"--reference {wanted}: this run has no such impl, only {', '.join(known)}; {hint}"


@dataclass(frozen=True, slots=True)
class FasterFrom:
    """From which measured length on a line is faster than the reference.

    length: the first from which it stays faster at every longer one; None if there is none.
    always: whether that is the shortest length compared.
    compared: how many lengths could be compared.
    """

    length: int | None
    always: bool
    compared: int

    def __str__(self) -> str:
        """``2k``, ``always``, ``never`` or, where nothing could be compared, ``-``."""
        if not self.compared:
            return "-"
        if self.length is None:
            return "never"
        return "always" if self.always else format_length(self.length)

    @property
    def sentence(self) -> str:
        """The same, spelt out."""
        if not self.compared:
            return "cannot be compared"
        if self.length is None:
            return "never within the measured range"
        return "at every measured length" if self.always else f"from L = {format_length(self.length)} on"


def faster_from(comparisons: Iterable[Comparison]) -> FasterFrom:
    """From which length on one line (the comparisons of one label in one facet) is faster."""
    beats = {item.row.seq_len: item.beats_reference for item in comparisons}
    lengths = sorted(length for length, beaten in beats.items() if beaten is not None)
    first = len(lengths)
    while first and beats[lengths[first - 1]]:
        first -= 1
    if first == len(lengths):
        return FasterFrom(None, False, len(lengths))
    return FasterFrom(lengths[first], first == 0, len(lengths))


@dataclass(frozen=True, slots=True)
class Change:
    """One case in two runs, A and B.

    latency, memory, params: B over A; above 1, B is slower or needs more. None where not measured.
    """

    case_id: str
    before: Row | None
    after: Row | None
    latency: Ratio | None
    memory: float | None
    params: float | None
    verdict: Verdict

    @property
    def row(self) -> Row:
        """The case as one of the runs has it."""
        row = self.before or self.after
        assert row is not None
        return row


def compare_runs(run: Run, other: Run, threshold: float = DEFAULT_THRESHOLD) -> list[Change]:
    """Every case of either run, matched by its id; sorted by facet, line and length."""
    before = {row.case_id: row for row in run.rows}
    after = {row.case_id: row for row in other.rows}
    facets = by_facet({**before, **after}.values())
    rows = [row for facet_rows in facets.values() for line in by_label(facet_rows).values() for row in line]
    return [_change(row.case_id, before.get(row.case_id), after.get(row.case_id), threshold) for row in rows]


def _change(case_id: str, before: Row | None, after: Row | None, threshold: float) -> Change:
    if before is None or after is None:
        return Change(
            case_id, before, after, None, None, None, "only in B" if before is None else "only in A"
        )
    latency = latency_ratio(after, before)
    memory = quotient(after.peak_memory_bytes, before.peak_memory_bytes)
    params = quotient(after.params, before.params)
    verdict = judge(latency, threshold)
    if latency is not None and not before.stability == after.stability == "stable":
        verdict = "unclear"  # a neighbour does not slow every case alike: a narrow interval proves nothing
    return Change(case_id, before, after, latency, memory, params, verdict)


def judge(latency: Ratio | None, threshold: float) -> Verdict:
    """The verdict that the interval of a latency ratio allows.

    ``slower`` when all of it lies above 1 + threshold, ``faster`` when all of it lies below
    1 / (1 + threshold), ``same`` when all of it lies between, else ``unclear``. The lower bound is the
    inverse of the upper, so that swapping the runs swaps faster and slower and changes nothing else.
    """
    if latency is None:
        return "not measured"
    slower_above, faster_below = 1 + threshold, 1 / (1 + threshold)
    if latency.low > slower_above:
        return "slower"
    if latency.high < faster_below:
        return "faster"
    return "same" if latency.low >= faster_below and latency.high <= slower_above else "unclear"


def geometric_mean(values: Iterable[float]) -> float | None:
    """The geometric mean, the fair mean of ratios (Fleming & Wallace 1986); None of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two runs of the same cases agree.

    stable: cases that are ``stable`` in both runs; overlapping: those of them whose 95 % intervals overlap.
    """

    stable: int
    overlapping: int

    @property
    def share(self) -> float | None:
        """The overlapping share; None of nothing."""
        return self.overlapping / self.stable if self.stable else None


def agreement(changes: Iterable[Change]) -> Agreement:
    """The agreement of two runs: what a benchmark's intervals are worth."""
    ratios = [
        change.latency
        for change in changes
        if change.latency
        and change.before
        and change.after
        and change.before.stability == change.after.stability == "stable"
    ]
    # Two intervals overlap just where that of their ratio holds 1.
    return Agreement(len(ratios), sum(ratio.low <= 1 <= ratio.high for ratio in ratios))


def environment_differences(run: Run, other: Run) -> dict[str, tuple[Any, Any]]:
    """What the two runs' environments differ in: key -> (A's value, B's value); None where one lacks it."""
    a, b = (item.info.get("environment", {}) for item in (run, other))
    lasting = [key for key in {**a, **b} if key not in PASSING]
    return {key: (a.get(key), b.get(key)) for key in lasting if a.get(key) != b.get(key)}


def fails(
    comparisons: Iterable[Comparison | Change], kind: str, threshold: float = DEFAULT_THRESHOLD
) -> list[str]:
    """One sentence per case that crosses the line; empty when none does.

    Args:
        comparisons: what ``compare_to_reference`` or ``compare_runs`` returned.
        kind: ``slower``: slower than the reference (or than in run A) by more than the threshold, beyond
            doubt; ``memory``: more peak memory by more than the threshold; ``error``: ended with an error.
        threshold: a share: 0.05 is 5 %.

    Raises:
        UsageError: the kind is unknown.
    """
    check_names("fail-on", [kind], FAILURES)
    found = [(item.row.case_id, _FAILURES[kind](item, threshold)) for item in comparisons]
    return [f"{case_id}: {sentence}" for case_id, sentence in found if sentence]


def _slower(item: Comparison | Change, threshold: float) -> str:
    ratio = item.latency if isinstance(item, Change) else item.speed_up and item.speed_up.inverse
    unclear = isinstance(item, Change) and item.verdict == "unclear"
    if not ratio or unclear or judge(ratio, threshold) != "slower":
        return ""
    return f"takes {ratio.value:.3g}x as long, interval [{ratio.low:.3g}, {ratio.high:.3g}]"


def _more_memory(item: Comparison | Change, threshold: float) -> str:
    ratio = item.memory if isinstance(item, Change) else item.memory_ratio
    return f"needs {ratio:.3g}x the peak memory" if ratio and ratio > 1 + threshold else ""


def _error(item: Comparison | Change, threshold: float) -> str:
    row = item.after if isinstance(item, Change) else item.row
    return f"ended with an error: {row.reason}" if row and row.status == "error" else ""


_FAILURES: Mapping[str, Callable[[Comparison | Change, float], str]] = {
    "slower": _slower,
    "memory": _more_memory,
    "error": _error,
}
