"""Clocks: cold ones flush the cache before every call, and reading them costs next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from elattn_bench import device, timers  # noqa: E402 - needs torch


class Readings:
    """A clock whose every reading takes as long as it is told."""

    min_block = 0.0

    def __init__(self, took: float) -> None:
        self.took = took

    def now(self) -> float:
        return 0.0

    def time(self, call: Callable[[], object], calls: int) -> float:
        call()
        return self.took


def test_the_overhead_is_what_timing_nothing_takes() -> None:
    assert timers.overhead(Readings(3e-7)) == 3e-7


def test_a_block_is_so_long_that_reading_the_clock_does_not_count() -> None:
    assert timers._min_block(Readings(1e-7)) == timers.SHORTEST_BLOCK  # type: ignore[arg-type]
    assert timers._min_block(Readings(1e-5)) == pytest.approx(1e-2)  # type: ignore[arg-type]


def test_a_cold_clock_writes_over_the_whole_cache_before_every_call() -> None:
    clock = timers.ColdCpuClock(4096)
    seen: list[int] = []
    clock.time(lambda: seen.append(int(clock._other.sum())), 3)
    numbers = timers.FLUSHES * 4096 // 4
    assert seen == [numbers, 2 * numbers, 3 * numbers]  # each one more at every flush


def test_a_cold_clock_adds_up_the_calls_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = timers.ColdCpuClock(4096)
    monkeypatch.setattr(clock, "_clock", Readings(2.0))
    assert clock.time(lambda: None, 3) == 6.0


def test_a_cold_call_is_timed_alone() -> None:
    assert timers.clock_for("cpu", "cold", 4096).min_block == 0.0


def test_the_last_level_cache_of_this_machine_has_a_size() -> None:
    assert device.cache_bytes("cpu") >= 2**20


def test_the_size_of_the_last_level_is_the_sum_over_its_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cpu, sharing in (("cpu0", "0-1"), ("cpu1", "0-1"), ("cpu2", "2-3"), ("cpu3", "2-3")):
        for index, (level, size, shared) in enumerate([("1", "32K", cpu[3]), ("3", "16384K", sharing)]):
            entry = tmp_path / cpu / "cache" / f"index{index}"
            entry.mkdir(parents=True)
            for name, text in (("level", level), ("size", size), ("shared_cpu_list", shared)):
                (entry / name).write_text(text + "\n")
    monkeypatch.setattr(device, "_CPU_CACHES", tmp_path)
    assert device.cache_bytes("cpu") == 2 * 16 * 2**20


def test_a_machine_that_tells_nothing_gets_a_large_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_CPU_CACHES", tmp_path)
    assert device.cache_bytes("cpu") == device.UNKNOWN_CACHE
