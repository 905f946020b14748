"""What others use of the CPU is told from what we use."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import namedtuple

import psutil
import pytest

from elattn_bench import allowance
from elattn_bench.neighbours import CpuTimes, others_share

START = CpuTimes(system=100.0, own=10.0, now=50.0, cores=4)


@pytest.mark.parametrize(
    ("system", "own", "share"),
    [(4.0, 4.0, 0.0), (4.0, 0.0, 1.0), (3.0, 2.0, 0.25), (1.9, 2.0, 0.0), (4.1, 0.0, 1.0)],
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


def test_a_childs_work_is_ours_when_it_is_asked_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            while sum(psutil.Process(child.pid).cpu_times()[:2]) < 0.2:
                time.sleep(0.01)
            assert CpuTimes.read(with_children=True).own - CpuTimes.read().own >= 0.2
        finally:
            child.kill()


Times = namedtuple(
    "Times", ["user", "system", "idle"]
)  # of one core, as psutil tells on a system without steal


def test_a_neighbour_on_a_core_that_we_may_not_use_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = [Times(1.0, 1.0, 50.0), Times(100.0, 100.0, 0.0), Times(3.0, 0.0, 50.0)]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: cores)
    monkeypatch.setattr(allowance, "cpus", lambda: frozenset({0, 2}))
    reading = CpuTimes.read()
    assert (reading.system, reading.cores) == (5.0, 2)


def test_where_no_core_is_known_as_ours_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [Times(1.0, 1.0, 5.0), Times(2.0, 0.0, 5.0)])
    monkeypatch.setattr(allowance, "cpus", lambda: frozenset({64}))
    assert CpuTimes.read().cores == 2
