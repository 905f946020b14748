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
    assert stats.instability([1.0, 1.01, 0.99, 1.0]) is None
    assert stats.instability([1.0, 2.0, 3.0, 4.0]) == "interquartile range 60% of the median, allowed 10%"


def test_one_outlier_does_not_make_a_case_noisy() -> None:
    assert stats.instability([1.0] * 20 + [50.0]) is None


def test_a_case_that_becomes_slower_while_it_is_measured_is_noisy() -> None:
    assert "drifted by 8%" in (stats.instability([1.0] * 11 + [1.08] * 10) or "")


def test_visits_that_disagree_are_noisy() -> None:
    samples = [1.0] * 10 + [1.09] * 10
    assert "over 2 visits, allowed ±5%" in (stats.instability(samples, [10, 10]) or "")
    assert stats.instability([1.0] * 10 + [1.02] * 10, [10, 10]) is None


def test_visits_that_disagree_widen_the_interval() -> None:
    generator = np.random.default_rng(0)
    samples = np.concatenate([generator.normal(centre, 0.01, 30) for centre in (1.0, 1.1, 1.05, 0.95, 1.0)])
    blind = stats.median_interval(samples)
    aware = stats.median_interval(samples, [30] * 5)
    assert aware[1] - aware[0] > 3 * (blind[1] - blind[0])


def test_the_interval_of_visits_contains_the_true_median_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        centres = generator.normal(1.0, 0.02, 5)
        samples = np.concatenate([generator.normal(centre, 0.01, 12) for centre in centres])
        low, high = stats.median_interval(samples, [12] * 5)
        hits += low <= 1.0 <= high
    assert 0.85 <= hits / 200 <= 0.995


def test_noise_has_settled_when_its_estimates_no_longer_move() -> None:
    assert stats.has_settled([0.5, 0.2, 0.200, 0.201, 0.199, 0.2], 64)
    assert not stats.has_settled([0.5, 0.2, 0.3, 0.1, 0.2, 0.4], 64)
    assert not stats.has_settled([0.2] * 5, 63)
    assert not stats.has_settled([0.2] * 4, 64)


def test_no_samples_have_no_summary() -> None:
    with pytest.raises(ValueError, match="no samples"):
        stats.summarise([])


def test_a_noisy_visit_with_many_samples_does_not_outvote_quiet_ones() -> None:
    samples = [1.0] * 120 + [1.3] * 1000
    summary = stats.summarise(samples, [20] * 6 + [1000])
    assert summary.p50 == 1.0
    assert summary.ci_low <= summary.p50 <= summary.ci_high


def test_the_interval_of_unequal_visits_holds_its_own_median() -> None:
    generator = np.random.default_rng(7)
    for _ in range(20):
        counts = list(generator.integers(3, 300, size=7))
        samples = np.concatenate([generator.normal(generator.normal(1, 0.05), 0.02, n) for n in counts])
        summary = stats.summarise(list(samples), counts)
        assert summary.ci_low <= summary.p50 <= summary.ci_high
