"""Laws of comparing runs: what is called faster or slower, how surely, and how it is told."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import mannwhitneyu
from simulated_runs import rates, simulated

from elattn_bench.analysis import Ratio
from elattn_bench.cases import Case
from elattn_bench.cli import app
from elattn_bench.commands import compare
from elattn_bench.errors import UsageError
from elattn_bench.results import Measurement, Outcome, Row
from elattn_bench.rundir import SAMPLES, Run, read_run
from elattn_bench.stats import summarise
from elattn_bench.tables import changes as told
from elattn_bench.tables import comment
from elattn_bench.tables.headline import headline
from elattn_bench.tables.render import show
from elattn_bench.tables.side_by_side import letters, side_by_side_report
from elattn_bench.verdicts.means import mean_ratio
from elattn_bench.verdicts.runs import Change, compare_many, compare_runs, environment_differences, fails
from elattn_bench.verdicts.significance import (
    corrected,
    mann_whitney,
    p_values,
    ratio_of_medians,
    scatter,
    scatter_p,
)
from elattn_bench.visits import Visit

IMPLS = ("softmax/sdpa", "linear/eager", "efficient/eager")


def run_of(path: Path, factor: float | dict[str, float], **environment: object) -> Run:
    """Three impls at two lengths, a millisecond times the factor, or each impl times its own."""
    factors = factor if isinstance(factor, dict) else dict.fromkeys(IMPLS, factor)
    outcomes: dict[Case, Outcome] = {
        case: made_up.measured(factors.get(case.impl, 1.0)) for case in made_up.cases(IMPLS, (128, 256))
    }
    return made_up.write_run(path, outcomes, {**made_up.ENVIRONMENT, **environment})


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
        assert scatter(self.ratios(logs)) == pytest.approx(0.04, rel=0.15)

    def test_cases_that_changed_do_not_count_while_they_are_the_fewer(self) -> None:
        logs = np.random.default_rng(0).normal(0, 0.04, 500)
        logs[:100] -= np.linspace(0.2, 1.5, 100)
        assert scatter(self.ratios(logs)) == pytest.approx(0.05, abs=0.012)

    def test_all_cases_twice_as_fast_is_no_scatter(self) -> None:
        assert scatter(self.ratios(np.full(50, math.log(0.5)))) == 0

    def test_whatever_happens_it_hides_no_change_of_a_half(self) -> None:
        logs = np.random.default_rng(0).normal(0, 2, 500)
        assert scatter_p(Ratio(1.5, 1.49, 1.51), scatter(self.ratios(logs))) < 1e-4

    def test_few_cases_have_none(self) -> None:
        assert scatter(self.ratios(np.linspace(-1, 1, 11))) == 0


class TestVerdicts:
    def test_a_run_against_itself_changes_nothing(self, run: Run) -> None:
        changes = compare_runs(run, run)
        assert verdicts(changes) == {"same", "not measured"}
        assert all(change.p_value == 1 for change in changes if change.latency)

    def test_swapping_two_runs_swaps_faster_and_slower_and_inverts_ratios(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(3)
        factors = np.exp(generator.normal(0, 0.1, 60))
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

    def test_a_case_that_became_a_fifth_slower_is_found(self, tmp_path: Path) -> None:
        assert rates(tmp_path, 300, 0.02, slowdown=0.2).found >= 0.9

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


class TestWords:
    def sentence(self, tmp_path: Path, factor: float | dict[str, float], threshold: float = 0.05) -> str:
        a, b = run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", factor)
        return headline(compare_runs(a, b, threshold), "A", "B", threshold)

    def test_the_verdict_comes_first_in_one_sentence(self, tmp_path: Path) -> None:
        assert self.sentence(tmp_path, 1.3).startswith(
            "B takes 30 % more time than A (geometric mean of 6 cases: 1.30x [1.30, 1.30]). Of 6 cases: 6 slower."
        )

    def test_large_ratios_are_told_as_such(self, tmp_path: Path) -> None:
        assert self.sentence(tmp_path, 0.1).startswith("B takes 0.100x the time of A")

    def test_equal_runs_take_about_as_much_time(self, tmp_path: Path) -> None:
        assert self.sentence(tmp_path, 1.0).startswith("B takes about as much time as A")

    def test_a_mean_that_is_sure_but_small_is_said_to_be_within_the_threshold(self, tmp_path: Path) -> None:
        assert "2.0 % more time than A" in self.sentence(tmp_path, 1.02)
        assert "within the threshold of 5 %" in self.sentence(tmp_path / "again", 1.02)

    def test_a_mean_that_the_machine_alone_could_make_is_said_to_be_so(self, tmp_path: Path) -> None:
        changes = compare_runs(run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", 1.2))
        assert "within the control case's drift of 30%" in headline(changes, "A", "B", 0.05, drift=0.3)
        assert "within" not in headline(changes, "A", "B", 0.05, drift=0.1)

    def test_runs_without_a_common_case_cannot_be_compared(self, tmp_path: Path) -> None:
        a = made_up.write_run(tmp_path / "a", {made_up.case(): made_up.measured(1.0)})
        b = made_up.write_run(tmp_path / "b", {made_up.case(seq_len=64): made_up.measured(1.0)})
        assert "no case is measured in both (1 only in A, 1 only in B)" in headline(
            compare_runs(a, b), "A", "B", 0.05
        )

    def test_only_changed_cases_are_in_the_table_and_the_slowest_comes_first(self, tmp_path: Path) -> None:
        a = run_of(tmp_path / "a", 1.0)
        b = run_of(tmp_path / "b", {"softmax/sdpa": 1.2, "efficient/eager": 1.5})
        report = told.change_report(compare_runs(a, b), a, b)
        assert [row[0] for row in report.tables[0].rows] == ["efficient/eager"] * 2 + ["softmax/sdpa"] * 2
        assert len(report.records) == 6

    def test_a_case_that_fails_now_or_needs_more_memory_is_news(self, tmp_path: Path) -> None:
        cases = made_up.cases(["linear/eager"], (128, 256, 512))
        a = made_up.write_run(tmp_path / "a", {case: made_up.measured(1.0) for case in cases})
        outcomes = (made_up.OOM, made_up.measured(1.0, 4096), made_up.measured(1.0))
        b = made_up.write_run(tmp_path / "b", dict(zip(cases, outcomes, strict=True)))
        news = told.changed(compare_runs(a, b), 0.05)
        assert [change.row.seq_len for change in news] == [128, 256]
        assert "Peak memory: 1 cases need more, 0 less." in headline(compare_runs(a, b), "A", "B", 0.05)


class TestComment:
    def text(self, a: Run, b: Run) -> str:
        return comment.comment(compare_runs(a, b), a, b, 0.05)

    def test_it_opens_with_the_verdict_and_folds_the_rest_away(self, tmp_path: Path) -> None:
        a, b = run_of(tmp_path / "main", 1.0), run_of(tmp_path / "branch", {"linear/eager": 3.0}, torch="3.0")
        text = self.text(a, b)
        first, table = text.partition("<details>")[0].split("\n\n")[:2]
        assert first.startswith(
            "**`branch` takes neither clearly more nor less time than `main` (geometric mean of 6 cases"
        )
        assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["linear/eager"] * 2
        assert text.count("<details>") == text.count("</details>") == 3
        assert "<summary>All 6 cases</summary>" in text
        assert "| torch" in text

    def test_without_a_change_it_says_so(self, tmp_path: Path) -> None:
        assert "\n\nNo case changed.\n\n" in self.text(
            run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", 1.0)
        )

    def test_a_name_neither_mentions_nor_links_nor_breaks_the_marks(self) -> None:
        assert comment.code("a`b @me #1 *x*\n") == "`a'b @me #1 *x*`"

    def test_it_is_cut_to_what_github_takes_and_says_so(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        a, b = (
            simulated(tmp_path / name, [factor] * 450, generator, 0.0)
            for name, factor in (("a", 1.0), ("b", 1.5))
        )
        long = replace(b, info={"environment": {f"key{i}": "x" * 9000 for i in range(20)}})
        text = self.text(a, long)
        assert 40_000 < len(text) <= comment.LARGEST_COMMENT
        assert text.count("of 450: a comment holds 65,536 characters.") == 2
        assert text.count("<details>") == text.count("</details>")


class TestSeveralRuns:
    @pytest.fixture
    def runs(self, tmp_path: Path) -> list[Run]:
        slower = {"linear/eager": 2.0}
        made = [
            run_of(tmp_path / "one", 1.0),
            run_of(tmp_path / "two", 0.5),
            run_of(tmp_path / "three", slower),
        ]
        extra = {made_up.case("linear/eager", seq_len=512): made_up.measured(1.0)}
        return [*made, made_up.write_run(tmp_path / "four", extra)]

    def test_each_run_has_a_column_of_marked_ratios_and_a_mean_at_the_foot(self, runs: list[Run]) -> None:
        report = side_by_side_report(compare_many(runs[0], runs[1:]), runs[0], runs[1:], 0.05)
        table = report.tables[1]
        assert [column.title for column in table.columns] == ["impl", "L", "A", "B", "C", "D"]
        rows = {(row[0], row[1]): row[2:] for row in table.rows}
        assert rows["linear/eager", "128"] == ["1.00 ms", "0.500x*", "2.00x!", "-"]
        assert rows["softmax/sdpa", "256"] == ["1.00 ms", "0.500x*", "1.00x ", "-"]
        assert rows["linear/eager", "512"] == ["-", "-", "-", "new"]
        assert table.rows[-1] == ["geometric mean", "", "", "0.500x ", "1.26x ", "- "]

    def test_the_runs_are_listed_with_mean_interval_and_counts(self, runs: list[Run]) -> None:
        report = side_by_side_report(compare_many(runs[0], runs[1:]), runs[0], runs[1:], 0.05)
        assert report.lead == ["3 runs against A = one: cases are slower in C; cases are faster in B."]
        (_, _, three, _) = report.tables[0].rows
        assert (three[0], three[1], three[2], *three[4:]) == ("C", "three", "1.26x", "6", "2", "0", "4", "0")

    def test_records_name_their_run_and_the_document_every_mean(self, runs: list[Run]) -> None:
        report = side_by_side_report(compare_many(runs[0], runs[1:]), runs[0], runs[1:], 0.05)
        console = Console(file=io.StringIO())
        show(report, "csv", console)
        records = list(csv.DictReader(io.StringIO(console.file.getvalue())))  # type: ignore[attr-defined]
        assert [record["run"] for record in records] == ["two"] * 6 + ["three"] * 6 + ["four"] * 7
        assert [each["geometric_mean_latency_ratio"] for each in report.about["runs"]] == [
            pytest.approx(0.5), pytest.approx(2 ** (1 / 3)), None,
        ]  # fmt: skip

    def test_runs_of_one_name_are_told_apart_by_their_paths(self, tmp_path: Path) -> None:
        runs = [run_of(tmp_path / name / "run", 1.0) for name in ("x", "y", "z")]
        report = side_by_side_report(compare_many(runs[0], runs[1:]), runs[0], runs[1:], 0.05)
        assert {record["run"] for record in report.records} == {str(run.path) for run in runs[1:]}

    def test_environments_are_compared_across_all(self, tmp_path: Path) -> None:
        runs = [run_of(tmp_path / name, 1.0, torch=name) for name in ("2.8", "2.9", "2.9b")]
        assert environment_differences(*runs) == {"torch": ("2.8", "2.9", "2.9b")}

    def test_letters_go_on_after_z(self) -> None:
        assert letters(28)[25:] == ["Z", "R27", "R28"]


class TestCommand:
    def compare(
        self, *runs: Run, fail_on: str | None = None, force: bool = False, format: str = "csv"
    ) -> None:
        first, *others = (run.path for run in runs)
        compare.compare_runs(first, others, "5%", fail_on, format, force=force)

    def test_any_of_several_runs_may_fail_and_is_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        a, b, c = (run_of(tmp_path / name, f) for name, f in (("a", 1.0), ("bad", 1.5), ("good", 1.0)))
        with pytest.raises(Exception, match="3") as ended:
            self.compare(a, b, c, fail_on="slower")
        assert getattr(ended.value, "exit_code", None) == 3
        assert capsys.readouterr().err.count("--fail-on slower: bad: ") == 6
        self.compare(a, c, fail_on="slower,memory,error")

    def test_several_kinds_of_failure_are_told_apart(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cases = made_up.cases(["linear/eager"], (128, 256))
        a = made_up.write_run(tmp_path / "a", {case: made_up.measured(1.0) for case in cases})
        outcomes = (made_up.ERROR, made_up.measured(1.0, 4096))
        b = made_up.write_run(tmp_path / "b", dict(zip(cases, outcomes, strict=True)))
        with pytest.raises(Exception, match="3"):
            self.compare(a, b, fail_on="slower, memory,error")
        said = capsys.readouterr().err
        assert said.index("--fail-on memory: ") < said.index("--fail-on error: ")
        assert "--fail-on slower" not in said

    def test_an_unclear_case_does_not_fail(self, tmp_path: Path) -> None:
        changes = compare_runs(run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", 1.5))
        assert fails(changes, "slower")
        assert fails([replace(change, verdict="unclear") for change in changes], "slower") == []

    def test_an_unknown_kind_is_refused_before_anything_is_read(self) -> None:
        with pytest.raises(UsageError, match="did you mean 'slower'"):
            compare.compare_runs(Path("none"), [Path("none")], "5%", "slowr", "csv", force=False)

    def test_runs_of_other_devices_are_refused_unless_forced(self, tmp_path: Path) -> None:
        runs = [run_of(tmp_path / name, 1.0, device_name=f"Device {name}") for name in ("x", "x2")]
        same = run_of(tmp_path / "same", 1.0, device_name="Device x")
        with pytest.raises(UsageError, match="measured on Device x, .*x2 on Device x2.*--force"):
            self.compare(runs[0], same, runs[1])
        self.compare(runs[0], same, runs[1], force=True)

    def test_the_comment_alone_is_on_stdout(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.compare(run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", 1.5), format="markdown")
        captured = capsys.readouterr()
        assert captured.out.startswith("**`b` takes 50 % more time than `a`")
        assert captured.err == ""

    def test_three_impls_cannot_be_compared_live(self) -> None:
        with pytest.raises(UsageError, match="compares two impls; name one in each place"):
            app(["compare", "--live", "softmax", "linear", "efficient"], standalone_mode=False)
