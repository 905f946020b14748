"""What spreading over ranks gains and costs: efficiency, weak scaling, received bytes, against laws that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_up
import pytest
import spread_runs

from elattn_bench.results import Row, make_row
from elattn_bench.rundir import Run
from elattn_bench.verdicts import ranks


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four attentions at three lengths on 1, 2 and 4 ranks; softmax is out of memory at the longest on one."""
    return spread_runs.write_run(tmp_path_factory.mktemp("runs") / "spread", spread_runs.cases())


def row(latency_ms: float, impl: str = "linear/eager", noise: float = 1.0, **axes: int | None) -> Row:
    return make_row(made_up.case(impl, **axes), made_up.measured(latency_ms, noise=noise))


def of(found: list[ranks.Strong], label: str, length: int) -> list[ranks.Strong]:
    return [each for each in found if (each.row.label, each.row.seq_len) == (label, length)]


class TestStrongScaling:
    def test_efficiency_is_the_time_of_one_rank_over_all_ranks_times_theirs(self) -> None:
        found = ranks.strong([row(10, ranks=1), row(4, ranks=4), row(6, ranks=2)])
        assert [each.row.ranks for each in found] == [1, 2, 4]
        assert [each.speed_up.value for each in found] == pytest.approx([1, 10 / 6, 2.5])
        assert [each.efficiency.value for each in found] == pytest.approx([1, 10 / 12, 10 / 16])

    def test_its_interval_pairs_both_intervals_at_their_worst_and_best(self) -> None:
        one, four = row(10, ranks=1, noise=3), row(4, ranks=4, noise=2)
        efficiency = ranks.strong([one, four])[-1].efficiency
        assert one.latency_ms_ci_low is not None
        assert four.latency_ms_ci_high is not None
        assert efficiency.low == pytest.approx(one.latency_ms_ci_low / four.latency_ms_ci_high / 4)
        assert efficiency.low < efficiency.value < efficiency.high

    def test_without_one_rank_it_is_relative_to_the_fewest(self, spread: Run) -> None:
        two, four = of(ranks.strong(spread.rows), "softmax/sdpa", spread_runs.LENGTHS[-1])
        assert (two.first.ranks, four.first.ranks) == (2, 2)
        assert two.efficiency.value == 1
        assert four.efficiency.value == pytest.approx(four.speed_up.value / 2)

    def test_a_sequence_in_one_piece_is_not_one_rank(self) -> None:
        found = ranks.strong([row(1, ranks=None), row(10, ranks=1), row(5, ranks=2)])
        assert [each.speed_up.value for each in found] == pytest.approx([1, 2])

    def test_one_number_of_ranks_tells_nothing(self) -> None:
        assert ranks.strong([row(10, ranks=2), row(20, ranks=2, seq_len=256)]) == []

    def test_kinds_of_device_and_dims_are_never_mixed(self) -> None:
        on = [
            make_row(made_up.case(ranks=n, device_type=t), made_up.measured(n))
            for n, t in ((1, "A"), (2, "B"))
        ]
        assert ranks.strong([*on, row(10, ranks=1, dim=64), row(5, ranks=2, dim=128)]) == []


class TestWeakScaling:
    def test_of_linear_attention_efficiency_is_the_time_of_the_fewest_ranks_over_theirs(
        self, spread: Run
    ) -> None:
        found = [each for each in ranks.weak(spread.rows) if each.row.label == "linear/eager"]
        assert {(each.shard, each.first.ranks, each.row.ranks) for each in found} == {
            (2**17, 2, 4), (2**18, 1, 2), (2**18, 1, 4), (2**19, 1, 2),
        }  # fmt: skip
        for each in found:
            assert each.work == pytest.approx(1)
            assert not each.work_grows
            assert each.efficiency
            assert each.efficiency.value == pytest.approx(1 / each.time.value)

    def test_of_quadratic_attention_the_work_per_rank_grows_as_the_ranks_do(self, spread: Run) -> None:
        softmax = [each for each in ranks.weak(spread.rows) if each.row.label == "softmax/sdpa"]
        four = next(each for each in softmax if each.row.ranks == 4 and each.first.ranks == 1)
        assert four.work == pytest.approx(4)
        assert four.work_grows
        assert four.time.value == pytest.approx(4, rel=0.02)
        assert four.efficiency
        assert four.efficiency.value == pytest.approx(4 / four.time.value)

    def test_uneven_shards_are_not_the_same_length_per_rank(self) -> None:
        assert ranks.weak([row(10, ranks=1, seq_len=128), row(10, ranks=2, seq_len=257)]) == []

    def test_work_that_nobody_knows_makes_no_efficiency_but_a_time(self) -> None:
        rows = [row(10, ranks=1, seq_len=128), row(12, ranks=2, seq_len=256)]
        (found,) = ranks.weak([replace(each, flops=None) for each in rows])
        assert found.time.value == pytest.approx(1.2)
        assert (found.work, found.efficiency) == (None, None)


class TestReceived:
    def test_sums_are_received_whatever_the_length_and_keys_as_it_grows(self, spread: Run) -> None:
        for each in ranks.received(spread.rows):
            assert each.as_formula is True
            assert each.whatever_the_length == (each.label != "softmax/sdpa")
            assert each.growth == pytest.approx(1 if each.label == "softmax/sdpa" else 0, abs=1e-6)

    def test_one_rank_receives_nothing_and_is_left_out(self, spread: Run) -> None:
        assert {each.facet.ranks for each in ranks.received(spread.rows)} == {2, 4}

    def test_a_count_that_is_not_the_formulas_is_found(self, spread: Run) -> None:
        rows = [
            replace(each, received_bytes_formula=1) if each.label == "linear/eager" else each
            for each in spread.rows
        ]
        assert {each.label for each in ranks.received(rows) if each.as_formula is False} == {"linear/eager"}

    def test_without_a_formula_nothing_is_said_of_it(self, spread: Run) -> None:
        rows = [replace(each, received_bytes_formula=None) for each in spread.rows]
        assert {each.as_formula for each in ranks.received(rows)} == {None}


class TestTheFewest:
    def test_what_is_not_spread_comes_before_one_rank(self) -> None:
        rows = [row(1, ranks=2), row(1, ranks=None), row(1, ranks=1)]
        assert [each.ranks for each in ranks.of_fewest(rows)] == [None]

    def test_ranks_on_which_nothing_was_measured_do_not_count(self, tmp_path: Path) -> None:
        cases = spread_runs.cases(["softmax/sdpa"], [spread_runs.LENGTHS[-1]])
        run = spread_runs.write_run(tmp_path / "run", cases)
        assert [each.ranks for each in ranks.of_fewest(run.rows)] == [2]
