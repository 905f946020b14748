"""A run directory of 100,000 rows with samples: ``python tests/large_run.py DIR``.

For measuring how long analysis and report take. Rows are made up, not measured: ten lines at ten lengths, in 1,000
combinations of settings and sizes.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from elattn_bench.cases import Case
from elattn_bench.results import SCHEMA_VERSION, Row
from elattn_bench.results_file import text_of

LINES: tuple[tuple[str, int | None, float], ...] = (
    ("softmax/sdpa", None, 2.0), ("softmax/eager", None, 2.0), ("element-wise/eager", None, 2.0),
    ("ea-series/fused", 2, 1.0), ("ea-series/fused", 4, 1.0), ("ea-series/fused", 6, 1.0),
    ("ea-series/eager", 6, 1.0), ("efficient/eager", None, 1.0), ("linear/eager", None, 1.0),
    ("hadamard/eager", None, 1.0),
)  # fmt: skip
LENGTHS = tuple(2**power for power in range(7, 17))
SIZES = ((1, 2, 4, 8, 16), (1, 2, 4, 8, 16), (64, 128, 256, 512, 1024))  # batch, heads, dim
SETTINGS = (("op", "layer"), ("forward", "train"), (False, True))
SAMPLES = 25
TIMEOUT_MS = 60_000.0


def write_large_run(path: Path, combinations: int = 1000) -> None:
    """The run on disk; of so many of the 1,000 combinations, 100 rows each."""
    draw = random.Random(0)
    path.mkdir(parents=True, exist_ok=True)
    info = {
        "schema": SCHEMA_VERSION,
        "argv": ["sweep", "-i", "all"],
        "environment": {"cpu_model": "Made-up CPU"},
    }
    (path / "run.json").write_text(json.dumps(info), encoding="utf-8")
    rows = []
    with (path / "samples.jsonl").open("w", encoding="utf-8") as stream:
        for case, exponent in _cases(combinations):
            latency = 0.02 + 1e-4 * case.batch * case.dim / 64 * (case.seq_len / 128) ** exponent * 10
            samples = [latency * draw.lognormvariate(0, 0.02) for _ in range(SAMPLES)]
            rows.append(_row(case, samples))
            if rows[-1].ok:
                stream.write(
                    json.dumps({"case_id": case.case_id, "latency_ms": [float(f"{x:.7g}") for x in samples]})
                    + "\n"
                )
    (path / "results.csv").write_text(text_of(rows), encoding="utf-8")


def _cases(combinations: int) -> Iterator[tuple[Case, float]]:
    every = itertools.product(*SETTINGS, *SIZES)
    for level, mode, causal, batch, heads, dim in itertools.islice(every, combinations):
        for (impl, order, exponent), length in itertools.product(LINES, LENGTHS):
            attention, _, backend = impl.partition("/")
            sizes = {"batch": batch, "heads": heads, "seq_len": length, "dim": dim}
            yield (
                Case(
                    attention, backend, level=level, mode=mode, dtype="float32", device="cpu", causal=causal,
                    order=order, **sizes,
                ),
                exponent,
            )  # fmt: skip


def _row(case: Case, samples: list[float]) -> Row:
    known = {
        name: getattr(case, name)
        for name in ("attention", "backend", "level", "mode", "dtype", "device", "causal")
    }
    sizes = {name: getattr(case, name) for name in ("batch", "heads", "seq_len", "dim", "order")}
    quarter, median, three_quarters = statistics.quantiles(samples, n=4)
    if median > TIMEOUT_MS:
        return Row(
            SCHEMA_VERSION, case.case_id, "timeout", "took longer than 60 s (--timeout)", **known, **sizes
        )
    width = 1.57 * (three_quarters - quarter) / SAMPLES**0.5  # McGill, Tukey & Larsen 1978: notches
    tokens = case.batch * case.seq_len
    return Row(
        SCHEMA_VERSION, case.case_id, "ok", "", **known, **sizes,
        latency_ms_p50=median, latency_ms_p25=quarter, latency_ms_p75=three_quarters, latency_ms_min=min(samples),
        latency_ms_mean=statistics.fmean(samples), latency_ms_ci_low=median - width, latency_ms_ci_high=median + width,
        samples=SAMPLES, visits=1, stability="stable", stopped_by="precision", tokens_per_s=1e3 * tokens / median,
        peak_memory_bytes=4 * tokens * case.dim, total_memory_bytes=16 * tokens * case.dim, max_abs_error=1e-6,
        rel_rms_error=2e-7, flops=tokens * case.dim, bytes_moved=16 * tokens * case.dim, ceiling_fraction=0.3,
        timed_s=0.5, case_s=0.7,
    )  # fmt: skip


if __name__ == "__main__":
    write_large_run(Path(sys.argv[1]))
