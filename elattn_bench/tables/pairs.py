"""What goes into the tables of a live comparison, as ``render.Report``."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from elattn_bench.analysis import Ratio, Setting, short_status
from elattn_bench.cases import Case
from elattn_bench.knobs import sort_key, text_of
from elattn_bench.live import LiveComparison, PairResult
from elattn_bench.neighbours import DISTURBED
from elattn_bench.pairs import Paired
from elattn_bench.results import Skipped
from elattn_bench.tables.listings import NO_NUMBER, format_ratio
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.units import Milliseconds, format_length, format_ms, significant

SIZES = ("order", "hyperparameters", "batch", "heads", "dim")
OF_AN_IMPL = SIZES[:2]  # of either side or of both
INTERVAL_DIGITS = 4  # one more than of the ratio: the ends decide the verdict
SHARED_AXES = ("level", "mode", "dtype", "device", "causal", "cache", "batch", "heads", "seq_len", "dim")


def live_report(comparison: LiveComparison) -> Report:
    """Per setting and pair of backends one table; below it what failed and what the verdicts mean."""
    results = sorted(comparison.results, key=_place)
    groups: dict[tuple[Setting, str, str], list[PairResult]] = {}
    for each in results:
        groups.setdefault((_setting(each), each.pair.a.impl, each.pair.b.impl), []).append(each)
    tables = [_table(setting, group, comparison.threshold) for (setting, _, _), group in groups.items()]
    about = {
        "comparison": "live", "a": comparison.impl_a, "b": comparison.impl_b,
        "threshold": comparison.threshold, "config": dict(comparison.plan.settings),
        "environment": comparison.environment,
    }  # fmt: skip
    return Report(
        tables,
        [_record(each, comparison.threshold) for each in results],
        _notes(results, comparison),
        about,
    )


def describe_ratio(ratio: Ratio) -> str:
    """The ratio and its interval in one line."""
    return f"B/A {format_ratio(ratio.value)} {_interval(ratio)}"


def _place(result: PairResult) -> tuple[object, ...]:
    case = result.pair.b
    impls = (result.pair.a.impl, case.impl)
    knobs = [sort_key(each.hyperparameters) for each in (result.pair.a, case)]
    return (
        *_setting(result).sort_key, *impls, _order(result), *knobs,
        case.batch, case.heads, case.dim, case.seq_len,
    )  # fmt: skip


def _setting(result: PairResult) -> Setting:
    case = result.pair.b
    return Setting.of(case)


def _sizes(result: PairResult) -> tuple[int | str, ...]:
    case = result.pair.b
    return (_order(result), _knobs(result), case.batch, case.heads, case.dim)


def _knobs(result: PairResult) -> str:
    """The knobs of whichever has some, of both where they differ."""
    a, b = (text_of(case.hyperparameters, " ") for case in (result.pair.a, result.pair.b))
    return f"A {a}, B {b}" if a and b and a != b else a or b


def _order(result: PairResult) -> int:
    """The polynomial order of whichever has one; -1 where neither has."""
    orders = (result.pair.a.order, result.pair.b.order)
    return next((order for order in orders if order is not None), -1)


def _table(setting: Setting, results: Sequence[PairResult], threshold: float) -> Table:
    sizes = [_sizes(each) for each in results]
    varying = [index for index in range(len(SIZES)) if len({size[index] for size in sizes}) > 1]
    columns = [
        *(Column(SIZES[index], "right") for index in varying), Column("L", "right"),
        Column("A", "right"), Column("B", "right"), Column("B/A", "right"), Column("interval", "right"),
        Column("pairs", "right"), Column("verdict"),
    ]  # fmt: skip
    rows = [
        [*(str(size[index]) for index in varying), *_cells(each, threshold)]
        for size, each in zip(sizes, results, strict=True)
    ]
    strong = frozenset(
        (row, len(columns) - 1)
        for row, each in enumerate(results)
        if each.verdict(threshold) in ("faster", "slower")
    )
    return Table(_title(setting, results, varying), columns, rows, pinned=1 + len(varying), strong=strong)


def _title(setting: Setting, results: Sequence[PairResult], varying: Sequence[int]) -> str:
    pair = results[0].pair
    names = [SIZES[index] for index in varying]
    a, b = (_without(case, names).label for case in (pair.a, pair.b))
    values = dict(zip(SIZES, _sizes(results[0]), strict=True))
    fixed = [f"{name} {values[name]}" for name in SIZES if name not in (*OF_AN_IMPL, *names)]
    return f"A = {a}, B = {b}: {', '.join([setting.text, *fixed])}"


def _without(case: Case, names: Sequence[str]) -> Case:
    """The case without what has a column of its own."""
    order = None if "order" in names else case.order
    return replace(case, order=order, hyperparameters=() if OF_AN_IMPL[1] in names else case.hyperparameters)


def _cells(result: PairResult, threshold: float) -> list[str]:
    length, outcome, ratio = format_length(result.pair.b.seq_len), result.outcome, result.ratio
    if isinstance(outcome, Skipped) or ratio is None:
        a, b = (_failure(result, name) for name in ("A", "B"))
        return [length, a, b, NO_NUMBER, NO_NUMBER, "0", result.verdict(threshold)]
    return [
        length, format_ms(_median(outcome.a_ms)), format_ms(_median(outcome.b_ms)), format_ratio(ratio.value),
        _interval(ratio), str(len(outcome.a_ms)), result.verdict(threshold),
    ]  # fmt: skip


def _failure(result: PairResult, name: str) -> str:
    assert isinstance(result.outcome, Skipped)
    return short_status(result.outcome.status) if name in result.failed.split() else NO_NUMBER


def _interval(ratio: Ratio) -> str:
    if not math.isfinite(ratio.high):
        return NO_NUMBER
    return f"[{significant(ratio.low, INTERVAL_DIGITS)}, {significant(ratio.high, INTERVAL_DIGITS)}]"


def _median(values: Sequence[Milliseconds]) -> Milliseconds:
    return statistics.median(values)


def _notes(results: Sequence[PairResult], comparison: LiveComparison) -> list[str]:
    counts = Counter(each.verdict(comparison.threshold) for each in results)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    summary = f"{len(results)} of {len(comparison.pairs)} cases: {counted}."
    return [*_reasons(results), *_warnings(results), summary, _meaning(comparison.threshold)]


def _reasons(results: Iterable[PairResult]) -> list[str]:
    """One sentence per failed case, however many pairs it is in."""
    sentences = []
    for each in results:
        if isinstance(each.outcome, Skipped):
            case = each.pair.a if each.failed == "A" else each.pair.b
            sentences.append(f"{each.failed} ({case.case_id}) {each.outcome.status}: {each.outcome.reason}")
    return list(dict.fromkeys(sentences))


def _warnings(results: Sequence[PairResult]) -> list[str]:
    timed = [each.outcome for each in results if isinstance(each.outcome, Paired)]
    disturbed = [each.others_share for each in timed if each.others_share > DISTURBED]
    sentences = [f"warning: {each.throttled}" for each in timed if each.throttled]
    if disturbed:
        sentences.append(
            f"warning: other processes used up to {max(disturbed):.0%} of the CPU while {len(disturbed)} of "
            f"{len(timed)} comparisons were made. That does not slow both sides alike, so these are unclear whatever "
            f"their intervals (allowed {DISTURBED:.0%}): stop the other processes and compare again."
        )
    return list(dict.fromkeys(sentences))


def _meaning(threshold: float) -> str:
    if not threshold:
        return (
            "B/A is B's time over A's. B is faster or slower when the whole 95 % interval lies below or above 1x, "
            "else unclear; no difference is too small to count (threshold 0 %)."
        )
    low, high = (significant(value, 3) for value in (1 / (1 + threshold), 1 + threshold))
    return (
        f"B/A is B's time over A's. B is faster when the whole 95 % interval lies below {low}x, slower when it "
        f"lies above {high}x, the same when it lies between (threshold {100 * threshold:g} %), else unclear."
    )


def _record(result: PairResult, threshold: float) -> dict[str, Any]:
    a, b, outcome, ratio = result.pair.a, result.pair.b, result.outcome, result.ratio
    timed = None if isinstance(outcome, Skipped) else outcome
    bounded = ratio is not None and math.isfinite(ratio.high)
    return {
        "case_id_a": a.case_id, "case_id_b": b.case_id, "impl_a": a.impl, "impl_b": b.impl,
        "order_a": a.order, "order_b": b.order, "hyperparameters_a": a.knobs, "hyperparameters_b": b.knobs,
        **{axis: getattr(b, axis) for axis in SHARED_AXES},
        "status": "ok" if timed else getattr(outcome, "status", None),
        "failed": result.failed or None,
        "reason": getattr(outcome, "reason", None),
        "latency_ms_p50_a": _median(timed.a_ms) if timed else None,
        "latency_ms_p50_b": _median(timed.b_ms) if timed else None,
        "latency_ratio": ratio.value if ratio else None,
        "latency_ratio_low": ratio.low if ratio and bounded else None,
        "latency_ratio_high": ratio.high if ratio and bounded else None,
        "pairs": len(timed.a_ms) if timed else 0,
        "rounds": len(timed.rounds) if timed else 0,
        "stopped_by": timed.stopped_by if timed else None,
        "verdict": result.verdict(threshold),
        "others_share": timed.others_share if timed else None,
        "throttled": timed.throttled if timed else None,
    }  # fmt: skip
