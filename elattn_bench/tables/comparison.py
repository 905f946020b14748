"""What goes into each table: the comparisons, the summary, the lists, as ``render.Report``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from elattn_bench.analysis import Facet, Setting, by_label, shares
from elattn_bench.results import Row
from elattn_bench.tables.listings import NO_NUMBER, format_ratio
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.tables.shares import SHARE_NOTE, share_records, share_tables
from elattn_bench.units import format_bytes, format_length, format_ms
from elattn_bench.verdicts.reference import METRICS, Comparison, faster_from

CASE_AXES = (
    "case_id", "attention", "backend", "order", "hyperparameters", "level", "mode", "dtype", "device", "causal",
    "batch", "heads", "seq_len", "dim",
)  # fmt: skip


def comparison_report(comparisons: Sequence[Comparison], metrics: Sequence[str] = METRICS) -> Report:
    """Per facet one table of speed-ups and one of memory; per level one of parameters; shares of blocks."""
    lines = _lines(comparisons)
    parts = shares(item.row for item in comparisons) if "latency" in metrics else []
    tables = []
    for facet, facet_lines in lines.items():
        reference = _reference_label(facet_lines)
        if "latency" in metrics and reference:
            tables.append(_speed_up_table(facet, reference, facet_lines))
        if "memory" in metrics and reference:
            tables += _memory_tables(facet, reference, facet_lines)
    if "latency" in metrics:
        tables += _overview_tables(lines)
    if "params" in metrics:
        tables += _params_tables(comparisons)
    tables += share_tables(parts)
    notes = [*_unsupported_notes(lines), *_notes(tables), *([SHARE_NOTE] if parts else [])]
    about = {
        "comparison": "reference",
        "faster_from": _faster_from_records(lines),
        "block_shares": share_records(parts),
    }
    return Report(tables, [_comparison_record(item, metrics) for item in comparisons], notes, about)


Lines = Mapping[str, Sequence[Comparison]]


def _lines(comparisons: Iterable[Comparison]) -> dict[Facet, dict[str, list[Comparison]]]:
    lines: defaultdict[Facet, defaultdict[str, list[Comparison]]] = defaultdict(lambda: defaultdict(list))
    for item in comparisons:
        lines[Facet.of(item.row)][item.row.label].append(item)
    return {facet: dict(facet_lines) for facet, facet_lines in lines.items()}


def _reference_label(lines: Lines) -> str | None:
    """The line that is the reference; None where it cannot run at any size."""
    references = [item.reference for line in lines.values() for item in line if item.reference]
    return next((row.label for row in references if row.status != "unsupported"), None)


def _unsupported_notes(lines: Mapping[Facet, Lines]) -> list[str]:
    """Where the reference cannot run, and why."""
    sentences = [
        f"{facet.setting.text}: {row.label} is unsupported ({row.reason}); name another with --reference."
        for facet, facet_lines in lines.items()
        if _reference_label(facet_lines) is None
        for line in facet_lines.values()
        for row in [item.reference for item in line if item.reference]
    ]
    return list(dict.fromkeys(sentences))


def _speed_up_table(facet: Facet, reference: str, lines: Lines) -> Table:
    columns, rows = _by_length(lines, reference, _speed_up_cell)
    columns.append(Column("faster from", "right"))
    verdicts = ["reference" if label == reference else str(faster_from(lines[label])) for label in lines]
    full_rows = [[*row, verdict] for row, verdict in zip(rows, verdicts, strict=True)]
    strong = _cells(lines, rows, lambda item: bool(item.speed_up and item.speed_up.low > 1))
    return Table(f"Speed-up over {reference}: {facet.text}", columns, full_rows, 1, strong)


def _memory_tables(facet: Facet, reference: str, lines: Lines) -> list[Table]:
    if not any(item.row.peak_memory_bytes for line in lines.values() for item in line):
        return []
    columns, rows = _by_length(lines, reference, _memory_cell)
    strong = _cells(lines, rows, lambda item: bool(item.memory_ratio and item.memory_ratio < 1))
    title = f"Peak memory over that of {reference}: {facet.text}"
    return [Table(title, columns, rows, 1, strong)]


def _overview_tables(lines: Mapping[Facet, Lines]) -> list[Table]:
    """Per setting with several sizes: from which length on each line is faster, at each of them."""
    settings: defaultdict[Setting, list[Facet]] = defaultdict(list)
    for facet, facet_lines in lines.items():
        if _reference_label(facet_lines):
            settings[facet.setting].append(facet)
    return [_overview_table(lines, facets) for facets in settings.values() if len(facets) > 1]


def _overview_table(lines: Mapping[Facet, Lines], facets: Sequence[Facet]) -> Table:
    reference = _reference_label(lines[facets[0]])
    rows_of = [item.row for facet in facets for line in lines[facet].values() for item in line]
    labels = [label for label in by_label(rows_of) if label != reference]
    rows = [[label, *(str(faster_from(lines[facet].get(label, ()))) for facet in facets)] for label in labels]
    columns = [Column("impl"), *(Column(_sizes(facet, facets), "right") for facet in facets)]
    return Table(f"Faster than {reference} from length: {facets[0].setting.text}", columns, rows)


def _sizes(facet: Facet, facets: Sequence[Facet]) -> str:
    """The sizes in which the facets differ, short: ``B4 D512``."""
    letters = {"batch": "B", "heads": "H", "dim": "D"}
    varying = [axis for axis in letters if len({getattr(other, axis) for other in facets}) > 1]
    return " ".join(f"{letters[axis]}{getattr(facet, axis)}" for axis in varying)


def _by_length(
    lines: Lines, reference: str, cell: Callable[[Comparison, bool], str]
) -> tuple[list[Column], list[list[str]]]:
    lengths = _lengths(lines)
    columns = [Column("impl"), *(Column(format_length(length), "right") for length in lengths)]
    rows = []
    for label, line in lines.items():
        cells = {item.row.seq_len: cell(item, label == reference) for item in line}
        rows.append([label, *(cells.get(length, NO_NUMBER) for length in lengths)])
    return columns, rows


def _lengths(lines: Lines) -> list[int]:
    return sorted({item.row.seq_len for line in lines.values() for item in line})


def _cells(
    lines: Lines, rows: Sequence[Sequence[str]], wanted: Callable[[Comparison], bool]
) -> frozenset[tuple[int, int]]:
    columns = {length: 1 + index for index, length in enumerate(_lengths(lines))}
    return frozenset(
        (i, columns[item.row.seq_len]) for i, row in enumerate(rows) for item in lines[row[0]] if wanted(item)
    )


def _speed_up_cell(item: Comparison, is_reference: bool) -> str:
    if is_reference and item.row.ok:
        return format_ms(item.row.latency_ms_p50)
    return format_ratio(item.speed_up.value) if item.speed_up else _missing_cell(item)


def _memory_cell(item: Comparison, is_reference: bool) -> str:
    if is_reference and item.row.ok:
        return format_bytes(item.row.peak_memory_bytes)
    return format_ratio(item.memory_ratio) if item.memory_ratio else _missing_cell(item)


def _missing_cell(item: Comparison) -> str:
    """``oom``, ``timeout``, ``error``; ``ref oom`` where the reference is what failed; ``-`` for the rest."""
    shown = item.missing.replace("reference ", "ref ")
    return shown if shown.removeprefix("ref ") in ("oom", "timeout", "error") else NO_NUMBER


def _params_tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """Parameters depend on the impl, the level and dim alone, so one table per level says it for every facet."""
    levels: defaultdict[str, list[Comparison]] = defaultdict(list)
    for item in comparisons:
        if item.params_ratio is not None:
            levels[item.row.level].append(item)
    return [_params_table(level, items) for level, items in levels.items()]


def _params_table(level: str, items: Sequence[Comparison]) -> Table:
    dims = sorted({item.row.dim for item in items})
    cells: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for item in items:
        is_reference = item.reference is not None and item.row.label == item.reference.label
        text = f"{item.row.params:,}" if is_reference else format_ratio(item.params_ratio)
        cells[item.row.label][item.row.dim] = text
    columns = [Column("impl"), *(Column(f"dim {dim}", "right") for dim in dims)]
    rows = [[label, *(cell.get(dim, NO_NUMBER) for dim in dims)] for label, cell in cells.items()]
    reference = next(item.reference.label for item in items if item.reference)
    return Table(f"Learned parameters over those of {reference}, level {level}", columns, rows)


def _notes(tables: Sequence[Table]) -> list[str]:
    if not tables:
        return ["Nothing to compare: no case has a reference and the metric asked for."]
    return [
        "Speed-up: above 1x is faster. Memory and parameters: below 1x is less. The row of the reference shows "
        "its own values.",
        "Faster from: the first measured length from which an impl is faster at every longer one, beyond the "
        "intervals of both medians.",
    ]


def _comparison_record(item: Comparison, metrics: Sequence[str]) -> dict[str, Any]:
    row, ratio = item.row, item.speed_up
    record: dict[str, Any] = {
        **axes_of(row),
        "status": row.status,
        "reference": item.reference.label if item.reference else None,
        "missing": item.missing or None,
    }
    if "latency" in metrics:
        record |= {"latency_ms_p50": row.latency_ms_p50, "speed_up": ratio.value if ratio else None}
        record |= {
            "speed_up_low": ratio.low if ratio else None,
            "speed_up_high": ratio.high if ratio else None,
        }
    if "memory" in metrics:
        record |= {"peak_memory_bytes": row.peak_memory_bytes, "memory_ratio": item.memory_ratio}
    if "params" in metrics:
        record |= {"params": row.params, "params_ratio": item.params_ratio}
    return record


def axes_of(row: Row) -> dict[str, Any]:
    """The axes that fix the row's case, for records."""
    return {axis: row.knobs if axis == "hyperparameters" else getattr(row, axis) for axis in CASE_AXES}


def _faster_from_records(lines: Mapping[Facet, Lines]) -> list[dict[str, Any]]:
    records = []
    for facet, facet_lines in lines.items():
        reference = _reference_label(facet_lines)
        for label, line in facet_lines.items():
            if label != reference:
                found = faster_from(line)
                verdict = {"impl": label, "seq_len": found.length, "verdict": found.sentence}
                records.append({**facet._asdict(), "reference": reference, **verdict})
    return records
