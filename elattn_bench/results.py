"""What a measurement is, and the row that it becomes in ``results.csv``. No torch, no disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from elattn_bench import stats
from elattn_bench.cases import Case, Labelled
from elattn_bench.units import Bytes, Milliseconds, Seconds

SCHEMA_VERSION = 1
"""Raised when a column changes its meaning or goes; a reader refuses versions newer than its own."""

Status = Literal["ok", "oom", "predicted_oom", "timeout", "unsupported", "error"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Measurement:
    """All that was measured of one case.

    latency_ms: one value per sample, in the order taken.
    peak_memory_bytes: most that one call held above its inputs; total_memory_bytes: with them.
    rss_peak_bytes: high-water of the process's resident memory during that call, or None.
    max_abs_error, rel_rms_error: of the output against the float64 oracle at a small length.
    compile_s: time of the first call beyond a usual one, where a backend compiles.
    """

    latency_ms: tuple[Milliseconds, ...]
    stability: str
    peak_memory_bytes: Bytes | None = None
    total_memory_bytes: Bytes | None = None
    rss_peak_bytes: Bytes | None = None
    max_abs_error: float | None = None
    rel_rms_error: float | None = None
    compile_s: Seconds | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """Why a case has no measurement. Out of memory, time-out and unsupported are values, not errors."""

    status: Status
    reason: str
    details: str = field(default="", compare=False)  # a traceback, for errors.log


Outcome: TypeAlias = Measurement | Skipped


@dataclass(frozen=True, slots=True)
class Row(Labelled):
    """One line of ``results.csv``: a case, what came of it, and what follows from both.

    The fields are the columns, in order. A quantity that does not apply is None, and empty on disk.
    """

    schema: int
    case_id: str
    status: str
    reason: str
    attention: str
    backend: str
    level: str
    mode: str
    dtype: str
    device: str
    causal: bool
    batch: int
    heads: int
    seq_len: int
    dim: int
    order: int | None
    params: int
    latency_ms_p50: float | None = None
    latency_ms_p25: float | None = None
    latency_ms_p75: float | None = None
    latency_ms_min: float | None = None
    latency_ms_mean: float | None = None
    latency_ms_ci_low: float | None = None
    latency_ms_ci_high: float | None = None
    samples: int | None = None
    stability: str | None = None
    tokens_per_s: float | None = None
    peak_memory_bytes: int | None = None
    total_memory_bytes: int | None = None
    rss_peak_bytes: int | None = None
    state_bytes: int | None = None
    flops: int | None = None
    bytes_moved: int | None = None
    gflops_per_s: float | None = None
    gbytes_per_s: float | None = None
    ceiling_fraction: float | None = None
    max_abs_error: float | None = None
    rel_rms_error: float | None = None
    compile_s: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the case was measured."""
        return self.status == "ok"

    def to_csv(self) -> dict[str, str]:
        """The row as text, one entry per column."""
        return {column: _to_text(getattr(self, column)) for column in COLUMNS}

    @classmethod
    def from_csv(cls, record: Mapping[str, str]) -> Row:
        """The row that the text describes; columns that this version does not know are ignored.

        Raises:
            ValueError: a value does not have its column's type; the message names the column.
        """
        return cls(**{column: _from_text(column, record[column]) for column in COLUMNS})


COLUMNS: tuple[str, ...] = tuple(column.name for column in fields(Row))


def _parse_bool(text: str) -> bool:
    return {"true": True, "false": False}[text]


_PARSERS: Mapping[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float, "bool": _parse_bool}
_TYPES = {column.name: str(column.type).split(" | ") for column in fields(Row)}


def _from_text(column: str, text: str) -> Any:
    kind, *optional = _TYPES[column]
    if text == "" and optional:
        return None
    try:
        return _PARSERS[kind](text)
    except (ValueError, KeyError):
        raise ValueError(f"column {column}: '{text}' is not of type {kind}") from None


def _to_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.7g}"
    return " ".join(str(value).split())  # one line per row, whatever an error message holds


def make_row(case: Case, outcome: Outcome) -> Row:
    """The row of a case and its outcome, with everything that can be derived from the two."""
    cost = case.cost
    state_bytes = case.spec.state_bytes
    known: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "case_id": case.case_id,
        **{name: getattr(case, name) for name in _CASE_COLUMNS},
        "params": case.params,
        "state_bytes": state_bytes(case.problem) if state_bytes else None,
        "flops": cost.flops,
        "bytes_moved": cost.bytes,
    }
    if isinstance(outcome, Skipped):
        return Row(**known, status=outcome.status, reason=outcome.reason)
    return Row(**known, status="ok", reason="", **_measured(case, outcome))


_CASE_COLUMNS = tuple(column.name for column in fields(Case))


def _measured(case: Case, measurement: Measurement) -> dict[str, Any]:
    latency = stats.summarise(measurement.latency_ms)
    seconds = latency.p50 / 1e3
    return {
        "latency_ms_p50": latency.p50,
        "latency_ms_p25": latency.p25,
        "latency_ms_p75": latency.p75,
        "latency_ms_min": latency.min,
        "latency_ms_mean": latency.mean,
        "latency_ms_ci_low": latency.ci_low,
        "latency_ms_ci_high": latency.ci_high,
        "samples": len(measurement.latency_ms),
        "stability": measurement.stability,
        "tokens_per_s": case.batch * case.seq_len / seconds,
        "peak_memory_bytes": measurement.peak_memory_bytes,
        "total_memory_bytes": measurement.total_memory_bytes,
        "rss_peak_bytes": measurement.rss_peak_bytes,
        "gflops_per_s": case.cost.flops / seconds / 1e9,
        "gbytes_per_s": case.cost.bytes / seconds / 1e9,
        "max_abs_error": measurement.max_abs_error,
        "rel_rms_error": measurement.rel_rms_error,
        "compile_s": measurement.compile_s,
    }
