"""What an approximation buys: dominance by laws, sentences by made-up numbers, and the figure of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_up
import pytest
from test_figures import drawn, overflows, overlaps, texts_of

from elattn_bench import figures
from elattn_bench.cases import Case
from elattn_bench.errors import UsageError
from elattn_bench.figures.look import Look, find_look
from elattn_bench.figures.pareto_panel import error_tick
from elattn_bench.results import Outcome, make_row
from elattn_bench.rundir import Run
from elattn_bench.verdicts.pareto import Point, dominates, doubtful, trades

ORDERS = (2, 4, 6, 8)
LOOKS = [find_look(size="single"), find_look("slides")]  # committed runs: tests/test_verdict_figures.py


def approximation(case: Case) -> Outcome:
    """An error of 10^-order, at as many microseconds as order and length say."""
    order = case.order or 1
    latency = order * case.seq_len / 1e5
    found = made_up.measured(latency, 1000 * order * case.seq_len)
    return replace(found, approximation_error=10.0**-order, outside_band=0.3 if order == 2 else 0.0)


def exact(case: Case) -> Outcome:
    """Quadratic: ten times the latency of order 8 at L = 512."""
    return made_up.measured(case.seq_len**2 / 6553.6, 16 * case.seq_len**2)


def orders_run(
    path: Path, exact_outcome: Outcome | None = None, lengths: tuple[int, ...] = (512, 2048)
) -> Run:
    """``ea-series`` in four orders beside exact attention and softmax."""
    outcomes: dict[Case, Outcome] = {}
    for case in made_up.cases(["ea-series/eager"], lengths, ORDERS):
        outcomes[case] = approximation(case)
    for case in made_up.cases(["element-wise/eager"], lengths):
        outcomes[case] = exact_outcome or exact(case)
    for case in made_up.cases(["softmax/sdpa"], lengths):
        outcomes[case] = made_up.quadratic(case)
    return made_up.write_run(path, outcomes)


def point(latency: float, error: float, memory: int = 1000, noise: float = 1.0) -> Point:
    """A point of a case of its own."""
    case = made_up.case("ea-series/eager", order=2, seq_len=128 + round(latency * 10 + 1e6 * error + memory))
    return Point(make_row(case, made_up.measured(latency, memory, noise)), error)


class TestDominance:
    def test_cheaper_and_no_further_off_dominates(self) -> None:
        assert dominates(point(1.0, 0.01), point(2.0, 0.02))
        assert dominates(point(1.0, 0.01), point(2.0, 0.01))

    def test_nothing_dominates_itself(self) -> None:
        one = point(1.0, 0.01)
        assert not dominates(one, one)

    def test_a_smaller_error_for_more_time_is_a_choice(self) -> None:
        fast, close = point(1.0, 0.02), point(2.0, 0.01)
        assert not dominates(fast, close)
        assert not dominates(close, fast)

    def test_latencies_whose_intervals_overlap_dominate_nobody(self) -> None:
        assert not dominates(point(1.0, 0.01, noise=5), point(1.005, 0.02, noise=5), ["latency"])

    def test_less_memory_keeps_a_slower_point_on_the_front(self) -> None:
        fast, small = point(1.0, 0.01, memory=2000), point(2.0, 0.02, memory=1000)
        assert not dominates(fast, small)
        assert dominates(fast, small, ["latency"])

    def test_equal_bytes_with_a_smaller_error_dominate(self) -> None:
        assert dominates(point(1.0, 0.01), point(2.0, 0.02), ["memory"])

    def test_memory_that_nobody_measured_dominates_nobody(self) -> None:
        unknown = Point(replace(point(1.0, 0.01).row, peak_memory_bytes=None), 0.01)
        assert not dominates(unknown, point(2.0, 0.02), ["memory"])


class TestTrades:
    def test_one_for_every_length_with_the_fastest_exact_form_as_its_base(self, tmp_path: Path) -> None:
        found = trades(orders_run(tmp_path / "run"))
        assert [(trade.exact, trade.length) for trade in found] == [
            ("element-wise", 512),
            ("element-wise", 2048),
        ]
        assert {trade.base.label for trade in found if trade.base} == {"element-wise/eager"}

    def test_the_sentence_says_error_latency_and_memory_of_every_order(self, tmp_path: Path) -> None:
        sentence = trades(orders_run(tmp_path / "run"))[0].sentence
        assert "L = 512 (op, forward, float32, non-causal, batch 1, heads 8, dim 64)" in sentence
        # Order 2 takes 10.24 ms / 1000 of exact 40 ms; 1024 kB of 4194 kB.
        assert (
            "ea-series/eager t=2 errs by 1.0 % at 0.026 % of the latency and 24 % of the memory" in sentence
        )

    def test_an_order_slower_than_the_exact_form_is_dominated_by_it(self, tmp_path: Path) -> None:
        run = orders_run(tmp_path / "run", made_up.measured(0.03, 1000), lengths=(512,))
        (trade,) = trades(run)
        assert [point.row.order for point in trade.front(["latency"])] == [2, 4, None]

    def test_without_an_exact_measurement_the_reason_is_named(self, tmp_path: Path) -> None:
        (trade, _) = trades(orders_run(tmp_path / "run", made_up.TIMEOUT))
        assert trade.base is None
        assert "was not measured at L = 512" in trade.sentence
        assert "(element-wise/eager: timeout)" in trade.sentence

    def test_orders_that_leave_the_band_are_named(self, tmp_path: Path) -> None:
        points = [point for trade in trades(orders_run(tmp_path / "run")) for point in trade.points]
        assert doubtful(points) == "Off by over 1 % at over 1 % of the arguments: ea-series t=2."

    def test_a_run_without_approximations_has_none(self, run: Run) -> None:
        assert trades(run) == []


class TestFigure:
    def test_a_panel_for_either_cost_at_every_length(self, tmp_path: Path) -> None:
        ((stem, figure),) = drawn(orders_run(tmp_path / "run"), "pareto").items()
        assert stem == "pareto-element-wise-op-forward-float32-full"
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert titles == [
            f"L = {length}: error against {cost}"
            for length in ("512", "2k")
            for cost in ("latency", "memory")
        ]

    def test_every_order_is_named_and_the_exact_one_stands_on_its_strip(self, tmp_path: Path) -> None:
        (figure,) = drawn(orders_run(tmp_path / "run"), "pareto").values()
        for axes in figure.axes:
            assert {text.get_text() for text in axes.texts} == {f"t={order}" for order in ORDERS}
            assert axes.get_yticklabels()[0].get_text() == "exact"
            (line,) = (line for line in axes.get_lines() if line.get_label() == "element-wise/eager")
            assert float(line.get_ydata()[0]) == pytest.approx(axes.get_yticks()[0])  # type: ignore[index, arg-type]

    def test_dominated_points_are_hollow(self, tmp_path: Path) -> None:
        run = orders_run(tmp_path / "run", made_up.measured(0.03, 1000), lengths=(512,))
        (figure,) = drawn(run, "pareto").values()
        faces = [
            line.get_markerfacecolor() for line in figure.axes[0].get_lines() if line.get_label() == "_point"
        ]
        assert sum(face == "#FFFFFF" for face in faces) == 2  # orders 6 and 8, of five points

    def test_two_forms_of_one_order_have_ticks_around_them(self, tmp_path: Path) -> None:
        outcomes = {
            case: approximation(case)
            for case in (made_up.case(f"ea-series/{backend}", order=6) for backend in ("eager", "fused"))
        }
        (figure,) = drawn(made_up.write_run(tmp_path / "run", outcomes), "pareto").values()
        assert all(len(axes.get_yticks()) > 2 for axes in figure.axes)
        assert "was not measured at L = 128." in " ".join(text.get_text() for text in texts_of(figure))

    def test_ticks_of_errors_have_no_rows_of_zeros(self) -> None:
        assert [error_tick(error) for error in (0.2, 0.01, 1e-5, 1e-8, 2e-12)] == [
            "20 %", "1 %", "0.001 %", "1e-6 %", "2e-10 %",
        ]  # fmt: skip

    def test_a_lone_approximation_is_no_figure(self, tmp_path: Path) -> None:
        case = made_up.case("ea-series/eager", order=6)
        assert drawn(made_up.write_run(tmp_path / "run", {case: approximation(case)}), "pareto") == {}

    @pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.size)
    def test_texts_neither_overlap_nor_leave_the_figure(self, tmp_path: Path, look: Look) -> None:
        ((_, figure),) = figures.draw(orders_run(tmp_path / "run"), "pareto", look)
        assert (overlaps(figure), overflows(figure)) == ([], [])
        assert figure.get_figwidth() == pytest.approx(look.width)

    def test_a_run_without_approximations_is_told_what_it_needs(self, run: Run, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="needs an approximation beside another order"):
            figures.plot(run, ["pareto"], out_dir=tmp_path)
