"""The self-test: attentions whose truth is known go through the whole pipeline, and what is found is judged.

Worker, gate, sampling, memory pass, sweep, run directory and its reader are those of every run. No torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from elattn_bench import device, environment, sweep
from elattn_bench.cases import Case
from elattn_bench.results import SCHEMA_VERSION, Row
from elattn_bench.rundir import RunDir, read_run
from elattn_bench.selftest_impls import EXIT_CODE, LEAK, SCRATCH_PER_TOKEN
from elattn_bench.stats import BUDGETS
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.units import Bytes, Seconds, format_bytes, format_ms
from elattn_bench.worker import Settings, Worker

TIME_TOLERANCE = 0.02  # of the time that a call is known to take
MEMORY_SHARE = 0.8  # of the device's memory, as --memory-limit has it
HANG_TIMEOUT: Seconds = 2.0
TIMEOUT: Seconds = 60.0
SPECS = "elattn_bench.selftest_impls"
SHORT, TIMED = 64, 128  # seq_len: one that only the gate's length needs, one where faults strike
DIM = 16


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of a case before it is measured.

    found: what its row says of that, for people; holds: whether the row is right.
    ends_worker: whether the next case needs a fresh worker.
    """

    check: str
    case: Case
    expected: str
    found: Callable[[Row], str]
    holds: Callable[[Row], bool]
    timeout: Seconds = TIMEOUT
    ends_worker: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """What was expected of the tool, what was found, and whether that is right."""

    check: str
    expected: str
    found: str
    passed: bool


def run(wanted_device: str, threads: int | None, console: Console) -> list[Check]:
    """Measure every known attention on the device, say so on the console, and judge the rows.

    Raises:
        UsageError: there is no such device.
        WorkerError: the worker cannot be started.
    """
    on = device.detect(wanted_device)
    limit = int(MEMORY_SHARE * (device.gpu_memory() if on == "cuda" else environment.total_memory()))
    truths = known(on, limit)
    settings = Settings(on, BUDGETS["quick"], threads, limit)
    with tempfile.TemporaryDirectory(prefix="elattn-selftest-") as folder, Worker(settings) as worker:
        path = Path(folder) / "run"
        _measure(truths, path, worker, console)
        rows = {row.case_id: row for row in read_run(path).rows}
        return [*(_judge(truth, rows[truth.case.case_id]) for truth in truths), _fresh(truths, worker.starts)]


def report(checks: Sequence[Check]) -> Report:
    """The checks as a table, and as records."""
    columns = [
        Column("check"),
        *(Column(name, wraps=True) for name in ("expected", "found")),
        Column("result"),
    ]
    rows = [[check.check, check.expected, check.found, _result(check)] for check in checks]
    records = [
        {"check": check.check, "expected": check.expected, "found": check.found, "passed": check.passed}
        for check in checks
    ]
    passed = sum(check.passed for check in checks)
    notes = [f"{passed} of {len(checks)} checks passed."]
    if any("other processes" in check.found for check in checks if not check.passed):
        notes.append("A busy machine makes calls longer: stop what runs beside, and try again.")
    return Report([Table("Self-test", columns, rows)], records, notes, {"passed": passed == len(checks)})


def known(on: str, limit: Bytes) -> list[Truth]:
    """The cases and their truths, in the order measured; the last one is an attention like any other.

    Args:
        on: ``cpu`` or ``cuda``.
        limit: the memory limit that the worker gets.
    """
    return [*_times(on), *_memory(on), *_numerics(on), *_faults(on, limit), _ordinary(on)]


def _times(on: str) -> list[Truth]:
    def of(length: int, mode: str, waits: int) -> Truth:
        expected = waits * length * 1e-3
        return Truth(
            f"time, {mode}",
            _case("busy", on, length, mode),
            f"{format_ms(expected)}, within {TIME_TOLERANCE:.0%}",
            lambda row: _found_time(row, expected),
            lambda row: row.ok and abs(_error(row, expected)) <= TIME_TOLERANCE,
        )

    # Forward waits once, backward twice. The shortest is timed in blocks of calls.
    return [*(of(length, "forward", 1) for length in (500, 2_000, 20_000)), of(5_000, "train", 3)]


def _memory(on: str) -> list[Truth]:
    def of(length: int) -> Truth:
        held = length * (SCRATCH_PER_TOKEN + 4 * DIM)  # scratch and output
        return Truth(
            "memory",
            _case("allocating", on, length),
            f"{held:,} bytes, exactly",
            lambda row: (
                f"{row.peak_memory_bytes:,} bytes" if row.peak_memory_bytes is not None else _short(row)
            ),
            lambda row: row.peak_memory_bytes == held,
        )

    leak = f"a call keeps {format_bytes(LEAK)}"
    return [
        of(512),
        of(900 if on == "cpu" else 896),  # CUDA's allocator rounds to 512 bytes
        Truth(
            "leak",
            _case("leaking", on),
            f"leak: {leak}; residue: fresh worker",
            lambda row: (row.warnings or "no warning") if row.ok else _short(row),
            lambda row: leak in (row.warnings or "") and "residue: " in (row.warnings or ""),
            ends_worker=True,
        ),
    ]


def _numerics(on: str) -> list[Truth]:
    def refused(check: str, name: str, mode: str, what: str) -> Truth:
        return Truth(
            check,
            _case(name, on, mode=mode),
            f"error: {what} differs, error 0.01; not timed",
            _short,
            lambda row: (
                row.status == "error"
                and row.reason.startswith(what)
                and "error 0.01," in row.reason
                and row.latency_ms_p50 is None
            ),
        )

    return [
        refused("wrong output", "wrong", "forward", "output"),
        refused("wrong gradient", "wrong_gradient", "train", "gradient"),
    ]


def _faults(on: str, limit: Bytes) -> list[Truth]:
    def fault(check: str, name: str, expected: str, statuses: Sequence[str], word: str) -> Truth:
        return Truth(
            check,
            _case(name, on),
            f"{expected}: {word}",
            _short,
            lambda row: row.status in statuses and word in row.reason,
            timeout=HANG_TIMEOUT if name == "hanging" else TIMEOUT,
            ends_worker=True,
        )

    return [
        fault("hangs, holds the GIL", "hanging", "timeout", ["timeout"], f"longer than {HANG_TIMEOUT:g} s"),
        fault("is killed", "killed", "error or oom", ["error", "oom"], "SIGKILL"),
        fault("crashes", "crashing", "error", ["error"], "SIGSEGV"),
        fault("calls os._exit", "leaving", "error", ["error"], f"exit code {EXIT_CODE}"),
        Truth(
            "takes all memory",
            _case("too_large", on, 2 * limit // 2**20),
            f"oom at the limit, {format_bytes(limit)}",
            _short,
            lambda row: row.status == "oom" and "killed" not in row.reason,
        ),
    ]


def _ordinary(on: str) -> Truth:
    case = Case("softmax", "eager", "op", "train", "float32", on, False, 1, 1, SHORT, DIM)
    return Truth("softmax after all that", case, "ok", _short, lambda row: row.ok)


def _case(name: str, on: str, length: int = TIMED, mode: str = "forward") -> Case:
    return Case(f"{SPECS}:{name}", "eager", "op", mode, "float32", on, False, 1, 1, length, DIM)


def _measure(truths: Sequence[Truth], path: Path, worker: Worker, console: Console) -> None:
    by_case = {truth.case: truth for truth in truths}
    with RunDir.create(path, {"schema": SCHEMA_VERSION}) as run_dir:
        sweep.run(
            list(by_case), run_dir, lambda case: worker.measure(case, by_case[case].timeout),
            _Lines(by_case, console),
        )  # fmt: skip


class _Lines:
    """An observer that says which check is under way, and what came of it."""

    def __init__(self, truths: Mapping[Case, Truth], console: Console) -> None:
        self._truths = truths
        self._console = console
        self._number = 0

    def started(self, case: Case) -> None:
        """Count it."""
        self._number += 1

    def finished(self, case: Case, row: Row) -> None:
        """Print its line."""
        count = f"{self._number}/{len(self._truths)}".rjust(5)
        truth = self._truths[case]
        self._console.print(
            f"{count}  {truth.check}: {truth.found(row)}", highlight=False, soft_wrap=True, markup=False
        )


def _judge(truth: Truth, row: Row) -> Check:
    return Check(truth.check, truth.expected, truth.found(row), truth.holds(row))


def _fresh(truths: Sequence[Truth], starts: int) -> Check:
    expected = 1 + sum(truth.ends_worker for truth in truths)
    return Check("workers replaced", f"{expected} workers in all", f"{starts} workers", starts == expected)


def _found_time(row: Row, expected: float) -> str:
    if not row.ok:
        return _short(row)
    error = _error(row, expected)
    # A busy machine is the usual cause, and the row knows.
    blame = f"; {row.stability_reason}" if abs(error) > TIME_TOLERANCE and row.stability_reason else ""
    return f"{format_ms(row.latency_ms_p50)}, {error:+.1%}{blame}"


def _error(row: Row, expected: float) -> float:
    assert row.latency_ms_p50 is not None
    return row.latency_ms_p50 / expected - 1


def _short(row: Row) -> str:
    return f"ok, {format_ms(row.latency_ms_p50)}" if row.ok else f"{row.status}: {row.reason}"


def _result(check: Check) -> str:
    return "passed" if check.passed else "FAILED"
