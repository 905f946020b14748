"""The statistics of timings against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from elattn_bench import stats


def test_quartiles_minimum_and_mean_of_known_samples() -> None:
    summary = stats.summarise([1, 2, 3, 4, 100])
    assert (summary.p25, summary.p50, summary.p75, summary.min, summary.mean) == (2, 3, 4, 1, 22)


def test_the_interval_holds_the_median_and_is_the_same_every_time() -> None:
    samples = list(np.random.default_rng(3).lognormal(size=50))
    summary = stats.summarise(samples)
    assert summary.ci_low <= summary.p50 <= summary.ci_high
    assert summary == stats.summarise(samples)


@pytest.mark.parametrize("count", [15, 60, 600])
def test_the_interval_contains_the_true_median_about_as_often_as_it_says(count: int) -> None:
    generator = np.random.default_rng(count)
    hits = 0
    for _ in range(300):
        low, high = stats.median_interval(generator.lognormal(sigma=0.2, size=count))
        hits += low <= 1.0 <= high
    assert 0.88 <= hits / 300 <= 0.995


def test_samples_that_agree_are_stable_and_scattered_ones_are_noisy() -> None:
    assert stats.stability([1.0, 1.01, 0.99, 1.0]) == "stable"
    assert stats.stability([1.0, 2.0, 3.0, 4.0]) == "noisy"


def test_one_outlier_does_not_make_a_case_noisy() -> None:
    assert stats.stability([1.0] * 20 + [50.0]) == "stable"


def test_no_samples_have_no_summary() -> None:
    with pytest.raises(ValueError, match="no samples"):
        stats.summarise([])
