"""Shared fixtures: made-up runs with known scaling laws, on disk as a real sweep would leave them."""

from __future__ import annotations

import os

import made_up
import pytest

from elattn_bench.rundir import Run

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: processes that run side by side, each with a thread per core, mostly wait in
    # one another's way (the contract tests took 168 s on two cores, and 22 s with a thread each).
    os.environ.setdefault("OMP_NUM_THREADS", "1")

LENGTHS = tuple(2**power for power in range(7, 16))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four impls at nine lengths: quadratic, slow, linear, and ea-series in two orders."""
    return made_up.write_run(
        tmp_path_factory.mktemp("runs") / "made-up", made_up.cases(made_up.LAWS, LENGTHS, orders=(2, 6))
    )


@pytest.fixture(scope="session")
def wide_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Both levels and modes, two batches, three dims, four orders."""
    cases = [
        case
        for level in ("op", "layer")
        for mode in ("forward", "train")
        for batch in (1, 4)
        for dim in (64, 128, 256)
        for case in made_up.cases(
            made_up.LAWS, LENGTHS[::2], orders=(2, 4, 6, 8), level=level, mode=mode, batch=batch, dim=dim
        )
    ]
    return made_up.write_run(tmp_path_factory.mktemp("runs") / "wide", cases)
