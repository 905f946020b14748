"""The verdict on a run in words: a sentence, counts, ratios with their intervals, what to call the runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from elattn_bench.analysis import Ratio
from elattn_bench.rundir import Run
from elattn_bench.tables.listings import NO_NUMBER, format_ratio
from elattn_bench.units import format_bytes, format_length, significant
from elattn_bench.verdicts.means import mean_ratio
from elattn_bench.verdicts.nouns import Estimate
from elattn_bench.verdicts.runs import Change

VERDICTS = ("slower", "faster", "same", "unclear", "not measured", "only in A", "only in B")
"""In the order that sentences and tables tell them: what needs a look comes first."""

LARGEST_SHARE = 2.0  # a ratio beyond it, or below its inverse, reads better as a ratio than in per cent
BORNE_OUT = 0.25  # of the cases judged likewise or in doubt; one case in thirty bears out no mean of all
MOST_NAMED = 3  # cases that the sentence names; a longer one is not read


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
    """Geometric mean of B's latencies over A's, over the cases that are stable in both.

    What a busy or throttled machine did to a case says nothing of the code. Of a single case it is that case's
    ratio and interval.
    """
    ratios = [change.latency for change in stable(changes) if change.latency]
    if len(ratios) == 1:
        return Estimate(ratios[0].value, ratios[0].low, ratios[0].high)
    return mean_ratio(ratio.value for ratio in ratios)


def stable(changes: Iterable[Change]) -> list[Change]:
    """The cases that both runs measured without noise or throttling: those of the mean."""
    return [change for change in changes if change.latency and not change.unstable]


def headline(changes: Sequence[Change], a: str, b: str, threshold: float, drift: float = 0.0) -> str:
    """The verdict on B: what fails now, then whether it is faster, which the verdicts on cases must bear out.

    Args:
        a, b: what to call the runs.
        drift: of the control case in either run: what the machine alone can do.
    """
    failing = _failing(changes, a, b)
    if not any(change.latency for change in changes):
        return f"{failing}{b} cannot be compared with {a}: no case is measured in both ({counted(changes)})."
    return (
        f"{failing}{_of_time(changes, a, b, threshold, drift)} "
        f"Of {_cases(len(changes))}: {counted(changes)}.{_memory(changes, threshold)}"
    )


def _failing(changes: Iterable[Change], a: str, b: str) -> str:
    """Which cases that A measured fail in B, the first few by name; empty without any."""
    failed = [change for change in changes if change.failed]
    if not failed:
        return ""
    named = [
        f"{item.row.label} {item.row.mode} L {format_length(item.row.seq_len)} ({item.failed})"
        for item in failed[:MOST_NAMED]
    ]
    more = [f"and {len(failed) - MOST_NAMED} more"] if len(failed) > MOST_NAMED else []
    verb = "fails" if len(failed) == 1 else "fail"
    return f"{_cases(len(failed))} of {a} {verb} in {b}: {', '.join([*named, *more])}. "


def _cases(count: int) -> str:
    return f"{count} case" + "s" * (count != 1)


def _of_time(changes: Sequence[Change], a: str, b: str, threshold: float, drift: float) -> str:
    mean = mean_of(changes)
    if mean is None:
        return f"Of {a} and {b}, neither is clearly faster: no case is stable in both."
    told = _told(mean, changes, a, b, threshold)
    excuse = _excuse(mean, threshold, drift)
    return f"{told} (geometric mean of {_cases(len(stable(changes)))} stable in both: {ratio_text(mean)}{excuse})."


def _told(mean: Estimate, changes: Sequence[Change], a: str, b: str, threshold: float) -> str:
    """What the mean says, as far as cases were judged likewise: a mean of cases that prove nothing proves nothing."""
    found = Counter[str](change.verdict for change in stable(changes))
    if not mean.holds(1) and _borne_out(found["slower" if mean.value > 1 else "faster"], found["unclear"]):
        return f"{b} takes {_amount(mean, a)}"
    if found["same"] and _within(mean, threshold):
        return f"{b} takes about as much time as {a}"
    whole = " on the whole" if found["slower"] or found["faster"] else ""
    return f"Of {a} and {b}, neither is clearly faster{whole}"


def _borne_out(likewise: int, unclear: int) -> bool:
    """Whether cases were judged as the mean is, and enough of those that might have been."""
    return likewise > 0 and likewise >= BORNE_OUT * (likewise + unclear)


def _memory(changes: Sequence[Change], threshold: float) -> str:
    ratios = [change.memory for change in changes if change.memory is not None]
    more = sum(ratio > 1 + threshold for ratio in ratios)
    less = sum(ratio < 1 / (1 + threshold) for ratio in ratios)
    if not more and not less:
        return ""
    return f" Peak memory: {_cases(more)} {'needs' if more == 1 else 'need'} more, {less} less."


def memory_text(item: Change) -> str:
    """Peak memory of B over A's; where a side is 0 bytes, which is no ratio: ``from 0 B``, ``to 0 B``."""
    if item.memory is not None and math.isinf(item.memory):
        return "from 0 B"
    return "to 0 B" if item.memory == 0 else format_ratio(item.memory)


def memory_sentence(item: Change) -> str:
    """``memory 1.27x``, ``memory from 0 B to 954 MiB``; empty where it is the same or unknown."""
    if item.memory is None or item.memory == 1:
        return ""
    if math.isfinite(item.memory) or item.after is None:
        return f"memory {memory_text(item)}"
    return f"memory from 0 B to {format_bytes(item.after.peak_memory_bytes)}"


def _excuse(mean: Estimate, threshold: float, drift: float) -> str:
    """What else a mean that is surely not 1 may come from."""
    if mean.holds(1):
        return ""
    if _within(mean, threshold):
        return f", within the threshold of {100 * threshold:g} %"
    return f", within the control case's drift of {drift:.0%}" if _within(mean, drift) else ""


def _within(mean: Estimate, threshold: float) -> bool:
    return 1 / (1 + threshold) <= mean.low and mean.high <= 1 + threshold


def _amount(mean: Estimate, a: str) -> str:
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
