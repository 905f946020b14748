"""Runs with made-up samples and known laws, written to disk through the same door as real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from elattn_bench.cases import Case
from elattn_bench.results import Measurement, Outcome, Skipped
from elattn_bench.rundir import Run, RunDir, read_run

ENVIRONMENT = {
    "device_name": "Made-up CPU 9000",
    "cpu_model": "Made-up CPU 9000",
    "threads": 2,
    "torch": "2.9",
}
SPREAD = (-0.02, -0.015, -0.01, -0.005, 0.0, 0.0, 0.0, 0.005, 0.01, 0.015, 0.02)

Law = Callable[[Case], Outcome]


def case(impl: str = "softmax/sdpa", **axes: Any) -> Case:
    """A case of the impl, at small sizes unless told otherwise."""
    attention, _, backend = impl.partition("/")
    usual: dict[str, Any] = {
        "level": "op", "mode": "forward", "dtype": "float32", "device": "cpu", "causal": False,
        "batch": 1, "heads": 8, "seq_len": 128, "dim": 64, "order": None,
    }  # fmt: skip
    return Case(attention, backend, **{**usual, **axes})


def measured(latency_ms: float, peak_memory_bytes: int | None = 1024, noise: float = 1.0) -> Measurement:
    """A measurement with this median latency, and samples within 2 % of it."""
    samples = tuple(latency_ms * (1 + noise * deviation) for deviation in SPREAD)
    return Measurement(samples, "stable", peak_memory_bytes, peak_memory_bytes)


OOM = Skipped("oom", "needs 64 GiB, 8 GiB are free")
PREDICTED_OOM = Skipped("predicted_oom", "would need 64 GiB, 8 GiB are free")
TIMEOUT = Skipped("timeout", "no end after 60 s")
ERROR = Skipped("error", "output differs from the oracle by 0.3")
UNSUPPORTED = Skipped("unsupported", "flash needs a GPU")


def quadratic(case: Case) -> Outcome:
    """1 ms at L = 1000, times four per doubling; out of memory from 32k on."""
    if case.seq_len >= 32768:
        return OOM if case.seq_len == 32768 else PREDICTED_OOM
    return measured(
        case.batch * case.dim / 64 * 1e-6 * case.seq_len**2, 4 * case.batch * case.heads * case.seq_len**2
    )


def linear(case: Case) -> Outcome:
    """2 ms at L = 1000, times two per doubling: faster than ``quadratic`` above L = 2000."""
    work = case.batch * case.dim / 64 * (case.order or 1)
    return measured(2e-3 * work * case.seq_len, 4 * case.batch * case.dim * case.seq_len)


def slow(case: Case) -> Outcome:
    """Ten times ``quadratic``; runs out of time from 8k on."""
    if case.seq_len >= 8192:
        return TIMEOUT
    return measured(
        1e-5 * case.batch * case.dim / 64 * case.seq_len**2, 8 * case.batch * case.dim * case.seq_len
    )


LAWS: Mapping[str, Law] = {
    "softmax/sdpa": quadratic,
    "softmax/eager": slow,
    "linear/eager": linear,
    "ea-series/eager": linear,
}


def cases(
    impls: Iterable[str], lengths: Iterable[int], orders: Iterable[int] = (6,), **axes: Any
) -> list[Case]:
    """The cases of these impls at these lengths; only ``ea-series`` has orders."""
    return [
        case(impl, seq_len=length, order=order, **axes)
        for impl in impls
        for order in (orders if impl.startswith("ea-series") else (None,))
        for length in lengths
    ]


def write_run(
    path: Path,
    outcomes: Mapping[Case, Outcome] | Iterable[Case],
    environment: Mapping[str, Any] = ENVIRONMENT,
) -> Run:
    """The run on disk, read back. Cases without an outcome get that of their impl's law."""
    if not isinstance(outcomes, Mapping):
        outcomes = {case: LAWS[case.impl](case) for case in outcomes}
    with RunDir.create(path, {"environment": dict(environment), "argv": []}) as run_dir:
        for made_up, outcome in outcomes.items():
            run_dir.append(made_up, outcome)
    return read_run(path)


IMPLS = ("softmax/sdpa", "linear/eager", "efficient/eager")


def run_of(path: Path, factor: float | Mapping[str, float], **environment: object) -> Run:
    """Three impls at two lengths, a millisecond times the factor, or each impl times its own."""
    factors = factor if isinstance(factor, Mapping) else dict.fromkeys(IMPLS, factor)
    outcomes: dict[Case, Outcome] = {
        case: measured(factors.get(case.impl, 1.0)) for case in cases(IMPLS, (128, 256))
    }
    return write_run(path, outcomes, {**ENVIRONMENT, **environment})
