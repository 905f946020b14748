"""The figure of ranks: what stands in its panels, that nothing overlaps, and which ranks other figures show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import spread_runs
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from test_figures import drawn, lines_of, overflows, overlaps, texts_of

from elattn_bench import figures
from elattn_bench.commands.plot import plot
from elattn_bench.errors import UsageError
from elattn_bench.figures.kinds import KINDS
from elattn_bench.figures.look import Look, find_look
from elattn_bench.rundir import Run

LOOKS = [find_look(), find_look(size="single"), find_look(size="double"), find_look("slides")]


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four attentions at three lengths on 1, 2 and 4 ranks; softmax is out of memory at the longest on one."""
    return spread_runs.write_run(tmp_path_factory.mktemp("runs") / "spread", spread_runs.cases())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two kinds of device, three hosts, in one piece and on 1 and 2 ranks."""
    return spread_runs.write_cluster_run(tmp_path_factory.mktemp("runs") / "cluster")


@pytest.fixture(scope="module")
def figure(spread: Run) -> Figure:
    (found,) = drawn(spread, "ranks").values()
    return found


def panel(figure: Figure, head: str) -> Axes:
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left") == head)
    return axes


def line_of(axes: Axes, label: str) -> np.ndarray:
    """The heights of a line of error bars, whose label is its container's."""
    (found,) = (bars for bars in axes.containers if bars.get_label() == label)
    return np.asarray(found[0].get_ydata(), float)


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in texts_of(figure)).replace("\n", " ")


class TestPanels:
    def test_latency_falls_with_ranks_beside_its_ideal(self, spread: Run, figure: Figure) -> None:
        axes = panel(figure, "latency, L = 1M")
        rows = [row for row in spread.rows if row.label == "linear/eager" and row.seq_len == 2**20]
        measured = [row.latency_ms_p50 for row in rows]
        assert line_of(axes, "linear/eager") == pytest.approx(np.array(measured, float))
        (ideal,) = (line for line in axes.get_lines() if line.get_label() == "_expected of linear/eager")
        first = float(measured[0] or 0)
        assert np.asarray(ideal.get_ydata(), float) == pytest.approx(first / np.array([1, 2, 4]))

    def test_efficiency_is_a_share_from_nothing_up(self, figure: Figure) -> None:
        axes = panel(figure, "efficiency, L = 1M")
        assert axes.get_ylim()[0] == 0
        assert line_of(axes, "linear/eager") == pytest.approx([1, 0.976, 0.909], abs=1e-3)
        assert line_of(axes, "softmax/sdpa") == pytest.approx([1, 0.998], abs=1e-3)

    def test_bytes_received_are_flat_of_sums_and_rise_with_length_of_keys(self, figure: Figure) -> None:
        axes = panel(figure, "received, 4 ranks")
        assert set(line_of(axes, "ea-series/eager t=6")) == {28_672}
        softmax = line_of(axes, "softmax/sdpa")
        assert softmax[1:] / softmax[:-1] == pytest.approx([2, 2])

    def test_where_the_shard_stays_as_long_the_time_of_quadratic_attention_grows(
        self, figure: Figure
    ) -> None:
        axes = panel(figure, "time, L = 256k each")
        assert line_of(axes, "softmax/sdpa")[-1] == pytest.approx(4, rel=0.02)
        assert line_of(axes, "linear/eager")[-1] == pytest.approx(1.1, rel=0.02)
        efficiency = line_of(panel(figure, "efficiency, L = 256k each"), "softmax/sdpa")
        assert efficiency[-1] == pytest.approx(1, rel=0.02)

    def test_memory_is_that_of_a_rank(self, figure: Figure) -> None:
        memory = line_of(panel(figure, "memory of a rank, L = 1M"), "linear/eager")
        assert memory[0] / memory == pytest.approx([1, 2, 4])

    def test_what_is_missing_and_what_covers_what_is_said(self, figure: Figure) -> None:
        shown = words(figure)
        assert "Not measured at L = 1M: softmax/sdpa on 1 rank (oom)." in shown
        assert "Efficiency of softmax/sdpa from 2 ranks on." in shown
        assert "Alike in memory: ea-series/eager t=6, efficient/eager, linear/eager." in shown

    def test_one_number_of_ranks_is_no_figure(self, tmp_path: Path) -> None:
        run = spread_runs.write_run(tmp_path / "run", spread_runs.cases(["linear/eager"], ranks=[2]))
        with pytest.raises(UsageError, match="sweep with --ranks 1,2,4"):
            figures.plot(run, ["ranks"], out_dir=tmp_path)


class TestLooks:
    @pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.size)
    def test_texts_neither_overlap_nor_leave_the_figure(self, spread: Run, cluster: Run, look: Look) -> None:
        for run in (spread, cluster):
            for _, figure in figures.draw(run, "ranks", look):
                assert (overlaps(figure), overflows(figure)) == ([], [])
                width, height = figure.get_size_inches()
                assert width == pytest.approx(look.width)
                assert look.height is None or height == pytest.approx(look.height)

    def test_a_slide_has_three_panels_and_a_column_four(self, spread: Run) -> None:
        panels = [len(figure.axes) for look in LOOKS for _, figure in figures.draw(spread, "ranks", look)]
        assert panels == [6, 4, 6, 3]


class TestOtherKinds:
    def test_they_show_the_fewest_ranks_alone(self, spread: Run) -> None:
        for kind in ("latency", "memory", "scaling"):
            (figure,) = drawn(spread, kind).values()
            assert "1 rank," in words(figure)
        assert list(drawn(spread, "latency")) == ["latency-op-forward-float32-full-1-rank"]

    def test_others_where_they_are_asked_for(
        self, spread: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plot(spread.path, "latency", "png", tmp_path, "paper", None, None, ["ranks=4"])
        assert capsys.readouterr().out.strip().endswith("latency-op-forward-float32-full-4-ranks.png")

    def test_what_is_not_spread_is_fewer_than_one_rank(self, cluster: Run) -> None:
        assert list(drawn(cluster, "latency")) == [
            f"latency-op-forward-float32-full-on-{kind}" for kind in ("a100", "h100")
        ]

    def test_no_two_figures_of_a_run_have_one_name(self, spread: Run, cluster: Run) -> None:
        for run in (spread, cluster):
            stems = [stem for kind in KINDS for stem in drawn(run, kind)]
            assert len(stems) == len(set(stems)) > 3


class TestHosts:
    def test_a_figure_of_one_kind_of_device_names_that_device_and_its_hosts(self, cluster: Run) -> None:
        shown = words(drawn(cluster, "latency")["latency-op-forward-float32-full-on-h100"])
        assert "NVIDIA H100; run cluster, on 2 hosts: node-a, node-b" in shown
        assert "on H100" in shown
        assert "A100" not in shown

    def test_lines_run_through_the_rows_of_all_hosts(self, cluster: Run) -> None:
        figure = drawn(cluster, "latency")["latency-op-forward-float32-full-on-h100"]
        assert {len(heights) for heights in lines_of(figure.axes[0]).values()} == {2}

    def test_ceilings_of_one_device_are_no_roof_of_ranks_or_of_other_devices(
        self, run: Run, spread: Run, cluster: Run
    ) -> None:
        ceilings = {"dram_bytes_per_s": 2e10, "matmul_flops_per_s": {"float32": 1e11}}
        drawn_of = [
            len(drawn(replace(each, info={**each.info, "ceilings": ceilings}), "roofline"))
            for each in (run, spread, cluster)
        ]
        assert drawn_of == [1, 0, 0]
