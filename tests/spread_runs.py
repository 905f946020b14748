"""Made-up runs over ranks whose laws are known: time, memory, and what is received beside its formula."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up

from elattn_bench.cases import Case
from elattn_bench.results import Measurement, Outcome, Place
from elattn_bench.results_file import line_of
from elattn_bench.rundir import RESULTS, Run, RunDir, read_run

IMPLS = ("softmax/sdpa", "linear/eager", "efficient/eager", "ea-series/eager")
LENGTHS = (2**18, 2**19, 2**20)
RANKS = (1, 2, 4)
OVERHEAD = 0.05  # of a call on one rank, added per doubling of the ranks
STATE: Mapping[str, int] = {"linear": 33_280, "efficient": 33_024, "ea-series": 28_672}
"""Bytes that a rank receives of the others' sums, whatever the length."""


def work_ms(case: Case) -> float:
    """The whole, shared by the ranks."""
    whole = 1e-9 * case.seq_len**2 if case.attention == "softmax" else _PACE[case.attention] * case.seq_len
    return whole / (case.ranks or 1)


def latency_ms(case: Case) -> float:
    """Work over ranks, and 5 % of the shortest call more per doubling of them."""
    ranks = case.ranks or 1
    return work_ms(case) + OVERHEAD * _PACE["linear"] * LENGTHS[0] * (ranks.bit_length() - 1)


_PACE = {"linear": 4e-5, "efficient": 5e-5, "ea-series": 1e-4}


def received_bytes(case: Case) -> int:
    """Keys and values of the others, or their sums; nothing on one rank."""
    ranks = case.ranks or 1
    if ranks == 1:
        return 0
    others = case.seq_len * (ranks - 1) // ranks
    return 2 * 4 * others * case.dim if case.attention == "softmax" else STATE[case.attention]


def law(case: Case) -> Outcome:
    """What was measured of the case; softmax is out of memory at the longest length on one rank."""
    if case.attention == "softmax" and case.ranks == 1 and case.seq_len >= LENGTHS[-1]:
        return made_up.OOM
    shard = case.seq_len // (case.ranks or 1)
    memory = 4 * case.dim * (case.seq_len if case.attention == "softmax" else shard)
    measured = made_up.measured(latency_ms(case), memory)
    assert isinstance(measured, Measurement)
    work = work_ms(case) if (case.ranks or 1) > 1 else None
    return replace(measured, received_bytes=received_bytes(case), work_ms=work)


def cases(
    impls: Iterable[str] = IMPLS,
    lengths: Iterable[int] = LENGTHS,
    ranks: Iterable[int | None] = RANKS,
    **axes: Any,
) -> list[Case]:
    """The cases of these impls at these lengths over these ranks."""
    return [case for count in ranks for case in made_up.cases(impls, lengths, ranks=count, **axes)]


def write_run(path: Path, cases: Iterable[Case], places: Mapping[Case, Place] | None = None) -> Run:
    """The run on disk, read back, with the formula equal to what is counted."""
    with RunDir.create(path, {"environment": made_up.ENVIRONMENT, "argv": []}) as run_dir:
        for case in cases:
            run_dir.append(case, law(case), place=(places or {}).get(case))
    return with_formula(read_run(path))


def write_cluster_run(path: Path) -> Run:
    """At two lengths, in one piece and on 1 and 2 ranks: an H100 in each of two hosts, an A100 in a third."""
    of_type = {
        name: cases(lengths=LENGTHS[:2], ranks=(None, 1, 2), device_type=name) for name in ("H100", "A100")
    }
    hosts = {"H100": ("node-a", "node-b"), "A100": ("node-c", "node-c")}
    places = {
        case: Place(hosts[name][number % 2], f"NVIDIA {name}")
        for name, found in of_type.items()
        for number, case in enumerate(found)
    }
    return write_run(path, places, places)


def with_formula(run: Run) -> Run:
    """The run, on disk too, its formula this module's: the library's own knows other bytes than the made-up ones."""
    rows = [replace(row, received_bytes_formula=row.received_bytes) for row in run.rows]
    header, *_ = (run.path / RESULTS).read_text(encoding="utf-8").splitlines()
    text = "".join([header + "\n", *map(line_of, rows)])
    (run.path / RESULTS).write_text(text, encoding="utf-8")
    return read_run(run.path)
