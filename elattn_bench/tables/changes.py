"""Tables of what changed between runs, as ``render.Report``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from elattn_bench.analysis import Setting, short_status
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.tables.comparison import axes_of
from elattn_bench.tables.listings import NO_NUMBER, format_ratio, plain
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.units import format_length, format_ms, significant
from elattn_bench.verdicts.runs import (
    Agreement,
    Change,
    agreement,
    environment_differences,
    geometric_mean,
)


def change_report(changes: Sequence[Change], run: Run, other: Run) -> Report:
    """Per setting one table of cases in A and B; below it the counts, the mean and what else differs."""
    settings: defaultdict[Setting, list[Change]] = defaultdict(list)
    for change in changes:
        settings[Setting.of(change.row)].append(change)
    names = f"A = {run.name}, B = {other.name}"
    tables = [
        _change_table(f"{names}: {setting.text}", settings[setting])
        for setting in sorted(settings, key=lambda setting: setting.sort_key)
    ]
    tables += _environment_tables(run, other)
    about = {
        "comparison": "runs", "a": run.name, "b": other.name,
        "geometric_mean_latency_ratio": _mean_latency(changes), "agreement": agreement(changes).share,
        "environment_differences": environment_differences(run, other),
    }  # fmt: skip
    return Report(tables, [_change_record(change) for change in changes], _change_notes(changes), about)


def _change_table(title: str, changes: Sequence[Change]) -> Table:
    sizes = [
        axis for axis in ("batch", "heads", "dim") if len({getattr(item.row, axis) for item in changes}) > 1
    ]
    columns = [
        Column("impl"), *(Column(axis, "right") for axis in sizes), Column("L", "right"),
        Column("A", "right"), Column("B", "right"), Column("B/A", "right"), Column("interval", "right"),
        Column("verdict"), Column("memory", "right"),
    ]  # fmt: skip
    rows = [
        [item.row.label, *(str(getattr(item.row, axis)) for axis in sizes), *_change_cells(item)]
        for item in changes
    ]
    strong = frozenset(
        (i, len(columns) - 2) for i, item in enumerate(changes) if item.verdict in ("faster", "slower")
    )
    return Table(title, columns, rows, pinned=2 + len(sizes), strong=strong)


def _change_cells(item: Change) -> list[str]:
    ratio = item.latency
    interval = f"[{significant(ratio.low, 3)}, {significant(ratio.high, 3)}]" if ratio else NO_NUMBER
    return [
        format_length(item.row.seq_len), _latency_cell(item.before), _latency_cell(item.after),
        format_ratio(ratio.value if ratio else None), interval, item.verdict, format_ratio(item.memory),
    ]  # fmt: skip


def _latency_cell(row: Row | None) -> str:
    if row is None:
        return NO_NUMBER
    return format_ms(row.latency_ms_p50) if row.ok else short_status(row.status)


def _environment_tables(run: Run, other: Run) -> list[Table]:
    differences = environment_differences(run, other)
    if not differences:
        return []
    rows = [[key, plain(a), plain(b)] for key, (a, b) in differences.items()]
    columns = [Column("differs in"), Column("A", wraps=True), Column("B", wraps=True)]
    return [Table("Environments", columns, rows)]


def _change_notes(changes: Sequence[Change]) -> list[str]:
    counts = Counter(change.verdict for change in changes)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    mean = _mean_latency(changes)
    notes = [f"{len(changes)} cases: {counted}."] if changes else ["There are no cases to compare."]
    if mean is None:
        return [*notes, "No case is measured in both runs."]
    return [
        *notes,
        f"B takes {format_ratio(mean)} the time of A (geometric mean over the cases measured in both).",
        _agreement_note(agreement(changes)),
    ]


def _agreement_note(found: Agreement) -> str:
    if found.share is None:
        return "No case is stable in both runs."
    return (
        f"Agreement: of {found.stable} cases that are stable in both runs, {found.overlapping} "
        f"({found.share:.1%}) have overlapping 95 % intervals."
    )


def _mean_latency(changes: Iterable[Change]) -> float | None:
    return geometric_mean(change.latency.value for change in changes if change.latency)


def _change_record(item: Change) -> dict[str, Any]:
    before, after, ratio = item.before, item.after, item.latency
    return {
        **axes_of(item.row),
        "status_a": before.status if before else None,
        "status_b": after.status if after else None,
        "latency_ms_p50_a": before.latency_ms_p50 if before else None,
        "latency_ms_p50_b": after.latency_ms_p50 if after else None,
        "latency_ratio": ratio.value if ratio else None,
        "latency_ratio_low": ratio.low if ratio else None,
        "latency_ratio_high": ratio.high if ratio else None,
        "memory_ratio": item.memory,
        "params_ratio": item.params,
        "verdict": item.verdict,
    }
