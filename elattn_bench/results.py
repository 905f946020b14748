"""What a measurement is, and the row that it becomes in ``results.csv``. No torch, no disk."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from elattn_bench import columns, stats
from elattn_bench.cases import Case, Labelled
from elattn_bench.knobs import Hyperparameters
from elattn_bench.roofline import Ceilings, passes
from elattn_bench.units import Bytes, Joules, Milliseconds, Seconds

SCHEMA_VERSION = 4
"""Raised when columns come, go or change their meaning. Older files are read, newer ones refused."""

Status = Literal["ok", "oom", "predicted_oom", "timeout", "unsupported", "error"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Measurement:
    """All that was measured of one case.

    latency_ms: one value per sample, in the order taken.
    stability_reason: the criterion that a case which is not ``stable`` failed, with its figure.
    stopped_by: what ended sampling: ``precision``, ``plateau`` or ``time``.
    peak_memory_bytes: most that one call held above its inputs; total_memory_bytes: with them.
    rss_peak_bytes: high-water of the process's resident memory during that call, or None.
    device_peak_bytes: what the GPU's driver says that the process holds then, or None.
    max_abs_error, rel_rms_error: of the output against the float64 oracle at a small length.
    approximation_error: relative RMS distance of the oracle from what it approximates, or None.
    outside_band: share of the arguments where the approximation is off by more than 1 %, or None.
    compile_s: time of the first call beyond a usual one, where a backend compiles.
    clock_mhz, power_w, temperature_c: of the GPU, medians while sampling, or None.
    energy_j: what the device used per call while sampling, or None.
    timed_s: time inside first, warm-up and timed calls.
    warnings: sentences that a reader of the row must know, each begun by its word: ``leak: ...``.
    visits: how many samples each visit took; nothing for one visit.
    disturbed: what disturbed the visit, other processes or a slowed device; None if nothing did.
    received_bytes: what the rank that receives most received in one call, counted; None without ranks.
    work_ms: median of the same call with nothing exchanged, on two ranks or more: until the last has done its work.

    Of a sequence that is spread over ranks, memory is that of the rank that holds most, and a call lasts until the
    last rank is done.
    """

    latency_ms: tuple[Milliseconds, ...]
    stability: str
    peak_memory_bytes: Bytes | None = None
    total_memory_bytes: Bytes | None = None
    rss_peak_bytes: Bytes | None = None
    max_abs_error: float | None = None
    rel_rms_error: float | None = None
    compile_s: Seconds | None = None
    stability_reason: str | None = None
    stopped_by: str | None = None
    device_peak_bytes: Bytes | None = None
    approximation_error: float | None = None
    outside_band: float | None = None
    clock_mhz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    energy_j: Joules | None = None
    timed_s: Seconds | None = None
    warnings: tuple[str, ...] = ()
    visits: tuple[int, ...] = ()
    disturbed: str | None = None
    received_bytes: Bytes | None = None
    work_ms: Milliseconds | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a case was measured.

    host: of a cluster; empty for the machine that the run's environment describes.
    device_name: the GPU's or the CPU's model.
    ceilings: what that device reached.
    """

    host: str = ""
    device_name: str = ""
    ceilings: Ceilings = Ceilings.UNKNOWN


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
    hyperparameters: Hyperparameters = field(default=(), kw_only=True)
    params: int | None = None
    cache: str = "hot"
    ranks: int | None = None
    device_type: str = ""
    host: str = ""
    device_name: str = ""
    latency_ms_p50: float | None = None
    latency_ms_p25: float | None = None
    latency_ms_p75: float | None = None
    latency_ms_min: float | None = None
    latency_ms_mean: float | None = None
    latency_ms_ci_low: float | None = None
    latency_ms_ci_high: float | None = None
    samples: int | None = None
    visits: int | None = None
    stability: str | None = None
    stability_reason: str | None = None
    stopped_by: str | None = None
    tokens_per_s: float | None = None
    peak_memory_bytes: int | None = None
    total_memory_bytes: int | None = None
    rss_peak_bytes: int | None = None
    device_peak_bytes: int | None = None
    analytic_memory_bytes: int | None = None
    state_bytes: int | None = None
    received_bytes: int | None = None
    received_bytes_formula: int | None = None
    work_ms: float | None = None
    flops: int | None = None
    bytes_moved: int | None = None
    gflops_per_s: float | None = None
    gbytes_per_s: float | None = None
    ceiling_fraction: float | None = None
    max_abs_error: float | None = None
    rel_rms_error: float | None = None
    approximation_error: float | None = None
    outside_band: float | None = None
    compile_s: float | None = None
    clock_mhz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    energy_j_per_token: float | None = None
    timed_s: float | None = None
    case_s: float | None = None
    warnings: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the case was measured."""
        return self.status == "ok"

    def to_csv(self) -> dict[str, str]:
        """The row as text, one entry per column."""
        return {column: columns.to_text(getattr(self, column)) for column in COLUMNS}

    @classmethod
    def from_csv(cls, record: Mapping[str, str]) -> Row:
        """The row that the text describes. Unknown columns are ignored; those of later schemas may lack.

        Raises:
            ValueError: a value does not have its column's type; the message names the column.
        """
        return cls(
            **{
                column: columns.from_text(_TYPES, column, record[column])
                for column in COLUMNS
                if column in record
            }
        )


def rows_of(header: Sequence[str], records: Iterable[Sequence[str]]) -> Iterator[Row]:
    """The rows that the records describe, as ``Row.from_csv`` makes them, but a column at a time: that is faster, and
    words that repeat are kept once.

    Args:
        header: the column of each value of a record.
        records: all as long as the header.

    Raises:
        ValueError: as ``Row.from_csv``; which row it was, the message does not say. Or a record is shorter or longer.
    """
    source = iter(records)
    met: dict[str, dict[str, Any]] = {column.name: {} for column in fields(Row) if column.name in header}
    in_order = [column for column in fields(Row) if not column.kw_only]
    while chunk := list(itertools.islice(source, CHUNK)):
        if any(len(record) != len(header) for record in chunk):
            raise ValueError("a record does not have one value per column")
        texts = dict(zip(header, zip(*chunk, strict=True), strict=True))
        found = {column: _values_of(column, texts[column], known) for column, known in met.items()}
        knob_values = found.pop("hyperparameters", itertools.repeat(()))
        values = [found.get(column.name, itertools.repeat(column.default)) for column in in_order]
        yield from (Row(*each, hyperparameters=own) for own, *each in zip(knob_values, *values))  # noqa: B905 - endless


CHUNK = 1000  # records; their texts are in memory only until they are parsed


def _values_of(column: str, texts: Sequence[str], met: dict[str, Any]) -> Iterable[Any]:
    if _TYPES[column] == ["float", "None"]:
        with contextlib.suppress(ValueError):  # the slower way names the column
            return [float(text) if text else None for text in texts]
    for text in set(texts).difference(met):
        met[text] = columns.from_text(_TYPES, column, text)
    values = [met[text] for text in texts]
    if len(met) > CHUNK:
        met.clear()  # a column in which hardly anything repeats
    return values


WARNING_SEPARATOR = " | "  # which no sentence holds

COLUMNS: tuple[str, ...] = tuple(column.name for column in fields(Row))
LATER_COLUMNS = frozenset(
    {
        "hyperparameters", "cache", "visits", "stability_reason", "stopped_by", "device_peak_bytes",
        "analytic_memory_bytes", "approximation_error", "outside_band", "clock_mhz", "power_w",
        "temperature_c", "energy_j_per_token", "timed_s", "case_s", "warnings", "ranks", "device_type", "host",
        "device_name", "received_bytes", "received_bytes_formula", "work_ms",
    }
)  # fmt: skip
"""Columns that an older schema does not have: those of ranks and hosts came with 4, ``hyperparameters`` with 3, the
others with 2."""


_TYPES = columns.types_of(Row)


NOWHERE = Place()


def make_row(case: Case, outcome: Outcome, place: Place = NOWHERE, case_s: Seconds | None = None) -> Row:
    """The row of a case and its outcome, with everything that can be derived from the two.

    Args:
        place: where it was measured.
        case_s: how long the whole case took, gate and memory pass included.
    """
    cost = case.cost
    known: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "case_id": case.case_id,
        **{name: getattr(case, name) for name in _CASE_COLUMNS},
        "params": case.params,
        "state_bytes": case.state_bytes,
        "flops": cost.flops or None,
        "bytes_moved": cost.bytes or None,
        "analytic_memory_bytes": case.analytic_memory_bytes,
        "received_bytes_formula": case.received_bytes_formula,
        "host": place.host,
        "device_name": place.device_name,
        "case_s": case_s,
    }
    if isinstance(outcome, Skipped):
        # An error may quote a file name that is no text.
        reason = outcome.reason.encode("utf-8", errors="backslashreplace").decode("utf-8")
        return Row(**known, status=outcome.status, reason=reason)
    return Row(**known, status="ok", reason="", **_measured(case, outcome, place.ceilings))


_CASE_COLUMNS = tuple(column.name for column in fields(Case))


_AS_MEASURED = (
    "stability", "stability_reason", "stopped_by", "peak_memory_bytes", "total_memory_bytes", "rss_peak_bytes",
    "device_peak_bytes", "max_abs_error", "rel_rms_error", "approximation_error", "outside_band", "compile_s",
    "clock_mhz", "power_w", "temperature_c", "timed_s", "received_bytes", "work_ms",
)  # fmt: skip


def _measured(case: Case, measurement: Measurement, ceilings: Ceilings) -> dict[str, Any]:
    latency = stats.summarise(measurement.latency_ms, measurement.visits)
    seconds = latency.p50 / 1e3
    cost = case.cost
    # The ceilings are those of one device.
    roof = (
        ceilings.roof(case.dtype, cost, cache=case.cache, passes=passes(case.level, case.mode))
        if case.ranks is None
        else None
    )
    warnings = [*measurement.warnings, roof.implausible(seconds) if roof else None]
    return {
        **{name: getattr(measurement, name) for name in _AS_MEASURED},
        "latency_ms_p50": latency.p50,
        "latency_ms_p25": latency.p25,
        "latency_ms_p75": latency.p75,
        "latency_ms_min": latency.min,
        "latency_ms_mean": latency.mean,
        "latency_ms_ci_low": latency.ci_low,
        "latency_ms_ci_high": latency.ci_high,
        "samples": len(measurement.latency_ms),
        "visits": max(1, len(measurement.visits)),
        "tokens_per_s": case.tokens / seconds,
        "gflops_per_s": cost.flops / seconds / 1e9 or None,
        "gbytes_per_s": cost.bytes / seconds / 1e9 or None,
        "ceiling_fraction": roof.fraction(seconds) if roof else None,
        "energy_j_per_token": None if measurement.energy_j is None else measurement.energy_j / case.tokens,
        "warnings": WARNING_SEPARATOR.join(filter(None, warnings)) or None,
    }
