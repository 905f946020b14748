"""What goes into the tables of one run, against its reference or for itself, as ``render.Report``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from elattn_bench.analysis import Facet, Share, shares
from elattn_bench.results import Row
from elattn_bench.tables.by_length import (
    Lines,
    by_facet_and_line,
    latency_table,
    memory_ratio_tables,
    memory_tables,
    reference_label,
    speed_up_table,
)
from elattn_bench.tables.listings import interval_record
from elattn_bench.tables.overview import MOST_FACETS, how_to_see_one, overview_tables, too_many
from elattn_bench.tables.parameters import params_ratio_tables, params_tables
from elattn_bench.tables.render import Report, Table
from elattn_bench.tables.shares import SHARE_NOTE, share_records, share_tables
from elattn_bench.verdicts.reference import METRICS, Comparison, faster_from

CASE_AXES = (
    "case_id", "attention", "backend", "order", "hyperparameters", "level", "mode", "dtype", "device", "causal",
    "batch", "heads", "seq_len", "dim", "ranks", "device_type",
)  # fmt: skip


def comparison_report(comparisons: Sequence[Comparison], metrics: Sequence[str] = METRICS) -> Report:
    """Per facet one table of speed-ups and one of memory; per level one of parameters; shares of blocks.

    Of more facets than people look through, the overview alone.
    """
    lines = by_facet_and_line(comparisons)
    parts = shares(item.row for item in comparisons) if "latency" in metrics else []
    tables = _few(lines, lambda facet: _facet_tables(facet, lines[facet], metrics))
    if "latency" in metrics:
        tables += overview_tables(lines)
    if "params" in metrics:
        tables += params_ratio_tables(comparisons)
    tables += _share_tables(parts)
    said = _notes(tables) if tables or not too_many(lines) else []
    notes = [*_unsupported_notes(lines), *said, *_share_notes(parts), *_left_out(lines)]
    about = {
        "comparison": "reference",
        "faster_from": _faster_from_records(lines),
        "block_shares": share_records(parts),
    }
    return Report(tables, [_comparison_record(item, metrics) for item in comparisons], notes, about)


def absolute_report(comparisons: Sequence[Comparison], metrics: Sequence[str] = METRICS) -> Report:
    """Per facet one table of latencies with their uncertainty and one of memory; per level one of parameters.

    Args:
        comparisons: as ``reference.without_reference`` makes them.
    """
    lines = by_facet_and_line(comparisons)
    tables = _few(lines, lambda facet: _absolute_tables(facet, lines[facet], metrics))
    if "params" in metrics:
        tables += params_tables(comparisons)
    records = [_absolute_record(item.row, metrics) for item in comparisons]
    return Report(tables, records, [*_absolute_notes(metrics), *_left_out(lines)], {"comparison": "absolute"})


def _few(lines: Mapping[Facet, Lines], tables: Callable[[Facet], list[Table]]) -> list[Table]:
    """The tables of every facet, or none of so many that nobody would look through them."""
    return [] if too_many(lines) else [table for facet in lines for table in tables(facet)]


def _left_out(lines: Mapping[Facet, Lines]) -> list[str]:
    return [how_to_see_one(lines)] if too_many(lines) else []


def _facet_tables(facet: Facet, lines: Lines, metrics: Sequence[str]) -> list[Table]:
    reference = reference_label(lines)
    if reference is None:
        return []
    tables = [speed_up_table(facet, reference, lines)] if "latency" in metrics else []
    return [*tables, *(memory_ratio_tables(facet, reference, lines) if "memory" in metrics else ())]


def _absolute_tables(facet: Facet, lines: Lines, metrics: Sequence[str]) -> list[Table]:
    tables = [latency_table(facet, lines)] if "latency" in metrics else []
    return [*tables, *(memory_tables(facet, lines) if "memory" in metrics else ())]


def _share_tables(parts: Sequence[Share]) -> list[Table]:
    tables = share_tables(parts)
    return tables if len(tables) <= MOST_FACETS else []


def _share_notes(parts: Sequence[Share]) -> list[str]:
    return [SHARE_NOTE] if _share_tables(parts) else []


def _unsupported_notes(lines: Mapping[Facet, Lines]) -> list[str]:
    """Where the reference cannot run, and why."""
    sentences = [
        f"{facet.setting.text}: {row.label} is unsupported ({row.reason}); name another with --reference."
        for facet, facet_lines in lines.items()
        if reference_label(facet_lines) is None
        for line in facet_lines.values()
        for row in [item.reference for item in line if item.reference]
    ]
    return list(dict.fromkeys(sentences))


_BEST_NOTE = (
    "Bold, or * where there is no bold: the best at each length, and every other whose 95 % interval overlaps "
    "that of the best; memory is exact."
)
_DIGITS_NOTE = (
    "Digits: as many as the interval supports, to the first digit of its larger half, to the second where the "
    "first is a 1."
)


def _notes(tables: Sequence[Table]) -> list[str]:
    if not tables:
        return ["Nothing to compare: no case has a reference and the metric asked for."]
    by_length = [_BEST_NOTE, _DIGITS_NOTE] if any(table.best for table in tables) else []
    return [
        "Speed-up: above 1x is faster. Memory and parameters: below 1x is less. The row of the reference shows "
        "its own values.",
        "Faster from: the first measured length from which an impl is faster at every longer one, beyond the "
        "intervals of both medians.",
        *by_length,
    ]


_METRIC_NOTES = {
    "latency": "Latency: the median, ± the larger half of its 95 % interval.",
    "memory": "Peak memory: above what the inputs hold, exact to the byte.",
}


def _absolute_notes(metrics: Sequence[str]) -> list[str]:
    of_metrics = [note for metric, note in _METRIC_NOTES.items() if metric in metrics]
    return [*of_metrics, _BEST_NOTE] if of_metrics else []


def _comparison_record(item: Comparison, metrics: Sequence[str]) -> dict[str, Any]:
    row = item.row
    record: dict[str, Any] = {
        **axes_of(row),
        "status": row.status,
        "reference": item.reference.label if item.reference else None,
        "missing": item.missing or None,
    }
    if "latency" in metrics:
        record |= {"latency_ms_p50": row.latency_ms_p50, **interval_record("speed_up", item.speed_up)}
    if "memory" in metrics:
        record |= {"peak_memory_bytes": row.peak_memory_bytes, "memory_ratio": item.memory_ratio}
    if "params" in metrics:
        record |= {"params": row.params, "params_ratio": item.params_ratio}
    return record


_ABSOLUTE_COLUMNS = {
    "latency": ("latency_ms_p50", "latency_ms_ci_low", "latency_ms_ci_high"),
    "memory": ("peak_memory_bytes",),
    "params": ("params",),
}


def _absolute_record(row: Row, metrics: Sequence[str]) -> dict[str, Any]:
    columns = [column for metric in metrics for column in _ABSOLUTE_COLUMNS[metric]]
    return {**axes_of(row), "status": row.status, **{column: getattr(row, column) for column in columns}}


def axes_of(row: Row) -> dict[str, Any]:
    """The axes that fix the row's case, for records."""
    return {axis: row.knobs if axis == "hyperparameters" else getattr(row, axis) for axis in CASE_AXES}


def _faster_from_records(lines: Mapping[Facet, Lines]) -> list[dict[str, Any]]:
    records = []
    for facet, facet_lines in lines.items():
        reference = reference_label(facet_lines)
        for label, line in facet_lines.items():
            if label != reference:
                found = faster_from(line)
                verdict = {"impl": label, "seq_len": found.length, "verdict": found.sentence}
                records.append({**facet._asdict(), "reference": reference, **verdict})
    return records
