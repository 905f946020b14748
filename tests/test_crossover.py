"""Where a line overtakes its reference: intervals that hold the truth, and honest answers outside of the range."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pytest
from noisy_laws import LENGTHS, facets, power

from elattn_bench.cases import Case
from elattn_bench.errors import UsageError
from elattn_bench.results import Outcome, Row, make_row
from elattn_bench.roofline import Ceilings
from elattn_bench.rundir import Run
from elattn_bench.verdicts import predicted
from elattn_bench.verdicts.crossover import Crossover, crossovers, format_estimate, format_tokens
from elattn_bench.verdicts.dependence import Dependence, dependences
from elattn_bench.verdicts.nouns import Estimate
from elattn_bench.verdicts.sentences import verdicts

RUN = Path("made-up")


def rows_of(impl: str, latency: dict[int, float] | made_up.Law, **axes: object) -> list[Row]:
    lengths = tuple(latency) if isinstance(latency, dict) else LENGTHS
    cases = [made_up.case(impl, seq_len=length, **axes) for length in lengths]
    if isinstance(latency, dict):
        return [make_row(case, made_up.measured(latency[case.seq_len])) for case in cases]
    return [make_row(case, latency(case)) for case in cases]


def exactly(exponent: float, factor: float = 1.0) -> made_up.Law:
    """``factor * (L / 256) ** exponent`` ms and megabytes."""

    def law(case: Case) -> Outcome:
        value = factor * (case.seq_len / 256) ** exponent
        return made_up.measured(value, round(1e6 * value))

    return law


def cross(line: list[Row], reference: list[Row], metric: str = "latency") -> Crossover:
    (found,) = crossovers(Run(RUN, {}, [*reference, *line]), "softmax/sdpa", metric, {})
    return found


SOFTMAX = rows_of("softmax/sdpa", exactly(2.0))


@pytest.mark.parametrize("metric", ["latency", "memory"])
def test_two_laws_cross_where_they_are_equal(metric: str) -> None:
    found = cross(rows_of("linear/eager", exactly(1.0, factor=10.0)), SOFTMAX, metric)
    assert found.where == "at"
    assert found.length is not None
    assert found.length.value == pytest.approx(2560, rel=0.02)
    assert found.length.holds(2560)


def test_the_interval_holds_the_true_crossing_in_90_percent_or_more() -> None:
    laws = {"softmax/sdpa": power(2.0, 1.0), "linear/eager": power(1.0, 10.0)}
    truth = 256 * np.roots([1, -1, -9]).max()
    run, samples = facets(laws, 200, 3)
    found = [each.length for each in crossovers(run, "softmax/sdpa", "latency", samples)]
    assert all(found)
    assert np.mean([each is not None and each.holds(truth) for each in found]) >= 0.90


def test_faster_everywhere_and_nowhere_are_answers() -> None:
    ahead = cross(rows_of("linear/eager", exactly(1.0, factor=0.5)), SOFTMAX)
    behind = cross(rows_of("linear/eager", exactly(2.0, factor=3.0)), SOFTMAX)
    assert (ahead.where, ahead.length) == ("always", None)
    assert "is faster than softmax/sdpa at every measured length, 256 to 32k" in ahead.sentence
    assert (behind.where, behind.length) == ("never", None)
    assert "is faster than softmax/sdpa at no measured length, 256 to 32k" in behind.sentence


def test_nothing_is_extrapolated_silently() -> None:
    beyond = cross(rows_of("linear/eager", exactly(1.0, factor=200.0)), SOFTMAX)
    assert beyond.where == "never"  # they would cross at 51k; 32k is the longest measured
    edge = cross(rows_of("linear/eager", exactly(1.0, factor=127.0)), SOFTMAX)
    assert edge.where in ("at", "unclear")
    assert edge.length is None or edge.length.high <= LENGTHS[-1]
    assert "beyond" in edge.sentence or "unclear" in edge.sentence


def test_two_equal_lines_are_unclear() -> None:
    assert cross(rows_of("linear/eager", exactly(2.0)), SOFTMAX).where == "unclear"


def test_an_early_lead_that_is_lost_is_told_as_such() -> None:
    loses = cross(rows_of("linear/eager", exactly(3.0, factor=0.1)), SOFTMAX)
    assert loses.where == "until"
    assert loses.length is not None
    assert loses.length.value == pytest.approx(2560, rel=0.02)
    assert "is faster than softmax/sdpa up to L = 2.5" in loses.sentence


def test_a_lead_that_changes_twice_is_the_last_change_and_says_so() -> None:
    shapes = {256: 0.5, 512: 2.0, 1024: 2.0, 2048: 0.5}
    flat = rows_of("softmax/sdpa", dict.fromkeys(shapes, 1.0))
    found = cross(rows_of("linear/eager", shapes), flat)
    assert found.where == "at"
    assert found.length is not None
    assert 1024 < found.length.value < 2048
    assert "the last of several changes of the lead" in found.sentence


def test_lines_that_do_not_grow_are_compared_by_their_level() -> None:
    generator = np.random.default_rng(5)

    def constant(level: float) -> dict[int, float]:
        return {length: level * float(np.exp(0.02 * generator.standard_normal())) for length in LENGTHS}

    wheres = [
        cross(rows_of("linear/eager", constant(1.0)), rows_of("softmax/sdpa", constant(2.0))).where
        for _ in range(30)
    ]
    assert set(wheres) == {"always"}
    growing = {length: length / 1000 for length in LENGTHS}
    found = [
        cross(rows_of("linear/eager", constant(5.5)), rows_of("softmax/sdpa", growing)) for _ in range(30)
    ]
    assert {each.where for each in found} == {"at"}
    assert np.mean([each.length is not None and each.length.holds(5500) for each in found]) >= 0.9


@pytest.mark.parametrize(("lengths", "between"), [(LENGTHS, 0.15), (LENGTHS[1:5], 0.05)])
def test_interpolated_intervals_hold_the_crossing_too(lengths: tuple[int, ...], between: float) -> None:
    laws = {"softmax/sdpa": power(2.0), "linear/eager": power(1.0, 5.0)}
    truth = 256 * np.roots([1, -1, -5]).max()
    run, samples = facets(laws, 200, 4, lengths, between)
    found = crossovers(run, "softmax/sdpa", "latency", samples)
    interpolated = [each for each in found if "interpolated" in each.reason]
    assert len(interpolated) > 100
    assert np.mean([each.length is not None and each.length.holds(truth) for each in interpolated]) >= 0.85


def test_two_lengths_are_interpolated_and_say_so() -> None:
    found = cross(
        rows_of("linear/eager", {256: 2.0, 1024: 4.0}), rows_of("softmax/sdpa", {256: 1.0, 1024: 16.0})
    )
    assert found.where == "at"
    assert found.length is not None
    assert 256 < found.length.value < 512
    assert "interpolated between measured lengths" in found.sentence


def test_one_common_length_cannot_be_compared() -> None:
    found = cross(
        rows_of("linear/eager", {256: 2.0, 512: 4.0}), rows_of("softmax/sdpa", {256: 1.0, 1024: 16.0})
    )
    assert found.where == "not comparable"
    assert "both are measured at 1 length" in found.sentence


def test_a_facet_without_the_reference_is_left_out() -> None:
    other = rows_of("linear/eager", exactly(1.0), dim=128)
    run = Run(RUN, {}, [*SOFTMAX, *rows_of("linear/eager", exactly(1.0)), *other])
    assert [each.facet.dim for each in crossovers(run, "softmax/sdpa", "latency", {})] == [64]


def test_an_unknown_reference_is_refused() -> None:
    with pytest.raises(UsageError, match="no such impl"):
        crossovers(Run(RUN, {}, SOFTMAX), "linear", "latency", {})


class TestPrediction:
    def test_of_taylor_shift_by_operations_is_the_papers_n0(self) -> None:
        # Nauen et al. 2024: both forms take equally many operations at N0 = d^2 + d + 1.
        direct, efficient = (
            rows_of(f"taylor-shift/{form}", {1024: 1.0}, dim=8 * 32)[0] for form in ("direct", "efficient")
        )
        found = predicted.crossing(efficient, direct, Ceilings.UNKNOWN)
        assert found == pytest.approx(32**2 + 32 + 1, rel=0.01)

    def test_is_none_where_theory_knows_no_crossing(self) -> None:
        exact = rows_of("element-wise/eager", {1024: 1.0})[0]
        assert predicted.crossing(exact, SOFTMAX[0], Ceilings.UNKNOWN) is None

    def test_is_none_of_an_attention_that_nobody_knows(self) -> None:
        mine = replace(SOFTMAX[0], attention="mine:attention")
        assert predicted.crossing(mine, SOFTMAX[0], Ceilings.UNKNOWN) is None

    def test_a_slower_memory_moves_it_out(self) -> None:
        line = rows_of("ea-series/eager", {1024: 1.0}, order=6)[0]
        fast, slow = (
            Ceilings(dram_bytes_per_s=rate, matmul_flops_per_s={"float32": 1e12}) for rate in (1e12, 1e9)
        )
        near, far = (predicted.crossing(line, SOFTMAX[0], each) for each in (fast, slow))
        assert near is not None
        assert far is not None
        assert near < far


def test_tokens_have_two_digits() -> None:
    assert [format_tokens(each) for each in (9.3, 313.0, 1024.0, 3174.0, 65536.0)] == [
        "9.3",
        "310",
        "1.0k",
        "3.1k",
        "64k",
    ]


@pytest.mark.parametrize(
    ("length", "words"),
    [
        ((3174.0, 2867.0, 3584.0), "3.1k [2.8k, 3.5k]"),
        ((168.3, 166.1, 170.9), "168 [166, 171]"),
        ((203.0, 196.0, 203.4), "203.0 [196.0, 203.4]"),
        ((12100.0, 12080.0, 12150.0), "11.82k [11.80k, 11.87k]"),
        ((5000.0, 4999.9, 5000.1), "4.883k [4.883k, 4.883k]"),  # four digits at most
        ((128.0, 128.0, 190.0), "130 [130, 190]"),  # an end that is the value may read as it
    ],
)
def test_an_interval_has_digits_enough_to_be_seen(length: tuple[float, float, float], words: str) -> None:
    assert format_estimate(Estimate(*length)) == words


def test_a_verdict_says_growth_crossing_and_memory_in_one_sentence() -> None:
    run = Run(RUN, {}, [*SOFTMAX, *rows_of("linear/eager", exactly(1.0, factor=10.0))])
    softmax, line = verdicts(run, "softmax/sdpa")
    assert line.sentence.startswith("linear/eager: latency grows as L^1.00 [")
    assert "overtakes softmax/sdpa at L = 2.50k [" in line.sentence
    assert "peak memory grows as L^1.00" in line.sentence
    assert "overtakes" not in softmax.sentence
    assert line.prediction.startswith("By the cost formulas, linear/eager should overtake at L = ")


class TestDependence:
    def moved(self, axis: str, power: float, values: tuple[int, ...] = (64, 128, 256)) -> list[Dependence]:
        """The dependences of a line whose crossover moves with a power of the axis."""
        rows = []
        for value in values:
            factor = 10.0 * (value / values[0]) ** power
            rows += rows_of("softmax/sdpa", exactly(2.0), **{axis: value})
            rows += rows_of("linear/eager", exactly(1.0, factor=factor), **{axis: value})
        return dependences(crossovers(Run(RUN, {}, rows), "softmax/sdpa", "latency", {}))

    @pytest.mark.parametrize(("axis", "values"), [("dim", (64, 128, 256)), ("batch", (1, 2, 4, 8))])
    def test_a_crossover_that_moves_is_found_with_its_power(self, axis: str, values: tuple[int, ...]) -> None:
        (found,) = self.moved(axis, 0.5, values)
        assert found.axis == axis
        assert found.exponent.value == pytest.approx(0.5, abs=0.05)
        assert not found.exponent.holds(0.0)
        assert f"depends on {axis} ({axis}^0.5" in found.sentence

    def test_one_that_stays_does_not_depend(self) -> None:
        (found,) = self.moved("dim", 0.0)
        assert found.exponent.holds(0.0)
        assert "does not clearly depend on dim" in found.sentence

    def test_orders_of_one_impl_belong_together(self) -> None:
        rows = list(SOFTMAX)
        for order in (2, 4, 8):
            rows += rows_of("ea-series/eager", exactly(1.0, factor=5.0 * order), order=order)
        (found,) = dependences(crossovers(Run(RUN, {}, rows), "softmax/sdpa", "latency", {}))
        assert (found.axis, found.label) == ("order", "ea-series/eager")
        assert found.exponent.holds(1.0)

    def test_two_values_say_nothing(self) -> None:
        assert self.moved("dim", 0.5, (64, 128)) == []
