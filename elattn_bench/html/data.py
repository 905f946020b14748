"""The rows of a run as the page's script reads them: columns, words by number, so that many rows stay small. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from elattn_bench.analysis import Facet, Setting, by_facet, interest, one_order
from elattn_bench.errors import UsageError
from elattn_bench.figures.style import Line
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import KIBI
from elattn_bench.verdicts.reference import Comparison, compare_to_reference

DIGITS = 4  # significant ones; the interval of a median is seldom narrower than 0.1 %
HELD = (
    "level", "mode", "dtype", "mask", "cache", "device_type", "ranks", "batch", "heads", "dim", "seq_len",
)  # fmt: skip
"""What a chart holds fixed, in the order of its controls; what stands on its axis is not."""
UNASKED: Mapping[str, str] = {"ranks": "not spread", "device_type": "any"}
"""What a control calls that which some cases do not ask for."""

Column = dict[str, Any]
"""Either ``words`` and ``codes``, the number of each row's word, or ``numbers``; null where there is none."""


def columns_of(rows: Sequence[Row], speed_ups: Mapping[str, Comparison]) -> dict[str, Column]:
    """Every column that the page shows, one entry per row.

    Args:
        rows: of the run.
        speed_ups: by case id, where there is a reference.
    """
    words = {name: _words(map(read, rows)) for name, read in _WORDS.items()}
    labels = {line.label: None for line in lines_of(rows)}
    words["line"] = _words((row.label for row in rows), labels)
    numbers = {name: _numbers(map(read, rows)) for name, read in _NUMBERS.items()}
    ratios = [_ratio(speed_ups.get(row.case_id)) for row in rows]
    relative = {
        name: _numbers(ratio[place] for ratio in ratios)
        for place, name in enumerate(("speed_up", "speed_up_low", "speed_up_high"))
    }
    return {**words, **numbers, **relative}


def speed_ups(run: Run, reference: str) -> dict[str, Comparison]:
    """By case id, each case against the reference; nothing where the run does not have it."""
    try:
        found = compare_to_reference(run, reference, ("latency",))
    except UsageError:
        return {}
    return {item.row.case_id: item for item in found if item.speed_up is not None}


def start_of(rows: Sequence[Row]) -> int:
    """The row whose facet the chart shows first: that of the figure ``scaling``, at its longest measured length."""
    rank = {facet: (any(row.ok for row in held), interest(facet)) for facet, held in by_facet(rows).items()}
    leading = max(rank, key=lambda facet: rank[facet])
    return max(
        (index for index, row in enumerate(rows) if Facet.of(row) == leading),
        key=lambda index: (rows[index].ok, rows[index].seq_len),
    )


def lines_of(rows: Iterable[Row]) -> list[Line]:
    """The lines of all rows, in the order of their names."""
    return sorted({Line.of(row) for row in {row.label: row for row in rows}.values()})


_WORDS: Mapping[str, Callable[[Row], Any]] = {
    "orderless": lambda row: row.label_without_order,
    "level": lambda row: row.level,
    "mode": lambda row: row.mode,
    "dtype": lambda row: row.dtype,
    "mask": lambda row: Setting.of(row).words["causal"],
    "cache": lambda row: row.cache,
    "batch": lambda row: row.batch,
    "heads": lambda row: row.heads,
    "dim": lambda row: row.dim,
    "seq_len": lambda row: row.seq_len,
    "order": lambda row: row.order,
    "ranks": lambda row: row.ranks,
    "device_type": lambda row: row.device_type or None,
    "host": lambda row: row.host or None,
    "device_name": lambda row: row.device_name or None,
    "status": lambda row: row.status,
    "stability": lambda row: row.stability,
    "samples": lambda row: row.samples,
    "params": lambda row: row.params,
    "reason": lambda row: row.reason or row.stability_reason or None,
}
_NUMBERS: Mapping[str, Callable[[Row], float | None]] = {
    "latency": lambda row: row.latency_ms_p50,
    "latency_p25": lambda row: row.latency_ms_p25,
    "latency_p75": lambda row: row.latency_ms_p75,
    "latency_low": lambda row: row.latency_ms_ci_low,
    "latency_high": lambda row: row.latency_ms_ci_high,
    "tokens": lambda row: row.tokens_per_s,
    "memory": lambda row: _mebibytes(row.peak_memory_bytes),
    "received": lambda row: _mebibytes(row.received_bytes),
    "state": lambda row: _mebibytes(row.state_bytes) if row.mode == "decode" else None,
    "error": lambda row: row.rel_rms_error,
    "approximation": lambda row: row.approximation_error,
    "ceiling": lambda row: row.ceiling_fraction,
}


def _mebibytes(count: int | None) -> float | None:
    return None if count is None else count / KIBI**2


def _ratio(comparison: Comparison | None) -> tuple[float | None, float | None, float | None]:
    ratio = comparison.speed_up if comparison else None
    return (ratio.value, ratio.low, ratio.high) if ratio else (None, None, None)


def _words(values: Iterable[Any], order: Iterable[Any] = ()) -> Column:
    """Words by number; sorted, nothing last, unless an order is given."""
    all_values = list(values)
    words = list(order) or sorted(
        set(all_values), key=lambda word: (word is None, word if word is not None else 0)
    )
    codes = {word: code for code, word in enumerate(words)}
    return {"words": words, "codes": [codes[value] for value in all_values]}


def _numbers(values: Iterable[float | None]) -> Column:
    return {"numbers": [_rounded(value) for value in values]}


def _rounded(value: float | None) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() else short


def featured(rows: Sequence[Row]) -> list[str]:
    """The lines that a chart of many shows first: of every attention with orders one of them."""
    return sorted({row.label for row in one_order(rows)})
