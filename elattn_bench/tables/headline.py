"""The verdict on a run in words: a sentence, counts, ratios with their intervals, what to call the runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from elattn_bench.analysis import Ratio
from elattn_bench.rundir import Run
from elattn_bench.tables.listings import NO_NUMBER, format_ratio
from elattn_bench.units import significant
from elattn_bench.verdicts.means import mean_ratio
from elattn_bench.verdicts.nouns import Estimate
from elattn_bench.verdicts.runs import Change

VERDICTS = ("slower", "faster", "same", "unclear", "not measured", "only in A", "only in B")
"""In the order that sentences and tables tell them: what needs a look comes first."""

LARGEST_SHARE = 2.0  # a ratio beyond it, or below its inverse, reads better as a ratio than in per cent


def names(runs: Sequence[Run]) -> list[str]:
    """The directories' own names; their paths as given where two have the same."""
    short = [run.name for run in runs]
    return short if len(set(short)) == len(short) else [str(run.path) for run in runs]


def counts(changes: Iterable[Change]) -> dict[str, int]:
    """How many cases have each verdict; those that none has are left out."""
    found = Counter[str](change.verdict for change in changes)
    return {verdict: found[verdict] for verdict in VERDICTS if verdict in found}


def counted(changes: Sequence[Change]) -> str:
    """The same for people: ``2 cases slower, 5 faster, 70 same, 9 unclear (6 noisy, 3 interval)``."""
    reasons = Counter(change.reason for change in changes if change.reason)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    words = [
        f"{count} {verdict}{f' ({why})' if verdict == 'unclear' else ''}"
        for verdict, count in counts(changes).items()
    ]
    return ", ".join(words) if words else "there are no cases to compare"


def mean_of(changes: Iterable[Change]) -> Estimate | None:
    """Geometric mean of B's latencies over A's, over all cases measured in both."""
    return mean_ratio(change.latency.value for change in changes if change.latency)


def headline(changes: Sequence[Change], a: str, b: str, threshold: float, drift: float = 0.0) -> str:
    """The verdict on B in one sentence.

    Args:
        a, b: what to call the runs.
        drift: of the control case in either run: what the machine alone can do.
    """
    mean, measured = mean_of(changes), sum(change.latency is not None for change in changes)
    if mean is None:
        return f"{b} cannot be compared with {a}: no case is measured in both ({counted(changes)})."
    excuse = _excuse(mean, threshold, drift)
    cases = f"{measured} case" + "s" * (measured != 1)
    return (
        f"{b} takes {_amount(mean, a, threshold)} (geometric mean of {cases}: {ratio_text(mean)}{excuse}). "
        f"Of {len(changes)} cases: {counted(changes)}.{_memory(changes, threshold)}"
    )


def _memory(changes: Sequence[Change], threshold: float) -> str:
    ratios = [change.memory for change in changes if change.memory]
    more = sum(ratio > 1 + threshold for ratio in ratios)
    less = sum(ratio < 1 / (1 + threshold) for ratio in ratios)
    return f" Peak memory: {more} cases need more, {less} less." if more or less else ""


def _excuse(mean: Estimate, threshold: float, drift: float) -> str:
    """What else a mean that is surely not 1 may come from."""
    if mean.holds(1):
        return ""
    if _within(mean, threshold):
        return f", within the threshold of {100 * threshold:g} %"
    return f", within the control case's drift of {drift:.0%}" if _within(mean, drift) else ""


def _within(mean: Estimate, threshold: float) -> bool:
    return 1 / (1 + threshold) <= mean.low and mean.high <= 1 + threshold


def _amount(mean: Estimate, a: str, threshold: float) -> str:
    if mean.holds(1):
        return (
            f"about as much time as {a}"
            if _within(mean, threshold)
            else f"neither clearly more nor less time than {a}"
        )
    if not 1 / LARGEST_SHARE <= mean.value <= LARGEST_SHARE:
        return f"{format_ratio(mean.value)} the time of {a}"
    share = f"{significant(100 * abs(mean.value - 1), 2)} %"
    return f"{share} {'more' if mean.value > 1 else 'less'} time than {a}"


def ratio_text(ratio: Ratio | Estimate | None) -> str:
    """The ratio with its interval: ``0.969x [0.955, 0.983]``; ``-`` for none."""
    return f"{format_ratio(ratio.value)} {interval_text(ratio)}" if ratio else NO_NUMBER


def interval_text(ratio: Ratio | Estimate | None) -> str:
    """The interval alone: ``[0.955, 0.983]``; ``-`` for none."""
    return f"[{significant(ratio.low, 3)}, {significant(ratio.high, 3)}]" if ratio else NO_NUMBER
