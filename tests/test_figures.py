"""What figures show, that their texts do not overlap, and that they are the same bytes every time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

import made_up
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from elattn_bench import figures
from elattn_bench.cases import Case
from elattn_bench.errors import RunDirError, UsageError
from elattn_bench.figures import style as figures_style
from elattn_bench.figures.style import COLORS, Line, assign_styles
from elattn_bench.results import Outcome
from elattn_bench.rundir import Run

IMPLS = (*made_up.LAWS, "efficient/eager", "element-wise/eager", "element-wise/sdpa", "hadamard/eager")
MEASURED = ("scaling", "latency", "memory", "decode", "order", "dim")
SIGNATURES = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def drawn(run: Run, kind: str) -> dict[str, Figure]:
    return dict(figures.draw(run, kind))


def ends(found: Mapping[str, Figure]) -> list[Figure]:
    """The first and the last of a kind: those between differ in their numbers."""
    figures_found = list(found.values())
    return figures_found[:1] + figures_found[1:][-1:]


def lines_of(axes: Axes) -> dict[str, np.ndarray]:
    """The lines with a name, and their heights."""
    named = {str(line.get_label()): line for line in axes.get_lines()}
    return {k: np.asarray(line.get_ydata(), float) for k, line in named.items() if not k.startswith("_")}


def texts_of(figure: Figure) -> list[Text]:
    """Every text that is seen."""
    found = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def boxes_of(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text with the place it takes; those outside of the figure altogether are not drawn."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    # Of an annotation the text alone, not its leader.
    found = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in texts_of(figure)]
    return [(text, box) for text, box in found if box.width and figure.bbox.overlaps(box)]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other."""
    boxes = [(text, box.padded(-0.5)) for text, box in boxes_of(figure)]
    return [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)]


def overflows(figure: Figure) -> list[str]:
    """Texts that leave the figure."""
    width, height = figure.bbox.width, figure.bbox.height
    return [
        text
        for text, box in boxes_of(figure)
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height
    ]


def many_lines(path: Path, lengths: Iterable[int], **axes: int) -> Run:
    """All impls; some out of memory, some out of time."""
    outcomes: dict[Case, Outcome] = {}
    for case in made_up.cases(IMPLS, lengths, orders=(2, 4, 6, 8), **axes):
        law = made_up.LAWS.get(case.impl, made_up.linear if case.backend == "eager" else made_up.quadratic)
        outcomes[case] = law(case)
    return made_up.write_run(path, outcomes)


@pytest.fixture(scope="module")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return many_lines(tmp_path_factory.mktemp("runs") / "full", [2**n for n in range(7, 17)], dim=512)


class TestWhatIsShown:
    def test_one_line_per_impl_and_order_with_its_medians(self, run: Run) -> None:
        (figure,) = drawn(run, "latency").values()
        lines = lines_of(figure.axes[0])
        assert set(lines) == {row.label for row in run.rows}
        medians = [row.latency_ms_p50 for row in run.rows if row.label == "linear/eager"]
        assert lines["linear/eager"] == pytest.approx(np.array(medians, float))

    def test_both_axes_are_logarithmic_and_lengths_are_powers_of_two(self, run: Run) -> None:
        for kind in ("latency", "memory", "scaling"):
            for axes in next(iter(drawn(run, kind).values())).axes:
                assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
                labels = [text.get_text() for text in axes.get_xticklabels()]
                assert labels[-1] == "32k"
                assert len(axes.get_xticks(minor=True)) == 0

    def test_memory_ticks_have_units(self, run: Run) -> None:
        (figure,) = drawn(run, "memory").values()
        labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert len(labels) > 2
        assert all(label.endswith("iB") for label in labels)

    def test_each_measured_line_has_its_quartile_band(self, run: Run) -> None:
        (figure,) = drawn(run, "latency").values()
        assert len(figure.axes[0].collections) == len({row.label for row in run.rows})

    def test_a_length_that_failed_breaks_the_line_and_is_marked_at_the_top(self, run: Run) -> None:
        axes = drawn(run, "latency").popitem()[1].axes[0]
        assert np.isnan(lines_of(axes)["softmax/sdpa"][-1])
        marks = [line for line in axes.get_lines() if line.get_transform() == axes.get_xaxis_transform()]
        assert {x for line in marks for x in line.get_xdata()} == {8192, 16384, 32768}  # type: ignore[union-attr]
        assert all(0.8 < float(np.asarray(line.get_ydata())[0]) < 1 for line in marks)
        assert {"oom", "timeout"} <= {text.get_text() for text in axes.texts}

    def test_marks_stay_clear_of_every_measured_value(self, full_run: Run) -> None:
        for kind in ("latency", "memory"):
            axes = drawn(full_run, kind).popitem()[1].axes[0]
            highest = max(np.nanmax(values) for values in lines_of(axes).values())
            marks = [line for line in axes.get_lines() if line.get_transform() == axes.get_xaxis_transform()]
            lowest = min(float(np.asarray(line.get_ydata())[0]) for line in marks)
            share = axes.transAxes.inverted().transform(axes.transData.transform((1, highest)))[1]
            assert share < lowest

    def test_many_failures_leave_half_of_the_panel_to_what_was_measured(self, tmp_path: Path) -> None:
        lost = dict.fromkeys(made_up.cases(["ea-series/eager"], [256], orders=range(2, 82, 2)), made_up.OOM)
        outcomes: dict[Case, Outcome] = {made_up.case(): made_up.measured(1), **lost}
        axes = drawn(made_up.write_run(tmp_path / "run", outcomes), "latency").popitem()[1].axes[0]
        assert axes.transAxes.inverted().transform(axes.transData.transform((128, 1)))[1] < 0.5

    def test_guides_have_slopes_one_and_two_and_cross_no_line(self, run: Run) -> None:
        axes = drawn(run, "latency").popitem()[1].axes[0]
        guides = [line for line in axes.get_lines() if line.get_color() == figures_style.GREY]
        slopes = [
            np.diff(np.log(line.get_ydata()))[0] / np.diff(np.log(line.get_xdata()))[0] for line in guides
        ]
        assert slopes == pytest.approx([1, 2])
        assert {"L", "L²"} <= {text.get_text() for text in axes.texts}
        lengths = sorted({row.seq_len for row in run.rows})
        for guide in guides:
            x = np.log(np.asarray(guide.get_xdata(), float))
            for values in lines_of(axes).values():
                there = np.interp(x, np.log(lengths), np.log(values), left=np.nan, right=np.nan)
                sides = np.sign(np.log(np.asarray(guide.get_ydata(), float)) - there)
                assert len(set(sides[~np.isnan(sides)])) <= 1

    def test_the_header_names_device_run_and_sizes(self, run: Run) -> None:
        for kind in ("latency", "scaling"):
            text = " ".join(text.get_text() for text in drawn(run, kind).popitem()[1].texts)
            assert "Made-up CPU 9000, 2 threads; run made-up" in text
            assert "op level, forward, float32, non-causal, heads 8, batch 1, dim 64" in text

    def test_errors_are_mentioned(self, tmp_path: Path) -> None:
        outcomes = {made_up.case(): made_up.measured(1), made_up.case(seq_len=256): made_up.ERROR}
        figure = drawn(made_up.write_run(tmp_path / "run", outcomes), "latency").popitem()[1]
        assert any("1 case ended with an error" in text.get_text() for text in figure.texts)


class TestFacets:
    def test_dims_are_columns_and_batches_rows(self, wide_run: Run) -> None:
        found = drawn(wide_run, "latency")
        assert list(found) == [
            "latency-op-forward-float32-full",
            "latency-op-train-float32-full",
            "latency-layer-forward-float32-full",
            "latency-layer-train-float32-full",
        ]
        figure = found["latency-op-forward-float32-full"]
        assert [axes.get_title() for axes in figure.axes] == ["dim 64", "dim 128", "dim 256", "", "", ""]
        assert {"batch 1", "batch 4"} <= {text.get_text() for axes in figure.axes for text in axes.texts}

    def test_panels_share_their_axes(self, wide_run: Run) -> None:
        figure = drawn(wide_run, "memory").popitem()[1]
        assert len({(*axes.get_xlim(), *axes.get_ylim()) for axes in figure.axes}) == 1

    def test_heads_are_separate_files(self, tmp_path: Path) -> None:
        cases = [made_up.case(heads=heads, seq_len=length) for heads in (1, 8) for length in (128, 256)]
        found = drawn(made_up.write_run(tmp_path / "run", cases), "latency")
        assert list(found) == [
            "latency-op-forward-float32-full-heads1",
            "latency-op-forward-float32-full-heads8",
        ]

    def test_too_many_panels_are_thinned_and_it_is_said(self, tmp_path: Path) -> None:
        cases = [
            made_up.case(dim=dim, batch=batch) for dim in (8, 16, 32, 64, 128, 256) for batch in range(1, 6)
        ]
        figure = drawn(made_up.write_run(tmp_path / "run", cases), "latency").popitem()[1]
        assert len(figure.axes) == 12
        assert any("Shown: 3 of 5 batches, 4 of 6 dims." in text.get_text() for text in figure.texts)

    def test_a_panel_without_cases_says_so(self, tmp_path: Path) -> None:
        cases = [made_up.case(), made_up.case(dim=128), made_up.case(batch=2)]
        figure = drawn(made_up.write_run(tmp_path / "run", cases), "latency").popitem()[1]
        assert [text.get_text() for text in figure.axes[3].texts] == ["batch 2", "not in this run"]

    def test_an_impl_in_one_facet_only_is_drawn_there_only(self, tmp_path: Path) -> None:
        cases = [made_up.case(), made_up.case(dim=128), made_up.case("linear/eager", dim=128)]
        figure = drawn(made_up.write_run(tmp_path / "run", cases), "latency").popitem()[1]
        assert [set(lines_of(axes)) for axes in figure.axes] == [
            {"softmax/sdpa"},
            {"softmax/sdpa", "linear/eager"},
        ]

    def test_orders_and_dims_get_their_own_figures(self, wide_run: Run) -> None:
        order = drawn(wide_run, "order")["order-op-forward-float32-full"]
        assert [text.get_text() for text in order.axes[-1].get_xticklabels()] == ["2", "4", "6", "8"]
        assert set(lines_of(order.axes[0])) == {f"ea-series/eager L={L}" for L in ("128", "512", "8k", "32k")}
        dim = drawn(wide_run, "dim")["dim-op-forward-float32-full"]
        assert [text.get_text() for text in dim.axes[-1].get_xticklabels()] == ["64", "128", "256"]
        assert dim.axes[0].get_title() == "L = 128"


class TestScaling:
    def test_it_shows_the_largest_dim_smallest_batch_and_one_order(self, wide_run: Run) -> None:
        figure = drawn(wide_run, "scaling")["scaling"]
        assert len(figure.axes) == 2
        assert any(
            "op level, forward" in t.get_text() and "batch 1, dim 256" in t.get_text() for t in figure.texts
        )
        assert [label for label in lines_of(figure.axes[0]) if "t=" in label] == ["ea-series/eager t=6"]

    def test_the_order_nearest_to_the_default_is_taken(self, tmp_path: Path) -> None:
        run = made_up.write_run(
            tmp_path / "run", made_up.cases(["ea-series/eager"], [128, 256], orders=(2, 4, 10))
        )
        assert list(lines_of(drawn(run, "scaling")["scaling"].axes[0])) == ["ea-series/eager t=4"]

    def test_lines_are_named_at_their_ends_and_more_than_fit_get_a_legend(
        self, full_run: Run, tmp_path: Path
    ) -> None:
        named = drawn(full_run, "scaling")["scaling"]
        assert not named.legends
        assert set(lines_of(named.axes[0])) <= {text.get_text() for text in named.axes[0].texts}
        impls = [f"softmax/{backend}" for backend in "abcdefghijklmnopqrstuvwxyz"]
        outcomes = {case: made_up.measured(case.seq_len) for case in made_up.cases(impls, [128, 256])}
        crowded = made_up.write_run(tmp_path / "run", outcomes)
        assert drawn(crowded, "scaling")["scaling"].legends

    def test_without_memory_there_is_one_panel(self, tmp_path: Path) -> None:
        outcomes = {case: made_up.measured(1, None) for case in made_up.cases(["softmax/sdpa"], [128, 256])}
        figure = drawn(made_up.write_run(tmp_path / "run", outcomes), "scaling")["scaling"]
        assert [axes.get_title("left") for axes in figure.axes] == ["latency of one call"]
        assert figure.texts[0].get_text() == "Latency against sequence length"


class TestReadability:
    @pytest.mark.parametrize("kind", MEASURED)
    def test_no_texts_overlap_or_leave_the_figure(self, wide_run: Run, full_run: Run, kind: str) -> None:
        for run in (wide_run, full_run):
            for figure in ends(drawn(run, kind)):
                assert overlaps(figure) == []
                assert overflows(figure) == []

    def test_a_long_run_name_stays_in_the_figure(self, tmp_path: Path) -> None:
        run = made_up.write_run(
            tmp_path / ("long " * 30 + "$x^2$"), [made_up.case(), made_up.case(seq_len=256)]
        )
        assert overflows(drawn(run, "latency").popitem()[1]) == []

    def test_no_two_lines_look_alike_in_grey(self, full_run: Run) -> None:
        styles = assign_styles(map(Line.of, full_run.rows))
        assert len({(style.marker, str(style.dashes)) for style in styles.values()}) == len(styles)

    def test_an_impl_looks_the_same_in_every_figure(self, wide_run: Run) -> None:
        looks: dict[str, set[tuple[object, object, object]]] = {}
        for kind in ("latency", "memory", "scaling", "dim"):
            for figure in drawn(wide_run, kind).values():
                for line in (line for axes in figure.axes for line in axes.get_lines()):
                    look = (line.get_color(), line.get_marker(), line.get_linestyle())
                    looks.setdefault(str(line.get_label()), set()).add(look)
        assert all(len(found) == 1 for label, found in looks.items() if not label.startswith("_"))

    def test_the_look_does_not_depend_on_the_order_of_measuring(self, full_run: Run) -> None:
        lines = [Line.of(row) for row in full_run.rows]
        assert assign_styles(lines) == assign_styles(reversed(lines))

    def test_orders_of_one_attention_are_shades_of_one_colour(self, full_run: Run) -> None:
        styles = assign_styles(map(Line.of, full_run.rows))
        shades = [styles[f"ea-series/eager t={order}"].color for order in (2, 4, 6, 8)]
        brightness = [sum(int(color[i : i + 2], 16) for i in (1, 3, 5)) for color in shades]
        assert brightness == sorted(brightness, reverse=True)
        assert len(set(shades)) == 4

    def test_softmax_is_black_and_no_other_attention_is(self, full_run: Run) -> None:
        styles = assign_styles(map(Line.of, full_run.rows))
        assert styles["softmax/sdpa"].color == "#000000"
        assert styles["linear/eager"].color in {color.lower() for color in COLORS}


class TestFiles:
    def test_every_format_is_what_it_says(self, run: Run, tmp_path: Path) -> None:
        for path in figures.plot(run, ["latency"], figures.FORMATS, tmp_path):
            assert path.read_bytes().startswith(SIGNATURES[path.suffix[1:]])

    def test_figures_go_into_the_run_unless_told_otherwise(self, tmp_path: Path) -> None:
        run = made_up.write_run(tmp_path / "run", [made_up.case()])
        (path,) = figures.plot(run, ["scaling"])
        assert path == run.path / "plots" / "scaling.png"

    def test_kinds_without_data_are_left_out_unless_asked_for(self, tmp_path: Path) -> None:
        run = made_up.write_run(tmp_path / "run", made_up.cases(["softmax/sdpa"], [128, 256]))
        names = {path.stem.partition("-")[0] for path in figures.plot(run)}
        assert names == {"scaling", "latency", "memory"}
        with pytest.raises(UsageError, match=r"--kind order: .*--order 2,6"):
            figures.plot(run, ["order"])

    def test_a_run_of_failures_has_nothing_to_draw(self, tmp_path: Path) -> None:
        run = made_up.write_run(tmp_path / "run", {made_up.case(): made_up.OOM})
        assert figures.plot(run) == []
        with pytest.raises(UsageError, match="at least one measured case"):
            figures.plot(run, ["latency"])

    def test_one_length_alone_is_drawn_as_points(self, tmp_path: Path) -> None:
        run = made_up.write_run(tmp_path / "run", made_up.cases(made_up.LAWS, [128], orders=(2, 6)))
        assert len(figures.plot(run)) == 4
        (figure,) = drawn(run, "latency").values()
        assert all(len(values) == 1 for values in lines_of(figure.axes[0]).values())

    def test_unknown_kinds_and_formats_are_refused_before_anything_is_written(
        self, run: Run, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match="did you mean 'latency'"):
            figures.plot(run, ["memory", "latncy"], out_dir=tmp_path / "out")
        with pytest.raises(UsageError, match="png, svg, pdf"):
            figures.plot(run, ["memory"], ["jpg"], out_dir=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_place_that_cannot_be_written_is_an_error_with_advice(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RunDirError, match="choose another directory with -o"):
            figures.plot(run, ["scaling"], out_dir=tmp_path / "file" / "plots")

    def test_importing_loads_neither_torch_nor_what_only_drawing_needs(self) -> None:
        modules = "analysis, figures, verdicts.pareto, tables.changes, tables.comparison, tables.render"
        imports = "; ".join(f"import elattn_bench.{name}" for name in modules.split(", "))
        heavy = "[name for name in ('torch', 'matplotlib', 'rich', 'tabulate') if name in sys.modules]"
        code = f"import sys; {imports}; print({heavy})"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "[]"
