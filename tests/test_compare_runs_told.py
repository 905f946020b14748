"""How a comparison of runs is told: in words, as a comment on a pull request, side by side, by the command."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pytest
from made_up import run_of
from rich.console import Console
from simulated_runs import simulated

from elattn_bench.cases import Case
from elattn_bench.cli import app
from elattn_bench.commands import compare
from elattn_bench.errors import UsageError
from elattn_bench.results import Measurement, Outcome
from elattn_bench.rundir import Run
from elattn_bench.tables import changes as told
from elattn_bench.tables import comment
from elattn_bench.tables.headline import headline, mean_of, memory_text
from elattn_bench.tables.render import show
from elattn_bench.tables.side_by_side import letters, side_by_side_report
from elattn_bench.verdicts import history
from elattn_bench.verdicts.reference import compare_to_reference
from elattn_bench.verdicts.runs import compare_many, compare_runs, environment_differences, fails


class TestWords:
    def sentence(self, tmp_path: Path, factor: float | dict[str, float], threshold: float = 0.05) -> str:
        a, b = run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", factor)
        return headline(compare_runs(a, b, threshold), "A", "B", threshold)

    def test_the_verdict_comes_first_in_one_sentence(self, tmp_path: Path) -> None:
        assert self.sentence(tmp_path, 1.3).startswith(
            "B takes 30 % more time than A (geometric mean of 6 cases stable in both: 1.30x [1.30, 1.30]). "
            "Of 6 cases: 6 slower."
        )

    def test_large_ratios_are_told_as_such(self, tmp_path: Path) -> None:
        assert self.sentence(tmp_path, 0.1).startswith("B takes 0.100x the time of A")

    def test_equal_runs_take_about_as_much_time(self, tmp_path: Path) -> None:
        assert self.sentence(tmp_path, 1.0).startswith("B takes about as much time as A")

    def test_a_mean_that_is_sure_but_small_is_said_to_be_within_the_threshold(self, tmp_path: Path) -> None:
        assert self.sentence(tmp_path, 1.02).startswith(
            "B takes about as much time as A (geometric mean of 6 cases stable in both: 1.02x [1.02, 1.02], "
            "within the threshold of 5 %)."
        )

    def test_cases_that_prove_nothing_make_no_mean_that_proves_something(self, tmp_path: Path) -> None:
        a = run_of(tmp_path / "a", 1.0)
        for word, said in (
            ("throttled", "no case is stable in both"),
            ("noisy", "no case is stable in both"),
        ):
            outcomes: dict[Case, Outcome] = {
                case: Measurement(made_up.measured(2.0).latency_ms, word)
                for case in made_up.cases(made_up.IMPLS, [128])
            }
            b = made_up.write_run(tmp_path / word, outcomes)
            assert headline(compare_runs(a, b), "A", "B", 0.05).startswith(
                f"Of A and B, neither is clearly faster: {said}. Of "
            )

    def test_one_sample_each_is_clearly_nothing(self, tmp_path: Path) -> None:
        cases = made_up.cases(["linear/eager"], (128, 256, 512))
        a, b = (
            made_up.write_run(tmp_path / name, {case: Measurement((time,), "stable") for case in cases})
            for name, time in (("a", 1.0), ("b", 1.2))
        )
        assert headline(compare_runs(a, b), "A", "B", 0.05).startswith(
            "Of A and B, neither is clearly faster (geometric mean of 3 cases stable in both: 1.20x [1.20, 1.20]). "
            "Of 3 cases: 3 unclear (3 p)."
        )

    def test_a_noisy_case_is_none_of_the_mean(self, tmp_path: Path) -> None:
        cases = made_up.cases(["linear/eager"], (128, 256, 512))
        a = made_up.write_run(tmp_path / "a", {case: made_up.measured(1.0) for case in cases})
        times = (made_up.measured(1.5), made_up.measured(1.5))
        noisy = Measurement(made_up.measured(9.0).latency_ms, "noisy")
        b = made_up.write_run(tmp_path / "b", dict(zip(cases, (*times, noisy), strict=True)))
        assert headline(compare_runs(a, b), "A", "B", 0.05).startswith(
            "B takes 50 % more time than A (geometric mean of 2 cases stable in both: 1.50x"
        )

    def test_one_case_judged_among_many_in_doubt_bears_out_no_mean(self, tmp_path: Path) -> None:
        a, b = run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", 1.2)
        changes = compare_runs(a, b)
        doubtful = [replace(change, verdict="unclear", reason="p") for change in changes[1:]]
        assert headline([changes[0], *doubtful], "A", "B", 0.05).startswith(
            "Of A and B, neither is clearly faster on the whole (geometric mean of 6 cases stable in both: 1.20x"
        )

    def test_the_mean_of_one_case_has_the_interval_of_that_case(self, tmp_path: Path) -> None:
        (change, *_) = compare_runs(run_of(tmp_path / "a", 1.0), run_of(tmp_path / "b", 1.5))
        mean = mean_of([change])
        assert mean
        assert change.latency
        assert mean.low == change.latency.low < 1.5 < change.latency.high == mean.high

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
        assert headline(compare_runs(a, b), "A", "B", 0.05) == (
            "1 case of A fails in B: linear/eager forward L 128 (oom). B takes about as much time as A (geometric "
            "mean of 2 cases stable in both: 1.00x [1.00, 1.00]). Of 3 cases: 2 same, 1 not measured. "
            "Peak memory: 1 case needs more, 0 less."
        )

    def test_of_many_that_fail_the_first_are_named(self, tmp_path: Path) -> None:
        cases = made_up.cases(["linear/eager"], (1, 2, 4, 8, 16))
        a = made_up.write_run(tmp_path / "a", {case: made_up.measured(1.0) for case in cases})
        b = made_up.write_run(tmp_path / "b", dict.fromkeys(cases, made_up.TIMEOUT))
        assert headline(compare_runs(a, b), "A", "B", 0.05).startswith(
            "5 cases of A fail in B: linear/eager forward L 1 (timeout), linear/eager forward L 2 (timeout), "
            "linear/eager forward L 4 (timeout), and 2 more. B cannot be compared with A"
        )

    def test_memory_from_nothing_is_news_and_no_ratio(self, tmp_path: Path) -> None:
        case = made_up.case("linear/eager")
        a, b = (
            made_up.write_run(tmp_path / name, {case: made_up.measured(1.0, memory)})
            for name, memory in (("a", 0), ("b", 1_000_000_000))
        )
        there, back, still = compare_runs(a, b), compare_runs(b, a), compare_runs(a, a)
        assert [memory_text(changes[0]) for changes in (there, back, still)] == [
            "from 0 B",
            "to 0 B",
            "1.00x",
        ]
        assert "Peak memory: 1 case needs more, 0 less." in headline(there, "A", "B", 0.05)
        assert "Peak memory: 0 cases need more, 1 less." in headline(back, "A", "B", 0.05)
        assert "memory from 0 B to 954 MiB |" in comment.comment(there, a, b, 0.05)
        (record,) = told.change_report(there, a, b).records
        assert (record["memory_ratio"], record["peak_memory_bytes_a"], record["peak_memory_bytes_b"]) == (
            None, 0, 1_000_000_000,
        )  # fmt: skip
        (failure,) = fails(there, "memory")
        assert failure.endswith(": needs 954 MiB of peak memory, from 0 B")
        assert fails(still, "memory") == []


class TestComment:
    def text(self, a: Run, b: Run) -> str:
        return comment.comment(compare_runs(a, b), a, b, 0.05)

    def test_it_opens_with_the_verdict_and_folds_the_rest_away(self, tmp_path: Path) -> None:
        a, b = run_of(tmp_path / "main", 1.0), run_of(tmp_path / "branch", {"linear/eager": 3.0}, torch="3.0")
        text = self.text(a, b)
        first, table = text.partition("<details>")[0].split("\n\n")[:2]
        assert first.startswith(
            "**Of `main` and `branch`, neither is clearly faster on the whole (geometric mean of 6 cases"
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

    @pytest.mark.parametrize("outcome", [made_up.OOM, made_up.PREDICTED_OOM, made_up.TIMEOUT, made_up.ERROR])
    def test_a_case_that_could_be_measured_once_and_cannot_now_fails(
        self, tmp_path: Path, outcome: Outcome
    ) -> None:
        cases = made_up.cases(["linear/eager"], (128, 256))
        measured, failed = made_up.measured(1.0), outcome
        a = made_up.write_run(tmp_path / "a", dict(zip(cases, (measured, failed), strict=True)))
        b = made_up.write_run(tmp_path / "b", dict(zip(cases, (failed, failed), strict=True)))
        (failure,) = fails(compare_runs(a, b), "failed")  # what failed before is no news
        assert cases[0].case_id in failure
        assert "where run A was measured: " in failure
        assert fails(compare_runs(b, a), "failed") == []
        with pytest.raises(Exception, match="3"):
            self.compare(a, b, fail_on="failed")

    def test_an_impl_that_is_not_supported_any_more_has_not_failed(self, tmp_path: Path) -> None:
        case = made_up.case("linear/eager")
        a = made_up.write_run(tmp_path / "a", {case: made_up.measured(1.0)})
        b = made_up.write_run(tmp_path / "b", {case: made_up.UNSUPPORTED})
        assert fails(compare_runs(a, b), "failed") == []

    def test_against_a_reference_what_fails_where_it_was_measured_has_failed(self, tmp_path: Path) -> None:
        outcomes = {made_up.case(): made_up.measured(1.0), made_up.case("linear/eager"): made_up.OOM}
        run = made_up.write_run(tmp_path / "run", outcomes)
        (failure,) = fails(compare_to_reference(run, "softmax/sdpa"), "failed")
        assert "ended with oom where the reference was measured: needs 64 GiB" in failure
        assert fails(compare_to_reference(run, "linear/eager"), "failed") == []

    def test_in_a_history_what_fails_in_the_last_run_and_was_measured_before_has_failed(
        self, tmp_path: Path
    ) -> None:
        cases = made_up.cases(["linear/eager"], (128, 256))
        measured = made_up.measured(1.0)
        a = made_up.write_run(tmp_path / "a", dict(zip(cases, (measured, made_up.OOM), strict=True)))
        b = made_up.write_run(tmp_path / "b", dict.fromkeys(cases, made_up.OOM))
        (failure,) = history.fails(history.history([a, a, b]), "failed")
        assert failure.startswith(f"{cases[0].case_id}: oom since b: needs 64 GiB")
        assert history.fails(history.history([b, b, a]), "failed") == []

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
