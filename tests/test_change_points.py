"""Steps and drifts of series: found where they are and nowhere else, whatever unit and direction."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import simulated_history
from simulated_history import CASES, flat, stepped, trial

from elattn_bench.verdicts.change_points import Course, courses, segment
from elattn_bench.verdicts.noise import noises, own_noise

THRESHOLD = 0.05


def noisy(levels: Sequence[float], sd: float = 0.01, seed: int = 0) -> simulated_history.Series:
    """Logarithms of the levels, with noise."""
    return np.log(levels) + sd * np.random.default_rng(seed).normal(size=len(levels))


def course(values: simulated_history.Series, threshold: float = THRESHOLD, *, exact: bool = False) -> Course:
    return courses([values], threshold, exact=exact)[0]


class TestSimulatedHistories:
    """The figures of docs/history.md come from more of the same: python tests/simulated_history.py."""

    @pytest.mark.parametrize("runs", [5, 10, 20])
    def test_hardly_a_series_without_a_change_gets_one(self, runs: int) -> None:
        found = trial(flat, runs, 0, histories=20)
        assert found.series == 20 * CASES
        assert found.false <= 0.02 * found.series

    def test_a_step_of_a_tenth_in_twenty_runs_is_found_at_its_place(self) -> None:
        found = trial(stepped(1.1, 3), 20, 3, histories=20)
        assert found.hit >= 0.9 * 60
        assert found.near >= 0.9 * found.hit

    def test_a_step_of_a_fifth_is_found_in_ten_runs_even_if_it_is_of_one_case_alone(self) -> None:
        found = trial(stepped(1.2, 1), 10, 1, histories=20)
        assert found.hit >= 18
        assert found.near >= 18
        assert found.false <= 0.03 * found.series


class TestChangePoints:
    @pytest.mark.parametrize("seed", range(5))
    def test_segments_are_those_of_least_squared_error_and_penalty(self, seed: int) -> None:
        values, sd = noisy([1, 1, 1, 1.4, 1.4, 1.4, 1.4, 0.9, 0.9], sd=0.1, seed=seed), 0.1

        def cost(cuts: tuple[int, ...]) -> float:
            parts = np.split(values, cuts)
            errors = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
            return errors + 2 * sd**2 * math.log(len(values)) * len(cuts)

        choices = (cuts for count in range(9) for cuts in itertools.combinations(range(1, 9), count))
        best: tuple[int, ...] = min(choices, key=cost)
        assert segment(values, sd) == list(best)

    def test_the_ratio_is_of_the_levels_and_its_interval_holds_it(self) -> None:
        (step,) = course(noisy([1.0] * 10 + [1.5] * 10)).steps
        assert (step.before, step.after, step.alone) == (9, 10, False)
        assert step.ratio.holds(1.5)
        assert step.ratio.high / step.ratio.low < 1.05

    def test_read_backwards_a_step_is_its_inverse(self) -> None:
        values = noisy([1.0] * 8 + [0.7] * 6)
        (forth,), (back,) = course(values).steps, course(values[::-1]).steps
        assert back.ratio.value == pytest.approx(1 / forth.ratio.value)
        assert back.after == len(values) - forth.after

    def test_another_unit_changes_nothing(self) -> None:
        values = noisy([1.0] * 8 + [0.7] * 6)
        here, there = course(values).steps[0], course(values + math.log(1000)).steps[0]
        assert (there.after, there.before) == (here.after, here.before)
        assert there.ratio.value == pytest.approx(here.ratio.value)

    def test_a_change_below_the_threshold_does_not_count_however_sure(self) -> None:
        values = noisy([1.0] * 20 + [1.04] * 20, sd=0.002)
        assert not course(values).steps
        assert len(course(values, threshold=0.02).steps) == 1

    def test_one_slow_run_between_others_is_set_aside(self) -> None:
        found = course(noisy([1.0] * 6 + [3.0] + [1.0] * 6))
        assert found.outliers == (6,)
        assert not found.steps

    def test_what_is_counted_has_no_outliers(self) -> None:
        found = course(noisy([1.0] * 6 + [3.0] + [1.0] * 6), exact=True)
        assert found.outliers == ()
        assert [step.after for step in found.steps] == [6, 7]

    def test_a_slow_last_run_is_a_change_that_rests_on_it_alone(self) -> None:
        (step,) = course(noisy([1.0] * 9 + [2.0])).steps
        assert step.after == 9
        assert step.alone

    def test_a_steady_climb_is_a_drift_and_no_stairs(self) -> None:
        found = course(noisy([1.02**run for run in range(20)]))
        assert not found.steps
        assert found.drift is not None
        assert found.drift.holds(1.02)
        assert found.drift.low > 1

    def test_stairs_are_no_drift(self) -> None:
        found = course(noisy([1.0] * 7 + [2.0] * 7 + [4.0] * 7))
        assert [step.after for step in found.steps] == [7, 14]
        assert found.drift is None

    def test_a_run_that_the_next_takes_back_by_less_than_half_is_a_change(self) -> None:
        found = course(noisy([1.0] * 8 + [0.2] + [0.4] * 8))
        assert found.outliers == ()
        assert [step.after for step in found.steps] == [8, 9]

    def test_of_fewer_than_four_values_nothing_is_said(self) -> None:
        assert course(noisy([1.0, 1.0, 5.0])) == Course()

    def test_values_that_never_vary_have_no_change(self) -> None:
        assert course(np.zeros(10)).steps == ()


class TestNoise:
    def test_a_step_does_not_count_as_noise(self) -> None:
        values = noisy([1.0] * 10 + [5.0] * 10, sd=0.03)
        assert own_noise(values).sd == pytest.approx(0.03, rel=0.5)

    def test_cases_that_are_alike_teach_each_other(self) -> None:
        alike = [noisy([1.0] * 8, sd=0.03, seed=seed) for seed in range(30)]
        assert {round(noise.sd, 4) for noise in noises(alike)} == {round(noises(alike)[0].sd, 4)}
        assert noises(alike)[0].sd == pytest.approx(0.03, rel=0.15)

    def test_a_case_much_noisier_than_the_others_stays_noisier(self) -> None:
        sds = [0.01] * 15 + [0.2] * 15
        found = noises([noisy([1.0] * 12, sd=sd, seed=seed) for seed, sd in enumerate(sds)])
        quiet, loud = (np.median([noise.sd for noise in half]) for half in (found[:15], found[15:]))
        assert loud > 5 * quiet
