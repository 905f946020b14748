"""Laws of grouping, comparing and summing up, on runs whose scaling is known."""

from __future__ import annotations

from pathlib import Path

import made_up
import pytest

from elattn_bench.analysis import Facet, Ratio, by_facet, by_label, growth, select, summary
from elattn_bench.cases import Case
from elattn_bench.errors import UsageError
from elattn_bench.results import Measurement, Outcome
from elattn_bench.rundir import Run
from elattn_bench.verdicts.means import geometric_mean
from elattn_bench.verdicts.reference import Comparison, compare_to_reference, faster_from
from elattn_bench.verdicts.runs import (
    agreement,
    compare_runs,
    environment_differences,
    fails,
    judge,
)


def line_of(comparisons: list[Comparison], label: str) -> list[Comparison]:
    return [item for item in comparisons if item.row.label == label]


def scaled(factor: float) -> made_up.Law:
    """A millisecond times the factor, whatever the case."""
    return lambda case: made_up.measured(factor)


def run_of(path: Path, law: made_up.Law, lengths: tuple[int, ...] = (128, 256)) -> Run:
    cases = made_up.cases(["softmax/sdpa", "linear/eager"], lengths)
    return made_up.write_run(path, {case: law(case) for case in cases})


class TestGrouping:
    def test_every_row_is_in_exactly_one_facet(self, wide_run: Run) -> None:
        facets = by_facet(wide_run.rows)
        assert sum(map(len, facets.values())) == len(wide_run.rows)
        assert all(Facet.of(row) == facet for facet, rows in facets.items() for row in rows)

    def test_op_and_forward_come_first(self, wide_run: Run) -> None:
        first = next(iter(by_facet(wide_run.rows)))
        assert (first.level, first.mode, first.batch, first.dim) == ("op", "forward", 1, 64)

    def test_lines_begin_with_softmax_and_orders_sort_as_numbers(self, tmp_path: Path) -> None:
        cases = made_up.cases(["linear/eager", "ea-series/eager", "softmax/sdpa"], [128], orders=(10, 2))
        labels = list(by_label(made_up.write_run(tmp_path / "run", cases).rows))
        assert labels == ["softmax/sdpa", "ea-series/eager t=2", "ea-series/eager t=10", "linear/eager"]

    def test_lengths_ascend_in_a_line_whatever_order_they_were_measured_in(self, tmp_path: Path) -> None:
        run = made_up.write_run(tmp_path / "run", made_up.cases(["linear/eager"], [512, 128, 256]))
        assert [row.seq_len for row in by_label(run.rows)["linear/eager"]] == [128, 256, 512]

    def test_selecting_what_is_not_there_gives_nothing(self, run: Run) -> None:
        assert select(run.rows, level="layer") == []
        assert by_facet([]) == {}
        assert by_label([]) == {}


class TestReference:
    def test_the_reference_is_as_fast_as_itself(self, run: Run) -> None:
        ratios = [item.speed_up for item in line_of(compare_to_reference(run), "softmax/sdpa") if item.row.ok]
        assert ratios
        assert all(ratio and ratio.value == 1 and ratio.low < 1 < ratio.high for ratio in ratios)

    def test_speed_up_is_the_reference_s_latency_over_the_case_s(self, run: Run) -> None:
        for item in line_of(compare_to_reference(run), "linear/eager"):
            if item.speed_up:
                assert item.speed_up.value == pytest.approx(item.row.seq_len / 2000, rel=1e-6)

    def test_the_interval_spans_the_extremes_of_both_sides(self, run: Run) -> None:
        item = line_of(compare_to_reference(run), "linear/eager")[0]
        assert item.reference
        assert item.speed_up
        low = item.reference.latency_ms_ci_low / item.row.latency_ms_ci_high  # type: ignore[operator]
        assert item.speed_up.low == pytest.approx(low)
        assert item.speed_up.low < item.speed_up.value < item.speed_up.high

    def test_memory_and_parameter_ratios_are_the_case_s_over_the_reference_s(self, wide_run: Run) -> None:
        items = line_of(compare_to_reference(wide_run), "linear/eager")
        item = next(item for item in items if item.row.level == "layer" and item.row.ok)
        assert item.reference
        assert item.memory_ratio == pytest.approx(
            item.row.peak_memory_bytes / item.reference.peak_memory_bytes  # type: ignore[operator]
        )
        assert item.row.params
        assert item.reference.params
        assert item.params_ratio == pytest.approx(item.row.params / item.reference.params)

    def test_without_parameters_there_is_no_ratio_of_them(self, run: Run) -> None:
        assert all(item.params_ratio is None for item in compare_to_reference(run))

    def test_only_the_metrics_asked_for_are_filled_in(self, run: Run) -> None:
        items = compare_to_reference(run, metrics=["memory"])
        assert all(item.speed_up is None for item in items)
        assert any(item.memory_ratio for item in items)

    def test_what_is_missing_says_why(self, run: Run) -> None:
        items = compare_to_reference(run)
        assert line_of(items, "softmax/eager")[-1].missing == "timeout"
        assert line_of(items, "softmax/sdpa")[-1].missing == "oom"
        assert line_of(items, "linear/eager")[-1].missing == "reference oom"
        assert all((item.speed_up is None) == bool(item.missing) for item in items)

    def test_a_facet_without_the_reference_compares_nothing(self, tmp_path: Path) -> None:
        cases = [made_up.case("softmax/sdpa"), made_up.case("linear/eager", dim=128)]
        items = compare_to_reference(made_up.write_run(tmp_path / "run", cases))
        assert [item.missing for item in items] == ["", "no reference"]

    @pytest.mark.parametrize("name", ["linear", "linear/eager", " linear/eager "])
    def test_an_attention_alone_names_its_one_backend(self, run: Run, name: str) -> None:
        references = {item.reference.label for item in compare_to_reference(run, name) if item.reference}
        assert references == {"linear/eager"}

    @pytest.mark.parametrize("name", ["ea-series t=2", "ea-series/eager t=2", "ea-series/eager  t=2"])
    def test_an_order_names_one_of_several(self, run: Run, name: str) -> None:
        references = {item.reference.label for item in compare_to_reference(run, name) if item.reference}
        assert references == {"ea-series/eager t=2"}

    @pytest.mark.parametrize("name", ["softmax", "ea-series", "ea-series/eager"])
    def test_an_ambiguous_name_is_refused_with_the_candidates(self, run: Run, name: str) -> None:
        with pytest.raises(UsageError, match="2 of that name") as error:
            compare_to_reference(run, name)
        assert str(error.value).count(name) >= 3

    def test_the_same_name_may_mean_another_backend_in_another_facet(self, tmp_path: Path) -> None:
        cases = [made_up.case("softmax/sdpa"), made_up.case("softmax/eager", causal=True)]
        items = compare_to_reference(made_up.write_run(tmp_path / "run", cases), "softmax")
        assert [item.reference and item.reference.label for item in items] == [
            "softmax/sdpa",
            "softmax/eager",
        ]

    def test_a_reference_that_was_not_run_is_refused_with_the_nearest(self, run: Run) -> None:
        with pytest.raises(UsageError, match="did you mean 'softmax/sdpa'") as error:
            compare_to_reference(run, "sofmax/sdpa")
        assert "linear/eager" in str(error.value)

    def test_an_unknown_metric_is_refused(self, run: Run) -> None:
        with pytest.raises(UsageError, match="did you mean 'latency'"):
            compare_to_reference(run, metrics=["latancy"])


class TestFasterFrom:
    def test_linear_overtakes_quadratic_at_the_known_length(self, run: Run) -> None:
        found = faster_from(line_of(compare_to_reference(run), "linear/eager"))
        assert (found.length, found.always, str(found)) == (2048, False, "2k")
        assert found.sentence == "from L = 2k on"

    def test_ten_times_slower_is_never_faster(self, run: Run) -> None:
        found = faster_from(line_of(compare_to_reference(run), "softmax/eager"))
        assert (str(found), found.sentence) == ("never", "never within the measured range")

    def test_faster_everywhere_is_said_so(self, run: Run) -> None:
        found = faster_from(line_of(compare_to_reference(run, "softmax/eager"), "softmax/sdpa"))
        assert (found.length, str(found), found.sentence) == (128, "always", "at every measured length")

    def test_a_lead_that_is_lost_again_does_not_count(self, tmp_path: Path) -> None:
        latency = {128: 0.5, 256: 2.0, 512: 0.5, 1024: 0.5}
        outcomes: dict[Case, Outcome] = {}
        for length, factor in latency.items():
            outcomes[made_up.case("softmax/sdpa", seq_len=length)] = made_up.measured(1.0)
            outcomes[made_up.case("linear/eager", seq_len=length)] = made_up.measured(factor)
        items = compare_to_reference(made_up.write_run(tmp_path / "run", outcomes))
        assert faster_from(line_of(items, "linear/eager")).length == 512

    def test_a_lead_within_the_noise_does_not_count(self, tmp_path: Path) -> None:
        outcomes: dict[Case, Outcome] = {
            made_up.case("softmax/sdpa"): made_up.measured(1.0, noise=5),
            made_up.case("linear/eager"): made_up.measured(0.99, noise=5),
        }
        items = compare_to_reference(made_up.write_run(tmp_path / "run", outcomes))
        assert str(faster_from(line_of(items, "linear/eager"))) == "never"

    def test_running_where_the_reference_ran_out_of_memory_counts_as_faster(self, run: Run) -> None:
        last = line_of(compare_to_reference(run), "linear/eager")[-1]
        assert last.missing == "reference oom"
        assert last.beats_reference is True

    def test_where_nothing_can_be_compared_there_is_no_answer(self, tmp_path: Path) -> None:
        run = run_of(tmp_path / "run", lambda case: made_up.OOM)
        found = faster_from(line_of(compare_to_reference(run), "linear/eager"))
        assert (str(found), found.sentence) == ("-", "cannot be compared")


class TestTwoRuns:
    def test_a_run_against_itself_is_the_same_everywhere(self, run: Run) -> None:
        changes = compare_runs(run, run)
        assert {change.verdict for change in changes} == {"same", "not measured"}
        assert geometric_mean(c.latency.value for c in changes if c.latency) == pytest.approx(1)

    @pytest.mark.parametrize(
        ("factor", "verdict"), [(2.0, "slower"), (0.5, "faster"), (1.0, "same"), (1.05, "unclear")]
    )
    def test_the_verdict_follows_from_the_ratio(self, tmp_path: Path, factor: float, verdict: str) -> None:
        before, after = run_of(tmp_path / "a", scaled(1)), run_of(tmp_path / "b", scaled(factor))
        changes = compare_runs(before, after)
        assert {change.verdict for change in changes} == {verdict}
        assert all(change.latency and change.latency.value == pytest.approx(factor) for change in changes)

    def test_swapping_the_runs_swaps_faster_and_slower(self, tmp_path: Path) -> None:
        swapped = {"faster": "slower", "slower": "faster", "same": "same", "unclear": "unclear"}
        for index, factor in enumerate((0.5, 0.94, 0.953, 1.0, 1.05, 1.08, 3.0)):
            a = run_of(tmp_path / f"a{index}", scaled(1))
            b = run_of(tmp_path / f"b{index}", scaled(factor))
            there, back = compare_runs(a, b), compare_runs(b, a)
            assert [swapped[change.verdict] for change in there] == [change.verdict for change in back]

    def test_a_wider_threshold_forgives(self) -> None:
        ratio = Ratio(1.2, 1.18, 1.22)
        assert judge(ratio, 0.05) == "slower"
        assert judge(ratio, 0.20) == "unclear"
        assert judge(ratio, 0.30) == "same"
        assert judge(None, 0.05) == "not measured"

    def test_disjoint_runs_share_no_case(self, tmp_path: Path) -> None:
        a, b = run_of(tmp_path / "a", scaled(1), (128,)), run_of(tmp_path / "b", scaled(1), (256,))
        assert (
            sorted(change.verdict for change in compare_runs(a, b)) == ["only in A"] * 2 + ["only in B"] * 2
        )
        assert geometric_mean(()) is None

    def test_every_case_of_either_run_appears_once(self, tmp_path: Path) -> None:
        a, b = run_of(tmp_path / "a", scaled(1), (128, 256)), run_of(tmp_path / "b", scaled(1), (256, 512))
        ids = [change.case_id for change in compare_runs(a, b)]
        assert len(ids) == len(set(ids)) == 6

    def test_what_ran_before_and_runs_out_of_memory_now_is_not_measured(self, tmp_path: Path) -> None:
        a, b = run_of(tmp_path / "a", scaled(1)), run_of(tmp_path / "b", lambda case: made_up.OOM)
        assert {change.verdict for change in compare_runs(a, b)} == {"not measured"}

    def test_the_differing_keys_of_the_environments_are_found(self, tmp_path: Path) -> None:
        cases = [made_up.case()]
        a = made_up.write_run(tmp_path / "a", cases, {"torch": "2.8", "threads": 2, "old": 1})
        b = made_up.write_run(tmp_path / "b", cases, {"torch": "2.9", "threads": 2, "new": 1})
        differences = environment_differences(a, b)
        assert differences == {"torch": ("2.8", "2.9"), "old": (1, None), "new": (None, 1)}


class TestAgreement:
    def test_intervals_that_overlap_agree_and_others_do_not(self, tmp_path: Path) -> None:
        a = run_of(tmp_path / "a", scaled(1))
        b = run_of(tmp_path / "b", lambda case: made_up.measured(1 if case.seq_len == 128 else 2))
        found = agreement(compare_runs(a, b))
        assert (found.stable, found.overlapping, found.share) == (4, 2, 0.5)

    def test_noisy_rows_do_not_count(self, tmp_path: Path) -> None:
        def noisy(case: Case) -> Outcome:
            return Measurement((1.0, 2.0, 3.0), "noisy")

        a, b = run_of(tmp_path / "a", scaled(1)), run_of(tmp_path / "b", noisy)
        assert agreement(compare_runs(a, b)).share is None

    def test_what_passes_from_minute_to_minute_is_no_difference(self, tmp_path: Path) -> None:
        cases = [made_up.case()]
        a = made_up.write_run(tmp_path / "a", cases, {"torch": "2.8", "load_average": 0.1})
        b = made_up.write_run(tmp_path / "b", cases, {"torch": "2.8", "load_average": 0.2})
        assert environment_differences(a, b) == {}


class TestFailOn:
    def test_what_is_slower_beyond_the_threshold_fails(self, tmp_path: Path) -> None:
        a, b = run_of(tmp_path / "a", scaled(1)), run_of(tmp_path / "b", scaled(1.5))
        failures = fails(compare_runs(a, b), "slower")
        assert len(failures) == 4
        assert "1.5x as long" in failures[0]
        assert fails(compare_runs(a, b), "slower", threshold=0.6) == []
        assert fails(compare_runs(b, a), "slower") == []

    def test_within_a_run_the_reference_is_the_measure(self, run: Run) -> None:
        failures = fails(compare_to_reference(run, "linear"), "slower")
        assert any("softmax/sdpa" in failure for failure in failures)
        assert not any(failure.startswith("linear") for failure in failures)

    def test_what_needs_more_memory_fails(self, run: Run) -> None:
        failures = fails(compare_to_reference(run, "linear"), "memory")
        assert failures
        assert all(failure.startswith("softmax") for failure in failures)

    def test_errors_fail_and_out_of_memory_does_not(self, tmp_path: Path) -> None:
        before = run_of(tmp_path / "a", scaled(1))
        broken = run_of(tmp_path / "b", lambda c: made_up.ERROR if c.seq_len == 128 else made_up.OOM)
        failures = fails(compare_runs(before, broken), "error")
        assert len(failures) == 2
        assert "differs from the oracle" in failures[0]

    def test_an_unknown_kind_is_refused(self) -> None:
        with pytest.raises(UsageError, match="slower, memory, failed, error"):
            fails([], "slowr")


class TestSummary:
    def test_the_counts_of_a_line_add_up_to_its_cases(self, wide_run: Run) -> None:
        lines = summary(wide_run)
        assert sum(line.ok + line.oom + line.timeout + line.other for line in lines) == len(wide_run.rows)

    def test_growth_is_the_exponent_of_the_law(self, run: Run) -> None:
        found = {line.label: line.growth for line in summary(run)}
        assert found["softmax/sdpa"] == pytest.approx(2, abs=1e-5)
        assert found["linear/eager"] == pytest.approx(1, abs=1e-5)

    def test_it_looks_at_the_largest_sizes_measured(self, wide_run: Run) -> None:
        longest = [line.longest for line in summary(wide_run)]
        assert {(row.batch, row.dim) for row in longest if row} == {(4, 256)}

    def test_predicted_and_real_out_of_memory_are_counted_together(self, tmp_path: Path) -> None:
        cases = made_up.cases(["softmax/sdpa"], [16384, 32768, 65536])
        (line,) = summary(made_up.write_run(tmp_path / "run", cases))
        assert (line.ok, line.oom) == (1, 2)

    def test_one_length_has_no_growth_and_none_has_no_longest(self, tmp_path: Path) -> None:
        (one,) = summary(made_up.write_run(tmp_path / "one", [made_up.case()]))
        (none,) = summary(made_up.write_run(tmp_path / "none", {made_up.case(): made_up.UNSUPPORTED}))
        assert (one.growth, one.ok) == (None, 1)
        assert (none.longest, none.growth, none.other) == (None, None, 1)
        assert growth([]) is None
