"""The fitted growth of a line: its interval holds the truth as often as it says, its verdict is what data support."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noisy_laws import LENGTHS, facets, power

from elattn_bench.cases import Case
from elattn_bench.results import Outcome, Row, make_row
from elattn_bench.rundir import Run, read_run
from elattn_bench.verdicts import curve
from elattn_bench.verdicts.nouns import Estimate
from elattn_bench.verdicts.scaling import Scaling, scalings, shape_of

RESULTS = Path(__file__).parent.parent / "docs" / "results"
TRIALS = 300


def one(rows: list[Row], metric: str = "latency") -> Scaling:
    (found,) = scalings(Run(Path("made-up"), {}, rows), metric, {})
    return found


def rows_of(law: made_up.Law, lengths: tuple[int, ...] = LENGTHS, impl: str = "linear/eager") -> list[Row]:
    cases = [made_up.case(impl, seq_len=length) for length in lengths]
    return [make_row(case, law(case)) for case in cases]


def exactly(exponent: float, constant: float = 0.0) -> made_up.Law:
    law = power(exponent, constant)
    return lambda case: made_up.measured(law(case.seq_len), round(1e6 * law(case.seq_len)))


class TestCoverage:
    @pytest.mark.parametrize(
        ("exponent", "constant", "lengths", "between"),
        [
            (1.0, 0.0, 8, 0.02),
            (1.0, 1.0, 8, 0.02),
            (1.0, 10.0, 8, 0.05),
            (2.0, 0.0, 8, 0.05),
            (2.0, 10.0, 8, 0.02),
            (1.5, 1.0, 6, 0.03),
            (2.0, 1.0, 5, 0.03),
        ],
    )
    def test_the_interval_holds_the_true_exponent_in_90_to_99_percent(
        self, exponent: float, constant: float, lengths: int, between: float
    ) -> None:
        run, samples = facets(
            {"linear/eager": power(exponent, constant)}, TRIALS, 1, LENGTHS[:lengths], between
        )
        found = [each.exponent for each in scalings(run, "latency", samples)]
        held = [estimate is not None and estimate.holds(exponent) for estimate in found]
        assert 0.90 <= np.mean(held) <= 0.99

    def test_without_raw_samples_the_intervals_of_medians_do_as_well(self) -> None:
        run, _ = facets({"linear/eager": power(1.0, 1.0)}, TRIALS, 8)
        held = [
            each.exponent is not None and each.exponent.holds(1.0) for each in scalings(run, "latency", {})
        ]
        assert 0.90 <= np.mean(held) <= 0.99

    def test_more_noise_makes_wider_intervals(self) -> None:
        def width(between: float) -> float:
            run, samples = facets({"linear/eager": power(1.0, 1.0)}, 50, 9, between=between)
            found = [each.exponent for each in scalings(run, "latency", samples)]
            return float(np.median([each.high - each.low for each in found if each]))

        assert width(0.08) > 2 * width(0.02)

    def test_the_verdict_is_hardly_ever_another_law(self) -> None:
        run, samples = facets({"linear/eager": power(1.0, 2.0), "softmax/sdpa": power(2.0, 2.0)}, 100, 10)
        found = {(each.label, each.verdict) for each in scalings(run, "latency", samples)}
        assert found <= {
            ("linear/eager", "linear"), ("linear/eager", "unclear"),
            ("softmax/sdpa", "quadratic"), ("softmax/sdpa", "unclear"),
        }  # fmt: skip


class TestFit:
    @given(
        exponent=st.floats(0.5, 3.0), constant=st.sampled_from([0.0, 0.1, 1.0, 10.0]), level=st.floats(-6, 6)
    )
    def test_a_law_without_noise_is_found_exactly(
        self, exponent: float, constant: float, level: float
    ) -> None:
        lengths = np.array(LENGTHS, dtype=np.float64)
        logs = level + np.log(constant + (lengths / lengths[0]) ** exponent)
        found = curve.fit(lengths, logs[None], np.ones((1, len(lengths))))
        assert found.exponent[0] == pytest.approx(exponent, abs=0.01)
        assert found.log_at(lengths)[0] == pytest.approx(logs, abs=1e-3)

    def test_a_constant_does_not_spoil_the_exponent(self) -> None:
        found = one(rows_of(exactly(1.0, constant=20.0)))
        assert found.exponent is not None
        assert found.slope is not None
        assert found.exponent.value == pytest.approx(1.0, abs=0.02)
        assert found.constant == pytest.approx(20.0, rel=0.05)
        assert found.at(LENGTHS[-1]) == pytest.approx(20.0 + 128.0, rel=0.02)

    def test_the_local_slope_is_that_of_the_last_three_lengths(self) -> None:
        found = one(rows_of(exactly(1.0, constant=20.0)))
        assert found.slope is not None
        assert 0.5 < found.slope.value < 0.95

    def test_nothing_depends_on_what_else_the_run_holds(self) -> None:
        run, samples = facets({"linear/eager": power(1.0), "softmax/sdpa": power(2.0)}, 3, 11)
        alone = Run(run.path, {}, [row for row in run.rows if row.dim == 8 and row.attention == "linear"])
        (expected,) = scalings(alone, "latency", samples)
        assert expected in scalings(run, "latency", samples)

    def test_a_disturbed_row_is_left_out_and_named(self) -> None:
        rows = rows_of(exactly(1.0))
        rows[4] = replace(rows[4], latency_ms_p50=100 * (rows[4].latency_ms_p50 or 0), stability="noisy")
        found = one(rows)
        assert found.verdict == "linear"
        assert "without L = 4k, which was not stable and lies 100 times off" in found.sentence

    def test_a_line_that_bends_is_unclear_and_says_how_it_ends(self) -> None:
        def late(case: Case) -> Outcome:
            work = case.seq_len / 256
            return made_up.measured(work if case.seq_len < 8192 else 12 * work)

        lengths = tuple(64 * 2**n for n in range(11))
        found = one(rows_of(late, lengths))
        assert found.verdict == "unclear"
        assert "off the curve, and the last lengths grow as L^1.00" in found.sentence

    def test_a_stable_row_is_never_left_out(self) -> None:
        rows = rows_of(exactly(1.0))
        rows[4] = replace(rows[4], latency_ms_p50=100 * (rows[4].latency_ms_p50 or 0))
        assert one(rows).verdict == "unclear"


class TestVerdict:
    @pytest.mark.parametrize(
        ("exponent", "verdict"),
        [
            (0.0, "constant"),
            (0.5, "between"),
            (1.0, "linear"),
            (1.5, "between"),
            (2.0, "quadratic"),
            (2.7, "steeper"),
        ],
    )
    def test_of_exact_laws(self, exponent: float, verdict: str) -> None:
        assert one(rows_of(exactly(exponent))).verdict == verdict
        assert one(rows_of(exactly(exponent)), "memory").verdict == verdict

    @pytest.mark.parametrize(
        ("low", "value", "high", "verdict"),
        [
            (0.98, 1.01, 1.04, "linear"),
            (0.7, 0.9, 1.0, "linear"),
            (1.2, 1.3, 1.5, "between"),
            (1.1, 1.5, 1.86, "unclear"),  # could be linear, could be quadratic
            (1.3, 1.4, 1.9, "unclear"),  # only quadratic is left, and it is far away
            (1.0, 2.0, 2.5, "unclear"),
            (0.9, 1.8, 2.1, "unclear"),
            (2.2, 2.3, 2.4, "steeper"),
            (0.0, 0.02, 0.05, "constant"),
        ],
    )
    def test_of_intervals(self, low: float, value: float, high: float, verdict: str) -> None:
        assert shape_of(Estimate(value, low, high)) == verdict

    def test_theory_stands_beside_it(self) -> None:
        agrees, differs = one(rows_of(exactly(1.0))), one(rows_of(exactly(2.0)))
        assert (agrees.theory, agrees.disagrees) == ("linear", False)
        assert agrees.sentence.endswith("linear, as theory says.")
        assert (differs.theory, differs.disagrees) == ("linear", True)
        assert "quadratic, where theory says linear" in differs.sentence

    def test_of_an_attention_that_nobody_knows_theory_says_nothing(self) -> None:
        rows = [replace(row, attention="mine:attention") for row in rows_of(exactly(1.0))]
        found = one(rows)
        assert (found.theory, found.disagrees, found.verdict) == ("unknown", False, "linear")

    def test_decoding_is_constant_by_a_state_and_linear_by_a_cache(self) -> None:
        def decoding(impl: str) -> str:
            return one([replace(row, mode="decode") for row in rows_of(exactly(1.0), impl=impl)]).theory

        assert (decoding("linear/eager"), decoding("softmax/sdpa")) == ("constant", "linear")

    def test_a_line_of_unsteady_rows_is_judged_and_says_so_of_its_latency_alone(self) -> None:
        rows = [replace(row, stability="noisy") for row in rows_of(exactly(1.0))]
        latency, memory = one(rows), one(rows, "memory")
        assert (latency.verdict, memory.verdict) == ("linear", "linear")
        assert "8 of 8 rows were not stable" in latency.sentence
        assert "stable" not in memory.sentence

    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_too_few_lengths_make_no_verdict_and_say_so(self, count: int) -> None:
        found = one(rows_of(exactly(1.0), LENGTHS[:count]))
        assert (found.verdict, found.exponent) == ("unclear", None)
        assert f"{count} length" in found.sentence
        assert (found.slope is None) == (count == 1)

    def test_rows_that_were_not_measured_do_not_count(self) -> None:
        rows = rows_of(exactly(2.0), impl="softmax/sdpa")
        lost = [make_row(made_up.case(seq_len=length), made_up.OOM) for length in (2**17, 2**18)]
        assert one([*rows, *lost]).lengths == list(LENGTHS)

    @pytest.mark.parametrize("path", sorted(RESULTS.glob("*/results.csv")), ids=lambda path: path.parent.name)
    def test_committed_runs_are_judged_whatever_their_schema(self, path: Path) -> None:
        for metric in ("latency", "memory"):
            found = scalings(read_run(path.parent), metric)
            assert found
            assert all(each.sentence.endswith(".") for each in found)
