"""Laws of comparing runs: what is called faster or slower, how surely, and how it is told."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pytest
from made_up import IMPLS, run_of
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from simulated_runs import rates, simulated

from elattn_bench.analysis import Ratio
from elattn_bench.cases import Case
from elattn_bench.results import Measurement, Outcome, Row
from elattn_bench.rundir import SAMPLES, Run, read_run
from elattn_bench.stats import summarise
from elattn_bench.verdicts.means import mean_ratio
from elattn_bench.verdicts.runs import Change, compare_many, compare_runs
from elattn_bench.verdicts.significance import (
    Scatter,
    corrected,
    mann_whitney,
    p_values,
    ratio_of_medians,
    scatter,
    scatter_p,
)
from elattn_bench.visits import Visit


def noisy_samples(median: float, count: int, seed: int, noise: float = 0.03) -> tuple[float, ...]:
    return tuple(median * np.exp(np.random.default_rng(seed).normal(0, noise, count)))


def row_of(samples: tuple[float, ...], visits: tuple[int, ...] = ()) -> Row:
    summary = summarise(samples, visits)
    return replace(
        Row(3, "x", "ok", "", "linear", "eager", "op", "forward", "float32", "cpu", False, 1, 8, 128, 64, None),
        latency_ms_p50=summary.p50, latency_ms_ci_low=summary.ci_low, latency_ms_ci_high=summary.ci_high,
    )  # fmt: skip


def verdicts(changes: list[Change]) -> set[str]:
    return {change.verdict for change in changes}


class TestInterval:
    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_that_of_a_two_sample_bootstrap(self, seed: int) -> None:
        a, b = noisy_samples(1.0, 60, seed), noisy_samples(1.2, 90, seed + 100)
        generator = np.random.default_rng(7)
        medians = [
            np.median(np.asarray(side)[generator.integers(0, len(side), (4000, len(side)))], axis=1)
            for side in (a, b)
        ]
        low, high = np.quantile(medians[1] / medians[0], [0.025, 0.975])
        found = ratio_of_medians(row_of(b), row_of(a))
        assert found
        # A tenth of its width: what the two bootstraps of 1000 resamples are uncertain by.
        assert found.low == pytest.approx(low, abs=0.2 * (high - low))
        assert found.high == pytest.approx(high, abs=0.2 * (high - low))

    def test_it_holds_the_true_ratio_in_nineteen_of_twenty_trials(self) -> None:
        held = 0
        for seed in range(200):
            a, b = (noisy_samples(median, 40, 2 * seed + i) for i, median in enumerate((1.0, 1.1)))
            found = ratio_of_medians(row_of(b), row_of(a))
            assert found
            held += found.low <= 1.1 <= found.high
        assert 0.9 <= held / 200 <= 0.99  # 95 %, three standard errors

    def test_turned_over_it_is_the_inverse(self) -> None:
        a, b = row_of(noisy_samples(1.0, 40, 1)), row_of(noisy_samples(1.3, 40, 2))
        there, back = ratio_of_medians(b, a), ratio_of_medians(a, b)
        assert there
        assert back
        assert (back.value, back.low, back.high) == pytest.approx(
            (there.inverse.value, there.inverse.low, there.inverse.high)
        )


class TestPValues:
    def test_many_samples_are_ranked_as_scipy_does(self) -> None:
        a, b = noisy_samples(1.0, 30, 1), noisy_samples(1.02, 50, 2)
        (found,) = p_values([([Visit(a)], [Visit(b)])])
        assert found == pytest.approx(mannwhitneyu(a, b, method="asymptotic").pvalue)

    def test_ties_are_ranked_as_scipy_does(self) -> None:
        generator = np.random.default_rng(0)
        for _ in range(20):  # a clock that counts in steps
            a, b = (generator.integers(10, 20, count).astype(float) for count in (25, 60))
            assert mann_whitney(a, b) == pytest.approx(mannwhitneyu(a, b, method="asymptotic").pvalue)

    def test_cases_of_different_sizes_keep_their_places(self) -> None:
        pairs = [
            ([Visit(noisy_samples(1.0, count, seed))], [Visit(noisy_samples(1.0 + shift, count, seed + 50))])
            for seed, (count, shift) in enumerate([(30, 0.0), (5, 0.0), (30, 0.5), (5, 0.5), (25, 0.0)])
        ]
        assert p_values(pairs) == [p_values([pair])[0] for pair in pairs]
        assert [p < 1e-3 for p in p_values(pairs)] == [False, False, True, True, False]

    def test_three_slow_samples_can_be_surer_than_their_ranks(self) -> None:
        a, b = (1.0, 1.01, 0.99), (2.0, 2.03, 1.98)
        (found,) = p_values([([Visit(a)], [Visit(b)])])
        assert found < 1e-3 < mannwhitneyu(a, b).pvalue

    def test_of_several_visits_each_counts_once(self) -> None:
        """A hundred samples of each of three visits are no three hundred independent ones."""
        a, b = (
            [Visit(noisy_samples(state, 100, seed, noise=0.001)) for seed, state in enumerate(states)]
            for states in ((1.00, 1.04, 0.96), (1.02, 1.06, 0.98))
        )
        pooled = [[Visit(tuple(x for visit in side for x in visit.latency_ms))] for side in (a, b)]
        (honest,), (deceived,) = p_values([(a, b)]), p_values([(pooled[0], pooled[1])])
        assert deceived < 1e-3 < 0.3 < honest

    def test_values_without_spread_are_equal_or_surely_not(self) -> None:
        same, other = [Visit((1.0,) * 30)], [Visit((2.0,) * 30)]
        few, others = [Visit((1.0,) * 3)], [Visit((2.0,) * 3)]
        equal, unequal, few_equal, few_unequal = p_values(
            [(same, same), (same, other), (few, few), (few, others)]
        )
        assert equal == few_equal == 1
        assert unequal < 1e-9
        assert few_unequal == 0

    def test_one_sample_proves_nothing(self) -> None:
        assert p_values([([Visit((1.0,))], [Visit((9.0,))])]) == [1.0]

    def test_of_many_equal_cases_none_is_a_discovery_after_the_correction(self) -> None:
        pairs = [
            ([Visit(noisy_samples(1.0, 30, 2 * i))], [Visit(noisy_samples(1.0, 30, 2 * i + 1))])
            for i in range(400)
        ]
        alone = p_values(pairs)
        assert 5 <= sum(p < 0.05 for p in alone) <= 40
        assert min(p for p in corrected(alone) if p is not None) > 0.05

    def test_the_correction_skips_cases_without_a_test(self) -> None:
        assert corrected([0.01, None, 0.04]) == [pytest.approx(0.02), None, pytest.approx(0.04)]
        assert corrected([None]) == [None]
        assert corrected([]) == []


class TestScatter:
    def ratios(self, logs: NDArray[np.float64]) -> list[Ratio]:
        return [Ratio(math.exp(x), math.exp(x - 0.002), math.exp(x + 0.002)) for x in logs]

    def test_it_is_the_spread_of_unchanged_cases(self) -> None:
        logs = np.random.default_rng(0).normal(0, 0.04, 500)
        assert scatter(self.ratios(logs)).sd == pytest.approx(0.04, rel=0.15)

    def test_cases_that_changed_do_not_count_while_they_are_the_fewer(self) -> None:
        logs = np.random.default_rng(0).normal(0, 0.04, 500)
        logs[:100] -= np.linspace(0.2, 1.5, 100)
        assert scatter(self.ratios(logs)).sd == pytest.approx(0.05, abs=0.012)

    def test_all_cases_twice_as_fast_is_no_scatter(self) -> None:
        assert scatter(self.ratios(np.full(50, math.log(0.5)))).sd == 0

    def test_whatever_happens_in_many_cases_it_hides_no_change_to_the_double(self) -> None:
        logs = np.random.default_rng(0).normal(0, 2, 500)
        assert scatter_p(Ratio(2.0, 1.99, 2.01), scatter(self.ratios(logs))) < 1e-3

    def test_few_cases_have_none(self) -> None:
        assert scatter(self.ratios(np.linspace(-1, 1, 11))).sd == 0

    def test_few_cases_are_taken_to_have_a_heavy_tail_and_many_show_theirs(self) -> None:
        generator = np.random.default_rng(0)
        few, many = (scatter(self.ratios(generator.normal(0, 0.04, count))).tail for count in (20, 2000))
        heavy = scatter(self.ratios(0.04 * generator.standard_t(1.5, 2000))).tail
        assert few < 2.5
        assert many > 6
        assert heavy == pytest.approx(1.5, abs=0.2)

    def test_its_half_is_that_of_the_normal_law_and_its_tail_is_not(self) -> None:
        """Without noise of its own, half of all unchanged cases lie within the middle half, whatever the tail."""
        for tail in (1.5, 3.0, 30.0):
            exact = Ratio(*(math.exp(0.674490 * 0.04),) * 3)
            assert scatter_p(exact, Scatter(0.04, tail)) == pytest.approx(0.5, abs=1e-6)
        far = Ratio(1.5, 1.499, 1.501)
        assert scatter_p(far, Scatter(0.04, 1.5)) > 0.01 > 1e-6 > scatter_p(far, Scatter(0.04, 30.0))

    def test_it_is_the_law_of_noise_and_scatter_together(self) -> None:
        generator = np.random.default_rng(0)
        t = (
            generator.standard_t(2, 400_000) * 0.674490 / 0.816497
        )  # whose middle half is that of the normal law
        drawn = np.abs(generator.normal(0, 0.02, 400_000) + 0.02 * t)
        for distance in (0.02, 0.1, 0.3):
            low, high = (math.exp(distance + side * 1.959964 * 0.02) for side in (-1, 1))
            found = scatter_p(Ratio(math.exp(distance), low, high), Scatter(0.02, 2.0))
            assert found == pytest.approx(float(np.mean(drawn >= distance)), rel=0.06)

    def test_a_change_of_most_cases_by_a_factor_is_not_hidden_by_heavy_tails(self) -> None:
        history = Path(__file__).parent.parent / "docs" / "results" / "amd-epyc-2-cores-history"
        changes = compare_runs(read_run(history / "03-fcb43da"), read_run(history / "04-885e3b6"))
        slower = [change.latency.value for change in changes if change.latency and change.verdict == "slower"]
        assert len(slower) == 5
        assert min(slower) > 1.9

    def test_cases_that_no_p_can_judge_are_not_among_the_many(self, tmp_path: Path) -> None:
        cases = made_up.cases(["linear/eager"], (128, 256, 512))
        a = made_up.write_run(tmp_path / "a", {case: made_up.measured(1.0) for case in cases})
        noisy = Measurement(made_up.measured(1.0).latency_ms, "noisy")
        outcomes = (made_up.measured(1.01), noisy, noisy)
        found = compare_runs(a, made_up.write_run(tmp_path / "b", dict(zip(cases, outcomes, strict=True))))
        assert found[0].p_corrected == found[0].p_value != 1
        assert [change.p_corrected for change in found[1:]] == [None, None]

    @pytest.mark.parametrize(("before", "after"), [("08", "09"), ("08", "10"), ("09", "10"), ("10", "08")])
    def test_real_runs_of_one_commit_differ_in_no_case(self, before: str, after: str) -> None:
        history = Path(__file__).parent.parent / "docs" / "results" / "amd-epyc-2-cores-history"
        a, b = (read_run(history / f"{number}-3b3de2e") for number in (before, after))
        assert verdicts(compare_runs(a, b)) == {"same", "unclear"}


class TestVerdicts:
    def test_a_run_against_itself_changes_nothing(self, run: Run) -> None:
        changes = compare_runs(run, run)
        assert verdicts(changes) == {"same", "not measured"}
        assert all(change.p_value == 1 for change in changes if change.latency)

    def test_swapping_two_runs_swaps_faster_and_slower_and_inverts_ratios(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(3)
        factors = np.concatenate([np.exp(generator.normal(0, 0.02, 46)), [4.0] * 7, [0.25] * 7])
        a, b = (
            simulated(tmp_path / name, each, generator, 0.02)
            for name, each in (("a", [1.0] * 60), ("b", list(factors)))
        )
        swapped = {"faster": "slower", "slower": "faster"}
        there, back = compare_runs(a, b), compare_runs(b, a)
        assert {"faster", "slower", "unclear", "same"} == verdicts(there)
        for one, other in zip(there, back, strict=True):
            assert (swapped.get(one.verdict, one.verdict), one.reason) == (other.verdict, other.reason)
            assert one.latency
            assert other.latency
            assert one.latency.value == pytest.approx(1 / other.latency.value)
            assert one.latency.low == pytest.approx(1 / other.latency.high)
            assert one.p_corrected == pytest.approx(other.p_corrected)

    def test_without_raw_samples_the_widest_interval_decides_and_there_is_no_p(self, tmp_path: Path) -> None:
        a, b = run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", 1.5)
        (b.path / SAMPLES).unlink()
        changes = compare_runs(a, b)
        assert verdicts(changes) == {"slower"}
        assert all(change.p_value is None and change.p_corrected is None for change in changes)
        widest = {row.case_id: row for row in a.rows}
        for change in changes:
            assert change.after
            assert change.latency
            before = widest[change.case_id]
            assert change.latency.high == pytest.approx(
                change.after.latency_ms_ci_high / before.latency_ms_ci_low  # type: ignore[operator]
            )

    def test_a_row_that_is_not_stable_makes_the_verdict_unclear_and_the_reason_says_so(
        self, tmp_path: Path
    ) -> None:
        a = run_of(tmp_path / "a", 1.0)
        outcomes: dict[Case, Outcome] = {
            case: Measurement(made_up.measured(2.0).latency_ms, word)
            for case, word in zip(made_up.cases(IMPLS[:2], [128]), ("noisy", "throttled"), strict=True)
        }
        found = compare_runs(a, made_up.write_run(tmp_path / "b", outcomes))
        assert [change.reason for change in found if change.latency] == ["noisy", "throttled"]

    def test_an_interval_across_the_threshold_is_the_reason(self, tmp_path: Path) -> None:
        changes = compare_runs(run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", 1.05))
        assert {(change.verdict, change.reason) for change in changes} == {("unclear", "interval")}

    def test_a_change_that_the_drift_of_the_control_case_could_make_is_unclear(self, tmp_path: Path) -> None:
        a, b = run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", {"linear/eager": 1.2, "softmax/sdpa": 2.0})
        drifted = replace(b, info={**b.info, "control": {"sessions": [{"visits": [], "drift": 0.3}]}})
        found = {change.row.impl: (change.verdict, change.reason) for change in compare_runs(a, drifted)}
        assert found["linear/eager"] == ("unclear", "drift")
        assert found["softmax/sdpa"] == ("slower", "")
        assert found["efficient/eager"] == ("same", "")

    def test_a_change_that_chance_could_make_is_unclear(self, tmp_path: Path) -> None:
        a, b = run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", 1.5)
        # Two samples a side, one of them far off: an interval of a point, and a test that knows better.
        for run, values in ((a, (1.0, 3.0)), (b, (1.5, 3.0))):
            lines = [{"case_id": row.case_id, "latency_ms": values} for row in run.rows]
            (run.path / SAMPLES).write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert {(c.verdict, c.reason) for c in compare_runs(a, b)} == {("unclear", "p")}

    @pytest.mark.parametrize("schema", ["amd-epyc-2-cores", "amd-epyc-2-cores-decode"])
    def test_committed_runs_of_every_schema_are_the_same_as_themselves(self, schema: str) -> None:
        run = read_run(Path(__file__).parent.parent / "docs" / "results" / schema)
        assert verdicts(compare_runs(run, run)) <= {"same", "unclear", "not measured"}

    def test_p_values_are_corrected_for_all_cases_of_all_runs(self, tmp_path: Path) -> None:
        a = run_of(tmp_path / "a", 1.0)
        others = [run_of(tmp_path / str(factor), factor) for factor in (1.0, 1.03)]
        alone = compare_runs(a, others[1])
        _, together = compare_many(a, others)
        assert [change.p_value for change in alone] == [change.p_value for change in together]
        assert all(
            one.p_corrected is not None and two.p_corrected is not None and one.p_corrected < two.p_corrected
            for one, two in zip(alone, together, strict=True)
        )


class TestSimulation:
    """The figures of docs/comparing.md, at fewer cases; ``python tests/simulated_runs.py`` prints them."""

    @pytest.mark.parametrize("drift", [0.0, 0.02])
    def test_runs_of_the_same_code_differ_in_hardly_a_case(self, tmp_path: Path, drift: float) -> None:
        assert rates(tmp_path, 300, drift).false_alarms <= 0.01

    def test_a_case_that_became_half_as_slow_again_is_found(self, tmp_path: Path) -> None:
        assert rates(tmp_path, 1000, 0.02, slowdown=0.5).found >= 0.9

    def test_without_drift_a_tenth_is_found(self, tmp_path: Path) -> None:
        assert rates(tmp_path, 300, 0.0, slowdown=0.1).found >= 0.9

    def test_visits_find_a_tenth(self, tmp_path: Path) -> None:
        found = rates(tmp_path, 100, 0.02, slowdown=0.1, visits=7)
        assert found.found >= 0.8
        assert found.false_alarms <= 0.02


class TestMean:
    def test_its_interval_holds_the_mean_of_the_law(self) -> None:
        ratios = np.exp(np.random.default_rng(0).normal(math.log(0.9), 0.2, 200))
        found = mean_ratio(ratios)
        assert found
        assert found.value == pytest.approx(float(np.exp(np.log(ratios).mean())))
        assert found.low < 0.9 < found.high
        assert math.log(found.high / found.low) == pytest.approx(2 * 1.96 * 0.2 / math.sqrt(200), rel=0.15)

    def test_of_inverse_ratios_it_is_the_inverse(self) -> None:
        ratios = np.random.default_rng(0).uniform(0.5, 1.5, 30)
        one, other = mean_ratio(ratios), mean_ratio(1 / ratios)
        assert one
        assert other
        assert (1 / other.value, 1 / other.high, 1 / other.low) == pytest.approx(
            (one.value, one.low, one.high)
        )

    def test_of_nothing_there_is_none(self) -> None:
        assert mean_ratio([]) is None
