"""Figures of verdicts on committed runs, in every style and size: read by every eye, fit for print, the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path

import made_up
import numpy as np
import pytest
from colour_vision import VISIONS, difference
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from test_figures import boxes_of, overflows, texts_of

from elattn_bench import figures
from elattn_bench.analysis import select
from elattn_bench.figures.header import caption
from elattn_bench.figures.history import draw_history
from elattn_bench.figures.history_panel import style_of
from elattn_bench.figures.look import SIZES, STYLES, Look, find_look
from elattn_bench.figures.palette import contrast
from elattn_bench.figures.style import house_style
from elattn_bench.figures.winners import tint
from elattn_bench.results import make_row
from elattn_bench.rundir import Run, read_run
from elattn_bench.verdicts.history import History, history

DOCS = Path(__file__).parent.parent / "docs" / "results"
# One run for each kind that has most of what can collide: many lines, many lengths, many orders, long names.
SHOWN = {
    "fits": ("amd-epyc-2-cores-kernels", "amd-epyc-2-cores-attentions"),
    "pareto": ("amd-epyc-2-cores-attentions",),
    "roofline": ("amd-epyc-2-cores-taylor-shift", "amd-epyc-2-cores-attentions"),
    "winners": ("amd-epyc-2-cores",),
}
# Every size, and every style once: colours move nothing.
LOOKS = [("paper", "single"), ("paper", "double"), ("slides", "slide"), ("dark", "readme")]


@cache
def run_of(name: str) -> Run:
    """Of a run the op, forward, without a mask: one setting, and what can collide is in it."""
    run = read_run(DOCS / name)
    return replace(run, rows=select(run.rows, level="op", mode="forward", causal=False))


@cache
def nightly() -> History:
    """Nine runs of five lines, with names that are long, in three settings: a step in one, a drift in another."""
    runs = []
    for number in range(9):
        rng = np.random.default_rng(number)
        rows = []
        for mode, dim in (("forward", 64), ("train", 64), ("train", 128)):
            impls = [*made_up.LAWS, "efficient/eager"]
            for case in made_up.cases(impls, (256, 1024, 4096), mode=mode, dim=dim):
                step = 1.6 if case.backend == "eager" and case.attention == "linear" and number > 4 else 1.0
                drift = 1.1**number if case.attention == "ea-series" else 1.0
                noise = float(np.exp(0.01 * rng.normal()))
                rows.append(make_row(case, made_up.measured(step * drift * noise)))
        path = Path(f"2026-11-{number:02d}-nightly")
        runs.append(Run(path, {"environment": made_up.ENVIRONMENT}, rows))
    return history(runs)


def drawn(kind: str, name: str, look: Look) -> Iterator[Figure]:
    """The first figure and the last: of families there are several."""
    found = list(figures.draw(run_of(name), kind, look))
    assert found, (kind, name)
    yield from dict([found[0], found[-1]]).values()


@cache
def every(style: str, size: str, title: str | None = None) -> list[tuple[str, Figure]]:
    """One or two figures for each kind and run, with the name of both."""
    look = find_look(style, size, title)
    found = [
        (f"{kind} of {name}", figure)
        for kind, names in SHOWN.items()
        for name in names
        for figure in drawn(kind, name, look)
    ]
    with house_style(look):
        return [*found, ("history", draw_history(nightly(), look))]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other; but not slanted ones, whose boxes are far larger than they are."""
    slanted = {text.get_text() for text in texts_of(figure) if text.get_rotation() % 90}
    level = [(text, box.padded(-0.5)) for text, box in boxes_of(figure) if text not in slanted]
    return [(a, b) for (a, one), (b, other) in combinations(level, 2) if one.overlaps(other)]


@pytest.mark.parametrize(("style", "size"), LOOKS)
class TestEveryLook:
    def test_no_texts_overlap_or_leave_the_figure(self, style: str, size: str) -> None:
        for name, figure in every(style, size):
            assert (name, overlaps(figure), overflows(figure)) == (name, [], [])

    def test_the_size_is_the_looks_and_letters_can_be_read(self, style: str, size: str) -> None:
        look, smallest = find_look(style, size), 12 if size == "slide" else 6
        for name, figure in every(style, size):
            width, height = figure.get_size_inches()
            assert (name, width) == (name, pytest.approx(look.width))
            assert look.height is None or (name, height) == (name, pytest.approx(look.height))
            letters = {text.get_text(): float(text.get_fontsize()) for text in texts_of(figure)}
            assert {word for word, points in letters.items() if points < smallest - 1e-9} == set()

    def test_words_stand_out_from_the_ground(self, style: str, size: str) -> None:
        look = find_look(style, size)
        for name, figure in every(style, size):
            assert to_hex(figure.get_facecolor()) == look.ground.lower()
            colors = {to_hex(text.get_color()) for text in texts_of(figure)}
            assert (name, min(contrast(color, look.ground) for color in colors)) >= (name, 4.5)

    def test_softmax_has_the_ink(self, style: str, size: str) -> None:
        panels = [axes for _, figure in every(style, size) for axes in figure.axes]
        lines = [line for axes in panels for line in axes.get_lines() if line.get_label() == "softmax/sdpa"]
        assert lines
        assert {to_hex(str(line.get_color())) for line in lines} == {find_look(style, size).ink.lower()}

    def test_print_has_a_caption_and_others_a_header(self, style: str, size: str) -> None:
        in_print = size in ("single", "double")
        for _, figure in every(style, size):
            above = [text.get_text() for text in figure.texts]
            assert bool(caption(figure)) == in_print
            assert any("AMD EPYC" in line or "Made-up" in line for line in above) != in_print


class TestTitles:
    def test_a_title_replaces_every_figures_own(self) -> None:
        for _, figure in every("paper", "single", "Our title"):
            assert "Our title" in [text.get_text() for text in figure.texts]
            assert overlaps(figure) == []

    def test_a_figures_own_title_is_one_line_on_a_slide(self) -> None:
        for name, figure in every("slides", "slide"):
            bold = [text for text in figure.texts if text.get_fontweight() == "bold"]
            assert (name, len(bold)) == (name, 1)


class TestColours:
    @pytest.mark.parametrize("style", STYLES)
    def test_numbers_can_be_read_on_the_colour_of_every_winner(self, style: str) -> None:
        look = find_look(style)
        for color in (look.ink, *look.colors):
            assert contrast(tint(color, look), look.ink) >= 4.5

    @pytest.mark.parametrize("vision", VISIONS)
    @pytest.mark.parametrize("style", ["paper", "dark"])
    def test_lengths_of_a_history_differ_in_marker_and_grow_stronger_for_every_eye(
        self, style: str, vision: str
    ) -> None:
        look, lengths = find_look(style), [256, 1024, 4096, 16384]
        styles = [style_of(length, lengths, look) for length in lengths]
        assert len({style.marker for style in styles}) == len(lengths)
        away = [difference(style.color, look.ground, vision) for style in styles]
        assert all(fainter < stronger for fainter, stronger in pairwise(away))


class TestFiles:
    def test_processes_with_other_hashes_write_the_same_pdfs_fit_for_print(self, tmp_path: Path) -> None:
        code = (
            "import sys; from itertools import islice; from pathlib import Path; from elattn_bench import figures\n"
            "from elattn_bench.figures import files; from elattn_bench.figures.look import find_look\n"
            "from elattn_bench.rundir import read_run\n"
            "look, out = find_look(size='single'), Path(sys.argv[1])\n"
            "for kind, path in zip(sys.argv[2::2], sys.argv[3::2]):\n"
            "    for stem, figure in islice(figures.draw(read_run(Path(path)), kind, look), 1):\n"
            "        for suffix in ('pdf', 'svg'):\n"
            "            files.save(figure, out / f'{stem}.{suffix}', look)\n"
        )
        words = [word for kind, names in SHOWN.items() for word in (kind, str(DOCS / names[0]))]
        for seed in ("1", "2"):
            command = [sys.executable, "-c", code, str(tmp_path / seed), *words]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        one, other = (sorted((tmp_path / seed).iterdir()) for seed in ("1", "2"))
        assert len(one) == len(other) == 2 * len(SHOWN)
        for first, second in zip(one, other, strict=True):
            assert first.read_bytes() == second.read_bytes(), first.name
        for path in (path for path in one if path.suffix == ".pdf"):
            content = path.read_bytes()
            assert b"/FontFile2" in content
            assert b"/Type3" not in content
            assert b"/Subtype /Image" not in content


def test_a_size_for_every_look_is_tested() -> None:
    assert {size for _, size in LOOKS} == set(SIZES)
    assert {style for style, _ in LOOKS} == set(STYLES)
