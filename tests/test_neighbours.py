"""What others use of the CPU is told from what we use."""

from __future__ import annotations

import pytest

from elattn_bench.neighbours import CpuTimes, others_share

START = CpuTimes(system=100.0, own=10.0, now=50.0, cores=4)


@pytest.mark.parametrize(
    ("system", "own", "share"),
    [(4.0, 4.0, 0.0), (4.0, 0.0, 1.0), (3.0, 2.0, 0.25), (1.9, 2.0, 0.0)],
)
def test_the_share_is_of_all_cores_and_without_our_own(system: float, own: float, share: float) -> None:
    after = CpuTimes(START.system + system, START.own + own, START.now + 1.0, 4)
    assert others_share(START, after) == pytest.approx(share)


def test_a_time_too_short_for_the_systems_clock_tells_nothing() -> None:
    assert others_share(START, CpuTimes(START.system + 1, START.own, START.now + 0.05, 4)) == 0.0


def test_our_own_work_is_not_a_neighbours() -> None:
    before = CpuTimes.read()
    deadline = before.now + 0.5
    while CpuTimes.read().now < deadline:
        sum(range(10_000))
    assert CpuTimes.read().own - before.own > 0.2
