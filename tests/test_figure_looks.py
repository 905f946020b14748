"""Figures in every style and size: nothing overlaps, every letter and line can be read, files are fit for print."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import made_up
import numpy as np
import pytest
from colour_vision import VISIONS, difference
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from test_decode_figures import cached_run
from test_figures import MEASURED, ends, lines_of, many_lines, overflows, overlaps, texts_of

from elattn_bench import figures
from elattn_bench.errors import UsageError
from elattn_bench.figures.header import caption
from elattn_bench.figures.look import SIZES, STYLES, Look, find_look
from elattn_bench.figures.palette import contrast
from elattn_bench.figures.style import Line, assign_styles
from elattn_bench.rundir import Run, read_run

# Every size, and every style once: colours move nothing.
LOOKS = [("paper", "single"), ("paper", "double"), ("slides", "slide"), ("dark", "readme")]
COMMITTED = Path(__file__).parent.parent / "docs" / "results" / "amd-epyc-2-cores-taylor-shift"
SEEN_APART = 10.0  # Delta E: four times what is just noticeable


def drawn(run: Run, kind: str, look: Look) -> dict[str, Figure]:
    return dict(figures.draw(run, kind, look))


def every(run: Run, look: Look) -> Iterator[Figure]:
    for kind in MEASURED:
        yield from ends(drawn(run, kind, look))


@pytest.fixture(scope="module")
def grid_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four dims and two batches, some cases out of memory or time."""
    cases = [
        case
        for batch in (1, 4)
        for dim in (64, 128, 256, 512)
        for case in made_up.cases(made_up.LAWS, (128, 1024, 8192), orders=(2, 6), batch=batch, dim=dim)
    ]
    return made_up.write_run(tmp_path_factory.mktemp("runs") / "grid", cases)


@pytest.fixture(scope="module")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return many_lines(tmp_path_factory.mktemp("runs") / "full", [2**n for n in range(7, 17)], dim=512)


class TestLayout:
    @pytest.mark.parametrize(("style", "size"), LOOKS)
    def test_no_texts_overlap_or_leave_the_figure(
        self, grid_run: Run, full_run: Run, tmp_path: Path, style: str, size: str
    ) -> None:
        look = find_look(style, size)
        for run in (grid_run, full_run, cached_run(tmp_path / "run"), read_run(COMMITTED)):
            for figure in every(run, look):
                assert overlaps(figure) == []
                assert overflows(figure) == []

    @pytest.mark.parametrize(("style", "size"), LOOKS)
    def test_a_figure_has_the_width_of_its_size_and_a_slide_its_height(
        self, grid_run: Run, style: str, size: str
    ) -> None:
        look = find_look(style, size)
        for figure in every(grid_run, look):
            width, height = figure.get_size_inches()
            assert width == pytest.approx(look.width)
            assert look.height is None or height == pytest.approx(look.height)

    def test_a_slide_is_a_screen(self, run: Run, tmp_path: Path) -> None:
        (path,) = figures.plot(run, ["scaling"], out_dir=tmp_path, look=find_look("slides"))
        assert imread(path).shape[:2] == (1080, 1920)

    def test_in_a_single_column_panels_stand_below_each_other(self, grid_run: Run) -> None:
        latency, memory = drawn(grid_run, "scaling", find_look(size="single"))["scaling"].axes
        assert latency.get_position().x0 == memory.get_position().x0
        assert latency.get_position().y0 > memory.get_position().y1

    def test_in_a_single_column_four_dims_are_two_rows_and_batches_are_files(self, grid_run: Run) -> None:
        found = drawn(grid_run, "latency", find_look(size="single"))
        assert list(found) == [f"latency-op-forward-float32-full-batch{batch}" for batch in (1, 4)]
        for figure in found.values():
            assert [axes.get_title() for axes in figure.axes] == [f"dim {dim}" for dim in (64, 128, 256, 512)]
            assert len({round(axes.get_position().y0, 6) for axes in figure.axes}) == 2

    def test_lines_that_all_end_in_the_last_column_are_named_there(self, grid_run: Run) -> None:
        figure = drawn(grid_run, "latency", find_look())["latency-op-forward-float32-full"]
        assert not figure.legends
        for axes in figure.axes:
            named = set(lines_of(axes)) & {text.get_text() for text in axes.texts}
            assert named == (set(lines_of(axes)) if axes in (figure.axes[3], figure.axes[7]) else set())

    def test_a_line_that_the_last_column_lacks_calls_for_a_legend(self, tmp_path: Path) -> None:
        cases = [made_up.case(), made_up.case("linear/eager"), made_up.case(dim=128)]
        (figure,) = drawn(made_up.write_run(tmp_path / "run", cases), "latency", find_look()).values()
        (legend,) = figure.legends
        assert {text.get_text() for text in legend.get_texts()} == {"softmax/sdpa", "linear/eager"}

    def test_no_value_is_named_where_failures_stand(self, full_run: Run) -> None:
        for figure in every(full_run, find_look("slides")):
            for axes in figure.axes:
                marks = [
                    line for line in axes.get_lines() if line.get_transform() == axes.get_xaxis_transform()
                ]
                lanes = [float(np.asarray(line.get_ydata())[0]) for line in marks]
                to_shares = axes.transData + axes.transAxes.inverted()
                ticks = [to_shares.transform((1, tick))[1] for tick in axes.get_yticks()]
                assert not lanes or max(ticks) < min(lanes)


class TestLetters:
    @pytest.mark.parametrize(("style", "size"), LOOKS)
    def test_letters_are_large_enough(self, grid_run: Run, style: str, size: str) -> None:
        smallest = 12 if size == "slide" else 6
        for figure in every(grid_run, find_look(style, size)):
            assert min(float(text.get_fontsize()) for text in texts_of(figure)) >= smallest

    @pytest.mark.parametrize("style", ["paper", "dark"])
    def test_letters_stand_out_from_the_ground(self, grid_run: Run, full_run: Run, style: str) -> None:
        look = find_look(style)
        for run in (grid_run, full_run):
            for figure in every(run, look):
                assert to_hex(figure.get_facecolor()) == look.ground.lower()
                colors = {to_hex(text.get_color()) for text in texts_of(figure)}
                assert min(contrast(color, look.ground) for color in colors) >= 4.5

    def test_a_title_replaces_every_figures_own(self, grid_run: Run) -> None:
        for size in SIZES:
            for figure in every(grid_run, find_look(size=size, title="Our title")):
                seen = [text.get_text() for text in figure.texts]
                assert "Our title" in seen
                assert not any(" against " in text for text in seen)

    def test_a_long_title_takes_more_lines_and_an_empty_one_none(self, grid_run: Run) -> None:
        own = drawn(grid_run, "scaling", find_look())["scaling"]
        none = drawn(grid_run, "scaling", find_look(title=""))["scaling"]
        long = drawn(grid_run, "scaling", find_look(title="Attention of linear cost " * 6))["scaling"]
        assert none.get_size_inches()[1] < own.get_size_inches()[1] < long.get_size_inches()[1]
        assert overflows(long) == []
        assert overlaps(long) == []

    def test_print_leaves_to_the_caption_what_a_readme_shows(self, grid_run: Run) -> None:
        shown = drawn(grid_run, "scaling", find_look())["scaling"]
        header = " ".join(text.get_text() for text in shown.texts)
        printed = drawn(grid_run, "scaling", find_look(size="double"))["scaling"]
        assert not printed.texts
        assert not caption(shown)
        for words in (
            "Latency and peak memory",
            "Made-up CPU 9000",
            "run grid",
            "batch 1, dim 512",
            "median",
        ):
            assert words in header
            assert words in caption(printed)


class TestColours:
    @pytest.mark.parametrize("vision", [vision for vision in VISIONS if vision != "grey"])
    @pytest.mark.parametrize("style", ["paper", "dark"])
    @pytest.mark.parametrize("size", ["readme", "single"])
    def test_two_lines_differ_in_colour_or_in_marker_and_dashes(
        self, full_run: Run, style: str, size: str, vision: str
    ) -> None:
        styles = assign_styles(map(Line.of, full_run.rows), find_look(style, size))
        for one, other in combinations(styles.values(), 2):
            apart = difference(one.color, other.color, vision) >= SEEN_APART
            assert apart or (one.marker != other.marker and one.dashes != other.dashes)

    @pytest.mark.parametrize("style", ["paper", "dark"])
    def test_attentions_differ_in_a_print_in_grey(self, tmp_path: Path, style: str) -> None:
        names = ("softmax", "ea-series", "efficient", "element-wise", "hadamard", "linear", "poly-nl", "s2")
        rows = made_up.write_run(
            tmp_path / "run", {made_up.case(f"{name}/eager"): made_up.measured(1) for name in names}
        ).rows
        styles = assign_styles(map(Line.of, rows), find_look(style, "single")).values()
        assert len({style.marker for style in styles}) == len(names)
        for one, other in combinations(styles, 2):
            assert one.dashes != other.dashes or difference(one.color, other.color, "grey") >= SEEN_APART

    def test_on_a_dark_ground_softmax_is_light_and_lines_are_seen(self, full_run: Run) -> None:
        look = find_look("dark")
        styles = assign_styles(map(Line.of, full_run.rows), look)
        assert styles["softmax/sdpa"].color == look.ink.lower()
        # WCAG 2.2, success criterion 1.4.11: graphical objects.
        assert min(contrast(style.color, look.ground) for style in styles.values()) >= 3


class TestFiles:
    @pytest.mark.parametrize("size", ["readme", "single"])
    def test_pdfs_embed_truetype_and_hold_no_pixels(self, run: Run, tmp_path: Path, size: str) -> None:
        for path in figures.plot(run, None, ["pdf"], tmp_path, find_look(size=size)):
            content = path.read_bytes()
            assert b"/FontFile2" in content
            assert b"/CIDFontType2" in content or b"/TrueType" in content
            assert b"/Type3" not in content
            assert b"/Subtype /Image" not in content

    def test_svgs_hold_outlines_and_no_pixels(self, run: Run, tmp_path: Path) -> None:
        for path in figures.plot(run, None, ["svg"], tmp_path):
            content = path.read_text()
            assert "<path" in content
            assert "<text" not in content
            assert "<image" not in content

    def test_processes_with_other_hashes_write_the_same_bytes(self, run: Run, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from elattn_bench import figures\n"
            "from elattn_bench.figures.look import find_look; from elattn_bench.rundir import read_run\n"
            "run, out = map(Path, sys.argv[1:])\n"
            "for size in ('readme', 'single'):\n"
            "    kinds = ['scaling', 'order']\n"
            "    figures.plot(read_run(run), kinds, figures.FORMATS, out / size, find_look(size=size))\n"
        )
        for seed in ("1", "2"):
            words = [sys.executable, "-c", code, str(run.path), str(tmp_path / seed)]
            subprocess.run(words, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        one, other = (sorted((tmp_path / seed).glob("*/*")) for seed in ("1", "2"))
        assert len(one) == len(other) == 12
        for first, second in zip(one, other, strict=True):
            assert first.read_bytes() == second.read_bytes(), first.name


class TestChoice:
    def test_slides_are_slides_and_others_fit_a_readme(self) -> None:
        assert find_look("slides") == find_look("slides", "slide")
        assert find_look() == find_look("paper", "readme") == Look()
        assert all(find_look(style).style == style for style in STYLES)

    @pytest.mark.parametrize(
        ("style", "size", "message"),
        [
            ("papr", None, "did you mean 'paper'"),
            ("paper", "singel", "did you mean 'single'"),
            ("slides", "single", r"slides have one size, 13.33 x 7.5 inches; drop --size"),
        ],
    )
    def test_what_cannot_be_is_refused(self, style: str, size: str | None, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            find_look(style, size)

    def test_the_command_names_files_on_stdout_and_says_captions_on_stderr(
        self, run: Run, tmp_path: Path
    ) -> None:
        command = [sys.executable, "-m", "elattn_bench", "plot", str(run.path), "--kind", "scaling,order"]
        options = ["--size", "double", "--title", "Ours", "-f", "png,pdf", "-o", str(tmp_path)]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
        assert [Path(line).name for line in done.stdout.splitlines()][:2] == ["scaling.png", "scaling.pdf"]
        said = done.stderr.splitlines()
        assert len(said) == len(done.stdout.splitlines()) / 2
        assert said[0].startswith(
            "scaling: Ours. Made-up CPU 9000, 2 threads; run made-up. op level, forward"
        )
