"""Who wins where: the map of winners, what may compete, and when a win is clear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import made_up
import pytest
from matplotlib.patches import Rectangle
from test_figures import drawn, overflows, overlaps, texts_of

from elattn_bench import figures
from elattn_bench.cases import Case
from elattn_bench.errors import UsageError
from elattn_bench.figures.header import caption
from elattn_bench.figures.look import Look, find_look
from elattn_bench.results import Measurement, Outcome
from elattn_bench.rundir import Run
from elattn_bench.verdicts.winners import winner_maps

LENGTHS, DIMS = (512, 1024, 4096), (64, 256)
LOOKS = [find_look(size="single"), find_look("slides")]  # committed runs: tests/test_verdict_figures.py


def map_run(path: Path, law: Callable[[Case], Outcome | None] = lambda case: None) -> Run:
    """Quadratic softmax and linear attentions over lengths and dims, but for what the law says."""
    outcomes: dict[Case, Outcome] = {}
    for dim in DIMS:
        for case in made_up.cases(
            ["softmax/sdpa", "linear/eager", "ea-series/eager"], LENGTHS, (2, 6), dim=dim
        ):
            outcomes[case] = law(case) or made_up.LAWS[case.impl](case)
    return made_up.write_run(path, outcomes)


class TestMap:
    def test_the_line_with_the_lowest_median_wins_each_cell(self, tmp_path: Path) -> None:
        (found,) = winner_maps(map_run(tmp_path / "run"))
        assert (found.lengths, found.dims) == (list(LENGTHS), list(DIMS))
        for (length, _), cell in found.cells.items():  # made so that they cross at L = 2000
            assert cell.row.label == ("linear/eager" if length > 2000 else "softmax/sdpa")
            assert cell.clear

    def test_the_gain_is_the_reference_over_the_winner(self, tmp_path: Path) -> None:
        (found,) = winner_maps(map_run(tmp_path / "run"))
        assert found.cells[4096, 64].gain == pytest.approx(4096 / 2000)
        assert found.cells[512, 64].gain == 1

    def test_a_lower_order_does_not_compete_with_the_default(self, tmp_path: Path) -> None:
        def law(case: Case) -> Outcome | None:
            return made_up.measured(1e-3 * (case.order or 1)) if case.order else None

        (found,) = winner_maps(map_run(tmp_path / "run", law))
        assert {row.label for row in found.winners} == {"ea-series/eager t=6"}

    def test_a_win_within_the_intervals_is_not_clear(self, tmp_path: Path) -> None:
        def law(case: Case) -> Outcome | None:
            return made_up.measured(1.0 if case.order else 1.001)

        (found,) = winner_maps(map_run(tmp_path / "run", law))
        assert not any(cell.clear for cell in found.cells.values())

    def test_a_win_of_or_over_a_disturbed_row_is_not_clear(self, tmp_path: Path) -> None:
        def law(case: Case) -> Outcome | None:
            found = made_up.LAWS[case.impl](case)
            if isinstance(found, Measurement) and case.impl == "softmax/sdpa":
                return replace(found, stability="noisy")
            return None

        (found,) = winner_maps(map_run(tmp_path / "run", law))
        assert not any(cell.clear for cell in found.cells.values())  # softmax is first or second everywhere

    def test_equal_bytes_are_no_clear_win(self, tmp_path: Path) -> None:
        def law(case: Case) -> Outcome | None:
            return made_up.measured(1.0, 4096)

        (found,) = winner_maps(map_run(tmp_path / "run", law), "memory")
        assert not any(cell.clear for cell in found.cells.values())

    def test_where_the_reference_failed_its_end_stands_instead_of_a_gain(self, tmp_path: Path) -> None:
        def law(case: Case) -> Outcome | None:
            return made_up.OOM if case.impl == "softmax/sdpa" and case.seq_len == 4096 else None

        (found,) = winner_maps(map_run(tmp_path / "run", law))
        cell = found.cells[4096, 64]
        assert (cell.gain, cell.reference) == (None, "oom")

    def test_one_dim_makes_no_map(self, run: Run) -> None:
        assert winner_maps(run) == []

    def test_a_cell_in_which_nothing_was_measured_is_missing(self, tmp_path: Path) -> None:
        def law(case: Case) -> Outcome | None:
            return made_up.TIMEOUT if (case.seq_len, case.dim) == (4096, 256) else None

        (found,) = winner_maps(map_run(tmp_path / "run", law))
        assert len(found.cells) == len(LENGTHS) * len(DIMS) - 1


class TestFigure:
    def test_every_cell_says_the_gain_in_both_panels(self, tmp_path: Path) -> None:
        (figure,) = drawn(map_run(tmp_path / "run"), "winners").values()
        latency, memory = figure.axes
        assert sorted(text.get_text() for text in latency.texts) == sorted(["1.0x"] * 4 + ["2.0x"] * 2)
        assert len(memory.texts) == 6

    def test_what_is_not_clear_is_hatched_and_has_a_tilde(self, tmp_path: Path) -> None:
        def law(case: Case) -> Outcome | None:
            return made_up.measured(1.0 if case.seq_len > 512 or case.order else 2.0, case.seq_len)

        (figure,) = drawn(map_run(tmp_path / "run", law), "winners").values()
        words = [text.get_text() for text in figure.axes[0].texts]
        hatched = [
            patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle) and patch.get_hatch()
        ]
        assert len(hatched) == sum(word.startswith("~") for word in words) == 4

    def test_a_cell_with_one_line_alone_is_in_brackets(self, tmp_path: Path) -> None:
        def law(case: Case) -> Outcome | None:
            return None if case.impl == "linear/eager" or case.seq_len < 4096 else made_up.TIMEOUT

        (figure,) = drawn(map_run(tmp_path / "run", law), "winners").values()
        assert [text.get_text() for text in figure.axes[0].texts].count("(timeout)") == len(DIMS)
        assert "nothing else was measured" in " ".join(text.get_text() for text in texts_of(figure))

    def test_the_legend_names_the_winners_and_nobody_else(self, tmp_path: Path) -> None:
        run = map_run(tmp_path / "run")
        (figure,) = drawn(run, "winners").values()
        maps = [found for metric in ("latency", "memory") for found in winner_maps(run, metric)]
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        assert set(names) == {row.label for found in maps for row in found.winners}
        assert len(names) == 3  # of four lines: order 2 does not compete

    @pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.size)
    def test_texts_neither_overlap_nor_leave_the_figure(self, tmp_path: Path, look: Look) -> None:
        ((_, figure),) = figures.draw(map_run(tmp_path / "run"), "winners", look)
        assert (overlaps(figure), overflows(figure)) == ([], [])

    def test_lengths_whose_numbers_would_not_fit_are_left_out_and_it_is_said(self, tmp_path: Path) -> None:
        def law(case: Case) -> Outcome:
            return made_up.measured(1.0 if case.attention == "linear" else 1234.5)

        lengths = [2**power for power in range(4, 18)]
        outcomes = {
            case: law(case)
            for dim in DIMS
            for case in made_up.cases(["softmax/sdpa", "linear/eager"], lengths, dim=dim)
        }
        ((_, figure),) = figures.draw(
            made_up.write_run(tmp_path / "run", outcomes), "winners", find_look(size="single")
        )
        assert {text.get_text() for text in figure.axes[0].texts} == {"1234x"}
        shown = len(figure.axes[0].get_xticks())
        assert 7 < shown < len(lengths)
        assert f"Shown: {shown} of 14 lengths." in caption(figure)
        assert overlaps(figure) == []

    def test_a_run_of_one_dim_is_told_what_it_needs(self, run: Run, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="needs two lengths and two dims"):
            figures.plot(run, ["winners"], out_dir=tmp_path)
