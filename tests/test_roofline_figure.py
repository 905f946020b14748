"""The roofline's figure: roofs by the run's ceilings, points by the rows' work, names that cover nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_figures import boxes_of, drawn, lines_of, overflows, texts_of

from elattn_bench import figures
from elattn_bench.errors import UsageError
from elattn_bench.figures.look import Look, find_look
from elattn_bench.figures.roofline_plan import intensity, reached, roofs
from elattn_bench.figures.tags import Tag, around, place_tags
from elattn_bench.roofline import Ceilings
from elattn_bench.rundir import Run

CEILINGS = Ceilings(4e10, 2e11, 2**25, {"float32": 1e12, "float64": 2e11})
LOOKS = [find_look(size="single"), find_look("slides")]  # committed runs: tests/test_verdict_figures.py


@pytest.fixture(scope="module")
def roofed(run: Run) -> Run:
    return replace(run, info={**run.info, "ceilings": CEILINGS.to_json()})


def test_slopes_are_bandwidths_and_the_level_is_the_matmul_rate_of_the_dtype() -> None:
    cache, memory, matmul = roofs(CEILINGS, "float64")
    assert (cache.at(2.0), memory.at(2.0), matmul.at(2.0)) == (4e11, 8e10, 2e11)


def test_a_dtype_that_nobody_multiplied_has_no_level() -> None:
    assert [roof.level for roof in roofs(CEILINGS, "bfloat16")] == [None, None]


def test_each_line_ends_in_its_longest_length(roofed: Run) -> None:
    (figure,) = drawn(roofed, "roofline").values()
    (last,) = (row for row in roofed.rows if row.label == "linear/eager" and row.seq_len == 32768)
    assert lines_of(figure.axes[0])["linear/eager"] == pytest.approx([reached(last)])
    assert reached(last) == pytest.approx((last.gflops_per_s or 0) * 1e9, rel=1e-4)


def test_a_slope_bends_where_it_meets_the_level(roofed: Run) -> None:
    (figure,) = drawn(roofed, "roofline").values()
    lines = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    memory = next(line for name, line in lines.items() if name.startswith("_memory"))
    assert np.asarray(memory.get_xdata(), float)[-1] == pytest.approx(1e12 / 4e10)
    assert np.asarray(memory.get_ydata(), float)[-1] == pytest.approx(1e12)


def test_only_the_default_order_is_shown(roofed: Run) -> None:
    (figure,) = drawn(roofed, "roofline").values()
    shown = {name for name in lines_of(figure.axes[0]) if not name.startswith("_")}
    assert "ea-series/eager t=6" in shown
    assert "ea-series/eager t=2" not in shown


def test_the_caption_says_that_element_wise_work_has_no_flat_roof(roofed: Run) -> None:
    (figure,) = drawn(roofed, "roofline").values()
    words = " ".join(text.get_text() for text in texts_of(figure))
    assert "the roof is bandwidth" in words


def test_a_run_without_ceilings_draws_nothing_and_says_why(run: Run, tmp_path: Path) -> None:
    assert drawn(run, "roofline") == {}
    with pytest.raises(UsageError, match="runs of schema 1 lack"):
        figures.plot(run, ["roofline"], out_dir=tmp_path)


def slanted(figure: Figure) -> set[str]:
    return {text.get_text() for text in texts_of(figure) if text.get_rotation() % 90}


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.size)
def test_texts_neither_overlap_nor_leave_the_figure(roofed: Run, look: Look) -> None:
    ((_, figure),) = figures.draw(roofed, "roofline", look)
    assert overflows(figure) == []
    # The box of a slanted text is far larger than the text.
    level = [(text, box.padded(-0.5)) for text, box in boxes_of(figure) if text not in slanted(figure)]
    pairs = [(a, b) for i, (a, one) in enumerate(level) for b, other in level[:i] if one.overlaps(other)]
    assert pairs == []


def test_every_line_is_named_beside_its_mark_or_in_the_legend(roofed: Run) -> None:
    for look in LOOKS:
        ((_, figure),) = figures.draw(roofed, "roofline", look)
        named = {text.get_text() for text in texts_of(figure)}
        assert {name for name in lines_of(figure.axes[0]) if not name.startswith("_")} <= named


class TestTags:
    def test_a_label_stands_to_the_right_where_nothing_is_in_its_way(self) -> None:
        (side,) = place_tags([Tag("name", 50, 50)], (200, 100), 7)
        assert side
        assert (side.ha, side.va) == ("left", "center")

    def test_at_the_right_edge_it_goes_left(self) -> None:
        (side,) = place_tags([Tag("name", 198, 50)], (200, 100), 7)
        assert side
        assert side.ha == "right"

    def test_two_points_in_one_place_get_different_sides(self) -> None:
        one, other = place_tags([Tag("one", 50, 50), Tag("other", 50, 50)], (200, 100), 7)
        assert one
        assert other
        assert one != other

    def test_without_room_there_is_no_label(self) -> None:
        assert place_tags([Tag("name", 50, 50)], (100, 100), 7, [around(50, 50, 60)]) == [None]


def test_intensity_is_operations_over_bytes(run: Run) -> None:
    row = next(row for row in run.rows if row.label == "linear/eager")
    assert row.flops
    assert row.bytes_moved
    assert intensity(row) == row.flops / row.bytes_moved
