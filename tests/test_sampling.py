"""Warm-up and stopping, on a clock that the test holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat

import pytest

from elattn_bench.sampling import sample
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
    samples = sample(lambda: lambda: None, clock, budget)
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
