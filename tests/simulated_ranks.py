"""Runs over ranks that obey the cost model exactly, or by so much not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up

from elattn_bench.cases import Case
from elattn_bench.projection.compute import work
from elattn_bench.projection.exchanges import exchange_seconds
from elattn_bench.projection.links import KINDS, Link
from elattn_bench.results import Measurement
from elattn_bench.rundir import Run, RunDir, read_run

START = 5e-5  # seconds, of any call
PASSES = 1.5  # times the work of one rank alone: what a rank among others does, where a run measures it
PER_WORK = {"softmax": 2e-9, "ea-series": 2e-7, "linear": 4e-7}  # seconds for a pair of tokens, or a token
LINKS = {kind: Link(kind, 1e-4, 1 / 2e9) for kind in KINDS}  # 100 us, 2 GB/s
SIZES = (256, 4096, 65536, 2**20, 2**24)
IMPLS = ("softmax/sdpa", "ea-series/fused", "linear/eager")
LENGTHS = (4096, 16384, 65536, 262144)
MEMORY = 16 * 2**30
ENVIRONMENT = {**made_up.ENVIRONMENT, "memory_bytes": MEMORY}


def seconds(case: Case, passes: float = 1.0) -> float:
    """The time by the model, with the numbers above."""
    return work_seconds(case, passes) + exchange_seconds(case, LINKS)


def work_seconds(case: Case, passes: float = 1.0) -> float:
    """What of it is work, on two ranks or more so many times that of one."""
    growth = "quadratic" if case.attention == "softmax" else "linear"
    of_rank = PER_WORK[case.attention] * work(growth, case.seq_len, case.ranks or 1, causal=case.causal)
    return (START + of_rank) * (passes if (case.ranks or 1) > 1 else 1)


def collectives(ranks: Iterable[int] = (2, 4)) -> list[dict[str, Any]]:
    """What such a run would have timed."""
    return [
        {
            "kind": kind,
            "ranks": count,
            "bytes": size,
            "seconds": LINKS[kind].seconds(count, size),
            "samples": 9,
        }
        for kind in KINDS
        for count in ranks
        for size in SIZES
    ]


def cases(
    impls: Iterable[str] = IMPLS,
    lengths: Iterable[int] = LENGTHS,
    ranks: Iterable[int | None] = (1, 2, 4),
    modes: Iterable[str] = ("forward",),
    masks: Iterable[bool] = (False,),
) -> list[Case]:
    """The product of all that."""
    return [
        made_up.case(
            impl, seq_len=length, dim=512, ranks=count, mode=mode, causal=causal,
            order=6 if impl.startswith("ea-series") else None,
        )
        for mode in modes for causal in masks for impl in impls for length in lengths for count in ranks
    ]  # fmt: skip


def measured(case: Case, slower: float = 1.0) -> Measurement:
    """A measurement of the model's time, on two ranks or more so many times slower; no noise."""
    times = slower if (case.ranks or 1) > 1 else 1.0
    found = made_up.measured(1e3 * times * seconds(case), noise=0)
    return replace(found, received_bytes=case.received_bytes_formula)


def with_work(case: Case) -> Measurement:
    """A measurement that knows its work, ``PASSES`` that of one rank where there are several; no noise."""
    found = made_up.measured(1e3 * seconds(case, PASSES), noise=0)
    known = 1e3 * work_seconds(case, PASSES) if (case.ranks or 1) > 1 else None
    return replace(found, received_bytes=case.received_bytes_formula, work_ms=known)


def write_run(
    path: Path,
    found: Sequence[Case],
    slower: float = 1.0,
    timed: Sequence[dict[str, Any]] | None = None,
    *,
    has_work: bool = False,
) -> Run:
    """The run on disk, read back.

    Args:
        timed: the collectives; None: as the model has them.
        has_work: whether rows of ranks know their work, as ``with_work``.
    """
    info = {"environment": ENVIRONMENT, "argv": [], "collectives": collectives() if timed is None else timed}
    with RunDir.create(path, info) as run_dir:
        for case in found:
            run_dir.append(case, with_work(case) if has_work else measured(case, slower))
    return read_run(path)
