"""Warm-up and stopping, on a clock that the test holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, cycle, repeat

import pytest

from elattn_bench.sampling import ClockError, sample
from elattn_bench.stats import BUDGETS, FEWEST_SAMPLES, Budget

BUDGET = Budget(min_samples=10, min_time=0.2, max_time=5.0, precision=0.02, warm_up_time=2.0)


class FakeClock:
    """A clock that only moves when a call is made, by the call's made-up duration."""

    min_block = 1e-3

    def __init__(self, durations: Iterator[float]) -> None:
        self.durations = durations
        self.time_now = 0.0

    def now(self) -> float:
        return self.time_now

    def time(self, call: Callable[[], object], calls: int) -> float:
        took = sum(next(self.durations) for _ in range(calls))
        self.time_now += took
        return took


def run(durations: Iterator[float], budget: Budget = BUDGET) -> tuple[tuple[float, ...], FakeClock, float]:
    clock = FakeClock(durations)
    samples = sample(lambda: None, clock, budget)
    return samples.latency_ms, clock, samples.first_call


def test_a_steady_call_stops_at_the_fewest_samples_and_time() -> None:
    latencies, _, _ = run(repeat(0.05))
    assert latencies == pytest.approx([50.0] * 10)


def test_a_fast_call_is_timed_in_blocks_of_a_millisecond_for_long_enough() -> None:
    latencies, clock, _ = run(repeat(1e-5))
    assert latencies[0] == pytest.approx(1e-2)
    assert len(latencies) * 1e-3 >= BUDGET.min_time * 0.99
    assert clock.time_now >= BUDGET.min_time


def test_the_first_call_is_reported_apart_and_is_no_sample() -> None:
    latencies, _, first_call = run(chain([9.0], repeat(0.05)))
    assert first_call == 9.0
    assert max(latencies) == pytest.approx(50.0)


def test_slow_early_calls_are_warm_up_and_no_samples() -> None:
    latencies, _, _ = run(chain([0.5, 0.4, 0.3, 0.2], repeat(0.05)))
    assert max(latencies) == pytest.approx(50.0)


def test_noise_prolongs_sampling_until_the_interval_is_narrow() -> None:
    noisy = chain([0.05] * 3, (0.05 * (1 + 0.3 * ((7 * n) % 11 - 5) / 5) for n in range(10_000)))
    latencies, _, _ = run(noisy)
    assert len(latencies) > BUDGET.min_samples


def test_a_slow_call_gets_few_samples_but_never_fewer_than_quartiles_need() -> None:
    latencies, _, _ = run(repeat(4.0))
    assert len(latencies) == FEWEST_SAMPLES


def test_sampling_ends_when_the_time_is_over_even_if_the_interval_is_wide() -> None:
    wild = (0.1 if n % 2 else 0.3 for n in range(10_000))
    _, clock, _ = run(wild)
    assert clock.time_now <= BUDGET.warm_up_time + BUDGET.max_time + 1.0


@pytest.mark.parametrize("name", list(BUDGETS))
def test_every_budget_asks_for_ten_samples_where_the_call_is_fast(name: str) -> None:
    latencies, _, _ = run(repeat(1e-3), BUDGETS[name])
    assert len(latencies) >= 10


def test_noise_that_has_settled_ends_sampling() -> None:
    scattered = cycle([0.006, 0.01, 0.01, 0.014, 0.02, 0.03, 0.004])
    samples = sample(lambda: None, FakeClock(scattered), BUDGET)
    assert samples.stopped_by == "plateau"
    assert len(samples.latency_ms) >= 64


def test_all_calls_count_as_timed() -> None:
    clock = FakeClock(repeat(0.05))
    samples = sample(lambda: None, clock, BUDGET)
    assert samples.timed_s == pytest.approx(clock.time_now)


def test_what_follows_the_first_call_counts_as_timed_and_sees_the_call() -> None:
    seen: list[object] = []

    def call() -> None:
        return None

    def after(first: Callable[[], object]) -> float:
        seen.append(first)
        return 7.0

    clock = FakeClock(repeat(0.05))
    samples = sample(call, clock, BUDGET, after)
    assert seen == [call]
    assert samples.timed_s == pytest.approx(clock.time_now + 7.0)


class BackwardsClock(FakeClock):
    """A clock that is set back by an hour after so many readings, again and again."""

    def __init__(self, good_readings: int) -> None:
        super().__init__(repeat(0.05))
        self.good_readings = good_readings
        self.readings = 0

    def now(self) -> float:
        return super().now() - 3600 * (self.readings // self.good_readings)

    def time(self, call: Callable[[], object], calls: int) -> float:
        self.readings += 1
        took = super().time(call, calls)
        return took - 3600 if self.readings % self.good_readings == 0 else took


def test_a_clock_set_back_now_and_then_spoils_neither_samples_nor_the_stopping_rule() -> None:
    clock = BackwardsClock(5)
    samples = sample(lambda: None, clock, BUDGET)
    assert samples.latency_ms == pytest.approx([50.0] * len(samples.latency_ms))
    assert len(samples.latency_ms) < 100


def test_a_clock_that_never_moves_forwards_is_an_error_not_a_number() -> None:
    with pytest.raises(ClockError, match="went backwards or stood still 101 times"):
        sample(lambda: None, BackwardsClock(1), BUDGET)
