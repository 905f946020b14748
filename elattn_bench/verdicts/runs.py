"""What changed from one run to another, case by case, and what fails a comparison. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from elattn_bench.analysis import Ratio, by_facet, by_label, latency_ratio, quotient
from elattn_bench.environment import PASSING
from elattn_bench.names import check_names
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.verdicts.reference import Comparison

DEFAULT_THRESHOLD = 0.05  # a change below 5 % is within what two runs of one machine differ by
FAILURES = ("slower", "memory", "error")

Verdict = Literal["faster", "slower", "same", "unclear", "only in A", "only in B", "not measured"]


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
